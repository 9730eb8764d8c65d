"""Rows tried with other closed forms: sound, at least as good as with any one of them, and each node's planes its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.bounds.test_bounds import NETWORKS, REGIONS, centres, violations
from tests.test_mutations import prepared
from tightverify.bounds.alternatives import with_alternatives
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import operand_boxes, padded
from tightverify.graph import Apply, Graph
from tightverify.region import LinfBall, Region
from tightverify.relax.planes import Plane, Planes
from tightverify.values import FrozenMapping

HAVE_SOME = ["rnn tanh", "gru", "gru 2 layers", "mixed", "spectrum"]
HAVE_NONE = ["lstm", "rnn relu"]


def tried(graph: Graph, region: Region) -> LinearBounds:
    return with_alternatives(linear_bounds(graph, region))


def margins(bounds: LinearBounds) -> Tensor:
    size = bounds.graph.nodes[bounds.graph.output].size
    return bounds.lower({bounds.graph.output: torch.cat([torch.eye(size), -torch.eye(size)]).double()[None]})


@pytest.mark.covering
@pytest.mark.parametrize("region", ["linf", "l2", "mask", "gain"])
@pytest.mark.parametrize("network", HAVE_SOME)
def test_rows_and_planes_hold(network: str, region: str) -> None:
    graph, batch, points = prepared(network, REGIONS[region])
    assert not violations(graph, batch, points, tried)


@pytest.mark.parametrize("network", HAVE_SOME)
def test_each_node_has_the_planes_of_its_own_operands(network: str) -> None:
    graph, region = NETWORKS[network](1.0, 31), LinfBall(0.2).around(centres(3, 12))
    before, after = linear_bounds(graph, region), tried(graph, region)
    several = 0
    for number, pairs in after.planes.items():
        node = graph.nodes[number]
        alone = node.op.alternatives(*operand_boxes(before, node)) if isinstance(node, Apply) else ()
        wanted = padded(before, node, alone) if isinstance(node, Apply) and alone else before.planes[number]
        several += len(alone) > 1
        for found, own in zip(pairs, wanted, strict=True):
            for one, other in ((found.lower, own.lower), (found.upper, own.upper)):
                assert torch.allclose(one.offset, other.offset, rtol=1e-13, atol=1e-15)
                assert all(torch.allclose(a, b, rtol=1e-13) for a, b in zip(one.slopes, other.slopes, strict=True))
    assert several


@pytest.mark.parametrize("network", HAVE_SOME)
def test_the_best_of_all_counts(network: str) -> None:
    graph, region = NETWORKS[network](1.0, 31), LinfBall(0.2).around(centres(3, 12))
    bounds = tried(graph, region)
    each = [
        margins(
            replace(bounds, planes=FrozenMapping({n: (pairs[min(k, len(pairs) - 1)],) for n, pairs in bounds.planes.items()}))
        )
        for k in range(2)
    ]
    assert torch.allclose(margins(bounds), torch.maximum(*each), rtol=1e-12)
    assert not torch.equal(*each)


@pytest.mark.parametrize("network", HAVE_NONE)
def test_operations_without_any_keep_their_planes(network: str) -> None:
    graph, region = NETWORKS[network](1.0, 31), LinfBall(0.2).around(centres(3, 12))
    before, after = linear_bounds(graph, region), tried(graph, region)
    assert all(torch.equal(after.planes[n][0].upper.offset, pairs[0].upper.offset) for n, pairs in before.planes.items())


def test_planes_of_another_node_are_caught() -> None:
    """What a wrong place among the neurons side by side would do."""
    graph, region, points = prepared("rnn tanh", LinfBall(0.25))

    def shifted(graph: Graph, region: Region) -> LinearBounds:
        bounds = tried(graph, region)
        numbers = list(bounds.planes)
        moved = {number: bounds.planes[other] for number, other in zip(numbers, numbers[1:] + numbers[:1], strict=True)}
        return replace(bounds, planes=FrozenMapping(moved))

    assert violations(graph, region, points, shifted)


def test_offsets_of_the_wrong_sign_are_caught() -> None:
    graph, region, points = prepared("rnn tanh", LinfBall(0.25))

    def turned(graph: Graph, region: Region) -> LinearBounds:
        bounds = tried(graph, region)

        def turn(side: Plane) -> Plane:
            return Plane(side.slopes, -side.offset)

        planes = {n: tuple(Planes(turn(p.lower), turn(p.upper)) for p in pairs) for n, pairs in bounds.planes.items()}
        return replace(bounds, planes=FrozenMapping(planes))

    assert violations(graph, region, points, turned)
