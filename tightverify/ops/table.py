"""A look-up table: straight pieces between breaks, with or without jumps, as microcontrollers have in place of a curve.

Between two breaks it is the line from the value on the right of the one to the value on the left of the other, beyond the outer
ones a line of slope `before` or `after`. At a break it may have either value, as comparisons of rounded numbers decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.planes import Planes
from tightverify.relax.straight import Straight, straight_planes
from tightverify.relax.straight_traits import straight_traits
from tightverify.relax.traits import Traits
from tightverify.values import Interval


@dataclass(frozen=True)
class Table(Operation):
    """At least one break, each above the one before."""

    straight: Straight
    name = "table"
    arity = 1

    @property
    def parameters(self) -> Mapping[str, float | tuple[float, ...]]:
        of = self.straight
        return {"breaks": of.breaks, "left": of.left, "right": of.right, "before": of.before, "after": of.after}

    @cached_property
    def traits(self) -> Traits:
        return straight_traits(self.straight)

    def forward(self, *operands: Tensor) -> Tensor:
        return self.straight.value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return self.straight.range(boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return straight_planes(self.straight, boxes[0], boxes[0].centre)
