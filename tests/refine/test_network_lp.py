"""The program over all planes at once: what it is a limit of, and that it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import solvers
from tests.bounds.test_bounds import CLASSES, DOUBLE, FEATURES, NETWORKS, REGIONS, TIME, centres, normal, probes
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.errors import UsageError
from tightverify.graph import Graph
from tightverify.models.builder import Builder
from tightverify.ops import Log, Sigmoid
from tightverify.refine.network_lp import network_lp
from tightverify.region import Box, LinfBall, Region
from tightverify.relax.planes import Plane, Planes

EFFORT = Effort(Fitting(("tightest", "edges", "corners"), 2), 2, 5)
NETS = ["rnn tanh", "rnn relu", "lstm", "gru", "gru reset before", "lstm 2 layers", "mixed", "spectrum"]
CROSSING = ("rnn relu", "mixed", "spectrum")
"""Networks in which planes of both sides are used for one neuron: the optimum is then above the best mixture."""
SCALES = [0.3, 1.0]


def swept(graph: Graph, region: Region) -> LinearBounds:
    return combined_bounds(graph, region, EFFORT, linear_bounds(graph, region).intervals)


def prepared(network: str, scale: float, eps: float = 0.2) -> tuple[Graph, Region, LinearBounds]:
    graph = NETWORKS[network](scale, 43)
    region = LinfBall(eps).around(centres(2, 15))
    return graph, region, swept(graph, region)


def margin_rows(graph: Graph) -> Tensor:
    """(1, R, K): each output less the next, and the first alone, with both signs."""
    one = torch.eye(graph.output_size, dtype=DOUBLE)
    rows = torch.cat([one - one.roll(1, 0), one[:1]])
    return torch.cat([rows, -rows])[None]


def optima(bounds: LinearBounds, rows: Tensor, boxed: bool) -> Tensor:
    """(B, R): the program's optimum for each row, proved."""
    output = bounds.graph.output
    found = torch.empty(len(bounds.region), rows.shape[1], dtype=DOUBLE)
    for k in range(len(found)):
        for r, row in enumerate(rows[0]):
            program = network_lp(bounds, k, {output: row}, boxed)
            solution = solvers.solve(program.problem, "highs")
            assert solution.status is solvers.Status.OPTIMAL
            found[k, r] = program.proved(solution)
            assert solution.objective - 1e-6 * (1 + abs(solution.objective)) <= found[k, r] <= solution.objective + 1e-6
            if boxed:
                assert solution.safe_bound == pytest.approx(solution.objective, rel=1e-6, abs=1e-6)
    return found


@pytest.mark.covering
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETS)
def test_no_mixture_passes_the_optimum_and_the_optimum_holds(network: str, scale: float) -> None:
    graph, region, bounds = prepared(network, scale)
    rows = margin_rows(graph)
    best, boxed = optima(bounds, rows, False), optima(bounds, rows, True)
    for steps in (0, 5, 60):
        assert (bounds.lower({graph.output: rows}, steps) <= best + 1e-7).all()
    assert (best <= boxed + 1e-7).all()
    values = graph.evaluate(probes(graph, region))[graph.output] @ rows[0].T
    assert (boxed[:, None] <= values + 1e-9).all()


@pytest.mark.covering
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", [network for network in NETS if network not in CROSSING])
def test_mixtures_come_within_a_hundredth_of_the_optimum(network: str, scale: float) -> None:
    """Of the improvement over a single plane for each neuron, for all rows of both inputs together."""
    graph, _, bounds = prepared(network, scale)
    rows = margin_rows(graph)
    best = optima(bounds, rows, False)
    start, near = (bounds.lower({graph.output: rows}, steps) for steps in (0, 60))
    assert float((near - start).sum()) >= 0.99 * float((best - start).sum()) - 1e-6


@pytest.mark.parametrize("network", ["lstm", "gru", "mixed"])
def test_rows_over_hidden_neurons_hold_and_take_no_more_than_they_read(network: str) -> None:
    graph, region, bounds = prepared(network, 1.0)
    values = graph.evaluate(probes(graph, region))
    generator = torch.Generator().manual_seed(5)
    for number in graph.bounded[:3]:
        row = normal(generator, graph.nodes[number].size)
        program = network_lp(bounds, 1, {0: normal(generator, graph.nodes[0].size), number: row})
        assert max(program.columns) == number
        program = network_lp(bounds, 1, {number: row})
        solution = solvers.solve(program.problem)
        assert program.proved(solution) <= float((values[number][1] @ row).min()) + 1e-9
        assert solution.primal is not None
        assert program.neurons(solution.primal, number) @ row.numpy() == pytest.approx(solution.objective, abs=1e-6)


