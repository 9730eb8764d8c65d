"""Half-spaces of the input, and the least value of a linear function over a box that they cut.

A branch of a search keeps the inputs at which some neuron is below (or above) a value. Linear bounds of that neuron make
of it half-spaces of the input, `A x + c <= 0`. For any multipliers mu >= 0

    min of r @ x over the box's points with A x + c <= 0   >=   min of (r + mu @ A) @ x over the box, + mu @ c,

so that any of them give a sound bound, and the best ones the exact one (linear programming duality). With m the box's centre,
its half widths in r' and A', and d = -(A m + c), one looks for the largest -mu @ d - |r' + mu @ A'|_1. Where t = r' + mu @ A'
is known nearly, |t| is about t^2 / (2 |t|) + |t| / 2: a few steps of weighted least squares, each with a small linear system,
come near the best multipliers (float32 is enough to find them).

Rounding. What is computed of `mu @ A` and `mu @ c` is off by at most gamma(K + 2) mu @ (|A| M + |c|), M the box's magnitude,
and r + mu @ A by a unit in its last place more: `slack` pays for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.values import TINY, Interval, gamma

STEPS = 3
ACTIVE_ROUNDS = 3
BLOCK = 2**18
"""so many numbers are worked on at once: they stay in the processor's cache"""


@dataclass(frozen=True, eq=False)
class Cuts:
    """Half-spaces `rows @ x + offsets <= 0` of a batch of inputs, (B, K, n) and (B, K); those of zeros say nothing."""

    rows: Tensor
    offsets: Tensor

    def __getitem__(self, inputs: slice | Tensor) -> Cuts:
        return Cuts(self.rows[inputs], self.offsets[inputs])

    def to(self, device: str) -> Cuts:
        return Cuts(self.rows.to(device), self.offsets.to(device))

    def surely(self, x: Tensor, magnitude: Tensor) -> Tensor:
        """(B,): whether points (B, n) of a box of this magnitude surely lie in all half-spaces."""
        values = (self.rows * x[:, None]).sum(-1) + self.offsets
        size = (self.rows.abs() * magnitude[:, None]).sum(-1) + self.offsets.abs()
        inside: Tensor = (values + gamma(self.rows.shape[-1] + 2) * size + TINY <= 0).all(-1)
        idle = (self.rows == 0).all(-1) & (self.offsets <= 0)
        return inside | idle.all(-1)

    def added(self, rows: Tensor, multipliers: Tensor) -> Tensor:
        """(B, R, n): `r + mu @ A`."""
        return torch.baddbmm(rows.expand(len(self.rows), -1, -1), multipliers, self.rows)

    def slack(self, rows: Tensor, multipliers: Tensor, magnitude: Tensor) -> Tensor:
        """(B, R): what the rounding of `added`, and of mu @ c, may amount to over a box of this magnitude."""
        size = torch.matmul(self.rows.abs(), magnitude[:, :, None])[..., 0] + self.offsets.abs()
        own = torch.matmul(rows.abs(), magnitude[:, :, None])[..., 0]
        mine = torch.matmul(multipliers, size[:, :, None])[..., 0]
        return gamma(self.rows.shape[1] + self.rows.shape[2] + 4) * (own + mine) + TINY

    def multipliers(self, rows: Tensor, box: Interval) -> Tensor:
        """(B, R, K): nearly the best multipliers of rows (B or 1, R, n), 0 or more."""
        batch, count = len(self.rows), rows.shape[1]
        found = rows.new_zeros((batch, count, self.rows.shape[1]))
        size = max(1, BLOCK // (count * rows.shape[2]))
        for start in range(0, batch, size):
            part = slice(start, start + size)
            middle, half = box.lower[part] + box.width[part] / 2, box.width[part] / 2
            depth = -(torch.matmul(self.rows[part], middle[:, :, None])[..., 0] + self.offsets[part])
            mine = (rows if len(rows) == 1 else rows[part]) * half[:, None]
            scale = mine.abs().mean(-1, keepdim=True).clamp(min=1e-300)
            steep = (self.rows[part] * half[:, None]).abs().amax(-1).clamp(min=1e-300)
            # in units of the row's mean and the cuts' largest coefficients, float32 neither under- nor overflows
            unit = nearest(
                (mine / scale).float(), (self.rows[part] * half[:, None] / steep[..., None]).float(), (depth / steep).float()
            )
            found[part] = unit.to(rows.dtype) * scale / steep[:, None]
        return torch.where(torch.isfinite(found), found, 0.0)


def nearest(rows: Tensor, cuts: Tensor, depth: Tensor) -> Tensor:
    """mu >= 0 (B, R, K) that make `-mu @ depth - |rows + mu @ cuts|_1` large, by weighted least squares."""
    batch, count, _ = cuts.shape
    squares = (cuts[:, :, None] * cuts[:, None]).view(batch, count * count, -1).transpose(1, 2)
    best = torch.linalg.vector_norm(rows, ord=1, dim=-1).neg().expand(batch, -1)
    chosen = rows.new_zeros((*best.shape, count))
    rest = rows.expand(batch, -1, -1)
    for step in range(STEPS):
        weight = (rest.abs() + 0.6 * 4.0**-step).reciprocal()
        system = (weight @ squares).view(*best.shape, count, count)
        aim = -depth[:, None] - (weight * rows) @ cuts.transpose(1, 2)
        trial = nonnegative(system, aim)
        rest = torch.baddbmm(rows.expand(batch, -1, -1), trial, cuts)
        value = -(trial @ depth[:, :, None])[..., 0] - torch.linalg.vector_norm(rest, ord=1, dim=-1)
        better = value > best
        best, chosen = torch.where(better, value, best), torch.where(better[..., None], trial, chosen)
    return chosen


def nonnegative(system: Tensor, aim: Tensor) -> Tensor:
    """About the solution of `system @ mu = aim` with mu >= 0: what comes out negative is set to 0, and the rest solved
    again.
    """
    diagonal = system.diagonal(dim1=-2, dim2=-1)
    # cuts that say nothing, or the same as others, leave the system singular
    ridge = 1e-5 * diagonal + 1e-12 * diagonal.amax(-1, keepdim=True) + 1e-30
    system = system + torch.diag_embed(ridge)
    if system.shape[-1] == 1:
        return (aim / system[..., 0]).clamp(min=0)
    active = torch.ones_like(aim, dtype=torch.bool)
    found = aim
    for _ in range(ACTIVE_ROUNDS):
        both = active[..., None] & active[..., None, :]
        kept = torch.where(both, system, 0.0) + torch.diag_embed((~active).to(aim.dtype))
        found = torch.linalg.solve_ex(kept, torch.where(active, aim, 0.0))[0]
        active = active & (found > 0)
    return torch.where(torch.isfinite(found), found, 0.0).clamp(min=0)
