"""The natural logarithm. Where the operand may be 0 or less it has no value: `bounds` then claims nothing of the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curve_planes import curve_traits
from tightverify.relax.curves import Logarithm
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.values import Interval

CURVE = Logarithm()


@dataclass(frozen=True)
class Log(Operation):
    name = "log"
    arity = 1
    rising = CURVE
    traits = curve_traits(CURVE)

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.log(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(CURVE, boxes[0])

    def undefined(self, *boxes: Interval) -> Tensor | None:
        return ~(boxes[0].lower > 0)

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(CURVE, boxes[0])
