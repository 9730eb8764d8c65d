"""Planes above and below `F(x) - F(x - d)` over polygons of x and d, for the sigmoid and tanh (`relax.secants`).

What is lost by planes of a change is mostly the product of what x and d vary by: as little of it is left where sums and
differences of both are bounded as of any product. Slopes come from linear programs over samples, as in `relax.fitted.cutting`,
whatever they are worth; each plane gets the least offset that is surely valid, or nearly so.

The offset of slopes (a, b) is the supremum over the polygon of E(x, d) = F(x) - F(x - d) - a x - b d.

* *On an edge*, from a point along (u, v), E's second derivative is `F''(x) u^2 - F''(x - d) (u - v)^2`, which is at least
  `-|d| sup|F'''| u^2 - sup|F''| |v^2 - 2 u v|`. On a piece of so many in a row, E exceeds its values at the ends by at most an
  eighth of that over their number's square.
* *Inside.* For fixed x, E's second derivative in d is `-F''(x - d)`, and the ends of d's interval are on the border: E exceeds
  its supremum there by at most an eighth of sup |F''| times the square of d's width, the square of a small number. Where that
  is not small beside what planes leave, the polygon is cut into slabs of d.

Lower planes are upper planes of the mirror image: the change by -d at -x is minus the change, as F is odd up to its height.

Rounding. E is a sum of three terms at a rounded point. A point is off by less than FUNCTION_ERROR / 8 of the largest x and d,
which changes F's change by no more than its derivatives say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tightverify.relax.difference_planes import as_rows, sides
from tightverify.relax.fitted.cutting import SlopeRange
from tightverify.relax.polygons import Polygons
from tightverify.relax.secants import LogisticSecants, reached
from tightverify.relax.traits import FittedPlanes, OperandSet, PlanePairs, Search
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above

PIECES = 8
"""of an edge; four times as many where there are four"""
MOST_SLABS = 16
"""into which a polygon is cut"""
LOST = 0.005
"""What the bend within them may cost, as a part of the planes' heights above the change."""
BEYOND = 4.0
"""Slopes are kept to what derivatives can be, and so many times that range on either side."""
TOWARDS = {
    "edges": ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)),
    "corners": ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)),
}
"""Kinds of planes that are the tightest on the way from the centroid to the border."""
SHARE = 0.8


@dataclass(frozen=True)
class ChangePlanes(FittedPlanes):
    """Those of closed form, over the box, and fitted ones."""

    secants: LogisticSecants

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        lower, upper = (as_rows(side) for side in sides(self.secants, operands.interval(0), operands.interval(1)))
        polygons = operands.planar
        points = anchors(polygons, kinds)
        both, everywhere = Polygons(torch.cat([polygons.vertices, -polygons.vertices])), torch.cat([points, -points])
        found = lowest(self.secants, both, everywhere, search.solver)
        fitted_above, fitted_below = found.chunk(2)
        turned = torch.cat([fitted_below[..., :2], -fitted_below[..., 2:]], dim=-1)
        return torch.cat([turned, lower], dim=1), torch.cat([fitted_above, upper], dim=1)


def anchors(polygons: Polygons, kinds: Sequence[str]) -> Tensor:
    """(N, K, 2): the points at which planes are to be the tightest."""
    chosen = [step for kind, steps in TOWARDS.items() if kind in kinds for step in steps]
    centroids = polygons.centroids[:, None]
    if not chosen:
        return centroids
    return torch.cat([centroids, polygons.towards(centroids.new_tensor(chosen), SHARE)], dim=1)


def lowest(secants: LogisticSecants, polygons: Polygons, points: Tensor, solver: str) -> Tensor:
    """(N, K, 3): about the lowest planes at points (N, K, 2) above the change: fitted, or of the change's own slopes there.

    Where it bends one way alone, several planes over a few samples are as low, and what the change's own slopes give is the
    lowest.
    """
    own = tangents(secants, points)
    slopes = torch.cat([fitted_slopes(secants, polygons, points, own, solver), own], dim=1)
    planes = torch.cat([slopes, offsets(secants, polygons, slopes)[..., None]], dim=-1)
    heights = (slopes * points.repeat(1, 2, 1)).sum(-1) + planes[..., 2]
    (fitted, plain), (one, other) = planes.chunk(2, dim=1), heights.chunk(2, dim=1)
    return torch.where((one <= other)[..., None], fitted, plain)


def tangents(secants: LogisticSecants, points: Tensor) -> Tensor:
    """(N, K, 2): the change's own slopes."""
    x, d = points.unbind(-1)
    return torch.stack([secants.derivative(x) - secants.derivative(x - d), secants.derivative(x - d)], dim=-1)


