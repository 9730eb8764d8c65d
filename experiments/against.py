"""Our margins against another tool's, target by target, on PROVER's MNIST LSTMs.

    python -m experiments.against MARGINS.csv [--method linear] [--theirs CROWN] [--rounds 2]

MARGINS.csv has the columns model, eps, method, index (in the MNIST test set), label, target, margin_lower_bound. Prints
for each case how much larger our proved margins are, at the least and in the mean, and how many are smaller.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click
from rich.table import Table

import tightverify as tv
from experiments.data import mnist_test, prover_lstm
from experiments.pages import Experiment, report

Case = tuple[str, float, str]
Margins = dict[int, dict[int, float]]


def read_margins(path: Path) -> dict[Case, Margins]:
    """For each MNIST model, eps and method the margins by image and target."""
    found: dict[Case, Margins] = defaultdict(lambda: defaultdict(dict))
    with path.open() as file:
        for row in csv.DictReader(file):
            if not row["model"].endswith("l"):
                continue
            case = (row["model"], float(row["eps"]), row["method"])
            found[case][int(row["index"])][int(row["target"])] = float(row["margin_lower_bound"])
    return found


@cache
def ours(model: str, eps: float, chosen: tuple[int, ...], method: str, rounds: int) -> Sequence[tv.Result]:
    """Our results, with the bounds of all stages."""
    module = prover_lstm(model)
    images, labels = mnist_test()
    x, y = module.cut(images[list(chosen)]), labels[list(chosen)]
    region = tv.LinfBall(eps, clip=(0, 1))
    return tv.certify(module, x, y, region, method=method, rounds=rounds, restarts=0, thorough=True)


def differences(case: Case, theirs: Margins, method: str, rounds: int) -> list[float]:
    """Ours less theirs, over all images and targets."""
    model, eps, _ = case
    chosen = tuple(sorted(theirs))
    found = []
    for index, result in zip(chosen, ours(model, eps, chosen, method, rounds), strict=True):
        label = result.label
        others = [target for target in range(10) if target != label]
        for target, margin in zip(others, result.margins.tolist(), strict=True):
            if target in theirs[index]:
                found.append(margin - theirs[index][target])
    return found


@click.command(cls=Experiment)
@click.argument("margins", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--method", default="linear", show_default=True)
@click.option("--theirs", default="CROWN", show_default=True, help="Their methods whose names begin so.")
@click.option("--rounds", default=2, show_default=True, help="Of combine, at most.")
def main(margins: Path, method: str, theirs: str, rounds: int) -> None:
    table = Table(title=f"our {method} less their proved margins")
    for name in ("model", "eps", "their method", "margins", "least", "mean", "smaller"):
        table.add_column(name)
    for case, theirs_here in sorted(read_margins(margins).items()):
        if not case[2].startswith(theirs):
            continue
        found = differences(case, theirs_here, method, rounds)
        mean, smaller = sum(found) / len(found), sum(value < 0 for value in found)
        table.add_row(case[0], f"{case[1]:g}", case[2], str(len(found)), f"{min(found):+.3f}", f"{mean:+.3f}", str(smaller))
    report(table)


if __name__ == "__main__":
    main()
