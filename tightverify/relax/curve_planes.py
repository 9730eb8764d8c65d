"""All that is known of a curve f(x) of one operand that is convex, then concave: `relax.lines`, as traits.

Its convex hull over an interval is held by the lines that support its envelopes, one for each point of the interval, and any
slope becomes a valid line by `upper_offset`. A bounding pass mixes some of them, evenly spread: for ReLU the lines of slope 0
and 1 and the chord, whose mixtures are all lines that alpha-CROWN (Xu et al. 2021) chooses from; for tanh and sigmoid a few
tangents. More of them are made where a row or a program is attained. Lower lines are upper lines of the mirror image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Bent, Curve, Symmetric
from tightverify.relax.lines import upper_line_at, upper_offset
from tightverify.relax.pair_planes import CurvePairs
from tightverify.relax.traits import (
    Cells,
    Envelope,
    FittedPlanes,
    OperandSet,
    PlanePairs,
    Search,
    Support,
    Traits,
    where_upper,
)
from tightverify.values import Interval

PLACES = {"tightest": (0.5,), "corners": (0.0, 1.0), "edges": (0.2, 0.8, 0.35, 0.65), "ring": (0.1, 0.9)}
"""Where the lines of a kind touch the envelopes, as shares of the interval's width; other kinds have none."""
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
class CurveLines(FittedPlanes, Cells, Envelope):
    """The lines that support its envelopes."""

    curve: Curve

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        useful = kinds if self.curve.breakpoints is None else [kind for kind in kinds if kind in STRAIGHT]
        shares = operands.ends.new_tensor([share for kind in useful for share in PLACES.get(kind, ())])
        return self.at(operands, torch.lerp(operands.low, operands.high, shares)[..., None], search)

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        low, high = operands.low.expand(points.shape[:2]), operands.high.expand(points.shape[:2])
        return self._pair(Interval(low, high), points[..., 0])

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        box = operands.interval(0)
        return -upper_offset(self.curve.mirror, lower[:, 0], box.mirror()), upper_offset(self.curve, upper[:, 0], box)

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        lower_lines, upper_lines = self._pair(operands.interval(0), points[:, 0])
        planes = where_upper(upper, upper_lines, lower_lines)
        return Support(planes, planes[:, 0] * points[:, 0] + planes[:, 1])

    def _pair(self, box: Interval, points: Tensor) -> PlanePairs:
        """(..., 2) and (..., 2): slopes and offsets of the lines below and above, at points of boxes."""
        flipped = upper_line_at(self.curve.mirror, box.mirror(), -points)
        return torch.stack([flipped[..., 0], -flipped[..., 1]], dim=-1), upper_line_at(self.curve, box, points)
