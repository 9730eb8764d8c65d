"""All that is known of a function of straight pieces (`relax.straight`), as traits.

Where it has no jumps, binaries hold it exactly; where it has, its envelopes are all that programs get.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tightverify.relax.envelope_lines import EnvelopeLines
from tightverify.relax.planes import Plane
from tightverify.relax.straight import Straight, upper_line, upper_offset
from tightverify.relax.traits import Traits
from tightverify.values import Interval


def straight_traits(of: Straight) -> Traits:
    lines = StraightLines(of)
    exact = of.continuous
    return Traits(breakpoints=of.breaks if exact else None, fitted=lines, envelope=lines, cells=lines if exact else None)


@dataclass(frozen=True)
class StraightLines(EnvelopeLines):
    of: Straight

    @property
    def mirror(self) -> StraightLines:
        return StraightLines(self.of.mirror)

    def upper_line(self, box: Interval, points: Tensor) -> Plane:
        return upper_line(self.of, box, points)

    def upper_offset(self, slope: Tensor, box: Interval) -> Tensor:
        return upper_offset(self.of, slope, box)
