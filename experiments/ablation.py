"""What each part of `combine` brings, and how its time grows with frames and hidden units.

    python -m experiments.ablation [--model 04f_032h_2l] [--eps 0.013] [--inputs 20]
    python -m experiments.ablation --cells [--inputs 20]
    python -m experiments.ablation --growth

First correctly classified test images in test-set order, an L-infinity ball clipped to [0, 1]; one thread. `--cells`: the same
of every cell, each part with what it brings for a CPU second more. `--growth` takes LSTMs with random weights, one round of
`combine` for each, and draws combine_growth.png into docs/experiments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import click
import torch
from rich.table import Table
from torch import Tensor

import tightverify as tv
from experiments.curves import growth
from experiments.data import FrameLSTM, correctly_classified, mnist_test, prover_lstm, trained_cells
from experiments.figures import table_of
from experiments.pages import PAGES, Experiment, report
from tightverify.bounds.column_generation import generated
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds, fitted_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.graph import Apply, Graph
from tightverify.region import Region
from tightverify.spec import classify_as
from tightverify.values import Interval

NINE = "tightest", "edges", "corners"
MORE = (*NINE, "ring", "triangles")
STEPS = 20
Rows = dict[int, Tensor]
Part = Callable[[Graph, Region, Rows], Tensor]
CELLS = ("rnn_tanh_07f_032h_1l", 0.010), ("rnn_relu_07f_064h_1l", 0.010), ("gru_04f_032h_1l", 0.010), ("04f_032h_1l", 0.010)
"""The last is PROVER's LSTM."""


def planes_only(graph: Graph, region: Region, rows: Rows) -> Tensor:
    return fitted_bounds(graph, region, Fitting(directions=0)).lower(rows)


def margins_only(graph: Graph, region: Region, rows: Rows) -> Tensor:
    bounds = fitted_bounds(graph, region, Fitting(NINE, directions=0))
    return replace(bounds, mixtures=STEPS).lower(rows)


def combined(
    graph: Graph, region: Region, kinds: tuple[str, ...], directions: int, known: Sequence[Interval], steps: int = 2
) -> LinearBounds:
    return combined_bounds(graph, region, Effort(Fitting(kinds, directions), steps, STEPS), known)


def every_bound(kinds: tuple[str, ...], directions: int, steps: int = 2) -> Part:
    def part(graph: Graph, region: Region, rows: Rows) -> Tensor:
        return combined(graph, region, kinds, directions, linear_bounds(graph, region).intervals, steps).lower(rows, STEPS)

    return part


def with_pairs(graph: Graph, region: Region, rows: Rows) -> Tensor:
    known = linear_bounds(graph, region).intervals
    return combined_bounds(graph, region, Effort(Fitting(NINE, 0, pairs=True), 2, STEPS), known).lower(rows, STEPS)


def lines_only(graph: Graph, region: Region, rows: Rows) -> Tensor:
    return linear_bounds(graph, region).lower(rows)


def columns(graph: Graph, region: Region, rows: Rows) -> Tensor:
    bounds = combined(graph, region, NINE, 4, linear_bounds(graph, region).intervals)
    return generated(bounds, rows, STEPS, 1, Fitting(NINE, 4))[0]


def two_rounds(graph: Graph, region: Region, rows: Rows) -> Tensor:
    first = combined(graph, region, NINE, 4, linear_bounds(graph, region).intervals)
    return combined(graph, region, NINE, 8, first.intervals).lower(rows, STEPS)


OF_CELLS: dict[str, Part] = {
    "lines and closed planes alone: linear": lines_only,
    "the tightest planes, over boxes": planes_only,
    "margins from mixtures of nine planes": margins_only,
    "every bound from its own mixture, 2 steps": every_bound(NINE, 0),
    "6 steps": every_bound(NINE, 0, 6),
    "10 steps": every_bound(NINE, 0, 10),
    "2 steps, polygons of two directions": every_bound(NINE, 2),
    "2 steps, four directions": every_bound(NINE, 4),
    "four directions, planes made where margins pull": columns,
}
OF_ONE = {"2 steps, and pairs of neurons": with_pairs}
"""The same where all neurons read one operand."""
OF_TWO = "directions"
"""In the names of parts that change nothing where neurons read one operand, as there are no polygons."""
PARTS: dict[str, Part] = {
    "planes only, over boxes": planes_only,
    "margins only: mixtures of nine planes": margins_only,
    "every bound from its own mixture": every_bound(NINE, 0),
    "more planes: 21 in place of 9": every_bound(MORE, 0),
    "polygon: two directions, nine planes": every_bound(NINE, 2),
    "four directions": every_bound(NINE, 4),
    "four directions, planes made where margins pull": columns,
    "two rounds, four and eight directions": two_rounds,
}


