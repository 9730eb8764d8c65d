"""All that is known of GRU's update: `relax.fitted.gru_update`, over boxes of its three operands, as traits.

Column generation passes it by: its planes stay those that its bounding pass had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.fitted.gru_update import fitted_update, negated, two_products, update_offset
from tightverify.relax.traits import (
    Cells,
    Envelope,
    FittedPlanes,
    OperandSet,
    PlanePairs,
    Search,
    Support,
    Traits,
    where_upper,
)

CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
"""The corners of a rectangle of n and h, in units of its half widths."""
OUTWARDS = 0.6
"""How far from the middle towards them the planes of the kind `corners` are the tightest."""
INSIDE = 1 - 1e-3
"""How far towards the border a point may lie when planes are fitted at it."""


def update_traits() -> Traits:
    """The record of GRU's update."""
    planes = UpdatePlanes()
    return Traits(("sigmoid", "", ""), fitted=planes, envelope=planes, cells=planes)


@dataclass(frozen=True)
class UpdatePlanes(FittedPlanes, Cells, Envelope):
    """Its planes of every kind."""

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        """The tightest planes in the middle, and the sums of those of its two products; towards corners, if these are wanted.

        There are no other kinds.
        """
        points = operands.middle[:, None]
        if "corners" in kinds:
            points = torch.cat([points, points + OUTWARDS * self._to_corners(operands)], dim=1)
        tight = fitted_update(operands.ends, points, search.solver, search.tolerance)
        apart = two_products(operands.ends, search.solver, search.tolerance)
        lower, upper = (
            torch.cat([one[:, :1], other, one[:, 1:]], dim=1)
            for one, other in ((tight.lower, apart.lower), (tight.upper, apart.upper))
        )
        return lower, upper

    def _to_corners(self, operands: OperandSet) -> Tensor:
        """(N, 4, 3): from the middle to the corners of each rectangle of n and h, the gate's operand in its middle."""
        half = (operands.high - operands.low)[:, None] / 2
        return half * half.new_tensor([(0, *corner) for corner in CORNERS])

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        found = fitted_update(operands.ends, points, search.solver, search.tolerance)
        return found.lower, found.upper

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        turned = lower * lower.new_tensor([-1.0, 1.0, 1.0])
        return -update_offset(turned, negated(operands.ends)), update_offset(upper, operands.ends)

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        low, high, middle = operands.low, operands.high, operands.middle
        places = middle + INSIDE * (torch.minimum(torch.maximum(points, low), high) - middle)
        found = fitted_update(operands.ends, places[:, None], search.solver, search.tolerance)
        planes = where_upper(upper, found.upper[:, 0], found.lower[:, 0])
        gap = torch.where(upper, -found.gap[:, 0, 1], found.gap[:, 0, 0])
        return Support(planes, planes[:, 3] + (planes[:, :3] * points).sum(1) + gap)
