"""Another sweep over regions that were bounded before: only what matters is bounded and fitted anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import Tensor

from tightverify.bounds.fitted import Effort, refitted_planes
from tightverify.bounds.interval import enclose
from tightverify.bounds.linear import LinearBounds, padded
from tightverify.bounds.quadratics import relaxed_quadratic
from tightverify.budget import Budget
from tightverify.graph import Apply, Quadratic

NONE: Mapping[int, Tensor] = MappingProxyType({})


def rebound(
    bounds: LinearBounds,
    matter: Mapping[int, Tensor],
    anew: Mapping[int, Tensor],
    effort: Effort,
    budget: Budget,
) -> LinearBounds:
    """A further sweep over all nodes, from what the last one found."""
    found = replace(
        bounds,
        intervals=list(bounds.intervals),
        planes=dict(bounds.planes),
        polygons=dict(bounds.polygons),
        mixtures=effort.steps,
    )
    return rebounded(found, bounds, -1, matter, effort, budget, anew)


def rebounded(
    found: LinearBounds,
    whole: LinearBounds,
    after: int,
    matter: Mapping[int, Tensor],
    effort: Effort,
    budget: Budget,
    anew: Mapping[int, Tensor] = NONE,
) -> LinearBounds:
    """Bounds that start as those of a `whole`, or of parts of it, and are bettered node by node, after one.

    `matter` (B, k) are the neurons of each node whose intervals are worth a walk, `anew` (B, n) says of operations' neurons
    whose polygons are; the others keep what they have.
    """
    graph = found.graph
    for number, item in enumerate(graph.nodes):
        if number <= after:
            continue
        budget.check()
        found.learn(number, enclose(graph, number, found.intervals, found.region))
        if isinstance(item, Apply):
            before = [whole.intervals[operand.source][operand.index] for operand in item.operands]
            planes = refitted_planes(found, number, effort.fitting, whole.planes[number], before, anew.get(number))
            found.relax(number, padded(found, item, planes))
        elif isinstance(item, Quadratic):
            found.relax(number, (relaxed_quadratic(graph, found.region, number, found.intervals, found.scales),))
        if number in matter:
            found.learn(number, found.tighten(number, matter[number]))
    return found
