"""The range of `F(x) - F(x - d)` over a box of x and d, and planes above and below it: see `relax.secants`.

With the change h = s d for a slope s in [low, high], and x's box as it is, upper planes are

* a constant, the range's end;
* one over d alone: `high d` where d >= 0, `low d` where d <= 0, the chord of the larger of the two where d has both signs;
* McCormick's planes of s d, `high d + D s - high D` and `low d + E s - low E` for d in [D, E], with a line in `x - d / 2` for
  s: above it where D (or E) is positive, below where it is negative.

Lower planes are upper planes of the mirror image, whose change by -d at -x is -h. Of several the one that is the lowest at the
box's middle leaves the least volume.

Rounding. Slopes are whatever floats come out; an offset makes up for what a few sums and products of them, each within a unit
roundoff of itself, are off by over the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.planes import Plane, Planes
from tightverify.relax.secants import Secants, reached
from tightverify.relax.traits import FittedPlanes, OperandSet, PlanePairs, Search
from tightverify.values import FUNCTION_ERROR, TINY, Interval, above


def change_range(secants: Secants, x: Interval, d: Interval) -> Interval:
    """The values over a box."""
    return Interval(-secants.mirror.most(x.mirror(), d.mirror()), secants.most(x, d))


def upper_planes(secants: Secants, x: Interval, d: Interval) -> list[Plane]:
    """All that the module's docstring has, of every neuron."""
    z = reached(x, d)
    steepness, lines = secants.slopes(z), secants.lines(z)
    zero = torch.zeros_like(x.lower)
    found = [Plane((zero, zero), secants.most(x, d)), over_difference(steepness, d)]
    if lines is None:
        return found
    for steep, end in ((steepness.upper, d.lower), (steepness.lower, d.upper)):
        level = torch.where(end >= 0, lines.upper, lines.lower)
        turn = end * lines.slope
        size = end.abs() * (steep.abs() + level.abs() + lines.slope.abs() * (x.magnitude + d.magnitude))
        offset = end * (level - steep)
        found.append(Plane((turn, steep - turn / 2), above(offset, FUNCTION_ERROR * size + TINY)))
    return found


def over_difference(steepness: Interval, d: Interval) -> Plane:
    """The upper plane over d alone: the chord of the larger of both lines, one of them where it is one line over the box."""
    low, high = steepness.lower, steepness.upper
    chord = torch.nan_to_num((high * d.upper - low * d.lower) / d.width, nan=0.0, posinf=0.0, neginf=0.0)
    slope = torch.where(d.lower >= 0, high, torch.where(d.upper <= 0, low, chord))
    ends = [torch.maximum(low * end, high * end) - slope * end for end in (d.lower, d.upper)]
    both = (d.lower < 0) & (d.upper > 0)
    size = (high.abs() + low.abs() + slope.abs()) * d.magnitude
    offset = above(torch.maximum(*ends), FUNCTION_ERROR * size + TINY)
    return Plane((torch.zeros_like(slope), slope), torch.where(both, offset, 0.0))


def sides(secants: Secants, x: Interval, d: Interval) -> tuple[list[Plane], list[Plane]]:
    """All planes below, and all above."""
    mirrored = upper_planes(secants.mirror, x.mirror(), d.mirror())
    return [Plane(plane.slopes, -plane.offset) for plane in mirrored], upper_planes(secants, x, d)


def difference_planes(secants: Secants, x: Interval, d: Interval) -> Planes:
    """On either side the one that is the nearest at the box's middle."""
    lower, upper = sides(secants, x, d)
    middle = x.centre, d.centre
    best = upper[0]
    for plane in upper[1:]:
        best = plane.where(plane.at(*middle) < best.at(*middle), best)
    worst = lower[0]
    for plane in lower[1:]:
        worst = plane.where(plane.at(*middle) > worst.at(*middle), worst)
    return Planes(worst, best)


@dataclass(frozen=True)
class DifferencePlanes(FittedPlanes):
    """All planes of closed form, for mixtures; of boxes alone."""

    secants: Secants
    planar = False

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        lower, upper = sides(self.secants, operands.interval(0), operands.interval(1))
        return as_rows(lower), as_rows(upper)


def as_rows(planes: list[Plane]) -> Tensor:
    """(N, K, 3): K planes of N functions, slopes and offset."""
    return torch.stack([torch.stack([*plane.slopes, plane.offset], dim=-1) for plane in planes], dim=1)
