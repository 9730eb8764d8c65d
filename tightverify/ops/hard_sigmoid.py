"""The hard sigmoid: a line `slope * x + shift` kept between 0 and 1, as small devices have it in the sigmoid's place."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax.curves import Curve
from tightverify.relax.lines import curve_range
from tightverify.relax.ramps import CutLine
from tightverify.values import Interval


@dataclass(frozen=True)
class HardSigmoid(CurveOperation):
    """A slope above 0, a shift from 0 to 1."""

    slope: float = 1 / 6
    shift: float = 0.5
    name = "hard_sigmoid"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope, "shift": self.shift}

    @property
    def curve(self) -> Curve:
        return CutLine(self.slope, self.shift, 0.0, 1.0)

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(self.curve, boxes[0]).map(lambda end: end.clamp(0.0, 1.0))
