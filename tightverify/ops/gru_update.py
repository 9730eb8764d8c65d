"""GRU's update: `n + z (h - n)` with z = sigmoid(a), of the operands a, n, h; and the mean of n and h for a weight z at hand.

With z = F(a) for an F that never falls and stays between 0 and 1 it is, for fixed a, a mean of n and h with weights 1 - z
and z: it increases in both, and is linear in z, so that its extremes over a box are at corners.

Planes, upper ones say. Let slopes p, b, c in a, n, h be given. For every a the supremum over n and h of
`(1 - z - b) n + (z - c) h` is at a corner of their box, where the function is `n + z (h - n) - b n - c h`. So the exact
offset is the largest, over the four corners, of sup over a of `(h - n) F(a) - p a`, plus constants: `supremum` gives
it. Any slopes are valid. As in `relax.products` those are taken that lean least on n and h, `b = 1 - z_upper` and
`c = z_lower`, and with them `p = (h_upper - n_upper)` times the slope of F's chord. On trained networks this beats
both the sum of the planes of the two products, and planes of `n + z d` over the difference d.

Lower planes are upper planes of the negation, `-n + z (-h - -n)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax import curves
from tightverify.relax.fitted.update_planes import update_traits
from tightverify.relax.lines import chord_slope, curve_range
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.products import largest_supremum
from tightverify.relax.tight import towards
from tightverify.relax.traits import FittedPlanes, OperandSet, PlanePairs, Search, Traits
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below


class Update(Operation):
    """`n + F(a) (h - n)` for its curve F."""

    arity = 3
    curve: curves.Curve

    def forward(self, *operands: Tensor) -> Tensor:
        gate, new, old = operands
        return new + self.curve.value(gate) * (old - new)

    def interval(self, *boxes: Interval) -> Interval:
        gate, new, old = boxes
        weight = curve_range(self.curve, gate)
        weight = Interval(weight.lower.clamp(min=0), weight.upper.clamp(max=1))

        def mean(share: Tensor, n: Tensor, h: Tensor) -> Tensor:
            return n + share * (h - n)

        lower = torch.minimum(mean(weight.lower, new.lower, old.lower), mean(weight.upper, new.lower, old.lower))
        upper = torch.maximum(mean(weight.lower, new.upper, old.upper), mean(weight.upper, new.upper, old.upper))
        allowance = 8 * UNIT_ROUNDOFF * (new.magnitude + old.magnitude) + TINY
        return Interval(below(lower, allowance), above(upper, allowance))

    def relax(self, *boxes: Interval) -> Planes:
        gate, new, old = boxes
        lower = below_mirror(upper_plane(self.curve, gate, new.mirror(), old.mirror()))
        return Planes(lower, upper_plane(self.curve, gate, new, old))

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        """The same planes with a tight line of F in the place of its chord: where both states are at an end they touch."""
        gate, new, old = boxes
        lower = below_mirror(self._tight_upper(gate, new.mirror(), old.mirror()))
        return (Planes(lower, self._tight_upper(gate, new, old)),)

    def _tight_upper(self, gate: Interval, new: Interval, old: Interval) -> Plane:
        on_gate = towards(self.curve, old.upper - new.upper, gate)
        return upper_plane_of(self.curve, (on_gate, *on_states(self.curve, gate)), gate, new, old)


@dataclass(frozen=True)
class GruUpdate(Update):
    name = "gru_update"
    curve = curves.Sigmoid()
    traits = update_traits()


@dataclass(frozen=True)
class WeightedMean(Update):
    """Of a weight as it is, kept between 0 and 1: a GRU's update whose gate is no sigmoid."""

    name = "weighted_mean"
    curve = curves.Clip(0.0, 1.0)

    @property
    def traits(self) -> Traits:
        return Traits(fitted=MeanPlanes())


@dataclass(frozen=True)
class MeanPlanes(FittedPlanes):
    """For mixtures: the plane of the closed form, and those of McCormick's with `z (h - n)` in the place of the product."""

    planar = False

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        gate, new, old = (operands.interval(k) for k in range(3))
        lower = [as_row(below_mirror(plane)) for plane in self._upper(gate, new.mirror(), old.mirror())]
        upper = [as_row(plane) for plane in self._upper(gate, new, old)]
        return torch.stack(lower, dim=1), torch.stack(upper, dim=1)

    def _upper(self, gate: Interval, new: Interval, old: Interval) -> list[Plane]:
        weight, curve = gate.map(lambda end: end.clamp(0.0, 1.0)), WeightedMean.curve
        steps = Interval(old.lower - new.upper, old.upper - new.lower)
        corners = ((weight.upper, steps.lower), (weight.lower, steps.upper))
        others = [(step * chord_slope(curve, gate), 1 - share, share) for share, step in corners]
        return [upper_plane(curve, gate, new, old), *(upper_plane_of(curve, slopes, gate, new, old) for slopes in others)]


def below_mirror(plane: Plane) -> Plane:
    """A lower plane from the upper plane of the negation, whose new and old states are negated."""
    return Plane((-plane.slopes[0], plane.slopes[1], plane.slopes[2]), -plane.offset)


def as_row(plane: Plane) -> Tensor:
    """(N, 4): slopes and offset."""
    return torch.stack([*plane.slopes, plane.offset], dim=-1)


def upper_plane(curve: curves.Curve, gate: Interval, new: Interval, old: Interval) -> Plane:
    """The upper plane of the module's docstring."""
    on_gate = (old.upper - new.upper) * chord_slope(curve, gate)
    return upper_plane_of(curve, (on_gate, *on_states(curve, gate)), gate, new, old)


def on_states(curve: curves.Curve, gate: Interval) -> tuple[Tensor, Tensor]:
    """The upper plane's slopes on the new and the old state."""
    weight = curve_range(curve, gate)
    return (1 - weight.upper).clamp(min=0), weight.lower.clamp(min=0)


def upper_plane_of(
    curve: curves.Curve, slopes: tuple[Tensor, Tensor, Tensor], gate: Interval, new: Interval, old: Interval
) -> Plane:
    """The upper plane of these slopes, those on the states between 0 and 1."""
    on_gate, on_new, on_old = slopes
    corners = []
    for n in (new.lower, new.upper):
        for h in (old.lower, old.upper):
            # h - n is rounded: what F times the error may amount to is in the size below.
            corners.append((h - n, n - on_new * n - on_old * h))
    size = 2 * (new.magnitude + old.magnitude)
    if isinstance(curve, curves.Symmetric):
        return Plane(slopes, largest_supremum(curve, on_gate, gate, corners, size))
    return Plane(slopes, largest_at_bends(curve, on_gate, gate, corners, size))


def largest_at_bends(
    curve: curves.Curve, slope: Tensor, box: Interval, functions: Sequence[tuple[Tensor, Tensor]], size: Tensor
) -> Tensor:
    """`largest_supremum` of a curve of straight pieces whose values are exact: at an end of the box or where it bends."""
    bends = [torch.minimum(box.lower.clamp(min=bend), box.upper) for bend in curve.breakpoints or ()]
    found = []
    for point in (box.lower, box.upper, *bends):
        value, fallen = curve.value(point), slope * point
        for factor, constant in functions:
            raised = factor * value
            allowance = 8 * UNIT_ROUNDOFF * (size + raised.abs() + fallen.abs()) + TINY
            found.append(raised + constant - fallen + allowance)
    return torch.stack(found).amax(0)
