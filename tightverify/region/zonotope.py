"""Inputs that a few unknown numbers move: zonotopes, and the exact minimum of a linear function over them.

A region is `{centre + sum_k t_k g_k + r : |t_k| <= 1, |r_i| <= slack_i}`, a point moved along K given directions g_k (the
generators), each times an unknown coefficient t_k, over flat inputs (B, n). A linear function of it is one of t and r, so that

    min of a @ x  =  a @ centre - sum_k |a @ g_k| - |a| @ slack,

attained at t_k = -sign(a @ g_k), r_i = -sign(a_i) slack_i. Nothing is lost, as it would be on the box around the region,
where every sample has an unknown of its own.

Why the slack. A float is hardly ever a point of a line. The samples that a user's own precision can hold lie beside it: the
slack is what working the change out in that precision may add, a few units of rounding of each sample. So the region is what a
program that makes the change can hand to the model. A proof holds for all of that, and a counterexample is of that kind.

For one generator `contains` finds whether there is a t by intersecting the intervals of t that every sample allows; for more,
it tries the t that least squares propose, improved once for each generator. It says yes only for a t at which every sample
is surely within its slack, whatever rounding did to the test itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from tightverify.evidence import UNGROUPED, RegionEntry
from tightverify.region.base import Generated, SplitBy
from tightverify.values import UNIT_ROUNDOFF, Interval, above, below, gamma, times

ROUNDINGS = 4
"""Of a change worked out in the user's precision: differences, products and sums."""
OWN_ROUNDINGS = 64
"""Of the centre, the generators and the test in `contains`, in float64."""


@final
@dataclass(frozen=True, eq=False)
class Zonotope(Generated):
    """A batch of zonotopes: `generators` are (B, K, n), `slack` is (B, n), `box` is the hull."""

    slack: Tensor

    @property
    def words(self) -> str:
        return "a zonotope"

    @property
    def splits(self) -> frozenset[SplitBy]:
        return frozenset({SplitBy.GENERATORS})

    @property
    def generated(self) -> Zonotope:
        return self

    @property
    def written(self) -> RegionEntry:
        parts = (self.centre, self.box.lower, self.box.upper, self.generators, self.slack)
        centre, lower, upper, generators, slack = (part[0].cpu().numpy() for part in parts)
        return RegionEntry("inf", math.inf, centre, lower, upper, generators, slack, UNGROUPED)

    @property
    def reach(self) -> Interval:
        return self.box

    def within(self, box: Interval) -> Zonotope:
        return replace(self, box=box)

    def furthest(self, places: Tensor, values: Interval) -> None:
        return None

    @property
    def rounding_scale(self) -> Tensor:
        """(B, n): as for all regions; a row's sums over n samples and K generators round at most n + K + 3 times."""
        extra = self.generators.shape[1] / self.generators.shape[2]
        return (4 + extra) * (self.centre.abs() + self.generators.abs().sum(1) + self.slack)

    def minimise(self, rows: Tensor, block: slice = slice(None), scratch: bool = False) -> Tensor:
        least = times(rows, self.centre[:, block]) - times(rows.abs(), self.slack[:, block])
        return least - torch.matmul(rows, self.generators[:, :, block].mT).abs().sum(-1)

    def minimiser(self, rows: Tensor) -> Tensor:
        coefficients = -torch.matmul(rows, self.generators.mT).sign()
        return self.centre[:, None] + torch.matmul(coefficients, self.generators) - rows.sign() * self.slack[:, None]

    def steepest(self, gradient: Tensor) -> Tensor:
        """By the sign of each generator's own slope, all of it."""
        return torch.matmul(torch.matmul(gradient, self.generators.mT).sign(), self.generators)

    def coefficients(self, x: Tensor) -> Tensor:
        """(B, S, K): the coefficients of a point near each x (B, S, n), the nearest for one generator."""
        found = torch.matmul(x - self.centre[:, None], torch.linalg.pinv(self.generators))
        return found.nan_to_num().clamp(-1, 1)

    @property
    def longest(self) -> Tensor:
        return self.generators.abs().sum(2).argmax(1)

    def halves(self, which: Tensor) -> Zonotope:
        """The new centre rounds once, by at most half a unit of its size, which the slack takes in."""
        rows = torch.arange(len(self), device=self.centre.device)
        half = self.generators[rows, which] / 2
        generators = self.generators.clone()
        generators[rows, which] = half
        centre = torch.stack([self.centre - half, self.centre + half], 1).flatten(0, 1)
        return thickened(
            centre,
            generators.repeat_interleave(2, 0),
            above(self.slack.repeat_interleave(2, 0), gamma(1) * centre.abs()),
        )

    def project(self, x: Tensor) -> Tensor:
        return self.at(self.coefficients(x.view(len(self), -1, x.shape[-1]))).view(x.shape)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        draw = torch.rand((len(self), count, self.generators.shape[1]), generator=generator, dtype=torch.float64)
        draw[:, ::2] = draw[:, ::2].round()
        return self.at((2 * draw - 1).to(self.centre.device))

    def at(self, coefficients: Tensor) -> Tensor:
        """(B, S, n): the points of coefficients (B, S, K), without any slack."""
        return self.centre[:, None] + torch.matmul(coefficients, self.generators)

    def contains(self, x: Tensor) -> Tensor:
        test = gamma(self.generators.shape[1] + 4) * (self.centre.abs() + self.generators.abs().sum(1) + x.abs())
        coefficients = self.coefficients(x[:, None])[:, 0]
        for k in range(self.generators.shape[1]):
            coefficients = self._improved(x, coefficients, k)
        off = (x - self.at(coefficients[:, None])[:, 0]).abs()
        inside: Tensor = (off + test <= self.slack).all(1)
        return inside

    def _improved(self, x: Tensor, coefficients: Tensor, k: int) -> Tensor:
        """The coefficients (B, K) with the middle of what all samples allow for number k, the others being what they are."""
        line = self.generators[:, k]
        rest = x - self.at(coefficients[:, None])[:, 0] + coefficients[:, k, None] * line
        ends = torch.stack([(rest - self.slack) / line, (rest + self.slack) / line])
        least = torch.where(line != 0, ends.amin(0), -1.0).amax(1).clamp(-1, 1)
        most = torch.where(line != 0, ends.amax(0), 1.0).amin(1).clamp(-1, 1)
        better = coefficients.clone()
        better[:, k] = (least + most) / 2
        return better


def zonotope(centre: Tensor, generators: Tensor, size: Tensor, dtype: torch.dtype) -> Zonotope:
    """The zonotopes of centres (B, n) and generators (B, K, n), thickened by what rounding in `dtype` may add.

    `size` (B, n) is at least every number that enters a sample.
    """
    reach = generators.abs().sum(1)
    kind = torch.finfo(dtype)
    unit, least = kind.eps / 2, kind.smallest_normal * kind.eps
    slack = (ROUNDINGS * unit + OWN_ROUNDINGS * UNIT_ROUNDOFF) * (size + centre.abs() + reach) + ROUNDINGS * least
    return thickened(centre, generators, slack)


def thickened(centre: Tensor, generators: Tensor, slack: Tensor) -> Zonotope:
    """The zonotopes of centres and generators with so much slack.

    The hull's own rounding, a sum of K + 2 numbers, is within gamma(K + 4) of the sum of their absolute values.
    """
    reach = generators.abs().sum(1)
    allowance = reach + slack + gamma(generators.shape[1] + 4) * (centre.abs() + reach + slack)
    box = Interval(below(centre, allowance), above(centre, allowance))
    return Zonotope(centre, box, generators, slack)
