"""Lines above and below a `relax.piecewise` function over an interval: any slope, with the least offset that is surely valid.

The offset of an upper line of slope k is the supremum of f(x) - k x. On a piece that is convex or straight it is at the
piece's ends, those that the interval leaves it; a concave piece lies below its tangent T at any point of it, and T(x) - k x is
largest at the ends. A bad point, or slope, gives a loose offset, never a wrong one.

Of all lines above f the lowest at a point p has the slope k at which `f(x) - k x` is as large on the left of p as on the right:
Newton's steps for the difference of the two lead from one secant between such places to the next. Where f is its own concave
envelope about p, that is its tangent.

Rounding. Values are off by FUNCTION_ERROR (scale + themselves), derivatives by FUNCTION_ERROR (1 + themselves), and sums of a
few terms by a handful of unit roundoffs of what they are made of: an offset is raised by more than all of these, and claims
nothing where it is no number.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from tightverify.relax.piecewise import Piecewise
from tightverify.relax.planes import Plane, Planes
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above, below, tamed

ROUNDS = 5


def near(x: Tensor) -> float:
    """Steps end where slopes move by less; secants of places no farther apart, by this share of the box, say nothing."""
    return 8 * math.sqrt(torch.finfo(x.dtype).eps)


def ends_of_pieces(curve: Piecewise, box: Interval) -> list[Tensor]:
    """Where the interval's part of each piece begins, and where that of the last ends; for an empty one they are the same."""
    return [box.lower, *(torch.minimum(box.lower.clamp(min=cut), box.upper) for cut in curve.cuts), box.upper]


