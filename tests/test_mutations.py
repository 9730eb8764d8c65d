"""Broken on purpose: every fault that verifiers of recurrent networks are known for must be caught by our checkers.

Operations are broken through `relax`, which all bounds read, so that these tests hold on to no inner name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import test_rounding
from tests.bounds.test_bounds import NETWORKS, REGIONS, centres, probes, violations
from tests.helpers.operation_contract import faults
from tests.ops.test_ops import ids
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.graph import Affine, Graph
from tightverify.ops import OPS, Operation
from tightverify.region import Ball, LinfBall, Perturbation, Region
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval


@dataclass
class Breaker:
    """Counts the calls of `relax` and breaks one of them, or those from it on."""

    target: int
    damage: Callable[[Planes, list[Planes]], Planes]
    onwards: bool = False
    seen: list[Planes] = field(default_factory=list)

    def __call__(self, planes: Planes) -> Planes:
        number = len(self.seen)
        self.seen.append(planes)
        hit = number >= self.target if self.onwards else number == self.target
        return self.damage(planes, self.seen) if hit else planes


def install(monkeypatch: pytest.MonkeyPatch, breaker: Breaker) -> None:
    for kind in {type(op) for op in OPS}:

        def broken(self: Operation, *boxes: Interval, original: Callable[..., Planes] = kind.relax) -> Planes:
            return breaker(original(self, *boxes))

        monkeypatch.setattr(kind, "relax", broken)


def flip_upper_slope(planes: Planes, _seen: list[Planes]) -> Planes:
    first, *rest = planes.upper.slopes
    return Planes(planes.lower, Plane((-first, *rest), planes.upper.offset))


def flip_last_lower_slope(planes: Planes, _seen: list[Planes]) -> Planes:
    *rest, last = planes.lower.slopes
    return Planes(Plane((*rest, -last), planes.lower.offset), planes.upper)


def drop_upper_offset(planes: Planes, _seen: list[Planes]) -> Planes:
    return Planes(planes.lower, Plane(planes.upper.slopes, torch.zeros_like(planes.upper.offset)))


def drop_lower_offset(planes: Planes, _seen: list[Planes]) -> Planes:
    return Planes(Plane(planes.lower.slopes, torch.zeros_like(planes.lower.offset)), planes.upper)


def swap(planes: Planes, _seen: list[Planes]) -> Planes:
    return Planes(planes.upper, planes.lower)


def lift_lower(planes: Planes, _seen: list[Planes]) -> Planes:
    """Nearer by a little: what fitting planes to samples alone does."""
    return Planes(Plane(planes.lower.slopes, planes.lower.offset + 1e-6), planes.upper)


def average(planes: Planes, _seen: list[Planes]) -> Planes:
    """A mixing weight applied twice: the weights add up to more than 1."""
    return Planes(planes.lower, planes.upper.map(lambda part: 0.9 * part))


def other_input(planes: Planes, _seen: list[Planes]) -> Planes:
    return planes.map(lambda part: part.roll(1, 0))


def other_neuron(planes: Planes, _seen: list[Planes]) -> Planes:
    return planes.map(lambda part: part.roll(1, 1))


def earlier_node(planes: Planes, seen: list[Planes]) -> Planes:
    """Planes kept under another layer's or another frame's name: the fault of PROVER's optimised version."""
    fitting = [p for p in seen[:-1] if len(p.upper.slopes) == len(planes.upper.slopes)]
    fitting = [p for p in fitting if p.upper.offset.shape == planes.upper.offset.shape]
    return fitting[0] if fitting else planes


DAMAGES = [
    flip_upper_slope,
    flip_last_lower_slope,
    drop_upper_offset,
    drop_lower_offset,
    swap,
    lift_lower,
    average,
    other_input,
    other_neuron,
]
NETS = ["lstm 2 layers", "gru reset before", "rnn tanh", "mixed"]


def prepared(network: str, perturbation: Perturbation, batch: int = 3) -> tuple[Graph, Region, Tensor]:
    graph = NETWORKS[network](1.0, 31)
    region = perturbation.around(centres(batch, 12))
    return graph, region, probes(graph, region, 300)


HARMLESS = {
    "flip_upper_slope": {
        *("tanh_difference", "leaky_relu_difference0.1", "clamp_difference0.25", "ramp_difference0.1"),
        "hard_sigmoid_difference0.25",
        *("reciprocal", "nonzero", "power", "power_difference", "gelu_difference"),
    },
    "lift_lower": {"power_difference"},
    "flip_last_lower_slope": {
        "clamp_difference0.25",
        "power",
        "log",
        "square",
        "square_root",
        "sum_of_squares",
        "nonzero",
        "truncation",
    },
    "drop_upper_offset": {"leaky_relu1.5", "truncation"},
    "drop_lower_offset": {
        "softplus",
        "maximum",
        "leaky_relu0.0",
        "leaky_relu0.1",
        "clamp0.25",
        "hard_sigmoid0.25",
        f"hard_sigmoid{1 / 6}",
        "sigmoid",
        "square_root",
        "reciprocal",
        "step",
        "nonzero",
    },
}
"""Damages that leave planes sound on our boxes: a tangent or a chord turned over, an offset of 0 or more."""
every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


def gate_boxes(op: Operation) -> tuple[Interval, ...]:
    """(3, 3) boxes for each operand: about zero, on either side of it, no two of them alike."""
    lower = torch.tensor([[-0.9, -1.1, 0.2], [-3.0, 0.55, -0.3], [-2.0, 1.25, -6.0]], dtype=torch.float64)
    width = torch.tensor([[1.7, 3.0, 0.8], [1.1, 0.9, 2.2], [5.0, 2.0, 7.0]], dtype=torch.float64)
    boxes = tuple(Interval(low, low + width.roll(k, 0)) for k, low in enumerate((lower, lower.roll(1, 1), lower.T)))[: op.arity]
    return (boxes[0].map(torch.exp),) if op.partial else boxes


