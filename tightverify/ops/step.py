"""1 where x > 0, and 0 elsewhere: what comparisons are made of, as masks of padding are.

Where its box is on one side of the jump it is a constant. A box [l, u] with l <= 0 < u has lower lines s x, 0 <= s <= 1 / u: at
most 0 up to 0, and at most 1 up to u; and upper lines 1 + s x, 0 <= s <= 1 / -l. Of each the steepest or the flat one is taken,
whichever leaves the smaller area; slopes are rounded towards 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.planes import Plane, Planes
from tightverify.values import UNIT_ROUNDOFF, Interval


@dataclass(frozen=True)
class Step(Operation):
    name = "step"
    arity = 1

    def forward(self, *operands: Tensor) -> Tensor:
        (x,) = operands
        return torch.where(x.isnan(), x, (x > 0).to(x))

    def interval(self, *boxes: Interval) -> Interval:
        return Interval(self.forward(boxes[0].lower), self.forward(boxes[0].upper))

    def relax(self, *boxes: Interval) -> Planes:
        low, high = boxes[0].lower, boxes[0].upper
        ends = self.interval(boxes[0])
        jumps = ends.lower < ends.upper
        rising = inverse(high).where(jumps & (high > -low), torch.zeros_like(high))
        falling = inverse(-low).where(jumps & (high <= -low), torch.zeros_like(low))
        return Planes(Plane((rising,), ends.lower), Plane((falling,), ends.upper))


def inverse(x: Tensor) -> Tensor:
    """At most 1 / x, for x > 0; 0 where that is no ordinary number."""
    found = (1 / x) * (1 - 4 * UNIT_ROUNDOFF)
    return found.where(torch.isfinite(found) & (x > 0), torch.zeros_like(x))
