"""Curves that are made of the exponential function (see `relax.curves` for what a curve answers).

Each is one of a pair of mirror images: sign 1 is the function itself, sign -1 is x -> -f(-x).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from tightverify.relax.curves import Curve, Odd

FLAT = 7.0


@dataclass(frozen=True)
class Convex(Curve):
    """An increasing convex function for sign 1, and its concave mirror image for sign -1."""

    sign: int = 1

    @property
    def inflection(self) -> float:
        return math.inf * self.sign

    @property
    def mirror(self) -> Self:
        return replace(self, sign=-self.sign)

    def value(self, x: Tensor) -> Tensor:
        return self.sign * self.of(self.sign * x)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        return self.derivative(self.sign * x)

    def tangent_point(self, slope: Tensor) -> Tensor:
        return self.sign * self.where_it_rises(slope)

    @abstractmethod
    def of(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def where_it_rises(self, slope: Tensor) -> Tensor:
        """Where its derivative is that."""


@dataclass(frozen=True)
class Exponential(Convex):
    """`exp x`"""

    def of(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def where_it_rises(self, slope: Tensor) -> Tensor:
        return torch.log(slope.clamp(min=0))


@dataclass(frozen=True)
class Softplus(Convex):
    """`log(1 + exp x)`; its derivative is the sigmoid."""

    def of(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))

    def derivative(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def where_it_rises(self, slope: Tensor) -> Tensor:
        return torch.logit(slope.clamp(0, 1))


@dataclass(frozen=True)
class ExponentialLinear(Curve):
    """x from 0 on, `alpha (exp x - 1)` below, for alpha > 0.

    It is convex where alpha <= 1; else convex up to 0, where it bends down, and straight from there on. Its mirror image is
    straight up to 0, and `alpha (1 - exp(-x))` above.
    """

    alpha: float
    sign: int = 1

    @property
    def inflection(self) -> float:
        return math.inf * self.sign if self.alpha <= 1 else 0.0

    @property
    def mirror(self) -> Self:
        return replace(self, sign=-self.sign)

    def value(self, x: Tensor) -> Tensor:
        y = self.sign * x
        return self.sign * torch.where(y < 0, self.alpha * torch.expm1(y.clamp(max=0)), y)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        y = self.sign * x
        bent = self.alpha * torch.exp(y.clamp(max=0))
        at_breakpoint = slope.clamp(min=min(self.alpha, 1.0), max=max(self.alpha, 1.0))
        return torch.where(y < 0, bent, torch.where(y > 0, 1.0, at_breakpoint))

    def tangent_point(self, slope: Tensor) -> Tensor:
        if self.sign > 0:
            return torch.zeros_like(slope)
        return -torch.log((slope / self.alpha).clamp(0, 1))


@dataclass(frozen=True)
class ErrorFunction(Odd):
    """`erf x`, its own mirror image.

    Beyond `FLAT` its slope counts as 0: what the curve still rises by from there, 4e-23, is far within FUNCTION_ERROR.
    """

    steepest = 2 / math.sqrt(math.pi)
    bend = math.sqrt(0.5)
    sharpest = 2 * math.sqrt(2 / (math.pi * math.e))

    def value(self, x: Tensor) -> Tensor:
        return torch.erf(x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() < FLAT, self.steepest * torch.exp(-x * x), 0.0)

    def second(self, x: Tensor) -> Tensor:
        return -2 * x * self.derivative(x)

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.sqrt(-torch.log((slope / self.steepest).clamp(0, 1)))
