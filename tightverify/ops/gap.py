"""A smooth curve less the function of straight pieces that stands in its place in another network, both of one operand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax import curves
from tightverify.relax.curves import Curve
from tightverify.relax.gaps import gap_planes, gap_range
from tightverify.relax.planes import Planes
from tightverify.relax.straight import Straight
from tightverify.values import Interval


class Gap(Operation):
    """`F(x)` less a table's value, whose parameters say which table; the name is the curve's, with `_less_table`."""

    arity = 1
    curve: Curve
    straight: Straight

    @property
    def parameters(self) -> Mapping[str, float | tuple[float, ...]]:
        of = self.straight
        return {"breaks": of.breaks, "left": of.left, "right": of.right, "before": of.before, "after": of.after}

    def forward(self, *operands: Tensor) -> Tensor:
        return self.curve.value(operands[0]) - self.straight.value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return gap_range(self.curve, self.straight, boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return gap_planes(self.curve, self.straight, boxes[0])


@dataclass(frozen=True)
class SigmoidLessTable(Gap):
    straight: Straight
    name = "sigmoid_less_table"
    curve = curves.Sigmoid()


@dataclass(frozen=True)
class TanhLessTable(Gap):
    straight: Straight
    name = "tanh_less_table"
    curve = curves.Tanh()
