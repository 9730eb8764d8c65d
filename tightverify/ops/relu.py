"""ReLU and leaky ReLU: `slope * x` below 0, x above."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curve_planes import curve_traits
from tightverify.relax.curves import Curve, TwoSlopes
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Planes
from tightverify.relax.traits import Traits
from tightverify.values import Interval


@dataclass(frozen=True)
class LeakyRelu(Operation):
    """ReLU for slope 0. Slopes above 1 make it concave, which changes nothing here; negative ones are refused on import."""

    slope: float = 0.0
    name = "leaky_relu"
    arity = 1

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope}

    @property
    def curve(self) -> Curve:
        return TwoSlopes(self.slope, 1.0)

    @cached_property
    def traits(self) -> Traits:
        return curve_traits(self.curve)

    def forward(self, *operands: Tensor) -> Tensor:
        return self.curve.value(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return curve_range(self.curve, boxes[0])

    def relax(self, *boxes: Interval) -> Planes:
        return tightest_lines(self.curve, boxes[0])
