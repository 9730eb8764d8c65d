"""Planes above and below f(x) + f(y) and f(x) - f(y) over polygons of x and y, for one curve f.

Over a box the best planes of a sum are sums of the curves' own lines. Where x + y or x - y is bounded too, they are not: what
is gained by taking neurons two and two is what PRIMA and k-ReLU gain (Mueller et al. 2022, Singh et al. 2019), by planes of
two operands. Slopes are those of the curve's own lines at a few points of the polygon, whatever they are worth; each gets the
least offset that is surely valid.

The offset of slopes (a, b) is the supremum over the polygon of E(x, y) = s f(x) + t f(y) - a x - b y, with signs s and t.

* *On an edge.* A smooth curve's second derivative is at most `sharpest` in absolute value: on a piece of an edge, of extent
  (dx, dy), E exceeds its values at the ends by at most sharpest (dx^2 + dy^2) / 8. Between its breakpoints another curve is a
  straight line, so that E is largest at an end or where the edge crosses a breakpoint of x or of y.
* *Inside.* E is a sum of a function of x and one of y. Of its tops take the one with the least x, and of those with the least
  y. If that is not on the border, s f - a has a top at x, and not by being straight on the left of it; so x is in the part
  where s f is concave, and a is between the slopes on both sides of it. Slopes fall there: two of them that are surely larger
  and smaller than a enclose every such x. So for y. If the polygon surely has no point of the rectangle that is left, no top
  is inside; else the suprema of both parts over the polygon's box count.

The sum of those two suprema is never exceeded, so that no offset is worse than that of the curve's own lines.

Rounding. E is a sum of four terms, each off by less than FUNCTION_ERROR times its size, its rounded points included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Bent, Curve, Symmetric
from tightverify.relax.fitted.rectangles import Borders
from tightverify.relax.lines import chord_slope, inflection_within, upper_line_at, upper_offset
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import PairedPlanes, PlanePairs
from tightverify.values import FUNCTION_ERROR, TINY, Interval

PIECES = 16
"""of an edge"""
SIGNS = (1, 1), (-1, -1), (1, -1), (-1, 1)
"""The sides of planes: above the sum, below it, above the difference, below it."""
CORNERS = (1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)
SHARE = 0.8
"""How far towards the border of the polygon the points lie at which slopes are taken."""
NEAR = 1e-6
"""A top's place is enclosed to within so much, relative to 1 + |x|."""


