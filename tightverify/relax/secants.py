"""By how much a curve changes between two points: `F(x) - F(x - d)`, which is a secant's slope times d.

Two networks are compared by it (`ops.difference`): d is by how much their numbers differ, mostly far less than x may vary. So
whatever is said of it has to be small where d is, and no difference of two large values: the change is computed without
cancellation, and bounded by d times the slopes that F has about x.

Let h be the change. The mean of F' over the way from x - d to x is `h / d` (F' itself where d is 0), so that it lies

* in the range [s, S] of F' over Z, the interval that holds both points for all of the box;
* where F' lies between two lines over Z, `a + b z <= F'(z) <= A + b z`, between these lines at the middle of the way,
  `z = x - d / 2`, for the mean of a line is its value there.

For fixed d, h has its extremes in x at the ends of x's interval or, where F is symmetric about a point, where the way is
centred there: h goes up to that place and down from there, or the other way round.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tightverify.values import FUNCTION_ERROR, TINY, UNIT_ROUNDOFF, Interval, above, below

SHARPEST = math.log(2 + math.sqrt(3))
"""Where the sigmoid's second derivative is the largest."""
LEAST_BENT = math.log(5 + 2 * math.sqrt(6))
"""Where its third derivative turns, beside 0: there s (1 - s) = 1 / 12."""
PIECES = 16
"""An interval is cut into so many where the derivative is held by lines."""


@dataclass(frozen=True, eq=False)
class SlopeLines:
    """`lower + slope * z <= F'(z) <= upper + slope * z` over an interval."""

    slope: Tensor
    lower: Tensor
    upper: Tensor


class Secants(ABC):
    """A function by its changes."""

    @property
    @abstractmethod
    def mirror(self) -> Secants:
        """Those of x -> -F(-x)."""

    @abstractmethod
    def change(self, x: Tensor, d: Tensor) -> Tensor:
        """`F(x) - F(x - d)`"""

    @abstractmethod
    def most(self, x: Interval, d: Interval) -> Tensor:
        """No less than the change is at any point of the boxes."""

    @abstractmethod
    def slopes(self, z: Interval) -> Interval:
        """The range of F' over an interval, rounded outward."""

    @abstractmethod
    def lines(self, z: Interval) -> SlopeLines | None:
        """Lines that hold F', if there are any better than its range."""


class RisingSecants(Secants):
    """Of a curve that never falls: neither does its change when d grows."""

    @abstractmethod
    def error(self, x: Interval, d: Interval, change: Tensor) -> Tensor:
        """What a computed change over boxes may be off by."""

    @abstractmethod
    def centred(self, d: Tensor) -> Tensor:
        """The x at which the change by d is the largest or least; NaN, where the curve is symmetric about no point."""

    def most(self, x: Interval, d: Interval) -> Tensor:
        """At d's upper end, where in x the extremes are known."""
        middle = torch.minimum(torch.maximum(self.centred(d.upper), x.lower), x.upper)
        places = torch.stack([x.lower, x.upper, torch.where(middle.isnan(), x.lower, middle)])
        changes = self.change(places, d.upper)
        return above(changes + self.error(x, d, changes), 0.0).amax(0)


