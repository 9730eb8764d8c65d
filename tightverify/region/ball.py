"""Balls cut to boxes, and the exact minimum of a linear function over them.

A region is a ball intersected with a box, `{x : |x - centre|_p <= radius, lower <= x <= upper}`, over flat inputs (B, n);
coordinates that may not change have lower = upper = centre.

Minimum of a @ x. Over the box alone it is taken coordinate by coordinate. With the ball as well, Lagrange duality gives
for every multiplier a lower bound that the best multiplier makes exact (Slater's condition holds: the centre is inside):

* L1: for tau >= 0,   a @ centre - radius tau - sum_i capacity_i max(|a_i| - tau, 0);
* L2: for lam > 0,    a @ centre + sum_i min over the box of (a_i d_i + lam d_i^2) - lam radius^2.

The box may be a part that the centre is not in. Then all is about the point c of the box that is nearest to the centre: for
every x of the box |x_i - centre_i| = |x_i - c_i| + |c_i - centre_i|, so that the L1 ball is one around c, smaller by
|c - centre|.

So any tau or lam gives a sound bound; sorting (L1) or a few steps of clamping (L2) find nearly the best.

`rounding_scale` bounds the absolute values that enter these sums, for the caller's rounding allowance.

Squares of tiny numbers vanish, and so lengths are measured in units of a power of two near the radius. What is more than `FAR`
of those away counts as that far, which only makes the region larger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from tightverify.evidence import UNGROUPED, RegionEntry
from tightverify.region.base import Region
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above, below, by_sign, gamma, times

FAR = 2.0**64
CLAMPINGS = 8
HALVINGS = 24


@final
@dataclass(frozen=True, eq=False)
class Ball(Region):
    """A batch of balls intersected with boxes; `radius` is (B,), infinite for boxes alone. `norm` is 1, 2 or inf."""

    radius: Tensor
    norm: float

    @classmethod
    def boxes(cls, centre: Tensor, box: Interval) -> Ball:
        """Boxes alone, around centres (B, n)."""
        everywhere = torch.full((len(centre),), torch.inf, dtype=torch.float64, device=centre.device)
        return cls(centre, box, everywhere, torch.inf)

    @classmethod
    def points(cls, points: Tensor) -> Ball:
        """Points (B, n), each a region of its own that holds nothing else."""
        return cls.boxes(points, Interval(points, points))

    @property
    def words(self) -> str:
        return "a box" if self.separable else f"a ball of norm {self.norm:g}"

    @property
    def separable(self) -> bool:
        return self.norm == torch.inf

    @property
    def balls(self) -> list[tuple[float, float]]:
        return [(radius, self.norm) for radius in self.radius.tolist()]

    @property
    def written(self) -> RegionEntry:
        centre, lower, upper = (part[0].cpu().numpy() for part in (self.centre, self.box.lower, self.box.upper))
        moved = np.zeros((0, 1)), np.zeros(0)
        return RegionEntry(f"{self.norm:g}", float(self.radius[0]), centre, lower, upper, *moved, UNGROUPED)

    @property
    def rounding_scale(self) -> Tensor:
        scale = 4 * self.box.magnitude + 4 * self.centre.abs()
        return scale if self.norm == torch.inf else scale + 4 * self.radius[:, None]

    @property
    def _measured(self) -> tuple[Tensor, Tensor]:
        """(B, 1): the radius, from 1/2 to 1 unless it is next to nothing, and the exponent of the unit that it counts."""
        unit = exponent_of(self.radius[:, None])
        return scaled(self.radius[:, None], -unit), unit

    @cached_property
    def _middle_and_radii(self) -> tuple[Tensor, Tensor]:
        """(B, n) each, of the box."""
        middle = self.box.centre
        return middle, torch.maximum(self.box.upper - middle, middle - self.box.lower)

    def within(self, box: Interval) -> Ball:
        return replace(self, box=box)

    @property
    def nearest(self) -> Tensor:
        """(B, n): the point of the box that is nearest to the centre, in every norm."""
        return torch.minimum(torch.maximum(self.centre, self.box.lower), self.box.upper)

    @property
    def reach(self) -> Interval:
        """By the ball, given how far from its centre the box keeps the other coordinates."""
        if self.norm == torch.inf:
            return self.box
        radius, unit = self._measured
        away = _in_units(self.nearest - self.centre, unit).abs() ** self.norm
        others = (away.sum(1, keepdim=True) - away).clamp(min=0)
        most = radius**self.norm
        slack = gamma(self.centre.shape[1] + 8) * (most + away.sum(1, keepdim=True))
        reach = scaled((most - others + slack).clamp(min=0) ** (1 / self.norm), unit)
        allowance = 8 * UNIT_ROUNDOFF * (reach + self.centre.abs()) + TINY
        return Interval(below(self.centre - reach, allowance), above(self.centre + reach, allowance))

    def minimise(self, rows: Tensor, block: slice = slice(None), scratch: bool = False) -> Tensor:
        box = self.box[block]
        if self.separable:
            middle, radius = (part[:, block] for part in self._middle_and_radii)
            least = times(rows, middle)
            return least - times(rows.abs_() if scratch else rows.abs(), radius)
        near = self.nearest
        away = (near - self.centre).abs()
        down, up = (near - box.lower).clamp(min=0), (box.upper - near).clamp(min=0)
        radius, unit = self._measured
        if self.norm == 2:
            down, up, away = (_in_units(lengths, unit) for lengths in (down, up, away))
        capacity = torch.where(rows > 0, down[:, None], up[:, None])
        weight = rows.abs() * (capacity > 0)
        if self.norm == 1:
            gain = _lasso_gain(weight, capacity, (self.radius - away.sum(1)).clamp(min=0))
        else:
            gain = scaled(_ridge_gain(weight, capacity, radius[:, 0], away), unit)
        return times(rows, near) - gain

    def furthest(self, places: Tensor, values: Interval) -> Tensor | None:
        """In a ball of the norm 1 or 2, its radius and how far its centre is from there."""
        if self.norm == torch.inf:
            return None
        centre = self.centre[:, places]
        away, size = length(values.centre - centre), length(values.magnitude + centre.abs())
        return above(self.radius + away, gamma(centre.shape[1] + 8) * (self.radius + away + size))

    def minimiser(self, rows: Tensor) -> Tensor:
        """Where the ball binds, it is the derivative of the least value by the row."""
        if self.norm == torch.inf:
            return by_sign(rows, self.box.lower[:, None], self.box.upper[:, None])
        with torch.enable_grad():
            moving = rows.detach().expand(len(self), -1, -1).clone().requires_grad_()
            (point,) = torch.autograd.grad(self.minimise(moving).sum(), moving)
        return torch.nan_to_num(point)

    def steepest(self, gradient: Tensor) -> Tensor:
        shape = (len(self),) + (1,) * (gradient.dim() - 2) + (-1,)
        reach = torch.minimum(self.box.width, 2 * self.radius[:, None]).view(shape) / 2
        if self.separable:
            return gradient.sign() * reach
        gradient = gradient * (reach > 0)
        length = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).clamp(min=1e-300)
        step: Tensor = gradient / length * self.radius.view((*shape[:-1], 1))
        return step

    def contains(self, x: Tensor) -> Tensor:
        inside: Tensor = ((x >= self.box.lower) & (x <= self.box.upper)).all(1)
        radius, unit = self._measured
        length = torch.linalg.vector_norm(_in_units(x - self.centre, unit), ord=self.norm, dim=1)
        near: Tensor = length * (1 + gamma(x.shape[1] + 8)) <= radius[:, 0]
        return inside & near & ((x - self.centre).abs().amax(1) <= self.radius)

    def project(self, x: Tensor) -> Tensor:
        shape = (len(self),) + (1,) * (x.dim() - 2) + (-1,)
        lower, upper = self.box.lower.view(shape), self.box.upper.view(shape)
        x = torch.minimum(torch.maximum(x, lower), upper)
        centre, radius = self.centre.view(shape), self.radius.view((*shape[:-1], 1)) * (1 - 1e-6)
        step = x - centre
        if self.norm == 1:
            step = _shrink_to_l1(step, radius)
        elif self.norm == 2:
            unit = exponent_of(radius)
            length = torch.linalg.vector_norm(_in_units(step, unit), dim=-1, keepdim=True)
            step = step * (scaled(radius, -unit) / length.clamp(min=1e-300)).clamp(max=1)
        else:
            step = torch.minimum(torch.maximum(step, -radius), radius)
        return torch.minimum(torch.maximum(centre + step, lower), upper)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        shape = (len(self), count, self.centre.shape[1])
        draw = torch.rand(shape, generator=generator, dtype=torch.float64).to(self.centre.device)
        draw[:, ::2] = draw[:, ::2].round()
        lower, upper = self.box.lower[:, None], self.box.upper[:, None]
        return self.project(lower + draw * (upper - lower))


def _in_units(lengths: Tensor, unit: Tensor) -> Tensor:
    return scaled(lengths, -unit).clamp(-FAR, FAR)


def scaled(values: Tensor, exponent: Tensor) -> Tensor:
    """Values times a power of two; `torch.ldexp` is right, but its derivative is not."""
    return values * torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), exponent)


def exponent_of(values: Tensor) -> Tensor:
    """The exponent of a power of two above values, and near them: one that has a float, and whose inverse has one."""
    return torch.frexp(values).exponent.clamp(-1000, 1000)


def length(steps: Tensor) -> Tensor:
    """(B,): the lengths of steps (B, n) in the norm 2, whose squares might vanish, or grow too large."""
    unit = exponent_of(steps.abs().amax(1))
    return scaled(torch.linalg.vector_norm(scaled(steps, -unit[:, None]), dim=1), unit)


def _lasso_gain(weight: Tensor, capacity: Tensor, radius: Tensor) -> Tensor:
    """max of weight @ d over 0 <= d <= capacity, sum d <= radius, by its dual at the best threshold."""
    ordered, order = torch.sort(weight.expand_as(capacity), dim=-1, descending=True)
    used = torch.cumsum(torch.gather(capacity, -1, order), dim=-1)
    # The threshold is the weight at which the budget is used up, 0 where it never is.
    full = (used >= radius[:, None, None]).long()
    first = torch.argmax(full, dim=-1, keepdim=True)
    threshold = torch.gather(ordered, -1, first) * torch.gather(full, -1, first)
    excess = (weight - threshold).clamp(min=0)
    return radius[:, None] * threshold[..., 0] + (capacity * excess).sum(-1)


def _ridge_gain(weight: Tensor, capacity: Tensor, radius: Tensor, away: Tensor) -> Tensor:
    """max of weight @ d over 0 <= d <= capacity, |d + away|_2 <= radius, by its dual at a nearly best multiplier.

    Where nothing is `away` (B, n), the dual at m = 2 lam is sum_i (w_i d_i - m d_i^2 / 2) + m radius^2 / 2 with
    d_i = min(w_i / m, capacity_i). From the m that would be best without the box, each step clamps the coordinates that the
    last one pushed out of the box and takes the m that is best for the others: m falls to the best one in a few steps.
    Weights are scaled by a power of two, for their squares could vanish.
    """
    if bool((away > 0).any()):
        return _ridge_gain_away(weight, capacity, radius, away)
    power = exponent_of(weight.amax(-1, keepdim=True))
    weight = scaled(weight, -power)
    budget = radius[:, None]
    length = torch.linalg.vector_norm(weight, dim=-1)
    gain = torch.minimum(budget * length, (weight * capacity).sum(-1))
    multiplier = length / budget.clamp(min=1e-300)
    if bool((weight > multiplier[..., None] * capacity).any()):
        for _ in range(CLAMPINGS):
            clamped = weight > multiplier[..., None] * capacity
            left = budget**2 - torch.where(clamped, capacity, 0.0).square().sum(-1)
            free = torch.where(clamped, 0.0, weight).square().sum(-1)
            better = torch.sqrt(free / left)
            multiplier = torch.where((left > 0) & (free > 0), torch.minimum(better, multiplier), multiplier)
        step = torch.minimum(weight / multiplier[..., None].clamp(min=1e-300), capacity)
        dual = (weight * step - multiplier[..., None] * step**2 / 2).sum(-1) + multiplier * budget**2 / 2
        gain = torch.minimum(gain, dual)
    return scaled(gain, power[..., 0])


def _ridge_gain_away(weight: Tensor, capacity: Tensor, radius: Tensor, away: Tensor) -> Tensor:
    """The same where the box keeps coordinates away from the centre.

    With a = |away| this is |d|^2 + 2 away @ d <= left = radius^2 - a^2, and the dual at m is
    sum_i (w_i d_i - m (d_i^2 / 2 + away_i d_i)) + m left / 2 with d_i = w_i / m - away_i, clamped. What d uses of `left` falls
    with m, and is less than that from m = |w| / sqrt(left) on: m is halved in between, and the best of all duals counts. The
    rounding of the difference may be much of `left`, which is raised by it.
    """
    power = exponent_of(weight.amax(-1, keepdim=True))
    weight, away = scaled(weight, -power), away[:, None]
    used = away.square().sum(-1)
    budget = radius[:, None].square()
    left = (budget - used).clamp(min=0) + gamma(away.shape[-1] + 8) * (budget + used) + TINY
    gain = torch.minimum(torch.sqrt(left) * torch.linalg.vector_norm(weight, dim=-1), (weight * capacity).sum(-1))
    high = torch.linalg.vector_norm(weight, dim=-1) / torch.sqrt(left)
    low = torch.zeros_like(high)
    for _ in range(HALVINGS):
        multiplier = (low + high)[..., None] / 2
        step = torch.minimum((weight / multiplier.clamp(min=1e-300) - away).clamp(min=0), capacity)
        cost = (step.square() / 2 + away * step).sum(-1)
        gain = torch.minimum(gain, (weight * step).sum(-1) + multiplier[..., 0] * (left / 2 - cost))
        too_far = 2 * cost > left
        low, high = torch.where(too_far, multiplier[..., 0], low), torch.where(too_far, high, multiplier[..., 0])
    return scaled(gain, power[..., 0])


def _shrink_to_l1(step: Tensor, radius: Tensor) -> Tensor:
    """The point of the L1 ball nearest to `step` (soft thresholding at the level that meets the radius)."""
    size = step.abs()
    ordered = torch.sort(size, dim=-1, descending=True).values
    level = (torch.cumsum(ordered, dim=-1) - radius) / torch.arange(1, size.shape[-1] + 1, device=size.device, dtype=size.dtype)
    count = (ordered > level).sum(-1, keepdim=True).clamp(min=1)
    threshold = torch.gather(level, -1, count - 1).clamp(min=0)
    return step.sign() * (size - threshold).clamp(min=0)
