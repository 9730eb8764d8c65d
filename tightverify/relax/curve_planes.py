"""All that is known of a curve f(x) of one operand that is convex, then concave: `relax.lines`, as traits.

Any slope becomes a valid line by `upper_offset`. A function of straight pieces has envelopes whose slopes are all among those
of the chords between its breakpoints and ends, and is its own line on a cell without a breakpoint in it; a convex or concave
one has its chord on one side, and its own slope at the point on the other. Lower lines are upper lines of the mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from tightverify.relax.curves import Curve
from tightverify.relax.lines import chord_slope, tightest_lines, upper_offset
from tightverify.relax.traits import Cells, Envelope, OperandSet, PlanePairs, Search, Support, Traits, where_upper
from tightverify.values import Interval


def curve_traits(curve: Curve) -> Traits:
    """The record of a curve."""
    planes = CurvePlanes(curve)
    return Traits(breakpoints=curve.breakpoints, envelope=planes, cells=planes)


@dataclass(frozen=True)
class CurvePlanes(Cells, Envelope):
    """Its lines over cells, and those that support its envelopes."""

    curve: Curve

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        """Those nearest in the mean, wherever the points are."""
        pair = tightest_lines(self.curve, operands.interval(0))
        lower, upper = (torch.stack([*side.slopes, side.offset], dim=1)[:, None] for side in (pair.lower, pair.upper))
        return lower.expand(-1, points.shape[1], -1), upper.expand(-1, points.shape[1], -1)

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        box = operands.interval(0)
        return -upper_offset(self.curve.mirror, lower[:, 0], box.mirror()), upper_offset(self.curve, upper[:, 0], box)

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        box, x = operands.interval(0), points[:, 0]
        flipped = upper_line_at(self.curve.mirror, box.mirror(), -x)
        below = torch.stack([flipped[:, 0], -flipped[:, 1]], dim=1)
        planes = where_upper(upper, upper_line_at(self.curve, box, x), below)
        return Support(planes, planes[:, 0] * x + planes[:, 1])


def upper_line_at(curve: Curve, box: Interval, points: Tensor) -> Tensor:
    """(m, 2): of the lines with the slopes that the envelope may have, the lowest at the points."""
    slopes = [chord_slope(curve, box), curve.supergradient(points, torch.zeros_like(points))]
    if curve.breakpoints is not None:
        bends = [torch.full_like(points, breakpoint).clamp(box.lower, box.upper) for breakpoint in curve.breakpoints]
        slopes += [chord_slope(curve, Interval(low, high)) for low, high in combinations([box.lower, *bends, box.upper], 2)]
    every = torch.nan_to_num(torch.stack(slopes), nan=0.0, posinf=0.0, neginf=0.0)
    wide = Interval(box.lower.expand_as(every), box.upper.expand_as(every))
    offsets = upper_offset(curve, every, wide)
    lowest = (every * points + offsets).nan_to_num(nan=torch.inf).argmin(0, keepdim=True)
    return torch.stack([every.gather(0, lowest)[0], offsets.gather(0, lowest)[0]], dim=1)
