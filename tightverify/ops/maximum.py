"""The larger of two operands.

Lower planes: either operand, the one with the larger centre, is below the maximum. Upper plane: max(x, y) = y + relu(x - y),
and relu lies below its chord over the difference's interval. Where one operand is surely the larger, it is the maximum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.planes import Plane, Planes
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below


@dataclass(frozen=True)
class Maximum(Operation):
    name = "maximum"
    arity = 2

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.maximum(*operands)

    def interval(self, *boxes: Interval) -> Interval:
        x, y = boxes
        return Interval(torch.maximum(x.lower, y.lower), torch.maximum(x.upper, y.upper))

    def relax(self, *boxes: Interval) -> Planes:
        x, y = boxes
        one, zero = torch.ones_like(x.lower), torch.zeros_like(x.lower)
        first = x.centre >= y.centre
        lower = Plane((torch.where(first, one, zero), torch.where(first, zero, one)), zero)
        # The difference's interval [low, high], outward; relu there is at most share * (d - low) for low <= 0 <= high.
        low, high = below(x.lower - y.upper, TINY), above(x.upper - y.lower, TINY)
        share = (high / (high - low)).clamp(0, 1)
        # Any share in [0, 1] is valid with the larger of the offsets that the two ends of the interval ask for.
        size = low.abs() + high.abs()
        offset = torch.maximum(-share * low, high - share * high) + 8 * UNIT_ROUNDOFF * size + TINY
        between = Plane((share, 1 - share), offset + 2 * UNIT_ROUNDOFF * y.magnitude)
        upper = Plane((one, zero), zero).where(y.upper <= x.lower, Plane((zero, one), zero))
        return Planes(lower, upper.where((y.upper <= x.lower) | (x.upper <= y.lower), between))
