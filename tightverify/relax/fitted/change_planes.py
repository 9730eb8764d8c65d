"""Planes above and below `F(x) - F(x - d)` over polygons of x and d, for the sigmoid and tanh (`relax.secants`).

What is lost by planes of a change is mostly the product of what x and d vary by: as little of it is left where sums and
differences of both are bounded as of any product. Slopes come from linear programs over samples, as in `relax.fitted.cutting`,
whatever they are worth; each plane gets the least offset that is surely valid, or nearly so.

The offset of slopes (a, b) is the supremum over the polygon of E(x, d) = F(x) - F(x - d) - a x - b d.

* *On an edge*, from a point along (u, v), E's second derivative is `F''(x) u^2 - F''(x - d) (u - v)^2`, which is at least
  `-|d| sup|F'''| u^2 - sup|F''| |v^2 - 2 u v|`. On a piece of so many in a row, E exceeds its values at the ends by at most an
  eighth of that over their number's square.
* *Inside.* For fixed x, E's second derivative in d is `-F''(x - d)`, and the ends of d's interval are on the border: E exceeds
  its supremum there by at most an eighth of the positive part of sup F'' times the square of d's width, the square of a small
  number.

Lower planes are upper planes of the mirror image: the change by -d at -x is minus the change, as F is odd up to its height.

Rounding. E is a sum of three terms at a rounded point. A point is off by less than FUNCTION_ERROR / 8 of the largest x and d,
which changes F's change by no more than its derivatives say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.difference_planes import as_rows, reached, sides
from tightverify.relax.fitted.cutting import SlopeRange
from tightverify.relax.polygons import Polygons
from tightverify.relax.secants import LogisticSecants
from tightverify.relax.traits import FittedPlanes, OperandSet, PlanePairs, Search
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above

PIECES = 8
"""of an edge; twice as many where there are four"""
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
        slopes = fitted_slopes(self.secants, both, everywhere, search.solver)
        found = torch.cat([slopes, offsets(self.secants, both, slopes)[..., None]], dim=-1)
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


def fitted_slopes(secants: LogisticSecants, polygons: Polygons, points: Tensor, solver: str) -> Tensor:
    """(N, K, 2): slopes of about the lowest planes at points above the change, by programs over a few samples."""
    count, per = points.shape[:2]
    corners = polygons.vertices
    samples = torch.cat([corners, (corners + corners.roll(-1, 1)) / 2, polygons.centroids[:, None]], dim=1)
    places = torch.cat([samples.repeat_interleave(per, 0), points.reshape(-1, 1, 2)], dim=1)
    here = points.reshape(-1, 2)
    low, high, half = (part.repeat_interleave(per, 0) for part in slope_range(secants, polygons))
    x, d = here.unbind(1)
    tangent = torch.stack([secants.derivative(x) - secants.derivative(x - d), secants.derivative(x - d)], dim=1)
    tangent = torch.minimum(torch.maximum(tangent, low), high)
    away = places - here[:, None]
    left_over = (
        secants.change(places[..., 0], places[..., 1]) - secants.change(x, d)[:, None] - (away * tangent[:, None]).sum(-1)
    )
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
    start = polygons.vertices
    along = start.roll(-1, 1) - start
    pieces = PIECES if start.shape[1] > 4 else 2 * PIECES
    share = torch.arange(pieces, dtype=start.dtype, device=start.device)[:, None] / pieces
    points = (start[:, :, None] + along[:, :, None] * share).flatten(1, 2)
    values = secants.change(points[..., 0], points[..., 1])
    most = (values[:, None] - slopes @ points.mT).amax(-1)
    x, d = ends(polygons)
    second, third = secants.bends(reached(x, d))
    u, v = along.unbind(-1)
    farthest = torch.maximum(start[..., 1].abs(), start[..., 1].roll(-1, 1).abs())
    bulge = third[:, None] * farthest * u * u + second[:, None] * (v * v - 2 * u * v).abs()
    between = bulge.amax(1) / (8 * pieces**2) + second * d.width.square() / 8
    rounding = (slopes.abs() * start.abs().amax(1)[:, None]).sum(-1) + secants.reach(x, d)[:, None]
    return above(most, (1 + FUNCTION_ERROR) * between[:, None] + FUNCTION_ERROR * rounding + TINY)
