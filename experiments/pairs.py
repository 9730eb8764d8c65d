"""What is lost by relaxing neurons one by one: a program over the network, with cuts of single neurons, then of pairs.

    python -m experiments.pairs [--model rnn_tanh_07f_032h_1l ...] [--eps 0.010] [--images 4] [--rounds 8]

The first correctly classified test images, an L-infinity ball clipped to [0, 1]: bounds of one round of `combine`, and the
linear program over all of its planes for the margin that is the smallest. Then cuts, round by round: each separates the
program's solution from the convex hull of samples, of (x, f(x)) for one neuron, then of (x, y, f(x), f(y)) for two neurons of a
layer's frame over the octagon that bounds of x, y, x + y and x - y leave. A hull of samples is smaller than the true one: the
margins say what pairs may bring (what PRIMA and k-ReLU relax), and prove nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import combinations

import click
import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

import solvers
import tightverify as tv
from experiments.data import correctly_classified, mnist_test, trained_cells
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.attack import Search, descend
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.budget import UNLIMITED
from tightverify.graph import Apply
from tightverify.refine.network_lp import NetworkProgram, network_lp
from tightverify.spec import classify_as

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
EFFORT = Effort(Fitting(("tightest", "edges", "corners"), 4), 6, 20)
SEARCH = Search(restarts=8, steps=60, seed=0)
GRID = 24
PER_LAYER = 12
"""So many neurons of each operation, those that the program leaves the farthest from the function, are taken in pairs."""
VIOLATED = 1e-5
"""A cut counts that is violated by so much of the boxes' half widths."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons of one operation: the variables that are their operands and values, and samples of both, (M, 2 k)."""

    variables: Places
    samples: Floats
    half: Floats

    def cut(self, point: Floats) -> tuple[Floats, float] | None:
        """a, b with a @ z <= b for all samples z, and not for the point; None where there is none."""
        here, middle = point[self.variables], self.samples.mean(0)
        scaled, wanted = (self.samples - middle) / self.half, (here - middle) / self.half
        rows = np.hstack([scaled, -np.ones((len(scaled), 1))])
        ends = [(-1.0, 1.0)] * len(wanted) + [(None, None)]
        found = linprog(-np.append(wanted, -1.0), A_ub=rows, b_ub=np.zeros(len(rows)), bounds=ends, method="highs")
        if found.status != 0 or -found.fun < VIOLATED:
            return None
        normal = found.x[:-1] / self.half
        return normal, float(found.x[-1] + normal @ middle)


def operations(bounds: LinearBounds) -> list[int]:
    return [number for number, node in enumerate(bounds.graph.nodes) if isinstance(node, Apply) and number in bounds.planes]


def values_of(node: Apply, x: Floats) -> Floats:
    return np.asarray(node.op.forward(torch.from_numpy(x)).numpy())


def places_of(bounds: LinearBounds, program: NetworkProgram, number: int) -> tuple[Places, Places]:
    """The variables that are an operation's operands, and its values."""
    (operand,) = bounds.graph.nodes[number].operands
    source, own = program.columns[operand.source], program.columns[number]
    return np.arange(source.start, source.stop)[operand.index], np.arange(own.start, own.stop)


def singles(bounds: LinearBounds, program: NetworkProgram) -> list[Neurons]:
    found = []
    for number in operations(bounds):
        node = bounds.graph.nodes[number]
        assert isinstance(node, Apply)
        operands, values = places_of(bounds, program, number)
        for x, y in zip(operands, values, strict=True):
            along = np.linspace(program.lower[x], program.upper[x], 400)
            samples = np.stack([along, values_of(node, along)], axis=1)
            found.append(Neurons(np.array([x, y]), samples, np.maximum(np.ptp(samples, axis=0) / 2, 1e-12)))
    return found


def pairs(bounds: LinearBounds, program: NetworkProgram, point: Floats) -> list[Neurons]:
    """Those of neurons that the point is far from the function of."""
    found = []
    for number in operations(bounds):
        node = bounds.graph.nodes[number]
        assert isinstance(node, Apply)
        operands, values = places_of(bounds, program, number)
        off = np.abs(values_of(node, point[operands]) - point[values])
        chosen = [int(k) for k in np.argsort(-off)[:PER_LAYER] if off[k] > 1e-6]
        both = list(combinations(chosen, 2))
        if both:
            found += [
                octagon_of(program, node, operands[[i, j]], values[[i, j]], least)
                for (i, j), least in zip(both, directions(bounds, number, both), strict=True)
            ]
    return found


