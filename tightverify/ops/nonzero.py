"""1 where x is not 0, and 0 where it is: what "equal" and truths of numbers are made of.

A box that holds 0 and other numbers has the constants 0 and 1; where 0 is its end, the line through both ends is below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.ops.step import inverse
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class NonZero(Operation):
    name = "nonzero"
    arity = 1

    def forward(self, *operands: Tensor) -> Tensor:
        (x,) = operands
        return torch.where(x.isnan(), x, (x != 0).to(x))

    def interval(self, *boxes: Interval) -> Interval:
        low, high = boxes[0].lower, boxes[0].upper
        return Interval(((low > 0) | (high < 0)).to(low), ((low != 0) | (high != 0)).to(low))

    def relax(self, *boxes: Interval) -> Planes:
        low, high = boxes[0].lower, boxes[0].upper
        ends, flat = self.interval(boxes[0]), torch.zeros_like(low)
        rising = torch.where((low == 0) & (high > 0), inverse(high), flat)
        falling = torch.where((high == 0) & (low < 0), inverse(-low), flat)
        return Planes(Plane((rising - falling,), ends.lower), Plane((flat,), ends.upper))
