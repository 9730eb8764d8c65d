"""`1 / x`, of boxes on one side of 0: for x > 0 minus the increasing curve -1 / x, for x < 0 minus the value at -x.

Where a box holds 0 or has it as an end, `bounds` claims nothing of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.ops.base import Operation
from tightverify.relax.curves import Curve, Hyperbola
from tightverify.relax.lines import curve_range, tightest_lines
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.tight import tight_lines
from tightverify.values import Interval


@dataclass(frozen=True)
class Reciprocal(Operation):
    name = "reciprocal"
    arity = 1

    def forward(self, *operands: Tensor) -> Tensor:
        return 1 / operands[0]

    def interval(self, *boxes: Interval) -> Interval:
        below = boxes[0].upper < 0
        found = curve_range(Hyperbola(), positive(boxes[0], below)).mirror()
        return Interval(torch.where(below, -found.upper, found.lower), torch.where(below, -found.lower, found.upper))

    def undefined(self, *boxes: Interval) -> Tensor | None:
        return ~((boxes[0].lower > 0) | (boxes[0].upper < 0))

    def relax(self, *boxes: Interval) -> Planes:
        return between(tightest_lines, boxes[0])

    def tight_candidates(self, *boxes: Interval) -> tuple[Planes, ...]:
        return (between(tight_lines, boxes[0]),)


def between(lines: Callable[[Curve, Interval], Planes], box: Interval) -> Planes:
    """Its lines from such lines of the curve -1 / x on one side of 0."""
    below = box.upper < 0
    curve = lines(Hyperbola(), positive(box, below))
    # -1 / x between two lines of x: 1 / x is between their negatives, and at -x, which is below 0, -1 / x = 1 / -x.
    at_negative = Planes(of_negative(curve.lower), of_negative(curve.upper))
    lower = at_negative.lower.where(below, curve.upper.map(torch.neg))
    return Planes(lower, at_negative.upper.where(below, curve.lower.map(torch.neg)))


def positive(box: Interval, below: Tensor) -> Interval:
    """The box, or where it is below 0 its mirror image."""
    return Interval(torch.where(below, -box.upper, box.lower), torch.where(below, -box.lower, box.upper))


def of_negative(plane: Plane) -> Plane:
    """The plane as one over -x."""
    return Plane((-plane.slopes[0],), plane.offset)
