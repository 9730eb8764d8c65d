"""All that is known of a `relax.piecewise` function, as traits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tightverify.relax.envelope_lines import EnvelopeLines
from tightverify.relax.piecewise import Piecewise
from tightverify.relax.piecewise_lines import upper_line_at, upper_offset
from tightverify.relax.planes import Plane
from tightverify.relax.traits import Traits
from tightverify.values import Interval


def piecewise_traits(curve: Piecewise) -> Traits:
    lines = PiecewiseLines(curve)
    return Traits(fitted=lines, columns=lines, envelope=lines, cells=lines)


@dataclass(frozen=True)
class PiecewiseLines(EnvelopeLines):
    curve: Piecewise

    @property
    def mirror(self) -> PiecewiseLines:
        return PiecewiseLines(self.curve.mirror)

    def upper_line(self, box: Interval, points: Tensor) -> Plane:
        return upper_line_at(self.curve, box, points)

    def upper_offset(self, slope: Tensor, box: Interval) -> Tensor:
        return upper_offset(self.curve, slope, box)
