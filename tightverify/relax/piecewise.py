"""Functions of one operand with any number of inflections, that may fall as well as rise.

A `Piecewise` knows its `cuts`, ascending, and of each of the pieces between them its bend: 1 where it is convex, -1 where it
is concave, 0 where it is straight; and its `turns`, between which it only rises or only falls. `relax.piecewise_lines` needs
nothing else to bound it. The mirror image of f is x -> -f(-x), so that lower lines of f are upper lines of its mirror image.

Rounding. A value is within FUNCTION_ERROR (`scale` + itself) of the exact one, a derivative within FUNCTION_ERROR (1 + itself)
of a piece's. Cuts and turns are rounded. On the sliver between an inflection and its float, h < 2^-50 wide, the function is
bent the wrong way by the third derivative times h, so that it leaves its chord or tangent by h^3 at most times that; by a
turn's float it is missed by the second derivative times h^2, and by the float of a bend between two straight or curved pieces
by h times the slopes there: all within FUNCTION_ERROR times the scale for the functions at hand.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from tightverify.values import tamed

FAR = 50.0
"""Beyond so much a smooth function of the kind here is its asymptote in float64."""
KNOTS = 129
NEWTON_STEPS = 2


class Piecewise(ABC):
    """A function that is convex, concave or straight from cut to cut."""

    cuts: tuple[float, ...]
    bends: tuple[int, ...]
    """of each piece, one more than there are cuts"""
    turns: tuple[float, ...] = ()
    scale: float = 1.0
    """how large the numbers are that cancel where the value is small, at least 1"""

    @property
    def mirror(self) -> Piecewise:
        """x -> -f(-x)."""
        return Mirrored(self)

    @abstractmethod
    def value(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """Where pieces of different slopes meet, that of the piece that is not straight."""

    @abstractmethod
    def tangent_point(self, piece: int, slope: Tensor) -> Tensor:
        """A point of a piece where a line of that slope touches; it may be approximate, outside the piece, or NaN."""

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        """`f(x) - f(x - d)`, for measuring and testing."""
        return self.value(x) - self.value(x - d)


@dataclass(frozen=True)
class Mirrored(Piecewise):
    """x -> -f(-x) of another one."""

    of: Piecewise

    @property
    def cuts(self) -> tuple[float, ...]:  # type: ignore[override]
        return tuple(-cut for cut in reversed(self.of.cuts))

    @property
    def bends(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(-bend for bend in reversed(self.of.bends))

    @property
    def turns(self) -> tuple[float, ...]:  # type: ignore[override]
        return tuple(-turn for turn in reversed(self.of.turns))

    @property
    def scale(self) -> float:  # type: ignore[override]
        return self.of.scale

    @property
    def mirror(self) -> Piecewise:
        return self.of

    def value(self, x: Tensor) -> Tensor:
        return -self.of.value(-x)

    def derivative(self, x: Tensor) -> Tensor:
        return self.of.derivative(-x)

    def tangent_point(self, piece: int, slope: Tensor) -> Tensor:
        return -self.of.tangent_point(len(self.cuts) - piece, slope)

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        return -self.of.change(-x, -d)


class Smooth(Piecewise):
    """One with a second derivative, which says where a line touches: a table of slopes, and Newton's steps from there."""

    @abstractmethod
    def second(self, x: Tensor) -> Tensor: ...

    @cached_property
    def tables(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Of each piece points, and the slopes there, ascending."""
        found = []
        for (low, high), bend in zip(pairwise((-FAR, *self.cuts, FAR)), self.bends, strict=True):
            # The derivative turns at an inflection: points lie closer together there, as the square of their distance.
            share = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
            if low > -FAR:
                share = (1 - torch.cos(math.pi * share)) / 2 if high < FAR else share.square()
            elif high < FAR:
                share = 1 - (1 - share).square()
            points = low + share * (high - low)
            slopes = self.derivative(points)
            points, slopes = (points, slopes) if bend > 0 else (points.flip(0), slopes.flip(0))
            found.append((points, slopes.cummax(0).values))
        return tuple(found)

    def tangent_point(self, piece: int, slope: Tensor) -> Tensor:
        points, slopes = (part.to(slope) for part in self.tables[piece])
        wanted = slope.detach().nan_to_num(nan=0.0)
        right = torch.searchsorted(slopes, wanted.contiguous()).clamp(1, KNOTS - 1)
        (one, other), (before, after) = (points[right - 1], points[right]), (slopes[right - 1], slopes[right])
        share = ((wanted - before) / (after - before)).nan_to_num(nan=0.0).clamp(0, 1)
        x = torch.lerp(one, other, share)
        for _ in range(NEWTON_STEPS):
            step = (self.derivative(x) - wanted) / self.second(x)
            x = torch.where(step.isfinite(), x - step, x)
            x = torch.minimum(torch.maximum(x, torch.minimum(one, other)), torch.maximum(one, other))
        return x + tamed((slope - slope.detach()) / self.second(x)) if slope.requires_grad else x


@dataclass(frozen=True)
class HardSwish(Piecewise):
    """`x min(max(slope x + shift, 0), 1)` for slope > 0 and 0 <= shift <= 1: 0, a parabola, x."""

    slope: float = 1 / 6
    shift: float = 0.5
    bends = 0, 1, 0

    @property
    def cuts(self) -> tuple[float, ...]:  # type: ignore[override]
        return -self.shift / self.slope, (1 - self.shift) / self.slope

    @property
    def turns(self) -> tuple[float, ...]:  # type: ignore[override]
        return (-self.shift / (2 * self.slope),)

    @property
    def scale(self) -> float:  # type: ignore[override]
        """x times what slope x and shift leave of one another, each of them up to 1."""
        return max(1.0, *map(abs, self.cuts))

    def value(self, x: Tensor) -> Tensor:
        low, high = self.cuts
        return torch.where(
            x <= low, 0.0, torch.where(x >= high, x, x.clamp(low, high) * (self.slope * x + self.shift).clamp(0, 1))
        )

    def derivative(self, x: Tensor) -> Tensor:
        low, high = self.cuts
        inside = 2 * self.slope * x.clamp(low, high) + self.shift
        return torch.where(x < low, 0.0, torch.where(x > high, 1.0, inside))

    def tangent_point(self, piece: int, slope: Tensor) -> Tensor:
        return (slope - self.shift) / (2 * self.slope)


@dataclass(frozen=True)
class Power(Piecewise):
    """`x^exponent`, a whole one from 3 on."""

    exponent: int

    @property
    def odd(self) -> bool:
        return self.exponent % 2 == 1

    @property
    def cuts(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0,) if self.odd else ()

    @property
    def bends(self) -> tuple[int, ...]:  # type: ignore[override]
        return (-1, 1) if self.odd else (1,)

    @property
    def turns(self) -> tuple[float, ...]:  # type: ignore[override]
        return () if self.odd else (0.0,)

    def value(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def derivative(self, x: Tensor) -> Tensor:
        return self.exponent * x ** (self.exponent - 1)

    def tangent_point(self, piece: int, slope: Tensor) -> Tensor:
        size = slope.clamp(min=0) if self.odd else slope.abs()
        root = (size / self.exponent) ** (1 / (self.exponent - 1))
        return (slope.sign() if not self.odd else 1 if piece == 1 else -1) * root

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        """d times the sum of x^i (x - d)^j over i + j = exponent - 1: no powers are subtracted."""
        before = x - d
        total, power = torch.ones_like(x), before
        for _ in range(self.exponent - 1):
            total, power = x * total + power, power * before
        return d * total
