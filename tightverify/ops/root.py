"""The square root. Where the operand may be below 0 it has no value: `bounds` then claims nothing of the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Root
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class SquareRoot(Operation):
    name = "square_root"
    arity = 1
    rising = Root()

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.sqrt(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(Root(), boxes[0])

    def undefined(self, *boxes: Interval) -> Tensor | None:
        return ~(boxes[0].lower >= 0)

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(Root(), boxes[0])
