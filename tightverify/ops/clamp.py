"""Clamp: x kept between two constants, either of which may be infinite; hardtanh is clamp to [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Clip
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class Clamp(Operation):
    low: float
    high: float
    name = "clamp"

    @property
    def kinks(self) -> tuple[float, ...]:
        return self.low, self.high

    arity = 1

    def forward(self, *operands: Tensor) -> Tensor:
        return Clip(self.low, self.high).value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(Clip(self.low, self.high), boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(Clip(self.low, self.high), boxes[0])
