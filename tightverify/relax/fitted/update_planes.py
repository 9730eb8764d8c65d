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
        """The tightest planes, and the sums of those of its two products: there are no other kinds."""
        tight = fitted_update(operands.ends, operands.middle[:, None], search.solver, search.tolerance)
        apart = two_products(operands.ends, search.solver, search.tolerance)
        return torch.cat([tight.lower, apart.lower], dim=1), torch.cat([tight.upper, apart.upper], dim=1)

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
