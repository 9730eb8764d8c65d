"""All that is known of a function of straight pieces (`relax.straight`), as traits.

Where it has no jumps, binaries hold it exactly; where it has, its envelopes are all that programs get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curve_planes import PLACES
from tightverify.relax.planes import Plane
from tightverify.relax.straight import Straight, straight_planes, upper_offset
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
from tightverify.values import Interval


def straight_traits(of: Straight) -> Traits:
    lines = StraightLines(of)
    exact = of.continuous
    return Traits(breakpoints=of.breaks if exact else None, fitted=lines, envelope=lines, cells=lines if exact else None)


@dataclass(frozen=True)
class StraightLines(FittedPlanes, Cells, Envelope):
    """The lines that support its envelopes."""

    of: Straight

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        shares = operands.ends.new_tensor([share for kind in kinds for share in PLACES.get(kind, ())])
        return self.at(operands, torch.lerp(operands.low, operands.high, shares)[..., None], search)

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        low, high = operands.low.expand(points.shape[:2]), operands.high.expand(points.shape[:2])
        planes = straight_planes(self.of, Interval(low, high), points[..., 0])
        return as_rows(planes.lower), as_rows(planes.upper)

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        box = operands.interval(0)
        return -upper_offset(self.of.mirror, lower[:, 0], box.mirror()), upper_offset(self.of, upper[:, 0], box)

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        pair = straight_planes(self.of, operands.interval(0), points[:, 0])
        planes = where_upper(upper, as_rows(pair.upper), as_rows(pair.lower))
        return Support(planes, planes[:, 0] * points[:, 0] + planes[:, 1])


def as_rows(plane: Plane) -> Tensor:
    """(..., 2): slope and offset."""
    return torch.stack([plane.slopes[0], plane.offset], dim=-1)
