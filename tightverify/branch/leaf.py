"""The leaves of a search: parts of regions, with all that is known of the network on them.

A split takes a neuron y and a value s: every input of the region has y <= s or y >= s, so that the two halves cover it. On the
half with y <= s the neuron's interval ends at s, on the other it begins there. From then on the intervals are constraints of
their own, whose multipliers tighten every row (`bounds.interval_multipliers`). Of a coordinate of the input, the halves are
regions of their own, over which every back-substitution ends.

What was bounded before the neuron is taken over from the parent, planes and polygons too: it holds on each half. Of later
nodes the operations are relaxed anew, and the neurons that matter are bounded anew.

The first split is another one: the parts are where one of the open rows fails, an output constraint (`bounds.contradiction`).
It ties the first frames to the last, so that all nodes of such parts, and of their halves, are bounded anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.bounds import constraints, stops
from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.constraints import Constraints
from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.fitted import Effort, as_many
from tightverify.bounds.pairs import Pairs
from tightverify.bounds.rebound import rebounded
from tightverify.bounds.result import LinearBounds
from tightverify.branch.choice import Candidate
from tightverify.branch.node import Split
from tightverify.budget import Budget
from tightverify.graph import Graph, Input
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.spec import Property
from tightverify.values import FrozenMapping, Interval

LIMIT = 0.01
"""The limit of a row that is to be proved positive, relative to how far its bound is below 0."""
LEAST_LIMIT = 1e-100


@dataclass(frozen=True, eq=False)
class Leaf:
    """A part of an input's region: the splits that lead there, bounds of the network on it, the rows' proved margins (R,).

    `number` counts the leaves of an input in the order in which they were made, 0 being the whole region.
    """

    input: int
    number: int
    splits: tuple[Split, ...]
    bounds: LinearBounds
    margins: Tensor
    worst: float
    candidates: tuple[Candidate, ...]
    matter: Mapping[int, Tensor]
    """for each node the neurons (1, k) whose intervals the decisive row depends on most"""
    multipliers: Mapping[int, Tensor]
    """of interval constraints (1, 1, n), for the decisive row: its halves begin with them"""


def halves(
    bounds: LinearBounds,
    cuts: Sequence[tuple[int, int, float]],
    matter: Mapping[int, Tensor],
    effort: Effort,
    budget: Budget,
) -> LinearBounds:
    """Both halves of each region of a batch (first y <= s, then y >= s, region by region), bounded from the first node on.

    A cut is a node, a neuron of it and a value. `matter` (B, k) are the neurons of each node that are worth bounding anew;
    the others keep what they have.
    """

    def twice(value: Tensor) -> Tensor:
        return value.repeat_interleave(2, dim=0)

    graph = bounds.graph
    whole = bounds.map(twice, bounds.region[twice(torch.arange(len(cuts), device=bounds.region.centre.device))])
    nodes = {node for node, _, _ in cuts}
    intervals, region = list(whole.intervals), whole.region
    for number in nodes:
        intervals[number] = cut_in(intervals[number], [(k, *cut[1:]) for k, cut in enumerate(cuts) if cut[0] == number])
    after = min(nodes) if whole.output_constraint is None else -1
    if any(isinstance(graph.nodes[node], Input) for node in nodes):
        region = within(graph, region, intervals)
        after = min(after, min(nodes) - 1)  # what a ball leaves of the other coordinates, or nothing
    constraints = replace(whole.constraints, part=True, crossed=())
    recorder = bounds.recorder.halves(cuts)
    for number in nodes:
        recorder.interval(number, intervals[number])
    both = replace(whole, region=region, intervals=tuple(intervals), constraints=constraints, recorder=recorder)
    found = BoundingPass.over_again(both, effort.steps, effort.fitting.pairs)
    return rebounded(found, whole, after, {number: twice(some) for number, some in matter.items()}, effort, budget)


def cut_in(interval: Interval, cuts: Sequence[tuple[int, int, float]]) -> Interval:
    """A node's interval on both halves of each region; some are cut there, at a value: (region, neuron, value)."""
    lower, upper = interval.lower.clone(), interval.upper.clone()
    for k, neuron, value in cuts:
        upper[2 * k, neuron].clamp_(max=value)
        lower[2 * k + 1, neuron].clamp_(min=value)
    return Interval(lower, upper)


