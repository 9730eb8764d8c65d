"""What is lost by relaxing the two products of an LSTM's cell one by one: a program over the network, with cuts of both.

    python -m experiments.gates [--images 1] [--rounds 3]

A new cell state is f c + i g, through their sigmoids and tanh: a function of four numbers, of whose two products each is
relaxed over a polygon by itself. As `experiments.pairs` does for two neurons, cuts separate the program's solution from the
convex hull of samples, here of (f, c, i, g, new state), for each neuron of each frame: first with any point of the one polygon
beside any of the other (`apart`: what planes and sampling bring), then with those alone that bounds of sums and differences of
one operand of either leave (`together`). A hull of samples is smaller than the true one: the margins say what there may be to
gain, and prove nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product

import click
import numpy as np
import torch
from torch import Tensor

import tightverify as tv
from experiments.data import correctly_classified, mnist_test, prover_lstm
from experiments.figures import table_of
from experiments.pages import Experiment, report
from experiments.pairs import Floats, Neurons, cut_off, solved
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.graph import Affine, Apply, Operand
from tightverify.refine.network_lp import NetworkProgram, network_lp
from tightverify.spec import classify_as

MODELS = ("04f_032h_2l", 0.017), ("07f_032h_1l", 0.014)
EFFORT = Effort(Fitting(("tightest", "edges", "corners", "ring"), 8), 6, 20)
SAMPLES, KEPT = 4000, 1500
SHARPNESS = 1, 8, 40
"""Weights of a polygon's vertices to such powers: points inside, near edges, near vertices."""
ACROSS = [(a, b, s, t) for a in (0, 1) for b in (2, 3) for s, t in ((1, 1), (-1, -1), (1, -1), (-1, 1))]
"""Sums and differences of one operand of either product: which, with which signs."""
NEAR = 0.05
"""Points beyond a bound count by so much of a half width: none would lie on the border else."""


def cells(bounds: LinearBounds) -> Iterator[tuple[int, list[int], list[Operand]]]:
    """The nodes that are sums of two products, with these and their operands."""
    graph = bounds.graph
    for number, node in enumerate(graph.nodes):
        if isinstance(node, Affine) and len(node.terms) == 2 and all(term.map.name == "identity" for term in node.terms):
            parts = [term.operand.source for term in node.terms]
            nodes = [graph.nodes[part] for part in parts]
            if all(isinstance(part, Apply) and part.op.arity == 2 for part in nodes):
                yield number, parts, [operand for part in nodes for operand in part.operands]


def bounds_across(bounds: LinearBounds, operands: list[Operand], half: Floats) -> Floats:
    """(n, 16): lower bounds of the sums and differences of ACROSS, in units of half widths (n, 4)."""
    rows: dict[int, Tensor] = {}
    for k, operand in enumerate(operands):
        width = bounds.graph.nodes[operand.source].size
        row = rows.setdefault(operand.source, torch.zeros((1, len(half), len(ACROSS), width), dtype=torch.float64))
        places = torch.arange(width)[operand.index]
        for d, (a, b, s, t) in enumerate(ACROSS):
            if k in (a, b):
                row[0, torch.arange(len(half)), d, places] += torch.from_numpy((s if k == a else t) / half[:, k])
    return bounds.lower({number: row.flatten(1, 2) for number, row in rows.items()})[0].view(len(half), -1).numpy()


def points_of(polygon: Floats, generator: np.random.Generator) -> Floats:
    weights = generator.random((SAMPLES, len(polygon))) ** generator.choice(SHARPNESS, size=(SAMPLES, 1))
    return np.asarray((weights / weights.sum(1, keepdims=True)) @ polygon)


def bodies(bounds: LinearBounds, program: NetworkProgram, together: bool) -> list[Neurons]:
    """Samples of both products of every cell, and their sum."""
    generator, found = np.random.default_rng(0), []
    for number, parts, operands in cells(bounds):
        ops = [node.op for part in parts if isinstance(node := bounds.graph.nodes[part], Apply)]
        widths = [bounds.intervals[operand.source].width[0, operand.index] for operand in operands]
        half = np.maximum(torch.stack(widths, dim=1).numpy() / 2, 1e-9)
        least = bounds_across(bounds, operands, half)
        polygons = [bounds.polygons[part].vertices.view(len(half), -1, 2).numpy() for part in parts]
        columns = [np.arange(program.columns[o.source].start, program.columns[o.source].stop)[o.index] for o in operands]
        own = np.arange(program.columns[number].start, program.columns[number].stop)
        for j, units in enumerate(half):
            corners = np.array([[*one, *other] for one, other in product(polygons[0][j], polygons[1][j])])
            places = np.vstack([corners, np.hstack([points_of(each[j], generator) for each in polygons])])
            scaled = places / units
            across = np.stack([s * scaled[:, a] + t * scaled[:, b] for a, b, s, t in ACROSS], axis=1)
            if together:
                places = places[(across >= least[j] - NEAR).all(1)]
            places = places[:KEPT]
            f, c, i, g = torch.from_numpy(places).unbind(1)
            states = (ops[0].forward(f, c) + ops[1].forward(i, g)).numpy()
            samples = np.column_stack([places, states])
            if len(samples) > samples.shape[1]:
                variables = np.array([*(column[j] for column in columns), own[j]])
                found.append(Neurons(variables, samples, np.maximum(np.ptp(samples, axis=0) / 2, 1e-12)))
    return found


@click.command(cls=Experiment)
@click.option("--images", default=1, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Of cuts, of either kind.")
def main(images: int, rounds: int) -> None:
    torch.set_num_threads(1)
    table = table_of("the smallest margin", "network", "eps", "image", "program", "apart", "together", "s")
    every, labels = mnist_test()
    for model, eps in MODELS:
        module = prover_lstm(model)
        chosen = correctly_classified(module, every, labels, images)
        x = module.cut(every[chosen])
        loaded, ball = tv.load(module, tuple(x.shape[1:])), tv.LinfBall(eps, clip=(0, 1))
        wanted = classify_as(labels[chosen], 10).rows
        for k, image in enumerate(chosen):
            began, region = time.perf_counter(), ball.around(x[k : k + 1])
            bounds = combined_bounds(loaded.graph, region, EFFORT, linear_bounds(loaded.graph, region).intervals)
            row = wanted[k][int(bounds.lower({bounds.graph.output: wanted[k][None]}, 30)[0].argmin())]
            program = network_lp(bounds, 0, {bounds.graph.output: row})
            start, point = solved(program.problem)
            found = [start]
            for together in (False, True):
                problem, value, here, units = program.problem, start, point, bodies(bounds, program, together)
                for _ in range(rounds):
                    problem = cut_off(problem, here, units)
                    value, here = solved(problem)
                found.append(value)
            took = time.perf_counter() - began
            table.add_row(model, f"{eps:.3f}", str(int(image)), *(f"{value:.4f}" for value in found), f"{took:.0f}")
    report(table)


if __name__ == "__main__":
    main()
