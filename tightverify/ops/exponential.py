"""The exponential function."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax.curves import Curve
from tightverify.relax.exponentials import Exponential


@dataclass(frozen=True)
class Exp(CurveOperation):
    name = "exp"

    @property
    def curve(self) -> Curve:
        return Exponential()
