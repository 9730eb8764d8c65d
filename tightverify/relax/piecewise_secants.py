"""By how much a `relax.piecewise` function changes between two points, as `relax.secants` has it for curves that never fall.

Here the change may fall as d grows. It is s d for a slope s in the range of F' over all that lies on the way, which F' has at
the ends of the pieces there; and no more than what F's own range leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.piecewise import Piecewise
from tightverify.relax.piecewise_lines import ends_of_pieces, value_range
from tightverify.relax.secants import Secants, SlopeLines, reached
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above, below


@dataclass(frozen=True)
class PiecewiseSecants(Secants):
    curve: Piecewise

    @property
    def mirror(self) -> Secants:
        return PiecewiseSecants(self.curve.mirror)

    def change(self, x: Tensor, d: Tensor) -> Tensor:
        return self.curve.change(x, d)

    def most(self, x: Interval, d: Interval) -> Tensor:
        steepness = self.slopes(reached(x, d))
        by_slopes = torch.stack(
            [slope * end for slope in (steepness.lower, steepness.upper) for end in (d.lower, d.upper)]
        ).amax(0)
        first, second = value_range(self.curve, x), value_range(self.curve, shifted(x, d))
        size = first.magnitude + second.magnitude
        by_range = above(first.upper - second.lower, FUNCTION_ERROR * size)
        return torch.minimum(above(by_slopes, FUNCTION_ERROR * by_slopes.abs() + TINY), by_range)

    def slopes(self, z: Interval) -> Interval:
        found = torch.stack([self.curve.derivative(end) for end in ends_of_pieces(self.curve, z)])
        least, most = found.amin(0), found.amax(0)
        return Interval(below(least, FUNCTION_ERROR * (1 + least.abs())), above(most, FUNCTION_ERROR * (1 + most.abs())))

    def lines(self, z: Interval) -> SlopeLines | None:
        return None


def shifted(x: Interval, d: Interval) -> Interval:
    """x - d."""
    return Interval(below(x.lower - d.upper, 0.0), above(x.upper - d.lower, 0.0))
