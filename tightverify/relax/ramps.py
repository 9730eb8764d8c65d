"""The ramp: x between two breakpoints, and straight lines of smaller slopes outside of them."""

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
