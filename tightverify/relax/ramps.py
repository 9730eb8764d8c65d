"""Curves of three straight pieces: a ramp, whose outer slopes are smaller than 1, and a line that is cut off on either side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Curve


@dataclass(frozen=True)
class Ramp(Curve):
    """x from `low` to `high`, with slopes from 0 to 1 outside: `left` before, `right` behind; convex, then concave."""

    low: float
    high: float
    left: float
    right: float

    @property
    def breakpoints(self) -> tuple[float, ...]:  # type: ignore[override]
        return self.low, self.high

    @property
    def inflection(self) -> float:
        return self.low

    @property
    def mirror(self) -> Curve:
        return Ramp(-self.high, -self.low, self.right, self.left)

    def value(self, x: Tensor) -> Tensor:
        before = self.low + self.left * (x - self.low)
        return torch.where(x < self.low, before, torch.where(x > self.high, self.high + self.right * (x - self.high), x))

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        # Called right of the inflection only, where all before `high` has slope 1.
        return torch.where(x < self.high, 1.0, torch.where(x > self.high, self.right, slope.clamp(min=self.right, max=1)))

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.full_like(slope, self.high)


@dataclass(frozen=True)
class CutLine(Curve):
    """`slope * x + shift`, slope > 0, kept between `low` and `high`, whose sizes are at most 1, as is that of `shift`.

    Its breakpoints are rounded: on either side of them the value is off by a few units in the last place of 1.
    """

    slope: float
    shift: float
    low: float
    high: float

    @property
    def breakpoints(self) -> tuple[float, ...]:  # type: ignore[override]
        return (self.low - self.shift) / self.slope, (self.high - self.shift) / self.slope

    @property
    def inflection(self) -> float:
        return (self.low - self.shift) / self.slope

    @property
    def mirror(self) -> Curve:
        return CutLine(self.slope, -self.shift, -self.high, -self.low)

    def value(self, x: Tensor) -> Tensor:
        return (self.slope * x + self.shift).clamp(min=self.low, max=self.high)

    def supergradient(self, x: Tensor, slope: Tensor) -> Tensor:
        # Called right of the inflection only.
        end = self.breakpoints[1]
        return torch.where(x < end, self.slope, torch.where(x > end, 0.0, slope.clamp(min=0, max=self.slope)))

    def tangent_point(self, slope: Tensor) -> Tensor:
        return torch.full_like(slope, self.breakpoints[1])
