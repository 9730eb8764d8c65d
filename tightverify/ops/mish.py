"""Mish: x tanh(log(1 + exp x))."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import PiecewiseOperation
from tightverify.relax import gated


@dataclass(frozen=True)
class Mish(PiecewiseOperation):
    name = "mish"
    curve = gated.Mish()
