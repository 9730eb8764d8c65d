"""Planes above and below F(x) G(y), for curves F and G, over a box.

Upper plane of slope a in x. Write t = G(y), which lies in [t1, t2]. For each t, F(x) t <= a x + M(t) with
M(t) = sup_x t F(x) - a x, which `upper_offset` gives exactly. M is convex in t (a supremum of linear functions), hence
on [t1, t2] below its chord, M(t) <= beta t + c, and F(x) t <= a x + beta t + c. At last beta t = beta G(y) is bounded by
an upper line of G where beta >= 0, by a lower line elsewhere. Any a is valid. Several are tried and, neuron by neuron, the
plane that is lowest at the box's centre is kept: of planes over one box that is the one of least volume.

Lower planes are upper planes of the negation: -F(x) G(y) = F*(-x) G(y), with F* the mirror of F.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.relax.curves import Curve
from tightverify.relax.lines import chord_slope, curve_range, parallel_lines, tightest_lines, upper_offset
from tightverify.relax.planes import Plane, Planes, lowest
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below


def supremum(first: Curve, slope: Tensor, box: Interval, factor: Tensor) -> Tensor:
    """sup over the box of `factor * F(x) - slope * x`, rounded up; the factor may have either sign."""
    positive = upper_offset(first, slope, box, factor.clamp(min=0))
    negative = upper_offset(first.mirror, -slope, box.mirror(), (-factor).clamp(min=0))
    return torch.where(factor >= 0, positive, negative)


def upper_plane(first: Curve, slope: Tensor, x: Interval, t: Interval, lines: Planes) -> Plane:
    """The plane of the module's docstring for one slope in x, given the range and the lines of t = G(y)."""
    at_low = supremum(first, slope, x, t.lower)
    at_high = supremum(first, slope, x, t.upper)
    beta = torch.nan_to_num((at_high - at_low) / t.width, nan=0.0, posinf=0.0, neginf=0.0)
    offset = torch.maximum(at_low - beta * t.lower, at_high - beta * t.upper)
    line = lines.upper.where(beta >= 0, lines.lower)
    slope_y = beta * line.slopes[0]
    size = at_low.abs() + at_high.abs() + beta.abs() * (t.magnitude + line.offset.abs())
    return Plane((slope, slope_y), offset + beta * line.offset + 8 * UNIT_ROUNDOFF * size + TINY)


def product_range(first: Curve, second: Curve, x: Interval, y: Interval) -> Interval:
    """The values of F(x) G(y) over a box: the extremes are at the corners."""
    s, t = curve_range(first, x), curve_range(second, y)
    corners = torch.stack([s.lower * t.lower, s.lower * t.upper, s.upper * t.lower, s.upper * t.upper])
    lower, upper = corners.amin(0), corners.amax(0)
    return Interval(below(lower, TINY), above(upper, TINY))


def upper_planes(first: Curve, second: Curve, x: Interval, y: Interval) -> Plane:
    """The best upper plane of F(x) G(y) among those tried."""
    t = curve_range(second, y)
    middle = t.centre
    slopes = [middle * chord_slope(first, x), middle * first.supergradient(x.centre, x.centre)]
    lines = [tightest_lines(second, y), parallel_lines(second, y)]
    candidates = [upper_plane(first, slope, x, t, line) for slope in slopes for line in lines]
    return lowest(candidates, (x.centre, y.centre))


def product_planes(first: Curve, second: Curve, x: Interval, y: Interval) -> Planes:
    """Planes on both sides of F(x) G(y)."""
    upper = upper_planes(first, second, x, y)
    negated = upper_planes(first.mirror, second, x.mirror(), y)
    lower = Plane((negated.slopes[0], -negated.slopes[1]), -negated.offset)
    return Planes(lower, upper)
