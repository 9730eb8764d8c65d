"""GRU's update: `n + z (h - n)` with z = sigmoid(a), of the operands a, n, h.

For fixed a it is a mean of n and h with weights 1 - z and z: it increases in both, and is linear in z, so that its extremes
over a box are at corners.

Planes, upper ones say. Let slopes p, b, c in a, n, h be given. For every a the supremum over n and h of
`(1 - z - b) n + (z - c) h` is at a corner of their box, where the function is `n + z (h - n) - b n - c h`. So the exact
offset is the largest, over the four corners, of sup over a of `(h - n) sigmoid(a) - p a`, plus constants: `supremum` gives
it. Any slopes are valid. As in `relax.products` those are taken that lean least on n and h, `b = 1 - z_upper` and
`c = z_lower`, and with them `p = (h_upper - n_upper)` times the slope of sigmoid's chord. On trained networks this beats
both the sum of the planes of the two products, and planes of `n + z d` over the difference d.

Lower planes are upper planes of the negation, `-n + z (-h - -n)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax import curves
from tightverify.relax.fitted.update_planes import update_traits
from tightverify.relax.lines import chord_slope, curve_range
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.products import largest_supremum
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below

SIGMOID = curves.Sigmoid()


@dataclass(frozen=True)
class GruUpdate(Operation):
    name = "gru_update"
    arity = 3
    traits = update_traits()

    def forward(self, *operands: Tensor) -> Tensor:
        gate, new, old = operands
        return new + torch.sigmoid(gate) * (old - new)

    def interval(self, *boxes: Interval) -> Interval:
        gate, new, old = boxes
        weight = curve_range(SIGMOID, gate)
        weight = Interval(weight.lower.clamp(min=0), weight.upper.clamp(max=1))

        def mean(share: Tensor, n: Tensor, h: Tensor) -> Tensor:
            return n + share * (h - n)

        lower = torch.minimum(mean(weight.lower, new.lower, old.lower), mean(weight.upper, new.lower, old.lower))
        upper = torch.maximum(mean(weight.lower, new.upper, old.upper), mean(weight.upper, new.upper, old.upper))
        allowance = 8 * UNIT_ROUNDOFF * (new.magnitude + old.magnitude) + TINY
        return Interval(below(lower, allowance), above(upper, allowance))

    def relax(self, *boxes: Interval) -> Planes:
        gate, new, old = boxes
        negated = upper_plane(gate, new.mirror(), old.mirror())
        lower = Plane((-negated.slopes[0], negated.slopes[1], negated.slopes[2]), -negated.offset)
        return Planes(lower, upper_plane(gate, new, old))


def upper_plane(gate: Interval, new: Interval, old: Interval) -> Plane:
    """The upper plane of the module's docstring."""
    weight = curve_range(SIGMOID, gate)
    on_new, on_old = (1 - weight.upper).clamp(min=0), weight.lower.clamp(min=0)
    on_gate = (old.upper - new.upper) * chord_slope(SIGMOID, gate)
    corners = []
    for n in (new.lower, new.upper):
        for h in (old.lower, old.upper):
            # h - n is rounded: what sigmoid times the error may amount to is in the size below.
            corners.append((h - n, n - on_new * n - on_old * h))
    size = 2 * (new.magnitude + old.magnitude)
    return Plane((on_gate, on_new, on_old), largest_supremum(SIGMOID, on_gate, gate, corners, size))