def within(graph: Graph, region: Region, intervals: Sequence[Interval]) -> Region:
    """What the intervals of the input's coordinates leave of regions."""
    lower, upper = region.box.lower.clone(), region.box.upper.clone()
    for node, interval in zip(graph.nodes, intervals, strict=True):
        if isinstance(node, Input):
            lower[:, node.block], upper[:, node.block] = interval.lower, interval.upper
    return region.within(Interval(lower, upper))


def output_constrained(bounds: LinearBounds, parents: Tensor, rows: Tensor, spec: Property, margins: Tensor) -> LinearBounds:
    """Parts (P,) of regions on which one row each fails, with what is known of the whole; margins (B, R)."""
    bound = margins[parents, rows]
    limit = (-LIMIT * bound).clamp(min=LEAST_LIMIT)
    return under(bounds.map(lambda value: value[parents], bounds.region[parents]), rows, limit, bound, spec[parents])


def under(bounds: LinearBounds, rows: Tensor, limit: Tensor, bound: Tensor, spec: Property) -> LinearBounds:
    """The same regions, where a row (B,) of each one's property, which has a lower bound (B,), is at most a limit (B,)."""
    graph = bounds.graph
    output = bounds.intervals[graph.output].magnitude + bounds.scales[graph.output]
    what = OutputConstraint.of(graph, rows, limit, bound, spec, bounds.region.centre, output)
    constraints, recorder = Constraints(part=True, output=what), bounds.recorder.output_constraint(what)
    return replace(bounds, constraints=constraints, recorder=recorder)


def together(leaves: Sequence[LinearBounds]) -> LinearBounds:
    """Single regions' bounds as a batch; where one has fewer pairs of planes than another, its last is repeated.

    Neurons are taken two and two where they are in all of them: operands that are too large have none.
    """
    first = leaves[0]
    paired = [number for number in first.pairs if all(number in leaf.pairs for leaf in leaves)]
    planes = {}
    for number in first.planes:
        several = [leaf.planes[number] for leaf in leaves]
        most = max(map(len, several))
        planes[number] = tuple(pair_of([pairs[min(k, len(pairs) - 1)] for pairs in several]) for k in range(most))
    return LinearBounds(
        first.graph,
        first.region.joined([leaf.region for leaf in leaves[1:]]),
        tuple(interval_of(same) for same in zip(*(leaf.intervals for leaf in leaves), strict=True)),
        tuple(torch.cat(same) for same in zip(*(leaf.scales for leaf in leaves), strict=True)),
        FrozenMapping(planes),
        FrozenMapping({number: side_by_side([leaf.polygons[number] for leaf in leaves]) for number in first.polygons}),
        FrozenMapping({number: pairs_of([leaf.pairs[number] for leaf in leaves]) for number in paired}),
        first.mixtures,
        constraints.together([leaf.constraints for leaf in leaves], [leaf.nothing for leaf in leaves]),
        first.recorder.together([leaf.recorder for leaf in leaves[1:]]),
        stops=stops.together([leaf.stops for leaf in leaves]),
    )


def pairs_of(same: Sequence[Pairs]) -> Pairs:
    """The pairs of an operation's neurons in several batches as one."""
    members = torch.cat([one.members for one in same])
    planes = tuple(pair_of(every) for every in zip(*(one.planes for one in same), strict=True))
    first, second = (interval_of(boxes) for boxes in zip(*(one.boxes for one in same), strict=True))
    return Pairs(members, planes, (first, second), side_by_side([one.polygons for one in same]))


def side_by_side(several: Sequence[Polygons]) -> Polygons:
    """Polygons of several batches as one; the last vertices are repeated where there are fewer."""
    longest = max(several, key=lambda one: one.vertices.shape[1])
    return Polygons(torch.cat([as_many(one.vertices, longest.vertices) for one in several]))


def interval_of(same: Sequence[Interval]) -> Interval:
    return Interval(torch.cat([one.lower for one in same]), torch.cat([one.upper for one in same]))


def pair_of(same: Sequence[Planes]) -> Planes:
    return Planes(plane_of([pair.lower for pair in same]), plane_of([pair.upper for pair in same]))


def plane_of(same: Sequence[Plane]) -> Plane:
    slopes = tuple(torch.cat(slope) for slope in zip(*(plane.slopes for plane in same), strict=True))
    return Plane(slopes, torch.cat([plane.offset for plane in same]))
