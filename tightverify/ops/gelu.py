"""GELU: x times the share of the normal distribution that lies below it; and its approximation by tanh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tightverify.ops.base import PiecewiseOperation
from tightverify.relax import gated
from tightverify.relax.piecewise import Piecewise


@dataclass(frozen=True)
class Gelu(PiecewiseOperation):
    name = "gelu"
    curve = gated.Gelu()


@dataclass(frozen=True)
class GeluByTanh(PiecewiseOperation):
    """`cube` is the number by which the cube counts."""

    cube: float = 0.044715
    name = "gelu_by_tanh"

    @property
    def parameters(self) -> dict[str, float]:
        return {"cube": self.cube}

    @cached_property
    def curve(self) -> Piecewise:
        return gated.GeluByTanh(self.cube)
