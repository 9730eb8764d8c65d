"""Curves: increasing or not, every one-input function here is convex up to a point and concave from there on.

A `Curve` knows its own shape; `relax.lines` needs nothing else to bound it by lines. A function that is convex
everywhere has its inflection at +inf, one that is concave everywhere at -inf. The mirror of f is x -> -f(-x), of the
same kind; lower lines of f are upper lines of its mirror, so that nothing is written twice.

`supergradient(x, slope)`: the slope of a line that touches the *concave* part at x and lies nowhere below it there; at
a breakpoint the one nearest to `slope`. `tangent_point(slope)`: a point of the concave part where a line of that slope touches;
it may be approximate, +-inf or NaN: it steers tightness, never soundness.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


class Curve(ABC):
    """A function of one real variable, convex on (-inf, inflection] and concave on [inflection, inf)."""

    breakpoints: tuple[float, ...] | None = None
    """where a function that is a straight line elsewhere bends; None for others"""

    @property
    @abstractmethod
    def inflection(self) -> float: ...

    @property
    @abstractmethod
    def mirror(self) -> Curve:
        """x -> -f(-x)."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor: ...

    @abstractmethod
    def tangent_point(self, slope: Tensor) -> Tensor: ...


class Symmetric(Curve):
    """A smooth increasing curve that is symmetric about the point (0, height): less its height it is odd, its own mirror.

    Its derivative is even and falls from `steepest` at 0; its second derivative is odd, at most 0 on the right, and goes down
    to `-sharpest` at `bend` and back to 0 from there. `derivative` and `second` are within FUNCTION_ERROR of themselves and
    of the derivative.
    """

    steepest: float
    bend: float
    sharpest: float
    linear = False

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def second(self, x: Tensor) -> Tensor: ...

    def curl(self, x: Tensor) -> Tensor:
        """value * second / derivative^2, within FUNCTION_ERROR (1 + itself); it must go one way on either side of 0."""
        raise NotImplementedError(f"{self} has none")

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return self.derivative(x)

    @property
    @abstractmethod
    def height(self) -> float: ...

    @property
    @abstractmethod
    def centred(self) -> Symmetric:
        """The curve less its height."""


class Bent(Curve):
    """A curve that is a straight line but where it bends."""

    breakpoints: tuple[float, ...]

    @property
    @abstractmethod
    def steepest(self) -> float:
        """The largest absolute value of its slopes."""


class Odd(Symmetric):
    """A curve that is its own mirror, with its inflection at 0."""

    inflection = 0.0
    height = 0.0

    @property
    def mirror(self) -> Curve:
        return self

    @property
    def centred(self) -> Symmetric:
        return self


@dataclass(frozen=True)
class Sigmoid(Symmetric):
    """1 / (1 + exp(-x)); minus `shift`, for its mirror is sigmoid - 1."""

    shift: float = 0.0
    inflection = 0.0
    steepest = 0.25
    bend = math.log(2 + math.sqrt(3))
    sharpest = math.sqrt(3) / 18

    @property
    def mirror(self) -> Curve:
        return Sigmoid(1.0 - self.shift)

    @property
    def height(self) -> float:
        return 0.5 - self.shift

    @property
    def centred(self) -> Symmetric:
        return Sigmoid(0.5)

    def value(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) - self.shift

    def derivative(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) * torch.sigmoid(-x)

    def second(self, x: Tensor) -> Tensor:
        high, low = torch.sigmoid(x), torch.sigmoid(-x)
        return high * low * (low - high)

    def curl(self, x: Tensor) -> Tensor:
        return 1 - torch.exp(x) if self.shift == 0 else super().curl(x)

    def tangent_point(self, slope: Tensor) -> Tensor:
        # s (1 - s) = k with s >= 1/2; 1 - s = 2k / (1 + sqrt(1 - 4k)) loses no digits for small k.
        root = torch.sqrt((1 - 4 * slope).clamp(min=0))
        return torch.log((1 + root) ** 2 / (4 * slope.clamp(min=0)))


@dataclass(frozen=True)
class Tanh(Odd):
    """The hyperbolic tangent, its own mirror."""

    steepest = 1.0
    bend = math.log(2 + math.sqrt(3)) / 2
    sharpest = 4 * math.sqrt(3) / 9

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def derivative(self, x: Tensor) -> Tensor:
        return 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)

    def second(self, x: Tensor) -> Tensor:
        high, low = torch.sigmoid(2 * x), torch.sigmoid(-2 * x)
        return 8 * high * low * (low - high)

    def curl(self, x: Tensor) -> Tensor:
        return -2 * torch.sinh(x) ** 2

    def tangent_point(self, slope: Tensor) -> Tensor:
        root = torch.sqrt((1 - slope).clamp(min=0))
        return torch.log((1 + root) ** 2 / slope.clamp(min=0)) / 2