def fitted_slopes(secants: LogisticSecants, polygons: Polygons, points: Tensor, own: Tensor, solver: str) -> Tensor:
    """(N, K, 2): slopes of about the lowest planes at points, by programs over a few samples of what is beyond their `own`."""
    count, per = points.shape[:2]
    corners = polygons.vertices
    shares = (0.25, 0.5, 0.75) if corners.shape[1] == 4 else (0.5,)
    between = [torch.lerp(corners, corners.roll(-1, 1), share) for share in shares]
    samples = torch.cat([corners, *between, polygons.centroids[:, None]], dim=1)
    places = torch.cat([samples.repeat_interleave(per, 0), points.reshape(-1, 1, 2)], dim=1)
    here = points.reshape(-1, 2)
    low, high, half = (part.repeat_interleave(per, 0) for part in slope_range(secants, polygons))
    tangent = torch.minimum(torch.maximum(own.reshape(-1, 2), low), high)
    away = places - here[:, None]
    rises = secants.change(*places.unbind(-1)) - secants.change(*here.unbind(1))[:, None]
    left_over = rises - (away * tangent[:, None]).sum(-1)
    slopes, _, _ = SlopeRange(half, tangent, low, high).best_over(away, left_over, solver)
    return torch.where(torch.isfinite(slopes), slopes, tangent).view(count, per, 2)


def slope_range(secants: LogisticSecants, polygons: Polygons) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 2) each: the least and the largest slopes that are looked at, and half widths, 1 where there is none."""
    x, d = ends(polygons)
    bend, _ = secants.bends(reached(x, d))
    steep = secants.slopes(reached(x, d))
    low, high = torch.stack([-bend * d.magnitude, steep.lower], 1), torch.stack([bend * d.magnitude, steep.upper], 1)
    half = torch.stack([x.width, d.width], 1) / 2
    room = BEYOND * (high - low)
    return low - room, high + room, torch.where(half > 0, half, 1.0)


def ends(polygons: Polygons) -> tuple[Interval, Interval]:
    """(N,): the intervals of x and of d."""
    low, high = polygons.vertices.amin(1), polygons.vertices.amax(1)
    return Interval(low[:, 0], high[:, 0]), Interval(low[:, 1], high[:, 1])


def offsets(secants: LogisticSecants, polygons: Polygons, slopes: Tensor) -> Tensor:
    """(N, K): the least c, rounded up, with `F(x) - F(x - d) <= slopes @ (x, d) + c` over the polygons."""
    x, d = ends(polygons)
    way = reached(x, d)
    bends, reach = secants.bends(way), secants.reach(x, d, secants.slopes(way).upper)
    rounding = (slopes.abs() * polygons.vertices.abs().amax(1)[:, None]).sum(-1) + reach[:, None]
    allowance = FUNCTION_ERROR * rounding + TINY
    whole = supremum(secants, polygons, slopes, bends)
    slabs = slabs_wanted(secants, polygons, slopes, whole, bends[0] * d.width.square() / 8)
    if slabs > 1:
        cuts = [torch.lerp(d.lower, d.upper, d.lower.new_tensor(k / slabs)) for k in range(slabs)] + [d.upper]
        parts = [polygons.slab(low, high) for low, high in pairwise(cuts)]
        apart = torch.stack([supremum(secants, part, slopes, bends) for part in parts]).amax(0)
        whole = torch.minimum(whole, apart)
    return above(whole, allowance)


def slabs_wanted(secants: LogisticSecants, polygons: Polygons, slopes: Tensor, most: Tensor, bend: Tensor) -> int:
    """How many slabs to cut polygons into, so that in all the bend in d costs about a LOST part of the planes' heights."""
    middle = polygons.centroids
    height = most + (slopes @ middle[..., None])[..., 0] - secants.change(*middle.unbind(1))[:, None]
    ratio = float(torch.nan_to_num(bend.sum() / (LOST * height.amin(1).clamp(min=0).sum()), nan=0.0, posinf=0.0))
    return min(MOST_SLABS, max(1, math.ceil(math.sqrt(ratio))))


def supremum(secants: LogisticSecants, polygons: Polygons, slopes: Tensor, bends: tuple[Tensor, Tensor]) -> Tensor:
    """(N, K): that of E over the polygons or something more, but for rounding; `bends` (N,) are those of `secants`."""
    start, (second, third) = polygons.vertices, bends
    along = start.roll(-1, 1) - start
    pieces = PIECES if start.shape[1] > 4 else 4 * PIECES
    share = torch.arange(pieces, dtype=start.dtype, device=start.device)[:, None] / pieces
    points = (start[:, :, None] + along[:, :, None] * share).flatten(1, 2)
    values = secants.change(points[..., 0], points[..., 1])
    most = (values[:, None] - slopes @ points.mT).amax(-1)
    u, v = along.unbind(-1)
    farthest = torch.maximum(start[..., 1].abs(), start[..., 1].roll(-1, 1).abs())
    bulge = third[:, None] * farthest * u * u + second[:, None] * (v * v - 2 * u * v).abs()
    width = start[..., 1].amax(1) - start[..., 1].amin(1)
    between = bulge.amax(1) / (8 * pieces**2) + second * width.square() / 8
    return most + (1 + FUNCTION_ERROR) * between[:, None]
