"""`x^2 + y^2`: the power of one bin of a spectrum, of its real and its imaginary part.

It is convex. A tangent is below it everywhere. Above it, over any set of (x, y), the lowest plane with slopes p, q has the
offset max of x^2 + y^2 - p x - q y, which a convex function takes at a corner: exactly, over the polygon that sums and
differences of the operands leave of their box (`polygon_planes`); the parts of a bin fill about a disc, whose octagon leaves
half the gap that the box does. Slopes are those of the tangent at the middle: with them the greatest gap is least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import FittedPlanes, OperandSet, PlanePairs, Search, Traits
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below


@dataclass(frozen=True)
class PolygonPlanes(FittedPlanes):
    """Its planes over polygons: in closed form, of one kind."""

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        pair = polygon_planes(operands.planar)
        lower, upper = (torch.stack([*side.slopes, side.offset], dim=-1)[:, None] for side in (pair.lower, pair.upper))
        return lower, upper


@dataclass(frozen=True)
class SumOfSquares(Operation):
    name = "sum_of_squares"
    arity = 2
    traits = Traits(fitted=PolygonPlanes())

    def forward(self, *operands: Tensor) -> Tensor:
        return operands[0].square() + operands[1].square()

    def interval(self, *boxes: Interval) -> Interval:
        nearest = [torch.maximum(box.lower, -box.upper).clamp(min=0) for box in boxes]
        least, most = self.forward(*nearest), self.forward(*(box.magnitude for box in boxes))
        error = 4 * UNIT_ROUNDOFF
        return Interval(below(least, error * least + TINY).clamp(min=0), above(most, error * most + TINY))

    def relax(self, *boxes: Interval) -> Planes:
        x, y = boxes
        corners = [torch.stack([a, b], dim=-1) for a in (x.lower, x.upper) for b in (y.lower, y.upper)]
        return planes_over(torch.stack(corners, dim=-2), torch.stack([x.centre, y.centre], dim=-1))


def polygon_planes(polygons: Polygons) -> Planes:
    """The planes over polygons, (N,)."""
    return planes_over(polygons.vertices, polygons.middle)


def planes_over(corners: Tensor, middle: Tensor) -> Planes:
    """Planes over the convex hulls of corners (..., V, 2), with the slopes of the tangents at points (..., 2).

    For slopes s that are any floats the tangent with these slopes touches at s / 2, so its offset is -|s|^2 / 4.
    """
    slopes = 2 * middle
    size = corners.abs().amax(-2)
    heights = (corners * (corners - slopes[..., None, :])).sum(-1)
    allowance = 16 * UNIT_ROUNDOFF * (size.square() + size * slopes.abs() + slopes.square()).sum(-1) + TINY
    lower = -(slopes.square().sum(-1) / 4) - allowance
    pair = (slopes[..., 0], slopes[..., 1])
    return Planes(Plane(pair, lower), Plane(pair, heights.amax(-1) + allowance))
