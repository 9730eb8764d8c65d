"""The larger of two operands.

Lower planes: either operand, the one with the larger centre, is below the maximum. Upper plane: max(x, y) = y + relu(x - y),
and relu lies below its chord over the difference's interval. Where one operand is surely the larger, it is the maximum.

Envelopes: it is convex, so that an upper plane is valid if it is so at the box's four corners, and the upper envelope is made
of planes through three of them; the lower one is made of x and y themselves.

Binaries: `v >= x`, `v >= y`, and `v <= x + M z`, `v <= y + N (1 - z)`, where bounds of the operands tell an M and an N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.traits import Choice, ChoiceRow, Envelope, OperandSet, Search, Support, Traits, where_upper
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below, tamed


@dataclass(frozen=True)
class LargerOperand(Choice):
    """One binary says which operand is the larger."""

    def rows(self, box: Sequence[tuple[float, float]]) -> list[ChoiceRow]:
        (low_x, high_x), (low_y, high_y) = box
        to_y = max(0.0, float(np.nextafter(high_y - low_x, np.inf)))
        to_x = max(0.0, float(np.nextafter(high_x - low_y, np.inf)))
        above_both = [ChoiceRow((-1.0, 0.0), None, 0.0, math.inf), ChoiceRow((0.0, -1.0), None, 0.0, math.inf)]
        if not math.isfinite(to_x + to_y):
            return above_both
        first, second = ChoiceRow((-1.0, 0.0), -to_y, -math.inf, 0.0), ChoiceRow((0.0, -1.0), to_x, -math.inf, to_x)
        return [*above_both, first, second]


@dataclass(frozen=True)
class MaximumEnvelope(Envelope):
    """Its planes are exact: no program is solved for them."""

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        x, y = operands.interval(0), operands.interval(1)
        first = points[:, 0] >= points[:, 1]
        below_it = torch.stack([first.to(points), (~first).to(points), torch.zeros_like(points[:, 0])], dim=1)
        found = []
        for at_y in (y.lower, y.upper):
            for at_x in (x.lower, x.upper):
                a = (torch.maximum(x.upper, at_y) - torch.maximum(x.lower, at_y)) / x.width
                b = (torch.maximum(at_x, y.upper) - torch.maximum(at_x, y.lower)) / y.width
                a, b = torch.nan_to_num(a, 0.0, 0.0, 0.0), torch.nan_to_num(b, 0.0, 0.0, 0.0)
                corners = [torch.maximum(u, v) - a * u - b * v for u in (x.lower, x.upper) for v in (y.lower, y.upper)]
                size = 4 * (1 + a.abs() + b.abs()) * (x.magnitude + y.magnitude)
                offset = above(torch.stack(corners).amax(0), 8 * UNIT_ROUNDOFF * size + TINY)
                found.append(torch.stack([a, b, offset], dim=1))
        every = torch.stack(found)
        lowest = (every[..., :2] * points).sum(-1) + every[..., 2]
        above_it = every[lowest.argmin(0), torch.arange(len(points))]
        planes = where_upper(upper, above_it, below_it)
        return Support(planes, (planes[:, :2] * points).sum(1) + planes[:, 2])


@dataclass(frozen=True)
class Maximum(Operation):
    name = "maximum"
    arity = 2
    traits = Traits(choice=LargerOperand(), envelope=MaximumEnvelope())

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
        share = torch.nan_to_num(tamed(high) / tamed(high - low)).clamp(0, 1)
        # Any share in [0, 1] is valid with the larger of the offsets that the two ends of the interval ask for.
        size = low.abs() + high.abs()
        offset = torch.maximum(-share * low, high - share * high) + 8 * UNIT_ROUNDOFF * size + TINY
        between = Plane((share, 1 - share), offset + 2 * UNIT_ROUNDOFF * y.magnitude)
        upper = Plane((one, zero), zero).where(y.upper <= x.lower, Plane((zero, one), zero))
        return Planes(lower, upper.where((y.upper <= x.lower) | (x.upper <= y.lower), between))

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        """Below each operand; above, for the other operand at its most, the chord in each."""
        x, y = boxes
        zero = torch.zeros_like(x.lower)
        on_x, over_x = self._chord(x, y.upper)
        on_y, over_y = self._chord(y, x.upper)
        first = Planes(Plane((torch.ones_like(zero), zero), zero), Plane((on_x, zero), over_x))
        return first, Planes(Plane((zero, torch.ones_like(zero)), zero), Plane((zero, on_y), over_y))

    def _chord(self, box: Interval, other: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and offset of a line that is at least both an operand and a value: it is so at both ends of the box."""
        at_ends = torch.maximum(box.lower, other), torch.maximum(box.upper, other)
        slope = torch.nan_to_num(tamed(at_ends[1] - at_ends[0]) / tamed(box.width), nan=0.0).clamp(0, 1)
        offset = torch.maximum(at_ends[0] - slope * box.lower, at_ends[1] - slope * box.upper)
        return slope, offset + 8 * UNIT_ROUNDOFF * (box.magnitude + other.abs()) + TINY
