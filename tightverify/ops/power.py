"""Whole powers from the third on; the second is `ops.square`."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import PiecewiseOperation
from tightverify.relax import piecewise
from tightverify.relax.piecewise import Piecewise


@dataclass(frozen=True)
class Power(PiecewiseOperation):
    exponent: int
    name = "power"

    @property
    def parameters(self) -> dict[str, float]:
        return {"exponent": self.exponent}

    @property
    def curve(self) -> Piecewise:
        return piecewise.Power(self.exponent)
