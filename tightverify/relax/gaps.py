"""How far a curve F lies from a function G of straight pieces that stands in its place: `F(x) - G(x)`, of x alone.

On each piece of G, a line `s x + c`, the least b with `F(x) - p x <= s x + b` over what is left of the interval there is
`relax.lines.upper_offset`, so that the largest `b - c` of all pieces is the exact offset of an upper line of slope p, but for
rounding. Slopes p are 0 and that of the chord; the line that is nearer at the interval's middle is taken. Lower lines are upper
lines of the mirror image, in which the curve and the pieces are turned alike.

Rounding. A piece's line, and the break at which it ends, are within a few units in the last place of what they are made of.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.relax.curves import Curve
from tightverify.relax.lines import upper_offset
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.straight import Straight, quotient
from tightverify.values import FUNCTION_ERROR, TINY, Interval

FEW = 8
"""Of so many pieces at most lines of slopes other than 0 are tried."""


def most(curve: Curve, pieces: Straight, slope: Tensor, box: Interval) -> Tensor:
    """The least offset, rounded up, of an upper line of this slope."""
    points, values, steepness, sizes = (part.to(slope) for part in pieces.pieces)
    breaks = pieces.vertices[0].to(slope)
    infinite = breaks.new_full((1,), torch.inf)
    starts, ends = torch.cat([-infinite, breaks]), torch.cat([breaks, infinite])
    low, high = box.lower[..., None], box.upper[..., None]
    empty = (starts > high) | (ends < low)
    part = Interval(torch.where(empty, low, torch.maximum(low, starts)), torch.where(empty, low, torch.minimum(high, ends)))
    total = steepness + slope[..., None]
    offset = upper_offset(curve, total, part) - (values - steepness * points)
    size = sizes + steepness.abs() * (points.abs() + part.magnitude) + offset.abs()
    offset = offset + FUNCTION_ERROR * size + TINY
    return torch.where(empty, -torch.inf, offset).amax(-1)


def gap_range(curve: Curve, pieces: Straight, box: Interval) -> Interval:
    zero = torch.zeros_like(box.lower)
    return Interval(-most(curve.mirror, pieces.mirror, zero, box.mirror()), most(curve, pieces, zero, box))


def upper_line(curve: Curve, pieces: Straight, box: Interval) -> Plane:
    zero = torch.zeros_like(box.lower)
    flat = Plane((zero,), most(curve, pieces, zero, box))
    if len(pieces.breaks) > FEW:
        return flat
    heights = [curve.value(end) - pieces.value(end) for end in (box.lower, box.upper)]
    slope = quotient(heights[1] - heights[0], box.width)
    leaning = Plane((slope,), most(curve, pieces, slope, box))
    return leaning.where(leaning.at(box.centre) < flat.at(box.centre), flat)


def gap_planes(curve: Curve, pieces: Straight, box: Interval) -> Planes:
    flipped = upper_line(curve.mirror, pieces.mirror, box.mirror())
    return Planes(Plane(flipped.slopes, -flipped.offset), upper_line(curve, pieces, box))
