"""All that is known of F(x) G(y) for smooth curves, G = 1 for one operand: `relax.fitted.family` and `fit`, as traits.

The envelopes' supporting planes are found over the polygon that the operands lie in, at points moved a little inside: on the
border a plane may be as steep as it likes. Mixed-integer programs take the tightest planes over each cell, and the same slopes
with the offsets that are proved over the whole box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import One, Symmetric
from tightverify.relax.fitted.family import Domain, PlaneSet, fitted, offered, plane_set, through
from tightverify.relax.fitted.fit import Query, fit
from tightverify.relax.traits import Cells, Envelope, FittedPlanes, OperandSet, PlanePairs, Search, Support, Traits

INSIDE = 1 - 1e-3
"""How far towards the border a point may lie when planes are fitted at it."""


def product_traits(first: Symmetric, second: Symmetric) -> Traits:
    """The record of F(x) G(y)."""
    roles = () if isinstance(second, One) else (role(first), role(second))
    planes = ProductPlanes(first, second)
    return Traits(roles, (first, second), fitted=planes, columns=planes, envelope=planes, cells=planes)


def role(curve: Symmetric) -> str:
    name = type(curve).__name__.lower()
    return "" if name == "identity" else name


@dataclass(frozen=True)
class ProductPlanes(FittedPlanes, Cells, Envelope):
    """Its planes of every kind."""

    first: Symmetric
    second: Symmetric

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        return self._pairs(plane_set(self._domain(operands, search), kinds))

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        return self._pairs(fitted(self._domain(operands, search), in_plane(points)))

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        found = offered(self._domain(operands, search), in_plane(lower)[:, None], in_plane(upper)[:, None])
        return found.lower[:, 0, 2], found.upper[:, 0, 2]

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        places, sign = in_plane(points), torch.where(upper, 1.0, -1.0).to(points)
        inner = operands.planar.drawn_in(places[:, None], INSIDE)[:, 0]
        found = fit(Query(self.first, self.second, sign, inner, operands.planar), search.solver, search.tolerance, search.once)
        planes = sign[:, None] * through(found.slopes, found.height, inner)
        # The tightest plane at the inner point may be nearer there by height - least, and so at the point, but for its slopes.
        best = planes[:, 2] + (planes[:, :2] * places).sum(1) - sign * (found.height - found.least)
        return Support(planes[:, self._columns], best)

    def _domain(self, operands: OperandSet, search: Search) -> Domain:
        return Domain(self.first, self.second, operands.planar, search.solver, search.tolerance, search.once)

    @property
    def _columns(self) -> list[int]:
        """Those of the slopes that the function has, and of the offset."""
        return [0, 2] if isinstance(self.second, One) else [0, 1, 2]

    def _pairs(self, found: PlaneSet) -> PlanePairs:
        return found.lower[..., self._columns], found.upper[..., self._columns]


def in_plane(values: Tensor) -> Tensor:
    """Points or slopes (..., 1 or 2) as those of two operands: the second of one is 0."""
    return values if values.shape[-1] == 2 else torch.cat([values, torch.zeros_like(values)], dim=-1)
