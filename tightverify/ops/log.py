"""The natural logarithm. Where the operand may be 0 or less it has no value: `bounds` then claims nothing of the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Curve, Logarithm
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class Log(Operation):
    name = "log"
    arity = 1

    @property
    def curve(self) -> Curve:  # type: ignore[override]
        return Logarithm()

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.log(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(self.curve, boxes[0])

    def undefined(self, *boxes: Interval) -> Tensor | None:
        return ~(boxes[0].lower > 0)

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(self.curve, boxes[0])
