"""The leaves of a search: regions cut by half-spaces, with all that is known of the network on them.

A split takes a neuron y and a value s: every input of the region has y <= s or y >= s, so that the two halves cover it. On the
half with y <= s the neuron's interval ends at s; and where `f @ x + c <= y` holds on the whole region, that half lies in
`f @ x + c <= s`, a half-space of the input, which tightens every bound of the half, those of earlier neurons too. The other
half is the same for -y and -s.

What was bounded before the neuron is taken over from the parent, planes and polygons too: it holds on each half. All later
nodes are bounded anew over the cut region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.bounds.fitted import Effort, refitted_planes
from tightverify.bounds.linear import LinearBounds, linear_bounds
from tightverify.branch.choice import Candidate
from tightverify.cuts import Cuts
from tightverify.graph import Apply
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval, below

MOST_CUTS = 12
"""A leaf keeps the half-spaces of so many splits, the last ones: those of earlier ones have narrowed its intervals."""


@dataclass(frozen=True)
class Split:
    """Half of a region: a neuron of a node is at most a value, or (`above`) at least."""

    node: int
    neuron: int
    value: float
    above: bool


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


def halves(
    bounds: LinearBounds, node: int, neurons: Tensor, values: Tensor, effort: Effort, check: Callable[[], None]
) -> LinearBounds:
    """Both halves of each region of a batch (first y <= s, then y >= s, region by region), bounded from the node on."""
    batch, size = len(bounds.region), bounds.graph.nodes[node].size
    which = torch.arange(batch, device=neurons.device)
    rows = bounds.intervals[node].lower.new_zeros((batch, 2, size))
    rows[which, 0, neurons], rows[which, 1, neurons] = 1.0, -1.0
    constants, coefficients = bounds.form({node: rows})
    ends = torch.stack([values, -values], dim=1)
    cut = Cuts(coefficients.flatten(0, 1)[:, None], below(constants - ends, 0.0).flatten()[:, None])

    def twice(value: Tensor) -> Tensor:
        return value.repeat_interleave(2, dim=0)

    region = with_cut(twice_of(bounds.region, twice), cut)
    whole = bounds.map(twice, region)
    interval = whole.intervals[node]
    lower, upper = interval.lower.clone(), interval.upper.clone()
    upper[2 * which, neurons] = torch.minimum(upper[2 * which, neurons], values)
    lower[2 * which + 1, neurons] = torch.maximum(lower[2 * which + 1, neurons], values)
    whole.intervals[node] = Interval(lower, upper)
    start = replace(
        whole,
        intervals=whole.intervals[: node + 1],
        scales=whole.scales[: node + 1],
        planes={number: pairs for number, pairs in whole.planes.items() if number <= node},
        mixtures=effort.steps,
        empty=[],
    )

    def again(now: LinearBounds, apply: Apply) -> tuple[Planes, ...]:
        return refitted_planes(now, apply, effort.fitting, whole.planes[len(now.intervals) - 1], boxes_before(apply))

    def boxes_before(apply: Apply) -> list[Interval]:
        return [bounds.intervals[o.source][o.index].map(twice) for o in apply.operands]

    return linear_bounds(bounds.graph, region, check, again, whole.intervals, effort.steps, start)


def twice_of(region: Region, twice: Callable[[Tensor], Tensor]) -> Region:
    cuts = None if region.cuts is None else Cuts(twice(region.cuts.rows), twice(region.cuts.offsets))
    return Region(twice(region.centre), region.box.map(twice), twice(region.radius), region.norm, cuts)


def with_cut(region: Region, cut: Cuts) -> Region:
    """The regions cut once more; the oldest cut goes where there are too many."""
    old = region.cuts
    if old is None:
        return replace(region, cuts=cut)
    rows = torch.cat([old.rows, cut.rows], dim=1)[:, -MOST_CUTS:]
    return replace(region, cuts=Cuts(rows, torch.cat([old.offsets, cut.offsets], dim=1)[:, -MOST_CUTS:]))


def together(leaves: Sequence[LinearBounds]) -> LinearBounds:
    """Single regions' bounds as a batch; regions with fewer cuts than others get cuts that say nothing."""
    first = leaves[0]
    planes = {
        number: tuple(pair_of([leaf.planes[number][k] for leaf in leaves]) for k in range(len(pairs)))
        for number, pairs in first.planes.items()
    }
    return LinearBounds(
        first.graph,
        regions_of([leaf.region for leaf in leaves]),
        [interval_of(same) for same in zip(*(leaf.intervals for leaf in leaves), strict=True)],
        [torch.cat(same) for same in zip(*(leaf.scales for leaf in leaves), strict=True)],
        planes,
        first.mixtures,
        {number: Polygons(torch.cat([leaf.polygons[number].vertices for leaf in leaves])) for number in first.polygons},
    )


def interval_of(same: Sequence[Interval]) -> Interval:
    return Interval(torch.cat([one.lower for one in same]), torch.cat([one.upper for one in same]))


def pair_of(same: Sequence[Planes]) -> Planes:
    return Planes(plane_of([pair.lower for pair in same]), plane_of([pair.upper for pair in same]))


def plane_of(same: Sequence[Plane]) -> Plane:
    slopes = tuple(torch.cat(slope) for slope in zip(*(plane.slopes for plane in same), strict=True))
    return Plane(slopes, torch.cat([plane.offset for plane in same]))


def regions_of(regions: Sequence[Region]) -> Region:
    most = max(0 if region.cuts is None else region.cuts.offsets.shape[1] for region in regions)
    cuts = [padded_to(region, most) for region in regions] if most else []
    return Region(
        torch.cat([region.centre for region in regions]),
        interval_of([region.box for region in regions]),
        torch.cat([region.radius for region in regions]),
        regions[0].norm,
        Cuts(torch.cat([cut.rows for cut in cuts]), torch.cat([cut.offsets for cut in cuts])) if cuts else None,
    )


def padded_to(region: Region, count: int) -> Cuts:
    cuts = region.cuts
    have = 0 if cuts is None else cuts.offsets.shape[1]
    rows = region.centre.new_zeros((len(region), count - have, region.centre.shape[1]))
    none = Cuts(rows, rows[..., 0])
    if cuts is None:
        return none
    return Cuts(torch.cat([none.rows, cuts.rows], dim=1), torch.cat([none.offsets, cuts.offsets], dim=1))