@dataclass(frozen=True)
class Softsign(Curve):
    """`x / (1 + |x|)`, its own mirror; its second derivative jumps at 0."""

    inflection = 0.0

    @property
    def mirror(self) -> Curve:
        return self

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x.isinf(), x.sign(), x / (1 + x.abs()))

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return 1 / (1 + x.abs()) ** 2

    def tangent_point(self, slope: Tensor) -> Tensor:
        return 1 / torch.sqrt(slope.clamp(min=0)) - 1


@dataclass(frozen=True)
class Identity(Odd):
    """x itself, convex and concave: lets a bare operand stand where a curve is wanted."""

    steepest = 1.0
    bend = 0.0
    sharpest = 0.0
    linear = True

    def value(self, x: Tensor) -> Tensor:
        return x

    def derivative(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    def second(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.zeros_like(slope)


@dataclass(frozen=True)
class One(Symmetric):
    """1 everywhere: lets a curve alone stand where a product is wanted."""

    inflection = 0.0
    steepest = 0.0
    bend = 0.0
    sharpest = 0.0
    linear = True
    height = 1.0

    @property
    def mirror(self) -> Curve:
        raise NotImplementedError("1 is only ever a factor")

    @property
    def centred(self) -> Symmetric:
        raise NotImplementedError("1 is only ever a factor")

    def value(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def second(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.zeros_like(slope)


@dataclass(frozen=True)
class TwoSlopes(Bent):
    """`left * x` below 0, `right * x` above: ReLU and leaky ReLU; convex where left <= right, else concave."""

    left: float
    right: float
    breakpoints = (0.0,)

    @property
    def steepest(self) -> float:
        return max(abs(self.left), abs(self.right))

    @property
    def inflection(self) -> float:
        return math.inf if self.left <= self.right else -math.inf

    @property
    def mirror(self) -> Curve:
        return TwoSlopes(self.right, self.left)

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, self.left * x, self.right * x)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        at_breakpoint = slope.clamp(min=min(self.left, self.right), max=max(self.left, self.right))
        return torch.where(x < 0, self.left, torch.where(x > 0, self.right, at_breakpoint))

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.zeros_like(slope)


@dataclass(frozen=True)
class Clip(Bent):
    """x kept between `low` and `high` (either may be infinite)."""

    low: float
    high: float
    steepest = 1.0

    @property
    def breakpoints(self) -> tuple[float, ...]:  # type: ignore[override]
        return tuple(end for end in (self.low, self.high) if math.isfinite(end))

    @property
    def inflection(self) -> float:
        return self.low if self.high < math.inf else math.inf

    @property
    def mirror(self) -> Curve:
        return Clip(-self.high, -self.low)

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.low, max=self.high)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        # Called right of the inflection only, so never left of `low` unless `high` is infinite and it is not called.
        return torch.where(x < self.high, 1.0, torch.where(x > self.high, 0.0, slope.clamp(min=0, max=1)))

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.full_like(slope, self.high)


@dataclass(frozen=True)
class Parabola(Curve):
    """`sign * x^2`."""

    sign: int = 1

    @property
    def inflection(self) -> float:
        return math.inf * self.sign

    @property
    def mirror(self) -> Curve:
        return Parabola(-self.sign)

    def value(self, x: Tensor) -> Tensor:
        return self.sign * x * x

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return self.sign * 2 * x

    def tangent_point(self, slope: Tensor) -> Tensor:
        return self.sign * slope / 2


@dataclass(frozen=True)
class OneSided(Curve):
    """A curve on one side of 0: concave on the right for sign 1, its mirror image, convex on the left, for sign -1."""

    sign: int = 1

    @property
    def inflection(self) -> float:
        return -math.inf * self.sign

    @property
    def mirror(self) -> Self:
        return replace(self, sign=-self.sign)


@dataclass(frozen=True)
class Logarithm(OneSided):
    """`log x` for sign 1, concave on (0, inf); `-log(-x)` for sign -1, convex on (-inf, 0)."""

    def value(self, x: Tensor) -> Tensor:
        return self.sign * torch.log(self.sign * x)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return self.sign / x

    def tangent_point(self, slope: Tensor) -> Tensor:
        return 1 / slope.clamp(min=0)


@dataclass(frozen=True)
class Root(OneSided):
    """`sqrt x` for sign 1, concave on [0, inf); `-sqrt(-x)` for sign -1, convex on (-inf, 0]."""

    def value(self, x: Tensor) -> Tensor:
        return self.sign * torch.sqrt(self.sign * x)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return 0.5 / torch.sqrt(self.sign * x)

    def tangent_point(self, slope: Tensor) -> Tensor:
        return self.sign * 0.25 / slope.clamp(min=0) ** 2


@dataclass(frozen=True)
class Hyperbola(OneSided):
    """`-1 / x`: for sign 1 on (0, inf), where it is concave, for sign -1 on (-inf, 0), where it is convex; NaN elsewhere."""

    def value(self, x: Tensor) -> Tensor:
        return torch.where(self.sign * x > 0, -1 / x, torch.where(x == 0, -self.sign * math.inf, math.nan))

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return 1 / x**2

    def tangent_point(self, slope: Tensor) -> Tensor:
        return self.sign / torch.sqrt(slope.clamp(min=0))
