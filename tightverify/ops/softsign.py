"""Softsign, x / (1 + |x|): convex below 0, concave above."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax import curves
from tightverify.relax.curves import Curve


@dataclass(frozen=True)
class Softsign(CurveOperation):
    name = "softsign"

    @property
    def curve(self) -> Curve:
        return curves.Softsign()
