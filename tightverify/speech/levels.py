"""Logarithms of energies, kept away from log 0: natural ones, or decibels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tightverify.errors import UsageError
from tightverify.speech.frames import check_choice

FLOORS = ("add", "clamp")


def check_floor(floor: float) -> float:
    if not 0 < floor < math.inf:
        raise UsageError(
            f"the floor is {floor:g}; it must be a finite number above 0, or the logarithm of silence is minus infinity"
        )
    return float(floor)


class Logarithm(nn.Module):
    """`log(x + floor)`, or with `mode="clamp"` `log(max(x, floor))`."""

    def __init__(self, floor: float = 1e-6, *, mode: str = "add") -> None:
        super().__init__()
        self.floor, self.mode = check_floor(floor), check_choice("mode", mode, FLOORS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x + self.floor if self.mode == "add" else x.clamp(min=self.floor))


class Decibels(nn.Module):
    """`10 log10(max(x, amin) / ref)` of powers, 20 of magnitudes (`power=1`).

    With `top_db`, nothing lies more than so many decibels below the loudest value of the clip: a maximum over all its frames
    and features, which is verified, but less tightly than a constant floor.
    """

    def __init__(self, power: float = 2.0, amin: float = 1e-10, ref: float = 1.0, top_db: float | None = None) -> None:
        super().__init__()
        if power not in (1, 2):
            raise UsageError(f"power is {power:g}; choose 2 for powers or 1 for magnitudes")
        if top_db is not None and not top_db >= 0:
            raise UsageError(f"top_db is {top_db:g}; it must be 0 or more")
        self.factor = 20.0 / power
        self.amin, self.top_db = check_floor(amin), top_db
        self.shift = self.factor * math.log10(max(check_floor(ref), amin))

    def forward(self, x: Tensor) -> Tensor:
        levels = self.factor * torch.log10(x.clamp(min=self.amin)) - self.shift
        if self.top_db is None:
            return levels
        return torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - self.top_db)
