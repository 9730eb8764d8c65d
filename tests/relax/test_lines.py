"""Lines between the tightest one and the chord: their slopes, wide boxes, and what a row gains by those that lean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tightverify.relax.curves import Sigmoid, Symmetric, Tanh
from tightverify.relax.lines import (
    LEANING,
    chord_slope,
    envelope_slope,
    leaning_lines,
    lines_between,
    opposite_lines,
    tightest_lines,
)
from tightverify.relax.planes import Plane
from tightverify.values import Interval

CURVES: list[Symmetric] = [Tanh(), Sigmoid(), Sigmoid(1.0)]
ENDS = [(-0.3, 0.5), (-2.0, 0.1), (-0.1, 2.0), (0.5, 3.0), (-4.0, -1.0), (-8.0, 8.0), (-40.0, 3.0), (-1.0, 300.0)]


def box() -> Interval:
    low, high = torch.tensor(ENDS, dtype=torch.float64).T
    return Interval(low[None], high[None])


def height(side: Plane, x: Tensor) -> Tensor:
    return side.at(x)


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_the_first_is_the_tightest_and_the_last_is_parallel_to_the_chord(curve: Symmetric) -> None:
    tightest, parallel = opposite_lines(curve, box())
    alone, centre = tightest_lines(curve, box()), box().centre
    assert torch.allclose(tightest.upper.at(centre), alone.upper.at(centre), atol=2e-3)
    assert torch.allclose(tightest.lower.at(centre), alone.lower.at(centre), atol=2e-3)
    chord = chord_slope(curve, box())
    for side in (parallel.lower, parallel.upper):
        assert torch.allclose(side.slopes[0], chord, atol=1e-14)


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_lines_lean_from_the_tightest_towards_the_chord(curve: Symmetric) -> None:
    (tightest, parallel), leaning = opposite_lines(curve, box()), leaning_lines(curve, box())
    for side in ("lower", "upper"):
        first, last, between = (getattr(pair, side).slopes[0] for pair in (tightest, parallel, leaning))
        assert torch.allclose(between, (1 - LEANING) * first + LEANING * last, atol=1e-14)


@pytest.mark.parametrize("share", [0.0, LEANING, 1.0])
@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_lines_hold_and_touch(curve: Symmetric, share: float) -> None:
    (found,) = lines_between(curve, box(), share)
    x = torch.lerp(box().lower, box().upper, torch.linspace(0, 1, 200_001, dtype=torch.float64)[:, None])
    above, below = found.upper.at(x) - curve.value(x), curve.value(x) - found.lower.at(x)
    for gap in (above, below):
        assert float(gap.amin()) >= 0
        assert float(gap.amin(0).amax()) < 1e-6


@pytest.mark.parametrize("width", [0.1, 1.0, 5.0, 50.0, 500.0])
def test_the_tangent_through_an_end_is_found_in_boxes_of_any_width(width: float) -> None:
    """By bisection: at d its slope is the secant's."""
    curve, low = Tanh(), -width
    left, right = 0.0, width
    for _ in range(200):
        middle = (left + right) / 2
        steeper = 1 / math.cosh(middle) ** 2 > (math.tanh(middle) - math.tanh(low)) / (middle - low)
        left, right = (middle, right) if steeper else (left, middle)
    one = Interval(torch.full((1, 1), low, dtype=torch.float64), torch.full((1, 1), width, dtype=torch.float64))
    for steps, error in ((1, 1e-2), (3, 1e-6)):
        slope = float(envelope_slope(curve, one, one.lower, chord_slope(curve, one), steps))
        assert slope == pytest.approx(1 / math.cosh(left) ** 2, rel=error)
