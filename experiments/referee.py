"""How near mixtures of planes come to the best that the same planes allow, which one linear program for each margin finds.

    python -m experiments.referee [--images 4]

PROVER's 04f_032h_2l at eps 0.013, the first test images: planes and intermediate bounds of one round of `combine`, then the
margins by more and more steps of mixing, and by the program over all planes (`tightverify.refine.network_lp`), without and with
the intervals of hidden neurons. Prints the table of docs/experiments/referee.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import click
import torch
from rich.table import Table
from torch import Tensor

import solvers
import tightverify as tv
from experiments.data import correctly_classified, mnist_test, prover_lstm
from experiments.pages import Experiment, report
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.refine.network_lp import network_lp
from tightverify.spec import classify_as

MODEL, EPS = "04f_032h_2l", 0.013
STEPS = (0, 1, 2, 5, 10, 20, 50, 100)
EFFORT = Effort(Fitting(("tightest", "edges", "corners"), 4), 2, 20)


def bounded(count: int) -> tuple[LinearBounds, Tensor]:
    """What is known of the images after one round, and the rows of their margins."""
    module = prover_lstm(MODEL)
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, count)
    x = module.cut(images[chosen])
    graph = tv.load(module, shape=tuple(x.shape[1:])).graph
    region = tv.LinfBall(EPS, clip=(0, 1)).around(x)
    known = linear_bounds(graph, region).intervals
    return combined_bounds(graph, region, EFFORT, known), classify_as(labels[chosen], 10).rows


def by_programs(bounds: LinearBounds, rows: Tensor, boxed: bool) -> Tensor:
    """(B, R): the optimum over all planes, proved, margin by margin; one session for the margins of an image."""
    found = torch.full(rows.shape[:2], -torch.inf, dtype=torch.float64)
    output = bounds.graph.output
    for k, targets in enumerate(rows):
        program = network_lp(bounds, k, {output: targets[0]}, boxed)
        session = solvers.load(program.problem)
        for target, row in enumerate(targets):
            solution = session.solve(cost=program.cost({output: row}))
            if solution.status is not solvers.Status.OPTIMAL:
                raise SystemExit(f"image {k}, target {target}: {solution.status.value}")
            found[k, target] = program.proved(solution)
            print(f"image {k}, target {target}, {solution.seconds:.1f} s", file=sys.stderr, flush=True)
    return found


@click.command(cls=Experiment)
@click.option("--images", default=4, show_default=True, help="How many images.")
def main(images: int) -> None:
    torch.set_num_threads(1)
    bounds, rows = bounded(images)
    ways: list[tuple[str, Callable[[], Tensor]]] = [
        *((f"{steps} steps", partial(bounds.lower, {bounds.graph.output: rows}, steps)) for steps in STEPS),
        ("program", partial(by_programs, bounds, rows, False)),
        ("program with intervals", partial(by_programs, bounds, rows, True)),
    ]
    margins: list[Tensor] = []
    seconds: list[float] = []
    for _, way in ways:
        began = time.perf_counter()
        margins.append(way())
        seconds.append(time.perf_counter() - began)
    table = Table(title=f"{MODEL}, eps {EPS}, the first {images} test images: their {rows.shape[1]} margins each")
    for name in ("by", "mean margin", "mean smallest margin", "share of the improvement", "least share", "s per image"):
        table.add_column(name)
    start, best = margins[0], margins[len(STEPS)]
    for (name, _), found, took in zip(ways, margins, seconds, strict=True):
        share = (found - start).sum() / (best - start).sum()
        least = ((found - start) / (best - start)).amin()
        smallest = found.amin(1).mean()
        table.add_row(name, f"{found.mean():.4f}", f"{smallest:.4f}", f"{share:.2%}", f"{least:.2%}", f"{took / images:.2f}")
    report(table)


if __name__ == "__main__":
    main()
