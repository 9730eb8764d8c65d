"""What a bounding pass found is a value: nothing in it changes, whatever is found from it later."""

from __future__ import annotations

import pickle
from collections.abc import MutableMapping, MutableSequence
from dataclasses import fields
from typing import Any

import torch

from tests.bounds.test_bounds import NETWORKS, REGIONS, centres, sign_rows
from tightverify.bounds.constraints import PART
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.rebound import rebound
from tightverify.bounds.result import LinearBounds
from tightverify.budget import UNLIMITED

EFFORT = Effort(Fitting(("tightest",), 2), 2, 5, part=0.5)


def found() -> LinearBounds:
    graph = NETWORKS["lstm 2 layers"](1.0, 3)
    region = REGIONS["linf"].around(centres(2))
    return combined_bounds(graph, region, EFFORT, linear_bounds(graph, region).intervals)


def mutable(value: Any) -> list[str]:
    """The names of lists and mappings that somebody could change."""
    every = [(each.name, getattr(value, each.name)) for each in fields(value)]
    return [name for name, part in every if isinstance(part, MutableSequence | MutableMapping)]


def test_nothing_in_it_changes() -> None:
    bounds = found()
    for some in (bounds, bounds[1:], pickle.loads(pickle.dumps(bounds))):
        assert mutable(some) == mutable(some.constraints) == []
        assert not some.constraints.part
    before, rows = bytes(pickle.dumps(bounds)), {bounds.graph.output: sign_rows(bounds.graph, "cpu")}
    every = {number: torch.arange(bounds.graph.nodes[number].size).expand(2, -1) for number in bounds.graph.bounded}
    anew = {number: torch.ones_like(bounds.planes[number][0].upper.offset, dtype=torch.bool) for number in bounds.planes}
    more = rebound(bounds, every, anew, EFFORT, UNLIMITED)
    assert any((a.width > b.width).any() for a, b in zip(bounds.intervals, more.intervals, strict=True))
    assert bytes(pickle.dumps(bounds)) == before
    assert torch.equal(pickle.loads(before).lower(rows), bounds.lower(rows))


def test_sizes_add_up_to_each_node() -> None:
    bounds = found()
    total = torch.zeros(2, dtype=torch.float64)
    for number, (interval, scale) in enumerate(zip(bounds.intervals, bounds.scales, strict=True)):
        total = total + interval.magnitude.sum(1) + scale.sum(1)
        assert torch.allclose(bounds.met(number), total, rtol=1e-12, atol=0)


def test_a_whole_region_is_never_empty() -> None:
    assert found().nothing.tolist() == [False, False]
    assert PART.crossed == ()
