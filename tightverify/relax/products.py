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

Lower planes are upper planes of the negation: -F(x) G(y) = F(x) G(-y) for an odd G. Both are made in one call, side by
side, as are the suprema for several values of s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.relax.curves import Identity, Symmetric
from tightverify.relax.lines import chord_slope, curve_range, upper_offset
from tightverify.relax.planes import Plane, Planes
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below, tamed


def supremum(curve: Symmetric, slope: Tensor, box: Interval, factor: Tensor) -> Tensor:
    """sup over the box of `factor * F(x) - slope * x`, rounded up; the factor may have either sign.

    F less its height is odd, so that a negative factor is a positive one on the mirrored box.
    """
    negative = factor < 0
    turned = Interval(torch.where(negative, -box.upper, box.lower), torch.where(negative, -box.lower, box.upper))
    found = upper_offset(curve.centred, torch.where(negative, -slope, slope), turned, factor.abs())
    raised = factor * curve.height
    return found + raised + 4 * UNIT_ROUNDOFF * (found.abs() + raised.abs())


def suprema(curve: Symmetric, slope: Tensor, box: Interval, factors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`supremum` for several factors."""
    count = len(factors)
    found = supremum(curve, side_by_side(slope, count), box.map(lambda b: side_by_side(b, count)), torch.cat(list(factors), -1))
    return torch.chunk(found, count, dim=-1)


def largest_supremum(
    curve: Symmetric, slope: Tensor, box: Interval, functions: Sequence[tuple[Tensor, Tensor]], size: Tensor
) -> Tensor:
    """sup over the box, and over (factor, constant), of `factor * F(x) + constant - slope * x`, rounded up.

    `size` bounds the absolute values of what was added up to make the constants.
    """
    found = suprema(curve, slope, box, [factor for factor, _ in functions])
    sums = [
        part + constant + 8 * UNIT_ROUNDOFF * (size + part.abs()) + TINY
        for part, (_, constant) in zip(found, functions, strict=True)
    ]
    return torch.stack(sums).amax(0)


def upper_plane(first: Symmetric, second: Symmetric, x: Interval, y: Interval) -> Plane:
    """The upper plane of F(x) G(y) with the slopes of the module's docstring."""
    s, t = curve_range(first, x), curve_range(second, y)
    share = share_at_zero(s)
    slope_x = (t.upper - share * t.width) * chord_slope(first, x)
    slope_y = (s.lower + share * s.width) * chord_slope(second, y)
    return Plane((slope_x, slope_y), product_offset(first, second, (slope_x, slope_y), (x, y), s))


def share_at_zero(s: Interval) -> Tensor:
    """Where between its ends the value nearest to 0 lies."""
    return torch.nan_to_num(-tamed(s.lower) / tamed(s.width), nan=0.0).clamp(0, 1)


def product_offset(
    first: Symmetric, second: Symmetric, slopes: tuple[Tensor, Tensor], boxes: tuple[Interval, Interval], s: Interval
) -> Tensor:
    """An upper plane's offset for given slopes, rounded up; s holds F's values over its box."""
    (slope_x, slope_y), (x, y) = slopes, boxes
    if isinstance(second, Identity):
        ends = [(end, -slope_y * end) for end in (y.lower, y.upper)]
        return largest_supremum(first, slope_x, x, ends, slope_y.abs() * y.magnitude)
    at_low, at_high = suprema(second, slope_y, y, (s.lower, s.upper))
    steepness = torch.nan_to_num(tamed(at_high - at_low) / tamed(s.width), nan=0.0, posinf=0.0, neginf=0.0)
    constant = torch.maximum(at_low - steepness * s.lower, at_high - steepness * s.upper)
    size = at_low.abs() + at_high.abs() + steepness.abs() * s.magnitude
    return largest_supremum(first, slope_x, x, [(steepness, constant)], size)


def product_planes(first: Symmetric, second: Symmetric, x: Interval, y: Interval) -> Planes:
    """Planes on both sides of F(x) G(y), G odd."""
    twice = Interval(side_by_side(x.lower, 2), side_by_side(x.upper, 2))
    both = Interval(torch.cat([y.lower, -y.upper], -1), torch.cat([y.upper, -y.lower], -1))
    plane = upper_plane(first, second, twice, both)
    (slope_x, negated_x), (slope_y, negated_y) = (torch.chunk(slope, 2, dim=-1) for slope in plane.slopes)
    offset, negated = torch.chunk(plane.offset, 2, dim=-1)
    return Planes(Plane((-negated_x, negated_y), -negated), Plane((slope_x, slope_y), offset))


def product_range(first: Symmetric, second: Symmetric, x: Interval, y: Interval) -> Interval:
    """The values of F(x) G(y) over a box: the extremes are at the corners."""
    s, t = curve_range(first, x), curve_range(second, y)
    corners = torch.stack([s.lower * t.lower, s.lower * t.upper, s.upper * t.lower, s.upper * t.upper])
    return Interval(below(corners.amin(0), TINY), above(corners.amax(0), TINY))


def side_by_side(values: Tensor, count: int) -> Tensor:
    """The same neurons several times."""
    return torch.cat([values] * count, -1)
