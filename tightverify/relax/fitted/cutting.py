"""What all fits of planes share: programs over samples, the bounds that multipliers prove, the loop of fit, proof and cut.

A plane is wanted above a function, of least height z over a point p0: with k slopes s, it is `z + s . (p - p0)` at p.
Over samples p_i this is a linear program in s and z, whose value is at most the wanted one; a proof for its slopes gives
a valid plane, at least as high. The worst points that the proof meets become samples of the next program, until the two meet.

Scales. The programs are about what is left of the function without its tangent plane at p0, divided by its largest sample,
over coordinates divided by the half widths: thin boxes thus keep their digits.

Lower bound. Weights w >= 0 of sum 1 over samples p_i give `z >= sum w_i f(p_i) - s . (sum w_i p_i - p0)` for every valid plane.
The last term is 0 if the weights are exact; else it is at most what the slopes' ranges make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tightverify.relax.fitted.programs import programs
from tightverify.values import FUNCTION_ERROR, UNIT_ROUNDOFF

MOST_ROUNDS = 30
MOST_SLOPE = 1e4
"""in scaled coordinates"""

Work = TypeVar("Work", bound=Sized)


def fit_prove_cut(work: Work, samples: Tensor, one_round: Callable[[Work, Tensor], tuple[Work, Tensor]]) -> None:
    """Round after round, until no plane is worked on any more: each is handed those left, and their samples (N, M, ...)."""
    for _ in range(MOST_ROUNDS):
        if not len(work):
            return
        work, samples = one_round(work, samples)


@dataclass(frozen=True, eq=False)
class SlopeRange:
    """Of N planes (N, k): the coordinates' half widths, the slopes of the tangent plane, the range that the slopes keep to."""

    half: Tensor
    tangent: Tensor
    low: Tensor
    high: Tensor

    def best_over(self, offsets: Tensor, left_over: Tensor, solver: str) -> tuple[Tensor, Tensor, Tensor]:
        """The programs over samples: slopes (N, k), the samples' multipliers (N, M), the height above the tangent plane (N,).

        Samples are `offsets` (N, M, k) from the points, `left_over` (N, M) there, the points themselves among them.
        """
        steps = offsets / self.half[:, None]
        scale = left_over.abs().amax(1)
        scale = torch.where(scale > 0, scale, 1.0)
        rows = torch.cat([steps, torch.ones_like(steps[..., :1])], dim=-1)
        unit = scale[:, None] / self.half
        least = -torch.ones_like(scale)[:, None]  # the point itself is a sample, of height 0
        most = least + 2 * offsets.shape[-1] * MOST_SLOPE
        low = torch.cat([((self.low - self.tangent) / unit).clamp(-MOST_SLOPE, 0), least], dim=1)
        high = torch.cat([((self.high - self.tangent) / unit).clamp(0, MOST_SLOPE), most], dim=1)
        target = left_over / scale[:, None]
        found = programs(rows.cpu().numpy(), target.cpu().numpy(), low.cpu().numpy(), high.cpu().numpy(), solver)
        plane, weights = (torch.from_numpy(part).to(steps) for part in found)
        slopes = torch.minimum(torch.maximum(self.tangent + plane[:, :-1] * unit, self.low), self.high)
        return slopes, weights, plane[:, -1] * scale

    def lower_bound(self, offsets: Tensor, values: Tensor, weights: Tensor, reach: Tensor, size: Tensor) -> Tensor:
        """The module's lower bound on the height of every valid plane, (N,); -inf where the weights say nothing.

        `values` (N, M) are the function's at the samples, each rounded by at most FUNCTION_ERROR times `size`; `reach` (N, k)
        are the coordinates' largest values.
        """
        share = weights / weights.sum(1, keepdim=True)
        missed = (share[..., None] * offsets).sum(1)
        steepest = torch.maximum(self.low.abs(), self.high.abs())
        rounding = 16 * UNIT_ROUNDOFF * reach
        cost = (torch.maximum(missed * self.low, missed * self.high) + rounding * steepest).sum(1)
        return torch.nan_to_num((share * values).sum(1) - cost - FUNCTION_ERROR * size, nan=-torch.inf)


@dataclass(frozen=True, eq=False)
class BestSoFar:
    """The best plane and the best lower bound on its height found for each; changed in place."""

    slopes: Tensor
    offset: Tensor
    height: Tensor
    least: Tensor

    @staticmethod
    def above(tangent: Tensor, least: Tensor) -> BestSoFar:
        """No plane yet, and what is known of the height: the function's value at the point is below it."""
        nothing = torch.full_like(least, torch.inf)
        return BestSoFar(tangent.clone(), nothing, nothing.clone(), least)

    def take(self, which: Tensor, slopes: Tensor, offset: Tensor, height: Tensor) -> None:
        """Planes that were proved, where they are lower."""
        better = height < self.height[which]
        where = which[better]
        self.slopes[where], self.offset[where], self.height[where] = slopes[better], offset[better], height[better]

    def raise_least(self, which: Tensor, bound: Tensor) -> None:
        self.least[which] = torch.maximum(self.least[which], bound)

    def open(self, which: Tensor, wanted: Tensor) -> Tensor:
        """The places in `which` of the planes whose gap is still more than is wanted."""
        return torch.nonzero(self.height[which] - self.least[which] > wanted).flatten()
