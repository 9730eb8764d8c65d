"""Rounding: at one point, or next to none around it, bounds hold what exact arithmetic finds, and stay narrow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.bounds.test_bounds import CLASSES, DOUBLE, NETWORKS, centres, sign_rows
from tests.helpers import exact
from tests.helpers.exact import fmpq, rational
from tightverify.bounds.interval import interval_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.mixtures import MOST_STEPS, mixing_error
from tightverify.bounds.rows import operand_boxes, padded
from tightverify.errors import SoundnessFault
from tightverify.graph import Apply, Graph
from tightverify.models.builder import Builder, Symbols
from tightverify.ops import Clamp, LeakyRelu, Square, Tanh
from tightverify.region import Gain, L1Ball, L2Ball, LinfBall, Perturbation, Region
from tightverify.relax.planes import Plane, Planes
from tightverify.values import above, below, gamma

OPPOSED = 1e8
STEP = 1.01 * 2.0**-53
"""Just above half a unit in the last place of 1: 1 + STEP is rounded up, by almost that half, however often it is added."""


def ill_conditioned(scale: float, seed: int) -> Graph:
    """Big weights that cancel, several times over: what is left after it is nearly all rounding."""
    generator = torch.Generator().manual_seed(seed)
    builder = Builder()
    x = builder.input((3, 2))
    y: Symbols = x.ravel()
    for layer in range(3):
        big = OPPOSED * scale * torch.randn(4, len(y), generator=generator, dtype=DOUBLE)
        small = torch.randn(4, len(y), generator=generator, dtype=DOUBLE)
        # (big + small) y - big y, along two ways that meet only in the sum.
        plus = builder.matmul(y, big + small)
        minus = builder.matmul(y, -big, torch.randn(4, generator=generator, dtype=DOUBLE))
        y = builder.combine([(plus, 1.0), (minus, 1.0)])
        y = builder.apply((Tanh(), LeakyRelu(0.1), Clamp(-2.0, 2.0))[layer], y)
    mixed = builder.matmul(np.concatenate([y, builder.apply(Square(), y)]), OPPOSED * torch.ones(CLASSES, 8, dtype=DOUBLE))
    return builder.graph(builder.combine([(mixed, 1.0), (mixed[::-1], -1.0), (y[:3], 1.0)]))


def faults(graph: Graph, region: Region) -> list[str]:
    """What exact arithmetic at the region's centre disproves: intervals of all nodes, plain or tightened, and rows."""
    truth = exact.values(graph, region.centre[0])
    try:
        bounds = linear_bounds(graph, region)
    except SoundnessFault as fault:
        return [str(fault)]
    found = exact.outside(truth, bounds.intervals) + exact.outside(truth, interval_bounds(graph, region))
    rows = sign_rows(graph, "cpu")
    for row, lower in zip(rows[0].tolist(), bounds.lower({graph.output: rows})[0].tolist(), strict=True):
        value = exact.linear(row, truth[graph.output])
        if exact.is_below(value, lower):
            found.append(f"row: {value.str(25)} is below {lower!r}")
    return found


NETS: dict[str, Callable[[float, int], Graph]] = {**NETWORKS, "ill-conditioned": ill_conditioned}
POINTS: dict[str, Perturbation] = {
    "zero": LinfBall(0.0),
    "linf": LinfBall(1e-12),
    "l2": L2Ball(1e-12, clip=(0.0, 1.0)),
    "l1": L1Ball(1e-12),
    "gain": Gain(1e-12),
}


@pytest.mark.covering
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3])
@pytest.mark.parametrize("network", NETS)
def test_the_centre_is_held_in_exact_arithmetic(network: str, scale: float) -> None:
    graph = NETS[network](scale, 23)
    for name, perturbation in POINTS.items():
        assert not faults(graph, perturbation.around(centres(1, 8))), name


@pytest.mark.parametrize("network", NETWORKS)
def test_bounds_of_a_point_are_narrow(network: str) -> None:
    graph = NETWORKS[network](1.0, 29)
    for eps in (0.0, 1e-12):
        bounds = linear_bounds(graph, LinfBall(eps).around(centres(2, 9)))
        rows = sign_rows(graph, "cpu")
        lower = bounds.lower({graph.output: rows})
        half = lower.shape[1] // 2
        size = 1 + bounds.intervals[graph.output].magnitude.amax(1, keepdim=True)
        assert (-lower[:, half:] - lower[:, :half] <= 1e-9 * size * (1 + rows[0, :half].abs().sum(-1))).all()


def test_long_sums_of_many_nodes_are_allowed_for() -> None:
    """The mean over time and over neurons adds up every neuron by itself: as many roundings as time steps times neurons."""
    frames = neurons = 60
    builder = Builder()
    x = builder.input((1,))
    nodes = np.stack([builder.matmul(x, torch.full((neurons, 1), STEP, dtype=DOUBLE)) for _ in range(frames)])
    total = builder.combine([(part, 1.0) for part in nodes.reshape(-1, 1)], 1.0)
    graph = builder.graph(total)
    assert not faults(graph, LinfBall(0.0).around(torch.ones(1, 1, dtype=DOUBLE)))


