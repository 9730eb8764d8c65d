"""Regions in the module's own precision: their boxes, and the least value of linear functions over them, differentiable.

The least value of `rows @ x` changes with the rows as x does where it is attained (Danskin 1966): for regions that are no boxes
the value is the verifier's, and its derivative the point at which it has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightverify.region import Perturbation, Region
from tightverify.values import Interval


@dataclass(frozen=True, eq=False)
class TrainingRegion:
    """The regions around inputs `x` (B, ...)."""

    perturbation: Perturbation
    x: Tensor

    @cached_property
    def region(self) -> Region:
        """In float64, where that is asked."""
        return self.perturbation.around(self.x.detach())

    @cached_property
    def box(self) -> Interval:
        """Of the inputs' shape."""
        nearby = self.perturbation.nearby(self.x.detach())
        if nearby is not None:
            return nearby
        box, reach = self.region.box, self.region.reach
        hull = Interval(torch.maximum(box.lower, reach.lower), torch.minimum(box.upper, reach.upper))
        return hull.map(lambda end: end.to(self.x).reshape(self.x.shape))

    def minimise(self, rows: Tensor) -> Tensor:
        """(R, B): the least `rows @ x`, for rows (R, B, n)."""
        if self.perturbation.boxes:
            centre, radius = (end.flatten(1) for end in (self.box.centre, self.box.width / 2))
            return torch.einsum("rbn,bn->rb", rows, centre) - torch.einsum("rbn,bn->rb", rows.abs(), radius)
        with torch.no_grad():
            fixed = rows.detach().to(torch.float64).transpose(0, 1).contiguous()
            least = self.region.minimise(fixed).T.to(rows)
            attained = self.region.minimiser(fixed).transpose(0, 1).to(rows)
        return least + ((rows - rows.detach()) * attained).sum(-1)
