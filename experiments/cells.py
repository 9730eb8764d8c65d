"""Networks whose neurons read one operand (RNNs of tanh and of ReLU) and GRUs, beside another tool's margins.

    python -m experiments.cells margins [--model rnn_tanh_04f_064h_1l ...] [--theirs MARGINS.csv]
    python -m experiments.cells complete [--model gru_14f_032h_1l ...] [--time-limit 60]

The first 20 test images that a network classifies correctly, an L-infinity ball clipped to [0, 1], one thread. MARGINS.csv
(default: auto_lirpa_cells.csv in `baselines` beside the folder of the data) has the columns model, eps, test_index, label,
target, method, margin: those of auto_LiRPA's CROWN and alpha-CROWN (20 steps), and the least ones that a search found. What
`margins` has measured of a network is kept in experiments/out until `--anew`; `complete` goes on with the images that it has
not had.
"""

from __future__ import annotations

import csv
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

import tightverify as tv
from experiments.data import correctly_classified, folder, mnist_test, trained_cells
from experiments.decide import DECIDED, lines_of, run
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.settings import Settings

INPUTS, EPS = 20, 0.010
OUT = Path(__file__).parent / "out"
THEIRS = {"CROWN": "CROWN", "aCROWN-fix20": "alpha-CROWN"}
SECONDS = {
    "rnn_tanh_04f_064h_1l": (0.07, 0.71),
    "rnn_tanh_07f_032h_1l": (0.15, 0.79),
    "rnn_relu_07f_064h_1l": (0.02, 0.73),
    "gru_04f_032h_1l": (0.21, 3.6),
}
"""CPU seconds an input of CROWN and alpha-CROWN, one thread."""
DECIDE = [
    *((model, EPS) for model in SECONDS),
    ("rnn_tanh_14f_032h_2l", 0.010),
    ("rnn_tanh_14f_032h_2l", 0.005),
    ("gru_14f_032h_1l", 0.005),
    ("gru_07f_064h_1l", 0.010),
]
EVERY = [verdict.name for verdict in tv.Verdict]
ROUNDED = 1e-6
"""Their margins have so many places: what is nearer counts as equal."""

Margins = dict[str, dict[int, dict[int, float]]]
"""By method, image and target."""


def theirs_of(path: Path, model: str) -> Margins:
    found: Margins = defaultdict(lambda: defaultdict(dict))
    with path.open() as file:
        for row in csv.DictReader(file):
            if row["model"] == f"mnist_{model}" and float(row["eps"]) == EPS:
                found[row["method"]][int(row["test_index"])][int(row["target"])] = float(row["margin"])
    return found


def measured(model: str, method: str) -> dict[str, Any]:
    """Our margins by image and target, and CPU seconds an input."""
    module = trained_cells(model)
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, INPUTS)
    x, y = module.cut(images[chosen]), labels[chosen]
    loaded, region = tv.load(module, tuple(x.shape[1:])), tv.LinfBall(EPS, clip=(0, 1))
    began = time.process_time()
    results = tv.certify(loaded, x, y, region, method=method, rounds=1, restarts=0, thorough=True)
    took = (time.process_time() - began) / len(results)
    margins = {
        str(int(image)): dict(zip((t for t in range(10) if t != result.label), result.margins.tolist(), strict=True))
        for image, result in zip(chosen, results, strict=True)
    }
    return {"model": model, "method": method, "seconds": took, "margins": margins}


def ours_of(model: str, method: str, anew: bool) -> tuple[dict[int, dict[int, float]], float]:
    """What was measured, now or earlier."""
    path = OUT / f"cells-{model}-{method}.json"
    if anew or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured(model, method)))
    found = json.loads(path.read_text())
    margins = {int(k): {int(target): value for target, value in row.items()} for k, row in found["margins"].items()}
    return margins, found["seconds"]


def row_of(margins: dict[int, dict[int, float]], seconds: float | None) -> list[str]:
    worst = [min(row.values()) for row in margins.values()]
    took = "" if seconds is None else f"{seconds:.2g}"
    return [str(sum(value > 0 for value in worst)), f"{sum(worst) / len(worst):.3f}", took]


def differences(ours: dict[int, dict[int, float]], theirs: dict[int, dict[int, float]]) -> list[float]:
    return [ours[image][target] - value for image, row in theirs.items() for target, value in row.items()]


@click.group()
def main() -> None:
    """Networks of other cells than the LSTM."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@click.option("--model", "models", multiple=True, default=tuple(SECONDS), help="A network; several.")
@click.option("--theirs", type=click.Path(path_type=Path, dir_okay=False), help="The file of their margins.")
@click.option("--anew", is_flag=True, help="Measure again what was measured.")
def margins(models: Sequence[str], theirs: Path | None, anew: bool) -> None:
    """`linear` and one round of `combine` beside CROWN and alpha-CROWN, in all and target by target."""
    table = table_of(f"eps {EPS:.3f}", "network", "method", f"certified of {INPUTS}", "mean smallest margin", "CPU s an input")
    apart = table_of("target by target", "network", "ours", "theirs", "targets", "smaller", "by at most", "mean difference")
    path = theirs or folder("cells").parents[1] / "baselines" / "auto_lirpa_cells.csv"
    for model in models:
        their = theirs_of(path, model)
        for method in ("linear", "combine"):
            ours, seconds = ours_of(model, method, anew)
            table.add_row(model, f"our {method}", *row_of(ours, seconds))
            for name in ("CROWN",) if method == "linear" else THEIRS:
                found = differences(ours, their[name])
                smaller = [-value for value in found if value < -ROUNDED]
                most = f"{max(smaller):.4f}" if smaller else ""
                mean = f"{sum(found) / len(found):+.3f}"
                apart.add_row(model, method, THEIRS[name], str(len(found)), str(len(smaller)), most, mean)
        for (name, words), took in zip(THEIRS.items(), SECONDS[model], strict=True):
            table.add_row(model, words, *row_of(their[name], took))
        table.add_row(model, "the least that a search found", *row_of(their["attack"], None))
    report(table)
    report(apart)


@main.command(cls=Experiment)
@click.option("--model", "models", multiple=True, help="A network; several. All, if none is named.")
@click.option("--time-limit", default=60.0, show_default=True, help="Seconds per input.")
@click.option("--limit", default=INPUTS, show_default=True, help="So many images of each.")
def complete(models: Sequence[str], time_limit: float, limit: int) -> None:
    """The method `complete`, inputs one at a time."""
    columns = "network", "eps", "decided", "robust", "falsified", "open", "splits", "median s", "longest s"
    table = table_of(f"complete, {time_limit:g} s", *columns)
    settings = Settings(method="complete", time_limit=time_limit)
    for model, eps in DECIDE:
        if models and model not in models:
            continue
        path = OUT / f"cells-{model}-{eps:.3f}-{time_limit:g}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        run(
            trained_cells(model),
            f"{model} {eps:.3f}",
            eps,
            None,
            limit,
            settings,
            1,
            path,
            EVERY,
        )
        rows = lines_of(path)[:limit]
        robust, falsified = (sum(row["verdict"] == verdict for row in rows) for verdict in DECIDED)
        seconds = sorted(row["seconds"] for row in rows)
        found: list[object] = [robust + falsified, robust, falsified, len(rows) - robust - falsified]
        found += [sum(row["splits"] for row in rows), f"{seconds[len(seconds) // 2]:.2f}", f"{seconds[-1]:.1f}"]
        table.add_row(model, f"{eps:.3f}", *map(str, found))
    report(table)


if __name__ == "__main__":
    main()
