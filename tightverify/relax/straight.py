"""Functions of straight pieces, with jumps between them: look-up tables, of which nothing else is known.

At a break such a function has one of the two values that it comes to from either side. All that is said here holds for both of
them, so that it does not matter which: an interval that ends at a break holds both.

A line of slope k lies above over [l, u] with the offset `max (f(t) - k t)` over t = l, t = u and both sides of every break in
between: of each piece the largest is at an end. No slope needs to be good. That of the concave envelope at a point p is found
by chords: while some vertex lies above the chord from a point on the left of p to one on the right, it takes the place of that
which is on its side.

Rounding. A slope between two breaks is a rounded quotient, a value a rounded sum: each within a few units in the last place of
what it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightverify.relax.planes import Plane, Planes
from tightverify.values import FUNCTION_ERROR, TINY, UNIT_ROUNDOFF, Interval

ROUNDS = 12
"""How many vertices a chord may be moved to; tables of sigmoid and tanh need half as many."""


@dataclass(frozen=True)
class Straight:
    """`left` and `right` are what the function comes to at the `breaks`, ascending; `before` and `after` the outer slopes."""

    breaks: tuple[float, ...]
    left: tuple[float, ...]
    right: tuple[float, ...]
    before: float = 0.0
    after: float = 0.0

    @property
    def continuous(self) -> bool:
        return self.left == self.right

    @property
    def mirror(self) -> Straight:
        """x -> -f(-x)."""
        breaks, left, right = (tuple(-value for value in reversed(part)) for part in (self.breaks, self.right, self.left))
        return Straight(breaks, left, right, self.after, self.before)

    @cached_property
    def pieces(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each piece a point of it, the value there, the slope, and the larger size of both ends' values."""
        breaks, left, right = (torch.tensor(part, dtype=torch.float64) for part in (self.breaks, self.left, self.right))
        outer = torch.tensor([self.before, self.after], dtype=torch.float64)
        inner = (left[1:] - right[:-1]) / breaks.diff()
        slopes = torch.cat([outer[:1], inner, outer[1:]])
        points, values = torch.cat([breaks[:1], breaks]), torch.cat([left[:1], right])
        size = torch.maximum(values.abs(), torch.cat([left, right[-1:]]).abs())
        return points, values, slopes, size

    @cached_property
    def vertices(self) -> tuple[Tensor, Tensor, Tensor]:
        """The breaks, and the smaller and the larger of both values there."""
        breaks, left, right = (torch.tensor(part, dtype=torch.float64) for part in (self.breaks, self.left, self.right))
        return breaks, torch.minimum(left, right), torch.maximum(left, right)

    def value(self, x: Tensor) -> Tensor:
        """At a break the value on the right; the value of a piece without slope is its own."""
        points, values, slopes, _ = (part.to(x) for part in self.pieces)
        piece = torch.bucketize(x.detach().contiguous(), self.vertices[0].to(x), right=True)
        slope = slopes[piece]
        found = torch.where(slope == 0, values[piece], values[piece] + slope * (x - points[piece]))
        return torch.where(x.isnan(), x, found)

    def at_ends(self, box: Interval) -> tuple[Interval, Interval]:
        """Intervals that hold the values at both ends of boxes."""
        return self._around(box.lower), self._around(box.upper)

    def _around(self, x: Tensor) -> Interval:
        """An interval that holds the value, rounding included; none is left where a piece has no slope."""
        points, _, slopes, sizes = (part.to(x) for part in self.pieces)
        piece = torch.bucketize(x.detach().contiguous(), self.vertices[0].to(x), right=True)
        value, slope = self.value(x), slopes[piece]
        allowance = FUNCTION_ERROR * (sizes[piece] + slope.abs() * (x.abs() + points[piece].abs())) + TINY
        allowance = torch.where(slope == 0, 0.0, allowance)
        return Interval(value - allowance, value + allowance)

    def range(self, box: Interval) -> Interval:
        """The values over boxes."""
        breaks, low, high = (part.to(box.lower) for part in self.vertices)
        ends = self.at_ends(box)
        inside = (breaks >= box.lower[..., None]) & (breaks <= box.upper[..., None])
        least = torch.where(inside, low, torch.inf).amin(-1)
        most = torch.where(inside, high, -torch.inf).amax(-1)
        least = torch.minimum(least, torch.minimum(ends[0].lower, ends[1].lower))
        return Interval(least, torch.maximum(most, torch.maximum(ends[0].upper, ends[1].upper)))


def upper_offset(of: Straight, slope: Tensor, box: Interval) -> Tensor:
    """The least offset, rounded up, with which a line of this slope lies above over the boxes."""
    breaks, _, high = (part.to(slope) for part in of.vertices)
    inside = (breaks >= box.lower[..., None]) & (breaks <= box.upper[..., None])
    drops = torch.where(inside, high - slope[..., None] * breaks, -torch.inf).amax(-1)
    ends = [held.upper - slope * end for held, end in zip(of.at_ends(box), (box.lower, box.upper), strict=True)]
    largest = torch.maximum(drops, torch.maximum(*ends))
    return largest + 8 * UNIT_ROUNDOFF * (largest.abs() + 2 * slope.abs() * box.magnitude) + TINY


def envelope_slope(of: Straight, box: Interval, points: Tensor) -> Tensor:
    """The slope of the concave envelope at points of boxes, or near it."""
    breaks, _, high = (part.to(points) for part in of.vertices)
    inside = (breaks >= box.lower[..., None]) & (breaks <= box.upper[..., None])
    heights = torch.where(inside, high, -torch.inf)
    first, last = box.lower, box.upper
    at_first, at_last = (
        torch.maximum(held.upper, torch.where(breaks == end[..., None], high, -torch.inf).amax(-1))
        for held, end in zip(of.at_ends(box), (first, last), strict=True)
    )
    for _ in range(ROUNDS):
        slope = quotient(at_last - at_first, last - first)
        gains = heights - at_first[..., None] - slope[..., None] * (breaks - first[..., None])
        gain, best = gains.max(-1)
        place, height = breaks[best], high[best]
        better = gain > FUNCTION_ERROR * (1 + at_first.abs() + at_last.abs())
        if not bool(better.any()):
            break
        left = better & (place <= points)
        first, at_first = torch.where(left, place, first), torch.where(left, height, at_first)
        right = better & (place > points)
        last, at_last = torch.where(right, place, last), torch.where(right, height, at_last)
    return quotient(at_last - at_first, last - first)


def quotient(rise: Tensor, run: Tensor) -> Tensor:
    return torch.nan_to_num(rise / run, nan=0.0, posinf=0.0, neginf=0.0)


def upper_line(of: Straight, box: Interval, points: Tensor) -> Plane:
    """The line that supports the concave envelope at points."""
    slope = envelope_slope(of, box, points)
    return Plane((slope,), upper_offset(of, slope, box))


def straight_planes(of: Straight, box: Interval, points: Tensor) -> Planes:
    """On either side the line that is nearest at points of the boxes."""
    flipped = upper_line(of.mirror, box.mirror(), -points)
    return Planes(Plane(flipped.slopes, -flipped.offset), upper_line(of, box, points))