def touching(curve: Piecewise, piece: int, slope: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A point between both where a line of that slope touches a concave piece, or nearly so."""
    found = curve.tangent_point(piece, slope).nan_to_num(nan=0.0)
    return torch.minimum(torch.maximum(found, low), high)


def upper_offset(curve: Piecewise, slope: Tensor, box: Interval) -> Tensor:
    """The least b, rounded up, with `f(x) <= slope * x + b` on the box."""
    ends = ends_of_pieces(curve, box)
    values = [curve.value(end) for end in ends]
    found = torch.stack([value - slope * end for value, end in zip(values, ends, strict=True)]).amax(0)
    size = sum((value.abs() for value in values), curve.scale + slope.abs() * box.magnitude)
    for piece, ((low, high), bend) in enumerate(zip(pairwise(ends), curve.bends, strict=True)):
        if bend >= 0:
            continue
        curved = low < high
        touch = touching(curve, piece, tamed(slope), low, high)
        value, steepness = curve.value(touch), tamed(curve.derivative(touch))
        at_ends = [value + steepness * (end - touch) - slope * end for end in (low, high)]
        found = torch.where(curved, torch.maximum(found, torch.maximum(*at_ends)), found)
        size = size + torch.where(curved, value.abs() + (steepness.abs() + 1) * (high - low), 0.0)
    offset = found + (FUNCTION_ERROR * size + TINY)
    return torch.where(offset.isfinite(), offset, torch.inf)


def value_range(curve: Piecewise, box: Interval) -> Interval:
    """The values over a box, rounded outward."""
    places = [box.lower, box.upper, *(torch.minimum(box.lower.clamp(min=turn), box.upper) for turn in curve.turns)]
    values = torch.stack([curve.value(place) for place in places])
    lower, upper = values.amin(0), values.amax(0)
    noise = [FUNCTION_ERROR * (curve.scale + end.abs()) for end in (lower, upper)]
    return Interval(below(lower, noise[0]), above(upper, noise[1]))


def farthest(curve: Piecewise, slope: Tensor, box: Interval, but: Tensor) -> tuple[Tensor, Tensor]:
    """Where a function is farthest above lines of a slope, and its value there.

    The point `but`, an end, counts only as one of a concave piece's.
    """
    ends = ends_of_pieces(curve, box)
    places, counts = list(ends), [end != but for end in ends]
    for piece, ((low, high), bend) in enumerate(zip(pairwise(ends), curve.bends, strict=True)):
        if bend < 0:
            places.append(touching(curve, piece, slope.detach(), low, high))
            counts.append(low < high)
    points = torch.stack(places)
    values = curve.value(points)
    heights = torch.where(torch.stack(counts), values - slope * points, -torch.inf)
    best = heights.nan_to_num(nan=-torch.inf).argmax(0, keepdim=True)
    return points.gather(0, best)[0], values.gather(0, best)[0]


def secant(rise: Tensor, run: Tensor, box: Interval, otherwise: Tensor) -> Tensor:
    apart = run > near(run) * box.width
    found = rise / torch.where(apart, run, 1.0)
    return torch.where(apart & found.isfinite(), found, otherwise)


def concave_at(curve: Piecewise, points: Tensor) -> Tensor:
    piece = sum(((points > cut).long() for cut in curve.cuts), torch.zeros_like(points, dtype=torch.long))
    return torch.tensor(curve.bends, device=points.device)[piece] < 0


def envelope_slopes(curve: Piecewise, box: Interval, points: Tensor) -> Tensor:
    """(2, ...): slopes, one of which the concave envelope has at points of the box: as the module has it, and the chord's."""
    box, points = box.map(tamed), tamed(points)
    chord = secant(curve.value(box.upper) - curve.value(box.lower), box.width, box, torch.zeros_like(box.lower))
    tangent = curve.derivative(points)
    slope = torch.where(concave_at(curve, points) & tangent.isfinite(), tangent, chord)
    for _ in range(ROUNDS):
        left, at_left = farthest(curve, slope, Interval(box.lower, points), points)
        right, at_right = farthest(curve, slope, Interval(points, box.upper), points)
        found = secant(at_right - at_left, right - left, box, slope)
        moves = (found - slope).abs() > near(slope) * (1 + slope.abs())
        slope = found
        if not bool(moves.any()):
            break
    return torch.stack([slope, chord])


def upper_line_at(curve: Piecewise, box: Interval, points: Tensor) -> Plane:
    """The line that supports the concave envelope at the points."""
    slopes = envelope_slopes(curve, box, points)
    every = Interval(box.lower.expand_as(slopes), box.upper.expand_as(slopes))
    offsets = upper_offset(curve, slopes, every)
    lowest = (slopes * points + offsets).nan_to_num(nan=torch.inf).argmin(0, keepdim=True)
    return Plane((slopes.gather(0, lowest)[0],), offsets.gather(0, lowest)[0])


def lines_at(curve: Piecewise, box: Interval, points: Tensor) -> Planes:
    """On either side the line that is the nearest at points."""
    flipped = upper_line_at(curve.mirror, box.mirror(), -points)
    return Planes(Plane(flipped.slopes, -flipped.offset), upper_line_at(curve, box, points))


def tight_upper_line(curve: Piecewise, box: Interval) -> Plane:
    """A line that reaches the largest value where that is at an end, and there alone: of the least slope of all secants to it.

    Where it is neither, or the steps have not got there, the line may leave the range, and does not count (`relax.tight`).
    """
    at_lower, at_upper = curve.value(box.lower), curve.value(box.upper)
    rising = at_upper >= at_lower
    end, top = torch.where(rising, box.upper, box.lower), torch.maximum(at_lower, at_upper)
    chord = secant(at_upper - at_lower, box.width, box, torch.zeros_like(top))
    steep = curve.derivative(end)
    slope = torch.where(rising, torch.minimum(chord, steep), torch.maximum(chord, steep))
    slope = torch.where(slope.isfinite(), slope, chord)
    for _ in range(ROUNDS):
        place, value = farthest(curve, slope, box, end)
        found = secant((top - value) * torch.where(rising, 1, -1), (end - place).abs(), box, slope)
        slope = torch.where(rising, torch.minimum(found, slope), torch.maximum(found, slope))
    return Plane((slope,), upper_offset(curve, slope, box))


def tight_lines(curve: Piecewise, box: Interval) -> Planes:
    flipped = tight_upper_line(curve.mirror, box.mirror())
    return Planes(Plane(flipped.slopes, -flipped.offset), tight_upper_line(curve, box))
