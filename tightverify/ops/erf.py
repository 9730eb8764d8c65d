"""The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x: GELU is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax.curves import Curve
from tightverify.relax.exponentials import ErrorFunction


@dataclass(frozen=True)
class Erf(CurveOperation):
    name = "erf"

    @property
    def curve(self) -> Curve:
        return ErrorFunction()