@dataclass(frozen=True)
class CurvePairs(PairedPlanes):
    """Those of a curve that is smooth, or straight but for its breakpoints."""

    curve: Symmetric | Bent

    def planes(self, polygons: Polygons) -> PlanePairs:
        slopes = self._slopes(polygons)
        found = torch.cat([slopes, self.offsets(slopes, polygons)[..., None]], dim=-1)
        above_sum, below_sum, above_difference, below_difference = found.unbind(1)
        return -torch.stack([below_sum, below_difference], 1), torch.stack([above_sum, above_difference], 1)

    def _slopes(self, polygons: Polygons) -> Tensor:
        """(N, 4, K, 2): for each of SIGNS those of lines at the centroid and towards the corners, and those of chords."""
        corners = polygons.vertices.new_tensor(CORNERS)
        points = torch.cat([polygons.centroids[:, None], polygons.towards(corners, SHARE)], dim=1)
        by_sign: list[dict[int, Tensor]] = []
        for k in (0, 1):
            low, high = (ends[:, k, None].expand(points.shape[:2]) for ends in extremes(polygons))
            box = Interval(low, high)
            above = upper_line_at(self.curve, box, points[..., k]).slopes[0]
            below = upper_line_at(self.curve.mirror, box.mirror(), -points[..., k]).slopes[0]
            chord = chord_slope(self.curve, box)[:, :1]
            by_sign.append({1: torch.cat([above, chord], 1), -1: -torch.cat([below, chord], 1)})
        first, second = by_sign
        return torch.stack([torch.stack([first[s], second[t]], dim=-1) for s, t in SIGNS], dim=1)

    def offsets(self, slopes: Tensor, polygons: Polygons) -> Tensor:
        """(N, 4, K): the least b, rounded up, with s f(x) + t f(y) <= slopes @ (x, y) + b, for each of SIGNS (s, t)."""
        apart = [self._part(slopes[..., k], k, polygons) for k in (0, 1)]
        separate = apart[0].most + apart[1].most
        rectangles = torch.stack([end for part in apart for end in (part.low, part.high)], dim=-1)
        owner = torch.arange(len(slopes), device=slopes.device).repeat_interleave(rectangles.shape[1] * rectangles.shape[2])
        none = (apart[0].low > apart[0].high) | (apart[1].low > apart[1].high)
        outside = Borders.of(polygons.vertices).beyond(owner, rectangles.flatten(0, 2)).view(none.shape)
        border = self._border(slopes, polygons)
        return torch.where(none | outside, torch.minimum(border, separate), separate)

    def _border(self, slopes: Tensor, polygons: Polygons) -> Tensor:
        """(N, 4, K): the supremum on the border, rounded up."""
        points, more = self._samples(polygons)
        signs = slopes.new_tensor(SIGNS)
        values = self.curve.value(points)
        height = signs @ values.mT  # (N, 4, M)
        most = (height[:, :, None] - slopes @ points.mT[:, None]).amax(-1)
        reach = polygons.vertices.abs().amax(1)
        steepness = slopes.abs() + self.curve.steepest
        size = 2 + values.abs().sum(2).amax(1)[:, None, None] + 2 * (steepness * reach[:, None, None]).sum(-1)
        return most + more[:, None, None] + (FUNCTION_ERROR * size + TINY)

    def _samples(self, polygons: Polygons) -> tuple[Tensor, Tensor]:
        """(N, M, 2): points of the border; (N,): by how much E may be larger between them."""
        start = polygons.vertices[:, :, None]
        edge = polygons.vertices.roll(-1, 1)[:, :, None] - start
        if isinstance(self.curve, Symmetric):
            share = torch.arange(PIECES, dtype=start.dtype, device=start.device)[:, None] / PIECES
            bend = self.curve.sharpest * (1 + FUNCTION_ERROR) / (8 * PIECES**2)
            return (start + edge * share).flatten(1, 2), bend * (edge * edge).sum(-1).flatten(1).amax(1)
        breakpoints = start.new_tensor(self.curve.breakpoints)
        where = (breakpoints[:, None] - start[..., None, :]) / edge[..., None, :]  # (N, V, 1, D, 2)
        share = torch.nan_to_num(where, 0.0, 0.0, 0.0).clamp(0, 1).flatten(2)
        crossings = start + edge * share[..., None]
        return torch.cat([start, crossings], dim=2).flatten(1, 2), torch.zeros_like(start[:, 0, 0, 0])

    def _part(self, slope: Tensor, k: int, polygons: Polygons) -> Part:
        """One operand's part of E, for slopes (N, 4, K)."""
        low, high = (ends[:, k, None, None].expand_as(slope) for ends in extremes(polygons))
        negative = slope.new_tensor([signs[k] for signs in SIGNS])[:, None] < 0
        upward = top_of(self.curve, slope, Interval(low, high))
        mirrored = top_of(self.curve.mirror, -slope, Interval(-high, -low))
        return Part(
            torch.where(negative, mirrored.most, upward.most),
            torch.where(negative, -mirrored.high, upward.low),
            torch.where(negative, -mirrored.low, upward.high),
        )


@dataclass(frozen=True, eq=False)
class Part:
    """The supremum of f(x) - slope x over a box, rounded up; all its tops inside the box are between `low` and `high`."""

    most: Tensor
    low: Tensor
    high: Tensor


def top_of(curve: Curve, slope: Tensor, box: Interval) -> Part:
    """For a curve that is convex, then concave; where there is no top, `low` is above `high`."""
    start = inflection_within(curve, box)
    touch = torch.nan_to_num(curve.tangent_point(slope), nan=0.0)
    touch = torch.minimum(torch.maximum(touch, start), box.upper)
    reach = NEAR * (1 + touch.abs())
    left, right = torch.maximum(touch - reach, start), torch.minimum(touch + reach, box.upper)
    error = FUNCTION_ERROR * (1 + slope.abs())
    falling, rising = (curve.supergradient(x, slope) - slope for x in (right, left))
    low = torch.where(rising > error, left, start)
    high = torch.where(falling < -error, right, box.upper)
    none = (start >= box.upper) | (curve.supergradient(start, slope) - slope < -error)
    return Part(upper_offset(curve, slope, box), torch.where(none, torch.inf, low), torch.where(none, -torch.inf, high))


def extremes(polygons: Polygons) -> tuple[Tensor, Tensor]:
    """(N, 2) and (N, 2): the lower and the upper ends of the boxes around them."""
    return polygons.vertices.amin(1), polygons.vertices.amax(1)
