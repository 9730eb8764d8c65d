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

from tightverify.relax.curves import Curve, Symmetric
from tightverify.relax.planes import Plane, Planes
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above, below, tamed

NEWTON_STEPS = 3
FEW_STEPS = 1
"""in a bounding pass: one more changes the margins of tanh networks by less than a millionth"""
LEANING = 0.25
"""How far the slopes of `leaning_lines` are from the tightest line's to the chord's"""


def upper_offset(curve: Curve, slope: Tensor, box: Interval, scale: Tensor | None = None) -> Tensor:
    """The least b, rounded up, with `scale * f(x) <= slope * x + b` on the box; scale >= 0, 1 if none is given."""
    lower, upper = box.lower, box.upper

    def scaled(value: Tensor) -> Tensor:
        return value if scale is None else scale * value

    split = inflection_within(curve, box)
    wanted = (slope if scale is None else tamed(slope) / tamed(scale)) + 0.0  # -0.0 touches nowhere
    touch = torch.nan_to_num(curve.tangent_point(tamed(wanted)), nan=0.0)
    touch = torch.minimum(torch.maximum(touch, split), upper)
    steepness = curve.supergradient(touch, wanted)
    values = curve.value(lower), curve.value(split), curve.value(touch)
    at_lower, at_split, at_touch = values
    below_split, below_upper = slope * split, slope * upper
    tangent_at_split = scaled(at_touch + steepness * (split - touch)) - below_split
    tangent_at_upper = scaled(at_touch + steepness * (upper - touch)) - below_upper
    # Without a concave part the tangent is only the value at u; its slope, maybe not even finite, says nothing.
    curved = split < upper
    concave = torch.where(curved, torch.maximum(tangent_at_split, tangent_at_upper), scaled(curve.value(upper)) - below_upper)
    ends = torch.maximum(scaled(at_lower) - slope * lower, scaled(at_split) - below_split)
    reach = box.magnitude
    size = sum((value.abs() for value in values), torch.where(curved, (steepness.abs() + TINY) * 2 * reach, 0.0)) + 1
    return torch.maximum(ends, concave) + (FUNCTION_ERROR * (scaled(size) + slope.abs() * reach) + TINY)


def inflection_within(curve: Curve, box: Interval) -> Tensor:
    """The inflection, moved into the box."""
    return torch.minimum(box.lower.clamp(min=curve.inflection), box.upper)


def curve_range(curve: Curve, box: Interval) -> Interval:
    """The values of an increasing curve over a box, rounded outward."""
    lower, upper = curve.value(box.lower), curve.value(box.upper)
    return Interval(below(lower, FUNCTION_ERROR * (1 + lower.abs())), above(upper, FUNCTION_ERROR * (1 + upper.abs())))


def upper_line(curve: Curve, slope: Tensor, box: Interval) -> Plane:
    """The lowest line of this slope above the curve."""
    return Plane((slope,), upper_offset(curve, slope, box))


def chord_slope(curve: Curve, box: Interval) -> Tensor:
    """The slope of the line through both ends; 0 where the box is a point or the quotient is not a number."""
    box = box.map(tamed)
    slope = (curve.value(box.upper) - curve.value(box.lower)) / box.width
    return torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)


def envelope_slope(curve: Curve, box: Interval, points: Tensor, chord: Tensor, steps: int = NEWTON_STEPS) -> Tensor:
    """The slope of the concave envelope at points of the box, with its `chord_slope`: of the upper line nearest to f there.

    Left of d, where the tangent from (l, f(l)) touches the concave part, the envelope is that tangent; right of d it is the
    curve. The secant from l to d is steepest for the d that is looked for: half as far from an inflection as l, if f were a
    cubic; the next one is where the curve has the secant's slope, and its error like the square of the last. No validity hangs
    on them.
    """
    lower, upper = tamed(box.lower), box.upper
    start = inflection_within(curve, box)
    at_lower = curve.value(lower)

    def secant(touch: Tensor) -> Tensor:
        return torch.where((touch > lower) & (touch < upper), (curve.value(touch) - at_lower) / (touch - lower), chord)

    touch = torch.minimum(start + (start - lower) / 2, upper).detach()
    for _ in range(steps):
        reach = torch.nan_to_num(curve.tangent_point(secant(touch).detach()), nan=torch.inf)
        touch = torch.minimum(torch.maximum(reach, start), upper).detach()
    steepest = secant(touch)  # It does not change with the point where it is steepest.
    touch = torch.where(start > lower, touch, lower)
    on_curve = (points >= touch) & (touch < upper)
    slope = torch.where(on_curve, curve.supergradient(torch.maximum(points, start), chord), steepest)
    return torch.where(torch.isfinite(slope) & (start < upper), slope, chord)


def upper_line_at(curve: Curve, box: Interval, points: Tensor) -> Plane:
    """The line that supports the concave envelope at the points; the chord, where that is lower for rounding."""
    chord = chord_slope(curve, box)
    slopes = torch.stack([envelope_slope(curve, box, points, chord), chord])
    every = Interval(box.lower.expand_as(slopes), box.upper.expand_as(slopes))
    offsets = upper_offset(curve, slopes, every)
    lowest = (slopes * points + offsets).nan_to_num(nan=torch.inf).argmin(0, keepdim=True)
    return Plane((slopes.gather(0, lowest)[0],), offsets.gather(0, lowest)[0])


def tightest_lines(curve: Curve, box: Interval) -> Planes:
    """On either side the line of the least mean distance from the curve."""
    upper, mirrored = tightest_upper_line(curve, box), tightest_upper_line(curve.mirror, box.mirror())
    return Planes(Plane(mirrored.slopes, -mirrored.offset), upper)


def tightest_upper_line(curve: Curve, box: Interval) -> Plane:
    return upper_line(curve, envelope_slope(curve, box, box.centre, chord_slope(curve, box)), box)


def lines_between(curve: Symmetric, box: Interval, *shares: float) -> tuple[Planes, ...]:
    """On either side a line for each share: its slope is so far from that of `tightest_lines` to the chord's.

    The curve less its height is its own mirror: its lines over the box and over the mirror image are made together.
    """
    odd, image = curve.centred, box.mirror()
    both = Interval(torch.stack([image.lower, box.lower]), torch.stack([image.upper, box.upper]))
    chord = chord_slope(odd, both)
    tightest = envelope_slope(odd, both, both.centre, chord, FEW_STEPS)
    slopes = torch.stack([torch.lerp(tightest, chord, share) for share in shares])
    offsets = upper_offset(odd, slopes, both)
    lower, upper = -offsets[:, 0], offsets[:, 1]
    if curve.height:
        lower, upper = below(lower + curve.height, 0.0), above(upper + curve.height, 0.0)
    return tuple(
        Planes(Plane((slope[0],), low), Plane((slope[1],), high)) for slope, low, high in zip(slopes, lower, upper, strict=True)
    )


def leaning_lines(curve: Symmetric, box: Interval) -> Planes:
    """On either side a line that leans from the tightest one towards the chord.

    The tightest line loses the least on a neuron by itself. What the one parallel to the chord loses in distance, differences
    of neurons may win back, for both its sides have one slope. A row's bound is concave in the mixture of two lines, so that
    one between them is at least their mean, and mostly near the better.
    """
    return lines_between(curve, box, LEANING)[0]


def opposite_lines(curve: Symmetric, box: Interval) -> tuple[Planes, ...]:
    """The tightest lines and those parallel to the chord, each the better ones for some rows."""
    return lines_between(curve, box, 0.0, 1.0)
