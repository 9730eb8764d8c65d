"""The logistic function 1 / (1 + exp(-x))."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax import curves
from tightverify.relax.curve_planes import curve_traits
from tightverify.relax.lines import curve_range, leaning_lines, opposite_lines
from tightverify.relax.planes import Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class Sigmoid(Operation):
    name = "sigmoid"
    arity = 1
    rising = curves.Sigmoid()
    traits = curve_traits(curves.Sigmoid(), factors=(curves.Sigmoid(), curves.One()))

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.sigmoid(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(curves.Sigmoid(), boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return leaning_lines(curves.Sigmoid(), boxes[0])

    def alternatives(self, *boxes: Interval) -> tuple[Planes, ...]:
        return opposite_lines(curves.Sigmoid(), boxes[0])
