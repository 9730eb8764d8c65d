"""Another bounding pass over regions that were bounded before: only what matters is bounded and fitted anew."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.fitted import Effort, refitted_planes
from tightverify.bounds.interval import enclose
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import padded
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
    """A further pass over all nodes, from what the last one found."""
    begun = BoundingPass.over_again(bounds, effort.steps, effort.fitting.pairs)
    return rebounded(begun, bounds, -1, matter, effort, budget, anew)


def rebounded(
    found: BoundingPass,
    whole: LinearBounds,
    after: int,
    matter: Mapping[int, Tensor],
    effort: Effort,
    budget: Budget,
    anew: Mapping[int, Tensor] = NONE,
) -> LinearBounds:
    """What a pass comes to that starts from the bounds of a `whole`, or of its parts, and betters them node by node, after one.

    `matter` (B, k) are the neurons of each node that are worth bounding anew, `anew` (B, n) says of operations' neurons
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
            found.relax_quadratic(number)
        if number in matter:
            found.tighten(number, matter[number])
    return found.found()
