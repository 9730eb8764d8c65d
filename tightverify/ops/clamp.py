"""Clamp: x kept between two constants, either of which may be infinite; hardtanh is clamp to [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curve_planes import curve_traits
from tightverify.relax.curves import Clip, Curve
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.relax.traits import Traits
from tightverify.values import Interval


@dataclass(frozen=True)
class Clamp(Operation):
    low: float
    high: float
    name = "clamp"

    arity = 1

    @property
    def parameters(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}

    @property
    def curve(self) -> Curve:
        return Clip(self.low, self.high)

    @cached_property
    def traits(self) -> Traits:
        return curve_traits(self.curve)

    def forward(self, *operands: Tensor) -> Tensor:
        return self.curve.value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(self.curve, boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(self.curve, boxes[0])
