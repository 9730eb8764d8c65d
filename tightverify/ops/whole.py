"""Whole numbers: the greatest that is not above x (`Floor`), and x without what stands behind the point (`Truncation`).

`x - 1 < floor(x) <= x`, and the value is between those at a box's ends. Cut towards 0, from 0 on it is floor(x), up to 0 it is
-floor(-x). Of a line and a constant the one is taken that is nearer at the box's middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval


@dataclass(frozen=True)
class Floor(Operation):
    name = "floor"
    arity = 1

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.floor(operands[0])

    def interval(self, *boxes: Interval) -> Interval:
        return Interval(torch.floor(boxes[0].lower), torch.floor(boxes[0].upper))

    def relax(self, *boxes: Interval) -> Planes:
        one = torch.ones_like(boxes[0].lower)
        return nearest(boxes[0], self.interval(boxes[0]), -one, one - one)


@dataclass(frozen=True)
class Truncation(Operation):
    """As casts to whole numbers have it, which hold numbers below a limit only: from there on it has no value."""

    limit: float = 2.0**53
    name = "truncation"
    arity = 1

    @property
    def parameters(self) -> dict[str, float]:
        return {"limit": self.limit}

    def forward(self, *operands: Tensor) -> Tensor:
        (x,) = operands
        return torch.where(x.abs() < self.limit, torch.trunc(x), torch.nan)

    def interval(self, *boxes: Interval) -> Interval:
        return Interval(torch.trunc(boxes[0].lower), torch.trunc(boxes[0].upper))

    def undefined(self, *boxes: Interval) -> Tensor | None:
        return ~((boxes[0].lower > -self.limit) & (boxes[0].upper < self.limit))

    def relax(self, *boxes: Interval) -> Planes:
        box = boxes[0]
        least = torch.where(box.upper <= 0, 0.0, torch.full_like(box.lower, -1.0))
        most = torch.where(box.lower >= 0, 0.0, torch.full_like(box.lower, 1.0))
        return nearest(box, self.interval(box), least, most)


def nearest(box: Interval, ends: Interval, least: Tensor, most: Tensor) -> Planes:
    """Of the lines `x + least` and `x + most`, and the constants at the ends, those that are nearer at the middle."""
    one, flat = torch.ones_like(least), torch.zeros_like(least)
    middle = box.centre
    lower = Plane((one,), least).where(middle + least > ends.lower, Plane((flat,), ends.lower))
    upper = Plane((one,), most).where(middle + most < ends.upper, Plane((flat,), ends.upper))
    return Planes(lower, upper)