@every_damage
def test_broken_planes_of_operations_are_caught(damage: Callable[[Planes, list[Planes]], Planes]) -> None:
    """By what the contract holds against operations, except where they do no harm."""
    harmless = []
    for op in OPS:
        boxes = gate_boxes(op)
        broken, interval = damage(op.relax(*boxes), []), op.interval(*boxes)
        found = []
        for k in range(3):
            every: tuple[Any, ...] = (*boxes, broken, interval)
            parts = [part.map(lambda t, k=k: t[k : k + 1]) for part in every]
            found += faults(op, tuple(parts[:-2]), *parts[-2:])
        if not found:
            harmless.append(ids(op))
    assert set(harmless) <= HARMLESS.get(damage.__name__, set())


@pytest.mark.covering
@every_damage
@pytest.mark.parametrize("network", NETS)
def test_a_broken_relaxation_in_a_network_is_caught(
    network: str, damage: Callable[[Planes, list[Planes]], Planes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time. Where a gate's operands go together, a plane may be broken at points only that no input reaches."""
    graph, region, points = prepared(network, LinfBall(0.25))
    assert not violations(graph, region, points)
    count = len(linear_bounds(graph, region).planes)
    caught = 0
    for target in range(count):
        with monkeypatch.context() as patch:
            install(patch, Breaker(target, damage))
            caught += bool(violations(graph, region, points))
    assert caught >= (1 if damage is lift_lower else count / 3), f"{caught} of {count}"


@pytest.mark.parametrize("network", NETS)
def test_planes_of_an_earlier_node_are_caught(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, region, points = prepared(network, LinfBall(0.25))
    install(monkeypatch, Breaker(1, earlier_node, onwards=True))
    assert violations(graph, region, points)


@pytest.mark.parametrize("network", NETS)
def test_rows_alone_catch_reversed_planes(network: str) -> None:
    """Without looking at planes or intervals: the margins themselves, as a user would see them."""
    graph, region, points = prepared(network, LinfBall(0.05))

    def rows_only(graph: Graph, region: Region) -> LinearBounds:
        bounds = linear_bounds(graph, region)
        return replace(bounds, planes={number: (Planes(p.upper, p.lower),) for number, (p,) in bounds.planes.items()})

    found = violations(graph, region, points, rows_only)
    assert any(fault.startswith("row") for fault in found)


@pytest.mark.parametrize("network", NETS)
def test_a_forgotten_bias_is_caught(network: str) -> None:
    """The bias of each affine node in turn, so of one time step only."""
    graph, region, points = prepared(network, LinfBall(0.05))
    tried = 0
    for number, node in enumerate(graph.nodes):
        if not isinstance(node, Affine) or not bool(node.bias.any()):
            continue
        tried += 1
        nodes = list(graph.nodes)
        nodes[number] = replace(node, bias=torch.zeros_like(node.bias))
        without = replace(graph, nodes=tuple(nodes))
        found = violations(graph, region, points, lambda _, region, without=without: linear_bounds(without, region))  # type: ignore[misc]
        assert found, f"node {number}"
    assert tried >= 3


@pytest.mark.parametrize("name", ["linf", "mask"])
def test_a_minimum_without_absolute_values_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, region, points = prepared("lstm", REGIONS[name])

    def no_abs(self: Ball, rows: Tensor, block: slice = slice(None), **_: bool) -> Tensor:
        box = self.box[block]
        return ((rows * box.centre[:, None]) - rows * (box.width / 2)[:, None]).sum(-1)

    monkeypatch.setattr(Ball, "minimise", no_abs)
    assert violations(graph, region, points)


@pytest.mark.parametrize("name", ["linf", "l2", "l2 clipped", "l1", "mask"])
@pytest.mark.parametrize("network", ["lstm", "rnn relu"])
def test_a_smaller_region_is_caught(network: str, name: str) -> None:
    """Bounds for a region of 0.8 times the radius."""
    graph, region, points = prepared(network, REGIONS[name])
    box = Interval(region.centre - 0.8 * (region.centre - region.box.lower), region.centre + 0.8 * region.box.width / 2)
    box = Interval(box.lower, region.centre + 0.8 * (region.box.upper - region.centre))
    assert isinstance(region, Ball)
    smaller = Ball(region.centre, box, 0.8 * region.radius, region.norm)
    assert violations(graph, region, points, lambda graph, _: linear_bounds(graph, smaller))


@pytest.mark.parametrize("network", NETS)
def test_bounds_of_another_input_are_caught(network: str) -> None:
    graph, region, points = prepared(network, LinfBall(0.02))
    order = torch.tensor([1, 2, 0])
    assert violations(graph, region, points, lambda graph, region: linear_bounds(graph, region[order]))


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_the_other_side_of_the_planes_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower planes where the coefficient is negative: what a forgotten sign does in a walk."""
    graph, region, points = prepared("gru 2 layers", REGIONS[name])
    install(monkeypatch, Breaker(0, swap, onwards=True))
    assert violations(graph, region, points)


@pytest.mark.parametrize("seed", [23, 37])
def test_a_missing_rounding_allowance_is_caught(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = test_rounding.ill_conditioned(1.0, seed)
    region = LinfBall(0.0).around(centres(1, 8))
    assert not test_rounding.faults(graph, region)
    monkeypatch.setattr(Graph, "rounding", 0.0)
    assert test_rounding.faults(test_rounding.ill_conditioned(1.0, seed), region)
