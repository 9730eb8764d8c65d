"""ReLU and leaky ReLU: `slope * x` below 0, x above."""

from __future__ import annotations

from dataclasses import dataclass

from tightverify.ops.base import CurveOperation
from tightverify.relax.curves import Curve, TwoSlopes


@dataclass(frozen=True)
class LeakyRelu(CurveOperation):
    """ReLU for slope 0. Slopes above 1 make it concave, which changes nothing here; negative ones are refused on import."""

    slope: float = 0.0
    name = "leaky_relu"

    @property
    def parameters(self) -> dict[str, float]:
        return {"slope": self.slope}

    @property
    def curve(self) -> Curve:
        return TwoSlopes(self.slope, 1.0)
