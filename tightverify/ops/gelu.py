"""GELU: x times the share of the normal distribution that lies below it; and its approximation by tanh."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import PiecewiseOperation
from tightverify.relax import gated


@dataclass(frozen=True)
class Gelu(PiecewiseOperation):
    name = "gelu"
    curve = gated.Gelu()


@dataclass(frozen=True)
class GeluByTanh(PiecewiseOperation):
    name = "gelu_by_tanh"
    curve = gated.GeluByTanh()