def directions(bounds: LinearBounds, number: int, both: list[tuple[int, int]]) -> Floats:
    """(P, 4): lower bounds of x + y, -x - y, x - y, y - x of an operation's operands."""
    (operand,) = bounds.graph.nodes[number].operands
    size = bounds.graph.nodes[operand.source].size
    places = torch.arange(size)[operand.index]
    rows = torch.zeros(1, 4 * len(both), size, dtype=torch.float64)
    for k, (i, j) in enumerate(both):
        for d, (a, b) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
            rows[0, 4 * k + d, places[i]], rows[0, 4 * k + d, places[j]] = a, b
    return bounds.lower({operand.source: rows})[0].view(-1, 4).numpy()


def octagon_of(program: NetworkProgram, node: Apply, operands: Places, values: Places, least: Floats) -> Neurons:
    ends = [np.linspace(program.lower[k], program.upper[k], GRID) for k in operands]
    x, y = (part.ravel() for part in np.meshgrid(*ends))
    sums, differences = x + y, x - y
    step = 0.5 * ((ends[0][1] - ends[0][0]) + (ends[1][1] - ends[1][0]))  # the grid's points nearest to the border stay
    within = (sums >= least[0] - step) & (-sums >= least[1] - step) & (differences >= least[2] - step)
    within &= -differences >= least[3] - step
    x, y = x[within], y[within]
    samples = np.stack([x, y, values_of(node, x), values_of(node, y)], axis=1)
    return Neurons(np.concatenate([operands, values]), samples, np.maximum(np.ptp(samples, axis=0) / 2, 1e-12))


def solved(problem: solvers.Problem) -> tuple[float, Floats]:
    solution = solvers.load(problem).solve()
    if solution.status is not solvers.Status.OPTIMAL or solution.primal is None:
        raise SystemExit(f"the program ended {solution.status.value}")
    return float(problem.cost @ solution.primal), solution.primal


def cut_off(problem: solvers.Problem, point: Floats, every: list[Neurons]) -> solvers.Problem:
    cuts = [(neurons.variables, cut) for neurons in every if (cut := neurons.cut(point)) is not None]
    if not cuts:
        return problem
    rows = sparse.lil_array((len(cuts), problem.shape[1]))
    for k, (variables, (normal, _)) in enumerate(cuts):
        rows[k, variables] = normal
    return problem.with_rows(rows.tocsr(), np.full(len(cuts), -np.inf), np.array([most for _, (_, most) in cuts]))


def one_image(bounds: LinearBounds, rows: Tensor, rounds: int) -> list[float]:
    """The smallest margin by mixtures, by the program, with cuts of single neurons, and of pairs."""
    margins = bounds.lower({bounds.graph.output: rows[None]}, 20)[0]
    row = rows[int(margins.argmin())]
    program = network_lp(bounds, 0, {bounds.graph.output: row})
    problem = program.problem
    value, point = solved(problem)
    found = [float(margins.min()), value]
    alone = singles(bounds, program)
    for _ in range(rounds):
        problem = cut_off(problem, point, alone)
        value, point = solved(problem)
    found.append(value)
    for _ in range(rounds):
        problem = cut_off(problem, point, pairs(bounds, program, point))
        value, point = solved(problem)
    return [*found, value]


@click.command(cls=Experiment)
@click.option("--model", "models", multiple=True, default=("rnn_tanh_07f_032h_1l", "rnn_relu_07f_064h_1l"), show_default=True)
@click.option("--eps", default=0.010, show_default=True)
@click.option("--images", default=4, show_default=True)
@click.option("--rounds", default=6, show_default=True, help="Of cuts, of either kind.")
def main(models: tuple[str, ...], eps: float, images: int, rounds: int) -> None:
    torch.set_num_threads(1)
    columns = "network", "image", "mixtures", "program", "cuts of neurons", "cuts of pairs", "the search's least", "s"
    table = table_of(f"the smallest margin, eps {eps:.3f}", *columns)
    every, labels = mnist_test()
    for model in models:
        module = trained_cells(model)
        chosen = correctly_classified(module, every, labels, images)
        x = module.cut(every[chosen])
        loaded, ball = tv.load(module, tuple(x.shape[1:])), tv.LinfBall(eps, clip=(0, 1))
        wanted = classify_as(labels[chosen], 10).rows
        for k, image in enumerate(chosen):
            began, region = time.perf_counter(), ball.around(x[k : k + 1])
            known = linear_bounds(loaded.graph, region).intervals
            found = one_image(combined_bounds(loaded.graph, region, EFFORT, known), wanted[k], rounds)
            took = time.perf_counter() - began
            points = torch.cat(descend(loaded.graph, region, classify_as(labels[chosen][k : k + 1], 10), SEARCH, UNLIMITED))
            least = float((loaded.graph.forward(points) @ wanted[k].T).amin())
            table.add_row(model, str(int(image)), *(f"{value:.4f}" for value in found), f"{least:.3f}", f"{took:.0f}")
    report(table)


if __name__ == "__main__":
    main()
