"""log(1 + exp x), a smooth ReLU."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax import exponentials
from tightverify.relax.curves import Curve


@dataclass(frozen=True)
class Softplus(CurveOperation):
    name = "softplus"

    @property
    def curve(self) -> Curve:
        return exponentials.Softplus()
