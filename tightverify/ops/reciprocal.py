"""`1 / x` for x > 0: minus the increasing curve -1 / x. Where x may be 0 or less, `bounds` claims nothing of the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Hyperbola
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class Reciprocal(Operation):
    name = "reciprocal"
    arity = 1

    def forward(self, *operands: Tensor) -> Tensor:
        return 1 / operands[0]

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(Hyperbola(), boxes[0]).mirror()

    def undefined(self, *boxes: Interval) -> Tensor | None:
        return ~(boxes[0].lower > 0)

    def relax(self, *boxes: Interval) -> Planes:
        negated = tightest_lines(Hyperbola(), boxes[0]).map(torch.neg)
        return Planes(negated.upper, negated.lower)
