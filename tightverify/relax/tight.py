"""Tight lines: never worse than constants anywhere on the box (the tight strategy of Lyu et al. 2021).

An upper plane is tight where it nowhere exceeds the most that the function is on the box, a lower one likewise. Under tight
planes no linear bound is looser than interval arithmetic's.

Curves that never fall. A tight upper line over [l, u] reaches f(u) at u, and there alone, for it falls nowhere. So its slope
is at most that of every secant to u, and the largest such slope is the best one at every point. Over a curve that is convex,
then concave, the least secant is the chord or the derivative at u: on the convex part the secant's slope is least at its ends,
on the concave part it falls towards u. Such lines only get better as intervals shrink.

Products. McCormick's planes in s = F(x) and t = G(y) exceed the range at one corner at most, which is looked up. In a plane
that does not, each of s and t may be replaced by a tight line of its curve, above or below by the coefficient's sign: these
lines stay within the curve's range, so that the plane stays within that of the product. Only slopes come from that; offsets are
the least that are surely valid. Where no plane is tight the constant is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.relax.curves import Curve, Symmetric
from tightverify.relax.lines import chord_slope, curve_range, inflection_within, upper_line
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.products import product_offset, share_at_zero, side_by_side
from tightverify.values import Interval

ROUNDED = 2.0**10
"""Planes may leave the range by so many unit roundoffs: by what their offsets allow for rounding."""


def negated(plane: Plane) -> Plane:
    return plane.map(torch.neg)


def upper_slope(curve: Curve, box: Interval) -> Tensor:
    """That of the tight upper line of a curve that never falls."""
    chord = chord_slope(curve, box)
    at_end = torch.nan_to_num(curve.supergradient(box.upper, chord), nan=0.0)
    return torch.where(inflection_within(curve, box) < box.upper, torch.minimum(chord, at_end), chord)


def lower_slope(curve: Curve, box: Interval) -> Tensor:
    return upper_slope(curve.mirror, box.mirror())


def tight_lines(curve: Curve, box: Interval) -> Planes:
    """The best tight lines of a curve that never falls."""
    mirrored = upper_line(curve.mirror, lower_slope(curve, box), box.mirror())
    return Planes(Plane(mirrored.slopes, -mirrored.offset), upper_line(curve, upper_slope(curve, box), box))


def towards(curve: Curve, coefficient: Tensor, box: Interval) -> Tensor:
    """The slope of `coefficient * f` from above: the coefficient times that of the tight line on its side."""
    return coefficient * torch.where(coefficient >= 0, upper_slope(curve, box), lower_slope(curve, box))


def within_range(found: Sequence[Planes], boxes: Sequence[Interval], ends: Interval) -> Planes:
    """On each side of the planes that stay within the function's range the nearest one at the middle of the box, or a constant.

    `ends` hold the function's values over the boxes.
    """
    lower = lowest_within([negated(pair.lower) for pair in found], boxes, -ends.lower)
    return Planes(negated(lower), lowest_within([pair.upper for pair in found], boxes, ends.upper))


def lowest_within(planes: Sequence[Plane], boxes: Sequence[Interval], most: Tensor) -> Plane:
    """The upper planes of `within_range`."""
    middle, sizes = [box.centre for box in boxes], [box.magnitude for box in boxes]
    best = Plane(tuple(torch.zeros_like(most) for _ in boxes), most)
    for plane in planes:
        highest = plane.at(*(torch.where(k > 0, box.upper, box.lower) for k, box in zip(plane.slopes, boxes, strict=True)))
        lost = ROUNDED * torch.finfo(most.dtype).eps * (1 + plane.map(torch.abs).at(*sizes))
        best = plane.where((highest <= most + lost) & (plane.at(*middle) < best.at(*middle)), best)
    return best


def tight_products(first: Symmetric, second: Symmetric, x: Interval, y: Interval) -> tuple[Planes, ...]:
    """Planes on both sides of F(x) G(y), G odd, which are tight where McCormick's of s t are; see the module."""
    x, y = (
        x.map(lambda end: side_by_side(end, 2)),
        Interval(torch.cat([y.lower, -y.upper], -1), torch.cat([y.upper, -y.lower], -1)),
    )
    s, t = curve_range(first, x), curve_range(second, y)
    nearest, found = share_at_zero(s), []
    for share in (torch.zeros_like(nearest), nearest, torch.ones_like(nearest)):
        slope_x = towards(first, t.upper - share * t.width, x)
        slope_y = towards(second, s.lower + share * s.width, y)
        offset = product_offset(first, second, (slope_x, slope_y), (x, y), s)
        (upper_x, lower_x), (upper_y, lower_y), (high, low) = (part.chunk(2, dim=-1) for part in (slope_x, slope_y, offset))
        found.append(Planes(Plane((-lower_x, lower_y), -low), Plane((upper_x, upper_y), high)))
    return tuple(found)
