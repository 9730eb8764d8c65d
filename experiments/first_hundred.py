"""The first 100 images in PROVER's order, as its authors and DeepPrism's counted them: certified, falsified, open.

    python -m experiments.first_hundred [--model 04f_032h_1l ...] [--eps 0.011 ...] [--method combine] [--rounds 2]

Images are those that the model classifies correctly; an L-infinity ball clipped to [0, 1]; one thread. `possible` is 100 less
what our search falsifies: nobody can certify more.
"""

from __future__ import annotations

import statistics
import time

import click
import torch
from rich.table import Table

import tightverify as tv
from experiments.data import correctly_classified, mnist_test, prover_lstm, prover_order
from experiments.pages import Experiment, report
from tightverify.api.certify import stream
from tightverify.settings import Settings

INPUTS = 100
PUBLISHED: dict[str, dict[float, tuple[int, int | None]]] = {
    "04f_032h_1l": {0.011: (88, 89), 0.014: (70, 72), 0.017: (38, 56)},
    "04f_032h_2l": {0.011: (90, 97), 0.014: (72, 96), 0.017: (45, 76)},
    "07f_032h_1l": {0.010: (63, None), 0.011: (70, 79), 0.014: (20, 32), 0.017: (6, 10)},
    "04f_128h_1l": {0.011: (95, 95), 0.014: (82, 88), 0.017: (66, 69)},
}
"""Certified: PROVER's OPT, the best of DeepPrism."""
AIMS = {
    "04f_032h_1l": {0.011: 93, 0.014: 86, 0.017: 74},
    "04f_032h_2l": {0.011: 88, 0.014: 76, 0.017: 55},
    "07f_032h_1l": {0.011: 88, 0.014: 65, 0.017: 35},
    "04f_128h_1l": {0.011: 97, 0.014: 92, 0.017: 82},
}
EPS = (0.010, 0.011, 0.014, 0.017)


@click.command(cls=Experiment)
@click.option("--model", "models", multiple=True, default=tuple(PUBLISHED), help="One of PROVER's MNIST models; several.")
@click.option("--eps", "radii", multiple=True, type=float, default=EPS, help="A radius; several.")
@click.option("--method", default="combine", show_default=True)
@click.option("--rounds", default=2, show_default=True, help="Of combine, at most.")
@click.option("--time-limit", default=float("inf"), help="Seconds per input.")
def main(models: tuple[str, ...], radii: tuple[float, ...], method: str, rounds: int, time_limit: float) -> None:
    torch.set_num_threads(1)
    images, labels = mnist_test()
    table = Table(title=f"first {INPUTS} in PROVER's order, method {method}, at most {rounds} rounds")
    for name in ("model", "eps", "certified", "falsified", "open", "possible", "wanted", "PROVER opt", "DeepPrism"):
        table.add_column(name)
    for name in ("median s", "longest s", "CPU s in all"):
        table.add_column(name, justify="right")
    for name in models:
        module = prover_lstm(name)
        chosen = correctly_classified(module, images, labels, INPUTS, prover_order())
        x, y = module.cut(images[chosen]), labels[chosen]
        loaded = tv.load(module, tuple(x.shape[1:]))
        for eps in radii:
            settings = Settings(method=method, rounds=rounds, time_limit=time_limit)
            began = time.process_time()
            results = list(stream(loaded, x, y, tv.LinfBall(eps, clip=(0, 1)), settings))
            took = time.process_time() - began
            robust = sum(result.verdict is tv.Verdict.ROBUST for result in results)
            broken = sum(result.verdict is tv.Verdict.COUNTEREXAMPLE for result in results)
            opt, prism = PUBLISHED[name].get(eps, (None, None))
            seconds = [result.seconds for result in results]
            row = [name, f"{eps:.3f}", robust, broken, INPUTS - robust - broken, INPUTS - broken]
            row += [AIMS[name].get(eps, ""), opt or "", prism or ""]
            row += [f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", f"{took:.0f}"]
            table.add_row(*map(str, row))
            click.echo(" ".join(map(str, row)), err=True)
    report(table)


if __name__ == "__main__":
    main()