@pytest.mark.parametrize("network", ["mixed", "spectrum"])
def test_the_true_network_is_a_point_of_the_program(network: str) -> None:
    graph, region, bounds = prepared(network, 1.0)
    program = network_lp(bounds, 0, {graph.output: torch.ones(CLASSES, dtype=DOUBLE)})
    for x in region.sample(20, torch.Generator().manual_seed(8))[0]:
        values = graph.evaluate(x)
        point = torch.cat([values[number] for number in program.columns]).numpy()
        assert (point >= program.lower - 1e-12).all()
        assert (point <= program.upper + 1e-12).all()
        reached = program.problem.rows @ point
        assert (reached >= program.problem.row_lower - program.slack - 1e-12).all()
        assert (reached <= program.problem.row_upper + program.slack + 1e-12).all()


@pytest.mark.parametrize("boxed", [True, False])
def test_an_affine_network_is_exact(boxed: bool) -> None:
    generator = torch.Generator().manual_seed(9)
    builder = Builder()
    x = builder.input((TIME, FEATURES))
    first = builder.matmul(x.ravel(), normal(generator, 5, TIME * FEATURES), normal(generator, 5))
    second = builder.combine([(builder.matmul(first[[0, 0, 3]], normal(generator, CLASSES, 3)), 2.0), (first[2:], -1.0)], 0.5)
    graph = builder.graph(second)
    region = LinfBall(0.2).around(centres(2, 15))
    bounds = linear_bounds(graph, region)
    rows = margin_rows(graph)
    corners = torch.cartesian_prod(*[torch.tensor([-0.2, 0.2], dtype=DOUBLE)] * graph.input_size)
    values = graph.evaluate(region.centre[:, None] + corners)[graph.output] @ rows[0].T
    assert torch.allclose(optima(bounds, rows, boxed), values.amin(1), rtol=0, atol=1e-9)


def test_a_missing_plane_loosens_and_a_wrong_one_is_seen() -> None:
    graph, region, bounds = prepared("lstm", 1.0)
    rows = margin_rows(graph)
    best = optima(bounds, rows, True)
    fewer = replace(bounds, planes={number: pairs[:1] for number, pairs in bounds.planes.items()})
    assert (optima(fewer, rows, True) <= best + 1e-7).all()
    values = (graph.evaluate(probes(graph, region))[graph.output] @ rows[0].T).amin(1)
    last = max(bounds.planes)

    def broken(pair: Planes) -> Planes:
        return Planes(Plane(pair.lower.slopes, pair.lower.offset + 5), Plane(pair.upper.slopes, pair.upper.offset + 5))

    moved = {**bounds.planes, last: tuple(broken(pair) for pair in bounds.planes[last])}
    shifted = replace(bounds, planes=moved)
    program = network_lp(shifted, 0, {graph.output: rows[0, 0]}, boxed=False)
    lifted = network_lp(shifted, 0, {graph.output: -rows[0, 0]}, boxed=False)
    found = [p.proved(solvers.solve(p.problem)) for p in (program, lifted)]
    assert found[0] > values[0, 0] or found[1] > values[0, CLASSES + 1]


def test_regions_that_are_no_boxes_are_refused() -> None:
    graph = NETWORKS["rnn tanh"](1.0, 1)
    row = torch.ones(CLASSES, dtype=DOUBLE)
    for name in ("l1", "l2"):
        with pytest.raises(UsageError, match="no box"):
            network_lp(linear_bounds(graph, REGIONS[name].around(centres(1))), 0, {graph.output: row})
    bounds = linear_bounds(graph, REGIONS["linf"].around(centres(2)))
    with pytest.raises(UsageError, match="0 to 1"):
        network_lp(bounds, 2, {graph.output: row})


def test_where_log_is_undefined_there_is_no_program() -> None:
    builder = Builder()
    x = builder.input((2,))
    graph = builder.graph(builder.combine([(builder.apply(Log(), x), 1.0), (builder.apply(Sigmoid(), x), 1.0)], 3.0))
    low, high = torch.tensor([[-1.0, 0.5], [0.5, 0.5]]), torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    bounds = linear_bounds(graph, Box(low, high).around(torch.tensor([[0.5, 1.0], [0.6, 1.0]])))
    row = torch.ones(2, dtype=DOUBLE)
    with pytest.raises(UsageError, match="no value"):
        network_lp(bounds, 0, {graph.output: row})
    program = network_lp(bounds, 1, {graph.output: row})
    assert program.proved(solvers.solve(program.problem)) == pytest.approx(
        float(bounds.lower({graph.output: row[None, None]})[1])
    )
