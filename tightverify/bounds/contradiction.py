"""Proofs by contradiction: that a row of the property fails is a constraint on the output, used for every bound.

INVPROP (Kotha et al. 2023) uses constraints on the output in this way.

To prove `row @ y + offset > 0` on a region, look only at the part of it where the row is at most a limit t > 0. If nothing is
left there, or the row's bound on that part comes out above t, no point has a row below t: it is at least t everywhere. Until
then this output constraint makes every bound narrower, those of the first frames too: for any g >= 0,

    z  >=  z + g (row @ y + offset - t)      on that part,

back-substitution from the output (`bounds.interval_multipliers`). It is worth the more the nearer the row's bound has come to
0: then what is left is near the point at which the bound is attained, and one more bounding pass often leaves nothing.

A property of several rows breaks where one of them does: the parts of its open rows, one each, are all that has to be looked
at. Where only some of the rows are needed, there is no such constraint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tightverify.graph import Graph
from tightverify.spec import Property
from tightverify.values import above, gamma, times

FIRST = 0.3
"""The first multipliers, relative to how far what is bounded goes for each unit of the row."""


@dataclass(frozen=True, eq=False)
class OutputConstraint:
    """Of each part of a batch: `row @ y + offset <= limit` for the property's row number `which`.

    `reach` (B,) is about how far the row goes below its value at the centre, `size` (B,) its magnitude and scale together.
    """

    which: Tensor
    row: Tensor
    offset: Tensor
    limit: Tensor
    reach: Tensor
    size: Tensor

    @classmethod
    def of(
        cls, graph: Graph, which: Tensor, limit: Tensor, bound: Tensor, spec: Property, centre: Tensor, output: Tensor
    ) -> OutputConstraint:
        """Of rows (B,) of properties, with lower bounds (B,), around inputs (B, n), where the output's magnitude and scale
        together are (B, K).
        """
        every = torch.arange(len(which), device=which.device)
        row, offset = spec.rows[every, which], spec.offsets[every, which]
        value = times(row[:, None], graph.forward(centre))[:, 0] + offset
        size = times(row.abs()[:, None], output)[:, 0] + offset.abs() + limit
        return cls(which, row, offset, limit, torch.maximum(value - bound, limit), size)

    def map(self, change: Callable[[Tensor], Tensor]) -> OutputConstraint:
        """The same change of the batch that is made to all its tensors."""
        return OutputConstraint(*(change(getattr(self, name)) for name in NAMES))

    def price(self, graph: Graph) -> Tensor:
        """(B,): what the bound loses for each unit of the multiplier, rounding and all.

        Back-substitution begins with coefficients that are products of two numbers, in a node of their own as it were, of so
        many terms.
        """
        rounding = graph.rounding + gamma(2 * self.row.shape[1] + 8)
        return above(self.limit - self.offset, rounding * self.size)

    def exceeded(self, outputs: Tensor) -> Tensor:
        """(B, R): whether the row is above the limit at outputs (B, R, K)."""
        return torch.matmul(outputs, self.row[..., None])[..., 0] > (self.limit - self.offset)[:, None]

    def first_multipliers(self, widths: Tensor) -> Tensor:
        """(B, R): multipliers to begin with, for rows that go so far (B, R)."""
        return FIRST * widths / self.reach[:, None]


NAMES = tuple(each.name for each in fields(OutputConstraint))


def together(several: list[OutputConstraint]) -> OutputConstraint | None:
    """Those of single parts as a batch; None of none."""
    if not several:
        return None
    return OutputConstraint(*(torch.cat([getattr(one, name) for one in several]) for name in NAMES))