def test_merged_sums_keep_to_what_was_written() -> None:
    """x + 1 + c + c + ...: merging the sums adds up their constants, with a rounding for each."""
    count = 2000
    builder = Builder()
    y = x = builder.input((1,))
    for k in range(count):
        y = builder.combine([(y, 1.0)], STEP if k else 1.0)
    assert y is not x
    graph = builder.graph(y)
    truth = rational(1.0) + rational(1.0) + (count - 1) * rational(STEP)
    region = LinfBall(0.0).around(torch.ones(1, 1, dtype=DOUBLE))
    interval = interval_bounds(graph, region)[graph.output]
    assert rational(float(interval.lower)) <= truth <= rational(float(interval.upper))
    lower = float(linear_bounds(graph, region).lower({graph.output: torch.ones(1, 1, 1, dtype=DOUBLE)}))
    assert rational(lower) <= truth


def test_neurons_read_many_times_over_are_allowed_for() -> None:
    """One neuron broadcast to many, by many readers: its coefficient adds up readers times copies."""
    copies = readers = 200
    builder = Builder()
    h = builder.matmul(builder.input((1,)), torch.ones(1, 1, dtype=DOUBLE))
    parts = [builder.apply(Clamp(-5.0, 5.0), np.broadcast_to(h, (copies,))) for _ in range(readers)]
    spread = torch.full((1, copies), STEP, dtype=DOUBLE)
    graph = builder.graph(builder.combine([(h, 1.0), *((builder.matmul(part, spread), 1.0) for part in parts)]))
    bounds = linear_bounds(graph, LinfBall(0.25).around(torch.ones(1, 1, dtype=DOUBLE)))
    one = torch.ones(1, 1, 1, dtype=DOUBLE)
    slope = 1 + copies * readers * rational(STEP)
    assert rational(float(bounds.lower({graph.output: one}))) <= fmpq(3, 4) * slope
    assert rational(-float(bounds.lower({graph.output: -one}))) >= fmpq(5, 4) * slope


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1e308, -1e308, 0.1, -1e-310])
@pytest.mark.parametrize("allowance", [0.0, 1e-300, 1e-17, 0.1, 1e308])
def test_below_and_above_are_what_they_say(value: float, allowance: float) -> None:
    x = torch.tensor([value], dtype=DOUBLE)
    low, high = float(below(x, allowance)), float(above(x, allowance))
    assert low == -torch.inf or rational(low) <= rational(value) - rational(allowance)
    assert high == torch.inf or rational(high) >= rational(value) + rational(allowance)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_overflowed_claims_nothing(value: float) -> None:
    """An infinity may be a sum that overflowed on its way to something small: it bounds nothing, on either side."""
    x = torch.tensor([value], dtype=DOUBLE)
    assert float(below(x, 0.0)) == -torch.inf
    assert float(above(x, 0.0)) == torch.inf


def test_a_neuron_that_is_summed_many_times_keeps_its_weight() -> None:
    """The mean of 5,000 copies of x is x: the weight 5,000 * (1 / 5,000) may be off by one rounding, not by thousands."""
    builder = Builder()
    x = builder.input((1,))
    graph = builder.graph(builder.total(np.broadcast_to(x, (5000, 1)), (0,), 1 / 5000))
    region = LinfBall(0.0).around(torch.ones(1, 1, dtype=DOUBLE))
    weight = next(term.map.weights for node in graph.nodes for term in getattr(node, "terms", ()))
    assert abs(float(weight) - 1.0) <= 2.3e-16
    output = interval_bounds(graph, region)[graph.output]
    assert float(output.lower) <= 1.0 <= float(output.upper)


def test_every_summand_of_a_coefficient_is_counted() -> None:
    """Fifty dense readers of one neuron, two hundred neurons each: ten thousand products may meet in one coefficient."""
    builder = Builder()
    x = builder.apply(Tanh(), builder.input((1,)))
    weight = torch.ones(200, 1, dtype=DOUBLE)
    read = [builder.apply(Tanh(), builder.matmul(x, weight * (k + 1))) for k in range(50)]
    halfway = [builder.apply(Tanh(), builder.matmul(neurons, torch.ones(1, 200, dtype=DOUBLE))) for neurons in read]
    graph = builder.graph(builder.total(np.stack(halfway), (0,)))
    assert graph.rounding >= gamma(50 * 200)


def test_planes_that_are_mixed_pay_for_the_largest_of_each_coefficient() -> None:
    """One pair is steep in the first operand, the other in the second: a mixture's sides may be of both."""
    network, size = NETWORKS["lstm"](1.0, 0), 1e6
    bounds = linear_bounds(network, LinfBall(0.1).around(centres(1)), mixtures=20)
    number = next(k for k, node in enumerate(network.nodes) if isinstance(node, Apply) and node.op.arity == 2)
    node = network.nodes[number]
    assert isinstance(node, Apply)
    none = torch.zeros((1, node.size), dtype=DOUBLE)
    steep = [Plane((none + size * (k == 0), none + size * (k == 1)), none) for k in (0, 1)]
    pairs = tuple(Planes(plane, plane) for plane in steep)
    padding = [pair.upper.offset for pair in padded(bounds, node, pairs)]
    scales = [bounds.scales[operand.source][..., operand.index] for operand in node.operands]
    x, y = (box.magnitude + scale for box, scale in zip(operand_boxes(bounds, node), scales, strict=True))
    least = (network.rounding + mixing_error(MOST_STEPS)) * 2 * size * (x + y) * (1 - 1e-9)
    assert all(bool((amount >= least).all()) for amount in padding)
