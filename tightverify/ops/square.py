"""The square: a tangent below, the chord above; never below 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curve_planes import curve_traits
from tightverify.relax.curves import Parabola
from tightverify.relax.lines import tightest_lines, upper_line
from tightverify.relax.planes import Plane, Planes
from tightverify.values import TINY, Interval, above, below

CURVE = Parabola()


@dataclass(frozen=True)
class Square(Operation):
    name = "square"
    arity = 1
    traits = curve_traits(CURVE)

    def forward(self, *operands: Tensor) -> Tensor:
        return operands[0] * operands[0]

    def interval(self, *boxes: Interval) -> Interval:
        box = boxes[0]
        nearest = torch.maximum(box.lower, -box.upper).clamp(min=0)
        return Interval(below(nearest**2, TINY).clamp(min=0), above(box.magnitude**2, TINY))

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(CURVE, boxes[0])

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        """The tangent where it is the least, and the chord."""
        box = boxes[0]
        slope = 2 * torch.minimum(box.lower.clamp(min=0), box.upper)
        tangent = upper_line(CURVE.mirror, slope, box.mirror())
        return (Planes(Plane(tangent.slopes, -tangent.offset), self.relax(box).upper),)
