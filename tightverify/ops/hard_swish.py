"""Hard swish: x times a hard sigmoid of it."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import PiecewiseOperation
from tightverify.relax import piecewise
from tightverify.relax.piecewise import Piecewise


@dataclass(frozen=True)
class HardSwish(PiecewiseOperation):
    """`x min(max(slope x + shift, 0), 1)`, for slope > 0 and 0 <= shift <= 1."""

    slope: float = 1 / 6
    shift: float = 0.5
    name = "hard_swish"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope, "shift": self.shift}

    @property
    def curve(self) -> Piecewise:
        return piecewise.HardSwish(self.slope, self.shift)
