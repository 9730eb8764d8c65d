"""All that is known of a curve f(x) of one operand that is convex, then concave: `relax.lines`, as traits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tightverify.relax.curves import Bent, Curve, Symmetric
from tightverify.relax.envelope_lines import EnvelopeLines
from tightverify.relax.lines import upper_line_at, upper_offset
from tightverify.relax.pair_planes import CurvePairs
from tightverify.relax.planes import Plane
from tightverify.relax.traits import Traits
from tightverify.values import Interval

STRAIGHT = "tightest", "corners"
"""The kinds that have all lines already where a curve is straight up to its breakpoints."""


def curve_traits(curve: Curve, factors: tuple[Symmetric, Symmetric] | None = None) -> Traits:
    """The record of a curve; column generation has nothing to add to the few lines of one that is straight elsewhere."""
    lines = CurveLines(curve)
    pairs = CurvePairs(curve) if isinstance(curve, Symmetric | Bent) else None
    columns = lines if curve.breakpoints is None else None
    return Traits(
        factors=factors,
        breakpoints=curve.breakpoints,
        fitted=lines,
        pairs=pairs,
        columns=columns,
        envelope=lines,
        cells=lines,
    )


@dataclass(frozen=True)
class CurveLines(EnvelopeLines):
    curve: Curve

    @property
    def places(self) -> tuple[str, ...]:  # type: ignore[override]
        return super().places if self.curve.breakpoints is None else STRAIGHT

    @property
    def mirror(self) -> CurveLines:
        return CurveLines(self.curve.mirror)

    def upper_line(self, box: Interval, points: Tensor) -> Plane:
        return upper_line_at(self.curve, box, points)

    def upper_offset(self, slope: Tensor, box: Interval) -> Tensor:
        return upper_offset(self.curve, slope, box)
