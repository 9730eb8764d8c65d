"""How strongly a network is trained for its bounds, epoch by epoch: eps grows, and kappa, beta and eta go along with it.

Some epochs are without any region; in the next ones eps grows from 0 to all of it, the shares of the ordinary loss (kappa), of
back-substitution's margins (beta) and the slopes of ramps (eta) move from their first values to their last; then all stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tightverify.errors import UsageError
from tightverify.training.ramp import ParamRamp

Pair = tuple[float, float]


@dataclass(frozen=True)
class Moment:
    """What a step trains with; `share` is that of the region's size."""

    share: float
    kappa: float
    beta: float
    eta: float | None


@dataclass(frozen=True)
class Schedule:
    """First and last values, and for how many epochs there is no region, and for how many it grows."""

    warm: float = 1.0
    rise: float = 10.0
    kappa: Pair = (1.0, 0.5)
    beta: Pair = (1.0, 0.0)
    eta: Pair | None = None

    def __post_init__(self) -> None:
        if self.warm < 0 or self.rise < 0:
            raise UsageError(f"warm is {self.warm:g} and rise {self.rise:g}; wanted numbers of epochs, 0 or more")
        for name in ("kappa", "beta", "eta"):
            if any(not 0 <= value <= 1 for value in getattr(self, name) or ()):
                raise UsageError(f"{name} is {getattr(self, name)}; wanted two shares from 0 to 1, the first and the last")

    def at(self, epoch: float) -> Moment:
        """At so many epochs from the start, parts of one counted."""
        past = epoch - self.warm
        share = min(1.0, past / self.rise) if self.rise > 0 and past >= 0 else float(past >= 0)
        between = [
            None if pair is None else pair[0] + share * (pair[1] - pair[0]) for pair in (self.kappa, self.beta, self.eta)
        ]
        kappa, beta, eta = between
        assert kappa is not None
        assert beta is not None
        return Moment(share, 1.0 if past < 0 else kappa, beta, eta)

    @property
    def full(self) -> float:
        """From which epoch on nothing changes."""
        return self.warm + self.rise


def between(pair: Pair, share: float) -> float:
    return pair[0] + share * (pair[1] - pair[0])


def set_slopes(module: nn.Module, eta: float | None) -> None:
    """The slopes of all ramps in a module."""
    for part in module.modules():
        if eta is not None and isinstance(part, ParamRamp):
            part.eta = eta
