"""ELU: x from 0 on, and alpha (exp x - 1) below; SELU is a multiple of one."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax.curves import Curve
from tightverify.relax.exponentials import ExponentialLinear


@dataclass(frozen=True)
class Elu(CurveOperation):
    alpha: float = 1.0
    name = "elu"

    @property
    def parameters(self) -> dict[str, float]:
        return {"alpha": self.alpha}

    @property
    def curve(self) -> Curve:
        return ExponentialLinear(self.alpha)
