"""Planes above and below F(x) G(y), for curves F and G, over a box.

Offset. Let a plane's slopes a, b be given. For a fixed value s = F(x) put N(s) = sup_y s G(y) - b y, which `supremum` gives.
N is convex in s (a supremum of linear functions), so on F's range [s1, s2] it lies below the line through N(s1) and
N(s2), or any line not below both: N(s) <= c + v s. Then F(x) G(y) - a x - b y <= c + sup_x v F(x) - a x, which
`supremum` gives again. Any a and b are valid; no line of F or G enters, so little is lost. Where G is the identity the
offset is exact: for each x the supremum over y is at an end, so the larger of the two ends' suprema over x is all of it.

Slopes. In s and t = G(y) the planes that touch the saddle s t along an edge of the box are McCormick's, `t2 s + s1 t` and
`t1 s + s2 t` (upper), and all between them; they have the same volume. Of these the one that leans least on y is taken
(the s between s1 and s2 nearest to 0), for y is the state that earlier steps have left uncertain, and what a plane leans on
it is paid again at each of them. Slopes of the chords of F and G turn it into a plane over x and y.

Lower planes are upper planes of the negation: -F(x) G(y) = F(x) G*(-y), with G* the mirror of G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.relax.curves import Curve, Identity
from tightverify.relax.lines import chord_slope, curve_range, upper_offset
from tightverify.relax.planes import Plane, Planes
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below


def supremum(curve: Curve, slope: Tensor, box: Interval, factor: Tensor) -> Tensor:
    """sup over the box of `factor * F(x) - slope * x`, rounded up; the factor may have either sign."""
    positive = upper_offset(curve, slope, box, factor.clamp(min=0))
    if bool((factor >= 0).all()):
        return positive
    negative = upper_offset(curve.mirror, -slope, box.mirror(), (-factor).clamp(min=0))
    return torch.where(factor >= 0, positive, negative)


def upper_plane(first: Curve, second: Curve, x: Interval, y: Interval) -> Plane:
    """The upper plane of F(x) G(y) with the slopes of the module's docstring."""
    s, t = curve_range(first, x), curve_range(second, y)
    share = torch.nan_to_num(-s.lower / s.width, nan=0.0).clamp(0, 1)
    slope_x = (t.upper - share * t.width) * chord_slope(first, x)
    slope_y = (s.lower + share * s.width) * chord_slope(second, y)
    return Plane((slope_x, slope_y), product_offset(first, second, (slope_x, slope_y), (x, y), s))


def product_offset(
    first: Curve, second: Curve, slopes: tuple[Tensor, Tensor], boxes: tuple[Interval, Interval], s: Interval
) -> Tensor:
    """An upper plane's offset for given slopes, rounded up; s holds F's values over its box."""
    (slope_x, slope_y), (x, y) = slopes, boxes
    if isinstance(second, Identity):
        ends = [(end, -slope_y * end) for end in (y.lower, y.upper)]
        return largest_supremum(first, slope_x, x, ends, slope_y.abs() * y.magnitude)
    at_low = supremum(second, slope_y, y, s.lower)
    at_high = supremum(second, slope_y, y, s.upper)
    steepness = torch.nan_to_num((at_high - at_low) / s.width, nan=0.0, posinf=0.0, neginf=0.0)
    constant = torch.maximum(at_low - steepness * s.lower, at_high - steepness * s.upper)
    size = at_low.abs() + at_high.abs() + steepness.abs() * s.magnitude
    return largest_supremum(first, slope_x, x, [(steepness, constant)], size)


def largest_supremum(
    curve: Curve, slope: Tensor, box: Interval, functions: list[tuple[Tensor, Tensor]], size: Tensor
) -> Tensor:
    """sup over the box, and over (factor, constant), of `factor * F(x) + constant - slope * x`, rounded up.

    `size` bounds the absolute values of what was added up to make the constants.
    """
    largest = torch.full_like(slope, -torch.inf)
    for factor, constant in functions:
        found = supremum(curve, slope, box, factor)
        allowance = 8 * UNIT_ROUNDOFF * (size + found.abs()) + TINY
        largest = torch.maximum(largest, found + constant + allowance)
    return largest


def product_planes(first: Curve, second: Curve, x: Interval, y: Interval) -> Planes:
    """Planes on both sides of F(x) G(y)."""
    negated = upper_plane(first, second.mirror, x, y.mirror())
    lower = Plane((-negated.slopes[0], negated.slopes[1]), -negated.offset)
    return Planes(lower, upper_plane(first, second, x, y))


def product_range(first: Curve, second: Curve, x: Interval, y: Interval) -> Interval:
    """The values of F(x) G(y) over a box: the extremes are at the corners."""
    s, t = curve_range(first, x), curve_range(second, y)
    corners = torch.stack([s.lower * t.lower, s.lower * t.upper, s.upper * t.lower, s.upper * t.upper])
    return Interval(below(corners.amin(0), TINY), above(corners.amax(0), TINY))
