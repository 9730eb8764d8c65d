"""Changes of curves: small where the differences are small, exact at points, and tight where the operand is known well."""

from __future__ import annotations

import math

import pytest
import torch

from tests.helpers import exact
from tightverify.ops import (
    ClampDifference,
    Gelu,
    LeakyReluDifference,
    Operation,
    PiecewiseDifference,
    RampDifference,
    SigmoidDifference,
    TanhDifference,
)
from tightverify.relax.planes import Plane
from tightverify.values import Interval

EVERY: list[Operation] = [
    SigmoidDifference(),
    TanhDifference(),
    LeakyReluDifference(),
    LeakyReluDifference(1.5),
    ClampDifference(-1.0, 1.0),
    ClampDifference(0.0, math.inf),
    ClampDifference(-math.inf, 6.0),
    RampDifference(0.25, 2.0),
    PiecewiseDifference(Gelu()),
]


def one(low: float, high: float) -> Interval:
    return Interval(torch.tensor([[low]], dtype=torch.float64), torch.tensor([[high]], dtype=torch.float64))


@pytest.mark.parametrize("op", EVERY, ids=repr)
def test_small_changes_keep_their_digits(op: Operation) -> None:
    for x in (0.7, -0.7, 1.25, -3.0, 5.999):
        for d in (1e-3, -1e-3, 1e-12, -1e-17, 2.5, -9.0):
            parameters = {
                k: v if isinstance(v, tuple) or math.isfinite(v) else math.copysign(1e300, v) for k, v in op.parameters.items()
            }
            value = exact.EXACT[op.name](exact.ball(x), exact.ball(d), **parameters)
            found = float(op.forward(*torch.tensor([x, d], dtype=torch.float64).unbind()))
            assert abs(float(exact.ball(found) - value)) <= 1e-13 * abs(float(value)) + 1e-16 * (abs(x) > 1 or abs(d) > 1)


@pytest.mark.parametrize("op", EVERY, ids=repr)
def test_no_difference_changes_nothing(op: Operation) -> None:
    x, none = one(-3.0, 4.0), one(0.0, 0.0)
    interval, planes = op.interval(x, none), op.relax(x, none)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    middle = torch.tensor([[0.5]], dtype=torch.float64)
    ends = interval.lower, interval.upper, planes.lower.at(middle, zero), planes.upper.at(middle, zero)
    assert all(float(end.abs()) <= 2e-14 for end in ends)


@pytest.mark.parametrize("op", EVERY, ids=repr)
def test_bounds_shrink_with_the_differences(op: Operation) -> None:
    """Whatever the operand's width is: what is said of d = 1e-6 is 1000 times less than of 1e-3."""
    x = one(-0.8, 0.9)
    for size in (1e-3, 1e-6):
        d = one(-size, 2 * size)
        interval, planes = op.interval(x, d), op.relax(x, d)
        gap = planes.upper.at(x.centre, d.centre) - planes.lower.at(x.centre, d.centre)
        assert float(interval.width) <= 3.001 * size * 1.5
        assert float(gap) <= 3.001 * size * 1.5


@pytest.mark.parametrize(("op", "steepest"), [(SigmoidDifference(), 0.25), (TanhDifference(), 1.0)], ids=repr)
def test_the_operand_says_how_steep_it_is(op: Operation, steepest: float) -> None:
    """Over operands that are known well the planes lie as close as the square of their width lets them."""
    x, d = one(0.9, 1.1), one(0.9e-3, 1.1e-3)
    planes = op.relax(x, d)
    gap = planes.upper.at(x.centre, d.centre) - planes.lower.at(x.centre, d.centre)
    wide = op.interval(x, d).width
    assert float(gap) < 0.35 * float(wide)
    assert float(gap) < 0.05 * steepest * 1e-3


@pytest.mark.parametrize("op", [SigmoidDifference(), TanhDifference()], ids=repr)
def test_a_plane_that_leans_the_wrong_way_on_the_operand_cuts_the_function(op: Operation) -> None:
    x, d = one(0.9, 1.1), one(0.9e-3, 1.1e-3)
    points = [box.lower + torch.rand(1000, 1, dtype=torch.float64).round() * box.width for box in (x, d)]
    planes, values = op.relax(x, d), op.forward(*points)
    for side, sign in ((planes.lower, 1), (planes.upper, -1)):
        assert float(side.slopes[0].abs()) > 1e-5
        assert (sign * (values - side.at(*points)) >= -1e-15).all()
        turned = Plane((-side.slopes[0], side.slopes[1]), side.offset + 2 * side.slopes[0] * x.centre)
        assert (sign * (values - turned.at(*points)) < -1e-6).any()
