"""Regions by the share of their size, as they grow in training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tightverify.region import DecibelBall, LpBall, Perturbation


@dataclass(frozen=True)
class Balls:
    """Balls of a share of a radius."""

    eps: float
    norm: float = math.inf
    clip: tuple[float, float] | None = None

    def __call__(self, share: float) -> Perturbation:
        return LpBall(share * self.eps, self.norm, self.clip)


@dataclass(frozen=True)
class Decibels:
    """Decibel balls of a share of the amplitude, which is above 0."""

    db: float
    clip: tuple[float, float] | None = None

    def __call__(self, share: float) -> Perturbation:
        return DecibelBall(self.db + 20 * math.log10(share), self.clip)
