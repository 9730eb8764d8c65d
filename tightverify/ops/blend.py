"""GRU's update: `n + sigmoid(a) * (h - n)`, which is `sigmoid(-a) * n + sigmoid(a) * h`, of the operands a, n, h.

For fixed a it is a mean of n and h with weights in (0, 1), so it increases in both, and is linear in the weight: its
extremes over a box are at corners. Two relaxations hold, and neuron by neuron the one of less volume is kept:

* the sum of the planes of sigmoid(-a) * n and of sigmoid(a) * h;
* n plus the planes of sigmoid(a) * d over d = h - n.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Identity, Sigmoid
from tightverify.relax.lines import curve_range
from tightverify.relax.planes import Plane, Planes, closest
from tightverify.relax.products import product_planes
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below


@dataclass(frozen=True)
class Blend(Operation):
    name = "blend"
    arity = 3

    def forward(self, *operands: Tensor) -> Tensor:
        gate, new, old = operands
        return new + torch.sigmoid(gate) * (old - new)

    def interval(self, *boxes: Interval) -> Interval:
        gate, new, old = boxes
        weight = curve_range(Sigmoid(), gate)
        weight = Interval(weight.lower.clamp(min=0), weight.upper.clamp(max=1))

        def mean(share: Tensor, n: Tensor, h: Tensor) -> Tensor:
            return n + share * (h - n)

        lower = torch.minimum(mean(weight.lower, new.lower, old.lower), mean(weight.upper, new.lower, old.lower))
        upper = torch.maximum(mean(weight.lower, new.upper, old.upper), mean(weight.upper, new.upper, old.upper))
        allowance = 8 * UNIT_ROUNDOFF * (new.magnitude + old.magnitude) + TINY
        return Interval(below(lower, allowance), above(upper, allowance))

    def relax(self, *boxes: Interval) -> Planes:
        gate, new, old = boxes
        first = product_planes(Sigmoid(), Identity(), gate.mirror(), new)
        second = product_planes(Sigmoid(), Identity(), gate, old)
        difference = Interval(below(old.lower - new.upper, TINY), above(old.upper - new.lower, TINY))
        together = product_planes(Sigmoid(), Identity(), gate, difference)
        separate = Planes(_sum(first.lower, second.lower), _sum(first.upper, second.upper))
        joined = Planes(_with_new(together.lower), _with_new(together.upper))
        reach = (gate.magnitude, new.magnitude, old.magnitude)
        candidates = [planes.widen(_rounding(planes, reach)) for planes in (separate, joined)]
        return closest(candidates, (gate.centre, new.centre, old.centre))


def _sum(new: Plane, old: Plane) -> Plane:
    """A plane over (-a, n) and one over (a, h) as one over (a, n, h)."""
    return Plane((old.slopes[0] - new.slopes[0], new.slopes[1], old.slopes[1]), new.offset + old.offset)


def _with_new(plane: Plane) -> Plane:
    """n plus a plane over (a, h - n)."""
    gate, difference = plane.slopes
    return Plane((gate, 1 - difference, difference), plane.offset)


def _rounding(planes: Planes, reach: tuple[Tensor, ...]) -> Tensor:
    """More than the roundings of the additions above: none of the summands exceeds what the sum's bound here counts."""
    size = 1 + planes.lower.map(torch.abs).at(*reach) + planes.upper.map(torch.abs).at(*reach)
    return 16 * UNIT_ROUNDOFF * (size + sum(reach)) + TINY
