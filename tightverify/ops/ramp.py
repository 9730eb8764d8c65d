"""A ramp: `slope * x` below 0, x up to a cap, and from there on with the slope `beyond`; ParamRamp is one with equal slopes.

Lyu et al., "Towards Evaluating and Training Verifiably Robust Neural Networks" (2021), whose networks learn the caps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tightverify.ops.base import CurveOperation
from tightverify.relax import ramps
from tightverify.relax.curves import Curve
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above, below


@dataclass(frozen=True)
class Ramp(CurveOperation):
    """Slopes from 0 to 1, a cap above 0."""

    slope: float
    cap: float
    beyond: float
    name = "ramp"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope, "cap": self.cap, "beyond": self.beyond}

    @property
    def curve(self) -> Curve:
        return ramps.Ramp(0.0, self.cap, self.slope, self.beyond)

    def interval(self, *boxes: Interval) -> Interval:
        """Without rounding from 0 to the cap, where the value is the operand; nothing crosses these two for rounding."""
        x = boxes[0]
        lower, upper = self.curve.value(x.lower), self.curve.value(x.upper)
        least = below(lower, FUNCTION_ERROR * lower.abs() + TINY)
        most = above(upper, FUNCTION_ERROR * upper.abs() + TINY)
        least = torch.where(x.lower > self.cap, least.clamp(min=self.cap), torch.where(x.lower < 0, least, lower))
        most = torch.where(x.upper < 0, most.clamp(max=0.0), torch.where(x.upper > self.cap, most, upper))
        return Interval(least, most)
