"""Clamp: x kept between two constants, either of which may be infinite; hardtanh is clamp to [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax.curves import Clip, Curve
from tightverify.values import Interval


@dataclass(frozen=True)
class Clamp(CurveOperation):
    low: float
    high: float
    name = "clamp"

    @property
    def parameters(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}

    @property
    def curve(self) -> Curve:
        return Clip(self.low, self.high)

    def interval(self, *boxes: Interval) -> Interval:
        """Without rounding, for its value is one of three floats: what is kept at 0 or above is not below it."""
        return Interval(self.curve.value(boxes[0].lower), self.curve.value(boxes[0].upper))