@click.command(cls=Experiment)
@click.option("--model", default="04f_032h_2l", show_default=True)
@click.option("--eps", default=0.013, show_default=True)
@click.option("--inputs", default=20, show_default=True)
@click.option("--cells", is_flag=True)
@click.option("--growth", is_flag=True)
def main(model: str, eps: float, inputs: int, cells: bool, growth: bool) -> None:
    torch.set_num_threads(1)
    if growth:
        grow()
        return
    if cells:
        by_cell(inputs)
        return
    module = prover_lstm(model)
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, inputs)
    x = module.cut(images[chosen])
    graph = tv.load(module, tuple(x.shape[1:])).graph
    wanted = classify_as(labels[chosen], 10)
    region = tv.LinfBall(eps, clip=(0, 1)).around(x)
    table = table_of(f"{model}, eps {eps:g}, first {inputs}", "part", "certified", "mean margin", "CPU s per input")
    for name, part in PARTS.items():
        began, worst = time.process_time(), []
        for start in range(0, inputs, 5):
            some = slice(start, start + 5)
            worst.append(part(graph, region[some], {graph.output: wanted.rows[some]}).amin(1))
        margins = torch.cat(worst)
        took = (time.process_time() - began) / inputs
        table.add_row(name, str(int((margins > 0).sum())), f"{float(margins.mean()):.2f}", f"{took:.2f}")
    report(table)


def by_cell(inputs: int) -> None:
    images, labels = mnist_test()
    columns = "network", "eps", "part", f"certified of {inputs}", "mean margin", "CPU s per input", "gained for a CPU s"
    table = table_of("what each part brings", *columns)
    for model, eps in CELLS:
        module = prover_lstm(model) if model[0].isdigit() else trained_cells(model)
        chosen = correctly_classified(module, images, labels, inputs)
        x, y, ball = module.cut(images[chosen]), labels[chosen], tv.LinfBall(eps, clip=(0, 1))
        loaded = tv.load(module, tuple(x.shape[1:]))
        graph, region, wanted = loaded.graph, ball.around(x), classify_as(y, 10)
        straight = all(node.op.arity == 1 for node in graph.nodes if isinstance(node, Apply))
        first: tuple[float, float] | None = None
        for name, part in (OF_CELLS | (OF_ONE if straight else {})).items():
            if straight and OF_TWO in name:
                continue
            began = time.process_time()
            worst = torch.cat(
                [part(graph, region[k : k + 5], {graph.output: wanted.rows[k : k + 5]}).amin(1) for k in range(0, inputs, 5)]
            )
            first = add(table, [model, f"{eps:.3f}", name], worst, (time.process_time() - began) / inputs, first)
        for rounds, name in enumerate(("one round", "two rounds"), start=1):
            began = time.process_time()
            found = tv.certify(loaded, x, y, ball, method="combine", rounds=rounds, thorough=True, restarts=0)
            worst, took = torch.tensor([result.margin for result in found]), (time.process_time() - began) / inputs
            add(table, [model, f"{eps:.3f}", f"with proofs by contradiction: combine, {name}"], worst, took, first)
    report(table)


def add(table: Table, words: list[str], worst: Tensor, took: float, first: tuple[float, float] | None) -> tuple[float, float]:
    """A row of the table; the mean margin and the CPU seconds of the first part, which the others are held against."""
    mean = float(worst.mean())
    gained = "" if first is None or took <= first[1] else f"{(mean - first[0]) / (took - first[1]):.2f}"
    table.add_row(*words, str(int((worst > 0).sum())), f"{mean:.3f}", f"{took:.3f}", gained)
    return first or (mean, took)


def grow() -> None:
    images, _ = mnist_test()
    table = table_of("one round of combine, CPU s per input", "frames", "32 hidden", "128 hidden")
    frames, found = (4, 7, 14), {}
    for hidden, count in ((32, 4), (128, 1)):
        found[hidden] = [seconds(number, hidden, count, images) for number in frames]
    for k, number in enumerate(frames):
        table.add_row(str(number), f"{found[32][k]:.2f}", f"{found[128][k]:.2f}")
    curves = {f"{hidden} units": times for hidden, times in found.items()}
    growth(frames, curves, "CPU seconds per input", "LSTMs of one layer · one round of combine", PAGES / "combine_growth.png")
    report(table)


def seconds(frames: int, hidden: int, count: int, images: Tensor) -> float:
    torch.manual_seed(0)
    module = FrameLSTM(frames, hidden, 1).double().eval()
    x = module.cut(images[:count])
    graph = tv.load(module, tuple(x.shape[1:])).graph
    region = tv.LinfBall(0.01, clip=(0, 1)).around(x)
    began = time.process_time()
    for k in range(count):
        one = region[k : k + 1]
        bounds = combined(graph, one, NINE, 4, linear_bounds(graph, one).intervals)
        bounds.lower({graph.output: torch.eye(10, dtype=torch.float64)[None]}, STEPS)
    return (time.process_time() - began) / count


if __name__ == "__main__":
    main()
