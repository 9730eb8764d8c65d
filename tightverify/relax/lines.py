"""Lines above and below a curve over an interval: any slope, with the least offset that is surely valid.

The offset of an upper line of slope k over [l, u] is the supremum of t f(x) - k x there (t >= 0 scales the curve). With
e the inflection clamped into [l, u]:

* on [l, e] f is convex, so the supremum is at l or e;
* on [e, u] f is concave, so it lies below its tangent T at any p of [e, u], and t T(x) - k x is largest at e or u.

Both hold for every p: a bad p gives a loose offset, never a wrong one. No root is trusted. What is left is rounding: a
value of f is within FUNCTION_ERROR (1 + |f|) of the exact one, a slope of T within FUNCTION_ERROR of itself (and TINY, where
it underflows), and the sum of the few terms adds a handful of unit roundoffs of their absolute values; `allowance` exceeds the
sum of these.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.relax.curves import Curve
from tightverify.relax.planes import Plane, Planes
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above, below

NEWTON_STEPS = 6


def upper_offset(curve: Curve, slope: Tensor, box: Interval, scale: Tensor | float = 1.0) -> Tensor:
    """The least b, rounded up, with `scale * f(x) <= slope * x + b` on the box; scale >= 0."""
    lower, upper = box.lower, box.upper
    split = torch.minimum(torch.maximum(torch.full_like(lower, curve.inflection), lower), upper)
    wanted = slope / scale + 0.0  # -0.0 touches nowhere
    touch = torch.nan_to_num(curve.tangent_point(wanted), nan=0.0)
    touch = torch.minimum(torch.maximum(touch, split), upper)
    steepness = curve.supergradient(touch, wanted)
    at_touch = curve.value(touch)
    at_lower = scale * curve.value(lower) - slope * lower
    at_split = scale * curve.value(split) - slope * split
    tangent_at_split = scale * (at_touch + steepness * (split - touch)) - slope * split
    tangent_at_upper = scale * (at_touch + steepness * (upper - touch)) - slope * upper
    concave = torch.maximum(tangent_at_split, tangent_at_upper)
    # Without a concave part the tangent is only the value at u; its slope, maybe not even finite, says nothing.
    concave = torch.where(split < upper, concave, scale * curve.value(upper) - slope * upper)
    offset = torch.maximum(torch.maximum(at_lower, at_split), concave)
    reach = box.magnitude
    size = 1 + curve.value(lower).abs() + curve.value(split).abs() + at_touch.abs()
    size = size + torch.where(split < upper, (steepness.abs() + TINY) * 2 * reach, 0.0)
    allowance = FUNCTION_ERROR * (scale * size + slope.abs() * reach) + TINY
    return offset + allowance


def curve_range(curve: Curve, box: Interval) -> Interval:
    """The values of an increasing curve over a box, rounded outward."""
    lower, upper = curve.value(box.lower), curve.value(box.upper)
    return Interval(below(lower, FUNCTION_ERROR * (1 + lower.abs())), above(upper, FUNCTION_ERROR * (1 + upper.abs())))


def upper_line(curve: Curve, slope: Tensor, box: Interval) -> Plane:
    """The lowest line of this slope above the curve."""
    return Plane((slope,), upper_offset(curve, slope, box))


def chord_slope(curve: Curve, box: Interval) -> Tensor:
    """The slope of the line through both ends; 0 where the box is a point or the quotient is not a number."""
    slope = (curve.value(box.upper) - curve.value(box.lower)) / box.width
    return torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)


def envelope_slope(curve: Curve, box: Interval, points: Tensor) -> Tensor:
    """The slope of the concave envelope at points of the box: of the upper line that is nearest to the curve there.

    Left of d, where the tangent from (l, f(l)) touches the concave part, the envelope is that tangent; right of d it is the
    curve. The secant from l to d is steepest for the d that is looked for; from u the steps approach it from the right, the
    next d being where the curve has the secant's slope. No validity hangs on them.
    """
    lower, upper = box.lower, box.upper
    chord = chord_slope(curve, box)
    start = torch.minimum(torch.maximum(torch.full_like(lower, curve.inflection), lower), upper)
    at_lower = curve.value(lower)
    touch, steepest = upper, chord
    for _ in range(NEWTON_STEPS):
        reach = torch.nan_to_num(curve.tangent_point(steepest), nan=torch.inf)
        touch = torch.minimum(torch.maximum(reach, start), touch)
        steepest = torch.where(touch < upper, (curve.value(touch) - at_lower) / (touch - lower), chord)
    touch = torch.where(start > lower, touch, lower)
    on_curve = (points >= touch) & (touch < upper)
    slope = torch.where(on_curve, curve.supergradient(torch.maximum(points, start), chord), steepest)
    return torch.where(torch.isfinite(slope) & (start < upper), slope, chord)


def tightest_lines(curve: Curve, box: Interval) -> Planes:
    """On either side the line of the least mean distance from the curve."""
    upper = upper_line(curve, envelope_slope(curve, box, box.centre), box)
    flipped = box.mirror()
    mirrored = upper_line(curve.mirror, envelope_slope(curve.mirror, flipped, flipped.centre), flipped)
    return Planes(Plane(mirrored.slopes, -mirrored.offset), upper)


def parallel_lines(curve: Curve, box: Interval) -> Planes:
    """On either side the line parallel to the chord: what one loses in distance, differences of neurons may win back."""
    slope = chord_slope(curve, box)
    lower = -upper_offset(curve.mirror, slope, box.mirror())
    return Planes(Plane((slope,), lower), Plane((slope,), upper_offset(curve, slope, box)))
