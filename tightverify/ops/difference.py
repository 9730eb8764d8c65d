"""By how much a curve's value differs between two networks: `F(x) - F(x - d)`, of x and of d, by which operands differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tightverify.ops.base import Operation, PiecewiseOperation
from tightverify.relax.difference_planes import DifferencePlanes, change_range, difference_planes
from tightverify.relax.fitted.change_planes import ChangePlanes
from tightverify.relax.piecewise_secants import PiecewiseSecants
from tightverify.relax.planes import Planes
from tightverify.relax.secants import LogisticSecants, Secants, StraightSecants
from tightverify.relax.traits import Traits
from tightverify.values import Interval


class Difference(Operation):
    """The difference of a curve's values; its name is the curve's, with `_difference`."""

    arity = 2
    secants: Secants

    @cached_property
    def traits(self) -> Traits:
        secants = self.secants
        return Traits(fitted=ChangePlanes(secants) if isinstance(secants, LogisticSecants) else DifferencePlanes(secants))

    def forward(self, *operands: Tensor) -> Tensor:
        return self.secants.change(*operands)

    def interval(self, *boxes: Interval) -> Interval:
        return change_range(self.secants, *boxes)

    def relax(self, *boxes: Interval) -> Planes:
        return difference_planes(self.secants, *boxes)


@dataclass(frozen=True)
class SigmoidDifference(Difference):
    name = "sigmoid_difference"
    secants = LogisticSecants(1.0, 1.0)


@dataclass(frozen=True)
class TanhDifference(Difference):
    """tanh(x) = 2 sigmoid(2 x) - 1."""

    name = "tanh_difference"
    secants = LogisticSecants(2.0, 2.0)


@dataclass(frozen=True)
class LeakyReluDifference(Difference):
    slope: float = 0.0
    name = "leaky_relu_difference"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope}

    @property
    def secants(self) -> Secants:  # type: ignore[override]
        return StraightSecants((self.slope, 1.0), (0.0,))


@dataclass(frozen=True)
class ClampDifference(Difference):
    low: float
    high: float
    name = "clamp_difference"

    @property
    def parameters(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}

    @property
    def secants(self) -> Secants:  # type: ignore[override]
        low, high = ((end,) if math.isfinite(end) else () for end in (self.low, self.high))
        return StraightSecants((*(0.0 for _ in low), 1.0, *(0.0 for _ in high)), (*low, *high))


@dataclass(frozen=True)
class RampDifference(Difference):
    """Of a ramp of equal outer slopes: its changes are the largest where they are centred between the breakpoints."""

    slope: float
    cap: float
    name = "ramp_difference"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope, "cap": self.cap}

    @property
    def secants(self) -> Secants:  # type: ignore[override]
        return StraightSecants((self.slope, 1.0, self.slope), (0.0, self.cap))


@dataclass(frozen=True)
class HardSigmoidDifference(Difference):
    slope: float
    shift: float
    name = "hard_sigmoid_difference"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope, "shift": self.shift}

    @property
    def secants(self) -> Secants:  # type: ignore[override]
        return StraightSecants((0.0, self.slope, 0.0), (-self.shift / self.slope, (1.0 - self.shift) / self.slope))


@dataclass(frozen=True)
class PiecewiseDifference(Difference):
    """Of a function that may fall as well as rise."""

    of: PiecewiseOperation

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.of.name}_difference"

    @property
    def parameters(self) -> Mapping[str, float | tuple[float, ...]]:
        return self.of.parameters

    @property
    def secants(self) -> Secants:  # type: ignore[override]
        return PiecewiseSecants(self.of.curve)