@dataclass(frozen=True)
class LogisticSecants(RisingSecants):
    """Of `height / (1 + exp(-rate x))`, up to a constant: the sigmoid, and tanh for 2 and 2, both of them powers of two.

    With a = rate x and b = rate (x - d), `sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))`, and for a
    negative d the same from the other end. The third derivative is at most height rate^3 / 8, so that F' is within an
    eighth of that times w^2 of its chord over an interval of width w.
    """

    height: float
    rate: float

    @property
    def mirror(self) -> Secants:
        return self

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        start, end = self.rate * (x - d), self.rate * x
        low, high = torch.minimum(start, end), torch.maximum(start, end)
        way = self.rate * d.abs()
        return self.height * d.sign() * (torch.sigmoid(high) * torch.sigmoid(-low) * -torch.expm1(-way))

    def error(self, x: Interval, d: Interval, change: Tensor) -> Tensor:
        # A sigmoid's relative error is at most that of its argument, whose size is below.
        reach = self.rate * (x.magnitude + d.magnitude)
        return (FUNCTION_ERROR + 4 * UNIT_ROUNDOFF * reach) * change.abs() + TINY

    def centred(self, d: Tensor) -> Tensor:
        return d / 2

    def derivative(self, z: Tensor) -> Tensor:
        return self.height * self.rate * torch.sigmoid(self.rate * z) * torch.sigmoid(-self.rate * z)

    def bends(self, z: Interval) -> tuple[Tensor, Tensor]:
        """The largest sizes of the second and the third derivative over an interval: at its ends, or where they turn."""

        def largest(places: tuple[float, ...], size: Callable[[Tensor], Tensor]) -> Tensor:
            inner = [z.lower.new_tensor(place / self.rate).expand_as(z.lower) for place in places]
            points = [torch.minimum(torch.maximum(place, z.lower), z.upper) for place in inner]
            found = torch.stack([size(self.rate * place) for place in (z.lower, z.upper, *points)]).amax(0)
            return above(found, FUNCTION_ERROR * (found + self.rate * z.magnitude * found) + TINY)

        def second(a: Tensor) -> Tensor:
            rising, falling = torch.sigmoid(a), torch.sigmoid(-a)
            return self.height * self.rate**2 * rising * falling * (rising - falling).abs()

        def third(a: Tensor) -> Tensor:
            bell = torch.sigmoid(a) * torch.sigmoid(-a)
            return self.height * self.rate**3 * bell * (1 - 6 * bell).abs()

        return largest((-SHARPEST, SHARPEST), second), largest((-LEAST_BENT, 0.0, LEAST_BENT), third)

    def reach(self, x: Interval, d: Interval, steepest: Tensor) -> Tensor:
        """What FUNCTION_ERROR is multiplied by where x, d and the change there are rounded; |F''| is at most rate F'."""
        return 4 * steepest * d.magnitude * (1 + 2 * self.rate * (x.magnitude + d.magnitude))

    def slopes(self, z: Interval) -> Interval:
        least = torch.minimum(self.derivative(z.lower), self.derivative(z.upper))
        most = self.derivative(torch.minimum(torch.maximum(z.lower, torch.zeros_like(z.lower)), z.upper))
        low = below(least, FUNCTION_ERROR * least + TINY).clamp(min=0)
        return Interval(low, above(most, FUNCTION_ERROR * most + TINY))

    def lines(self, z: Interval) -> SlopeLines | None:
        shares = torch.arange(PIECES + 1, dtype=z.lower.dtype, device=z.lower.device) / PIECES
        points = torch.lerp(z.lower, z.upper, shares.view(-1, *(1,) * z.lower.dim()))
        values = self.derivative(points)
        slope = torch.nan_to_num((values[-1] - values[0]) / z.width, nan=0.0, posinf=0.0, neginf=0.0)
        gaps = values - slope * points
        # Cuts are rounded: they are a little farther apart than they should be.
        piece = z.width / PIECES + 4 * UNIT_ROUNDOFF * z.magnitude
        bulge = (1 + FUNCTION_ERROR) * self.height * self.rate**3 / 64 * piece.square()
        error = FUNCTION_ERROR * (self.height * self.rate + slope.abs() * z.magnitude) + TINY
        return SlopeLines(slope, below(gaps.amin(0), bulge + error), above(gaps.amax(0), bulge + error))


@dataclass(frozen=True)
class StraightSecants(RisingSecants):
    """Of a continuous curve that is straight between `breaks`, with a slope for each piece, one more than there are breaks.

    The change is the sum over the pieces of slope times the part of the way that lies in the piece.
    """

    pieces: tuple[float, ...]
    breaks: tuple[float, ...]

    @property
    def mirror(self) -> Secants:
        return StraightSecants(self.pieces[::-1], tuple(-place for place in reversed(self.breaks)))

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        falling, way = d < 0, d.abs()
        total = torch.zeros_like(x)
        for slope, (start, end) in zip(self.pieces, pairwise((-math.inf, *self.breaks, math.inf)), strict=True):
            # Both ends are measured from x, which is one of them: no difference of large numbers, where the way is short.
            after_start = torch.where(falling, (x - start) + way, x - start)
            before_end = torch.where(falling, end - x, (end - x) + way)
            inside = torch.minimum(torch.minimum(way, after_start), before_end).clamp(min=0, max=end - start)
            total = total + slope * inside
        return torch.where(falling, -total, total)

    def error(self, x: Interval, d: Interval, change: Tensor) -> Tensor:
        size = x.magnitude + d.magnitude + sum(abs(place) for place in self.breaks)
        steepest = max(abs(slope) for slope in self.pieces)
        return 8 * len(self.pieces) * UNIT_ROUNDOFF * steepest * size + TINY

    def centred(self, d: Tensor) -> Tensor:
        if len(self.breaks) != 2 or self.pieces[0] != self.pieces[2]:
            return torch.full_like(d, math.nan)
        return (self.breaks[0] + self.breaks[1] + d) / 2

    def slopes(self, z: Interval) -> Interval:
        low, high = torch.full_like(z.lower, math.inf), torch.full_like(z.lower, -math.inf)
        for slope, (start, end) in zip(self.pieces, pairwise((-math.inf, *self.breaks, math.inf)), strict=True):
            there = (z.upper > start) & (z.lower < end)
            low = torch.where(there, low.clamp(max=slope), low)
            high = torch.where(there, high.clamp(min=slope), high)
        # A point that is a break itself lies in no piece's inside.
        nowhere = low > high
        return Interval(torch.where(nowhere, min(self.pieces), low), torch.where(nowhere, max(self.pieces), high))

    def lines(self, z: Interval) -> SlopeLines | None:
        return None


def reached(x: Interval, d: Interval) -> Interval:
    """All points on the way from x - d to x."""
    first = Interval(below(x.lower - d.upper, 0.0), above(x.upper - d.lower, 0.0))
    return Interval(torch.minimum(first.lower, x.lower), torch.maximum(first.upper, x.upper))
