"""SiLU, also called Swish: x sigmoid(x)."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import PiecewiseOperation
from tightverify.relax import gated


@dataclass(frozen=True)
class Silu(PiecewiseOperation):
    name = "silu"
    curve = gated.Silu()
