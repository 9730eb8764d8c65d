"""The method planes on PROVER's MNIST LSTMs: against linear and PROVER's lp, and what polygons bring, frame by frame.

    python -m experiments.polygons [--inputs 20]

Times are CPU seconds per input, in batches of so many inputs with one thread. Ends with exit code 1 if a figure is missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click
import torch
from rich.table import Table
from torch import Tensor

import tightverify as tv
from experiments.data import FrameLSTM, correctly_classified, mnist_test, prover_lstm, prover_order
from experiments.pages import Experiment, report
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds, fitted_bounds, polygons_of
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.graph import Apply
from tightverify.relax.polygons import Polygons

PROVER = (
    ("04f_032h_1l", 0.010, "17 of 20", 2.59, 0.9),
    ("04f_032h_2l", 0.010, "6 of 10", 1.88, 1.8),
    ("04f_032h_2l", 0.013, "5 of 10", -2.23, 1.8),
    ("04f_128h_1l", 0.010, "4 of 5", 3.06, 3.5),
    ("07f_032h_1l", 0.010, "2 of 5", -2.02, 2.0),
)
"""PROVER's lp: certified, mean of the smallest margins, median CPU seconds."""
DIRECTIONS = (0, 2, 4, 8)
CASES = (("04f_032h_1l", 0.020), ("04f_032h_2l", 0.013))


def results(module: FrameLSTM, chosen: Tensor, eps: float, method: str) -> tuple[Sequence[tv.Result], float]:
    """One run, and its CPU seconds per input."""
    images, labels = mnist_test()
    region = tv.LinfBall(eps, clip=(0, 1))
    began = time.process_time()
    found = tv.certify(module, module.cut(images[chosen]), labels[chosen], region, method=method, thorough=True, restarts=0)
    return found, (time.process_time() - began) / len(chosen)


def against_prover(inputs: int) -> int:
    """The table of linear, planes and PROVER's lp in PROVER's order; hands back how many figures are missed."""
    table = Table(title=f"first {inputs} in PROVER's order")
    for name in ("model", "eps", "linear", "planes", "PROVER lp", "CPU s: planes", "PROVER lp", "share", "ever below linear"):
        table.add_column(name)
    missed = 0
    images, labels = mnist_test()
    for model, eps, certified, mean, seconds in PROVER:
        module = prover_lstm(model)
        chosen = correctly_classified(module, images, labels, inputs, prover_order())
        linear, _ = results(module, chosen, eps, "linear")
        planes, took = results(module, chosen, eps, "planes")
        below = max(float((one.margins - other.margins).max()) for one, other in zip(linear, planes, strict=True))
        ours = sum(result.margin for result in planes) / len(planes)
        missed += (ours <= mean) + (took > seconds / 10) + (below > 0)
        table.add_row(
            *(model, f"{eps:.3f}", summary(linear), summary(planes), f"{certified} / {mean:.2f}"),
            *(f"{took:.3f}", f"{seconds:.1f}", f"{took / seconds:.3f}", "yes" if below > 0 else "never"),
        )
    report(table)
    return missed


def summary(found: Sequence[tv.Result]) -> str:
    robust = sum(result.verdict is tv.Verdict.ROBUST for result in found)
    return f"{robust} of {len(found)} / {sum(result.margin for result in found) / len(found):.2f}"


def what_polygons_bring(model: str, eps: float, inputs: int) -> None:
    """Widths and areas per frame and layer, and margins, for several numbers of directions."""
    module = prover_lstm(model)
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, inputs)
    x = module.cut(images[chosen])
    graph = tv.load(module, tuple(x.shape[1:])).graph
    region = tv.LinfBall(eps, clip=(0, 1)).around(x)
    rows = torch.eye(10, dtype=torch.float64)[labels[chosen]][:, None] - torch.eye(10, dtype=torch.float64)
    others = torch.ones(len(chosen), 10, dtype=torch.bool)
    others[torch.arange(len(chosen)), labels[chosen]] = False
    base = linear_bounds(graph, region)
    gates = [number for number, node in enumerate(graph.nodes) if isinstance(node, Apply) and node.op.arity == 2]
    table = Table(title=f"{model}, eps {eps:.3f}, first {inputs} in test-set order: what polygons bring")
    for name in ("directions", "method", "widths / linear's, frame by frame", "areas / boxes', gate by gate"):
        table.add_column(name)
    for name in ("certified / mean margin", "CPU s per input"):
        table.add_column(name, justify="right")
    for method in ("planes", "combine"):
        for directions in DIRECTIONS:
            fitting = Fitting(("tightest",) if method == "planes" else ("tightest", "edges", "corners"), directions)
            began = time.process_time()
            if method == "planes":
                bounds = fitted_bounds(graph, region, fitting)
            else:
                bounds = combined_bounds(graph, region, Effort(fitting, 2, 20), base.intervals)
            lower = bounds.lower({graph.output: rows}, 20).masked_fill(~others, torch.inf).amin(1)
            took = (time.process_time() - began) / inputs
            margin = f"{int((lower > 0).sum())} / {float(lower.mean()):.2f}"
            table.add_row(
                *(str(directions), method, widths(bounds, base), areas(bounds, gates, directions), margin, f"{took:.2f}")
            )
    report(table)


def widths(bounds: LinearBounds, base: LinearBounds) -> str:
    """The mean width of the neurons of each node whose bounds matter, relative to linear's; by frame, cell states left out."""
    graph = bounds.graph
    most = max(graph.nodes[number].size for number in graph.bounded)
    shares = [
        float(bounds.intervals[number].width.mean() / base.intervals[number].width.mean())
        for number in graph.bounded
        if graph.nodes[number].size == most
    ]
    return " ".join(f"{share:.2f}" for share in shares)


def areas(bounds: LinearBounds, gates: list[int], directions: int) -> str:
    """The share of each gate's boxes that its polygons keep: the mean over neurons and inputs."""
    if not directions:
        return "1"
    shares = []
    for number in gates:
        node = bounds.graph.nodes[number]
        assert isinstance(node, Apply)
        boxes = [bounds.intervals[operand.source][operand.index] for operand in node.operands]
        ends = torch.stack([end for box in boxes for end in (box.lower, box.upper)], dim=-1).view(-1, 4)
        kept = polygons_of(bounds, number, ends, directions).areas / Polygons.of_boxes(ends).areas
        shares.append(float(kept.nanmean()))
    return " ".join(f"{share:.2f}" for share in shares)


@click.command(cls=Experiment)
@click.option("--inputs", default=20, show_default=True, help="How many inputs of each model.")
def main(inputs: int) -> None:
    torch.set_num_threads(1)
    missed = against_prover(inputs)
    for model, eps in CASES:
        what_polygons_bring(model, eps, inputs)
    if missed:
        sys.exit(f"{missed} figures are missed")


if __name__ == "__main__":
    main()
