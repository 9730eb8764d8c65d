"""PROVER's MNIST LSTMs, the first correctly classified test images: certified, and the mean of the smallest margin bounds.

    python -m experiments.mnist_lstm [--method linear] [--rounds 2]

Prints the table of docs/experiments/mnist_lstm.md; ends with exit code 1 if a figure wanted in mnist_lstm.toml is not reached.
"""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import click
from rich.table import Table

import tightverify as tv
from experiments.data import correctly_classified, mnist_test, prover_lstm
from experiments.pages import Experiment, report

HERE = Path(__file__).parent


def run(case: dict[str, Any], method: str, count: int, rounds: int = 2) -> dict[str, float]:
    """One row of the table. Inputs go on through all stages when they are decided, so that their margins can be compared."""
    module = prover_lstm(case["model"])
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, count)
    region = tv.LinfBall(case["eps"], clip=(0, 1))
    began = time.process_time()
    x = module.cut(images[chosen])
    results = tv.certify(module, x, labels[chosen], region, method=method, rounds=rounds, thorough=True)
    took = time.process_time() - began
    margins = [result.margin for result in results]
    return {
        "certified": sum(result.verdict is tv.Verdict.ROBUST for result in results),
        "falsified": sum(result.verdict is tv.Verdict.COUNTEREXAMPLE for result in results),
        "mean": sum(margins) / len(margins),
        "seconds": took / len(results),
    }


@click.command(cls=Experiment)
@click.option("--method", default="linear", show_default=True)
@click.option("--rounds", default=2, show_default=True, help="Of combine, at most.")
def main(method: str, rounds: int) -> None:
    config = tomllib.loads((HERE / "mnist_lstm.toml").read_text())
    count = config["inputs"]
    table = Table(title=f"method {method}, first {count} correctly classified test images, clipped to [0, 1]")
    for name in ("model", "eps", "certified", "mean margin", "falsified", "CPU s per input", "CROWN", "wanted", "reached"):
        table.add_column(name)
    missed = 0
    for case in config["case"]:
        row = run(case, method, count, rounds)
        wanted = case.get(method)
        reached = wanted is None or (row["certified"] >= wanted["certified"] and row["mean"] >= wanted["mean"])
        missed += not reached
        table.add_row(
            case["model"],
            f"{case['eps']:.3f}",
            str(row["certified"]),
            f"{row['mean']:.2f}",
            str(row["falsified"]),
            f"{row['seconds']:.3f}",
            f"{case['crown']['certified']} / {case['crown']['mean']:.2f}",
            "" if wanted is None else f"{wanted['certified']} / {wanted['mean']:.2f}",
            "" if wanted is None else ("yes" if reached else "NO"),
        )
    report(table)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
