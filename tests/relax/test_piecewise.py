"""Functions of several inflections: their shapes are proved, and their lines are the nearest that there are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from flint import arb
from torch import Tensor

from tests.helpers import exact
from tests.helpers.exact import ball, sigmoid, tanh
from tightverify import ops
from tightverify.models.gated import CUBIC
from tightverify.ops.base import PiecewiseOperation
from tightverify.relax.gated import Gated, Gelu, GeluByTanh, Mish, Silu
from tightverify.relax.piecewise import HardSwish, Piecewise, Power, Smooth
from tightverify.relax.piecewise_lines import lines_at, tight_lines, upper_line_at, upper_offset
from tightverify.values import Interval

GATED: list[Gated] = [Gelu(), GeluByTanh(), Silu(), Mish()]
EVERY: list[Piecewise] = [*GATED, HardSwish(), HardSwish(0.25, 0.375), Power(3), Power(4), Power(7)]
BOTH: list[Piecewise] = [*EVERY, *(curve.mirror for curve in EVERY)]
named = pytest.mark.parametrize("curve", BOTH, ids=repr)

# Shapes, by intervals


def ratio_by_tanh(x: arb) -> arb:
    """Of GELU's approximation; see `relax.gated`."""
    steep = (2 / arb.pi()).sqrt()
    cubic = ball(0.044715) * steep
    slope = steep + 3 * cubic * x * x
    return 6 * cubic * x / slope - 2 * tanh(steep * x + cubic * x**3) * slope


RATIOS: dict[type[Gated], Callable[[arb], arb]] = {
    Gelu: lambda x: -x,
    GeluByTanh: ratio_by_tanh,
    Silu: lambda x: -(x / 2).tanh(),
    Mish: lambda x: 1 - sigmoid(x) * (1 + 2 * tanh((1 + x.exp()).log())),
}
SHARES: dict[type[Gated], Callable[[arb], arb]] = {
    Gelu: lambda x: (-x / arb(2).sqrt()).erfc() / 2,
    GeluByTanh: lambda x: sigmoid(2 * (2 / arb.pi()).sqrt() * (x + ball(0.044715) * x**3)),
    Silu: sigmoid,
    Mish: lambda x: tanh((1 + x.exp()).log()),
}
ULP = 2.0**-52


@pytest.mark.parametrize("curve", GATED, ids=repr)
def test_inflections_of_gated_functions_are_where_they_are_said_to_be(curve: Gated) -> None:
    """`2 + x r` changes its sign within two units in the last place of the cuts."""
    for cut, outer in zip(curve.cuts, (-1, 1), strict=True):
        for step, sign in ((1, -1), (-1, 1)):
            x = arb(cut + outer * step * 2 * ULP * abs(cut))
            assert sign * (2 + x * RATIOS[type(curve)](x)) > 0, "convex inside, concave outside"


@pytest.mark.parametrize("curve", GATED, ids=repr)
def test_turns_of_gated_functions_are_where_they_are_said_to_be(curve: Gated) -> None:
    share, (turn,) = SHARES[type(curve)], curve.turns
    left, middle, right = (arb(turn + step) * share(arb(turn + step)) for step in (-1e-12, 0.0, 1e-12))
    assert middle < left
    assert middle < right


def test_the_ratio_of_the_approximation_by_tanh_falls() -> None:
    """Where `u'' / u'` rises, x^2 < 7.5, of every cube allowed: its slope, by intervals of the right half; it is odd."""
    steep = (2 / arb.pi()).sqrt()
    cubic = arb(sum(CUBIC) / 2, CUBIC[1] - CUBIC[0]) * steep
    for k in range(1000):
        x = arb((k + 0.5) * 0.003, 0.0016)
        inner, slope, bent = steep * x + cubic * x**3, steep + 3 * cubic * x * x, 6 * cubic * x
        assert -2 * inner.sech() ** 2 * slope**2 - 2 * inner.tanh() * bent + (6 * cubic * slope - bent**2) / slope**2 < 0


@pytest.mark.parametrize("curve", [curve for curve in EVERY if isinstance(curve, Smooth)], ids=repr)
def test_derivatives_are_those_of_the_value(curve: Smooth) -> None:
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(curve.value(x).sum(), x, create_graph=True)
    assert float((slope - curve.derivative(x)).detach().abs().amax()) < 1e-13
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert float((second - curve.second(x)).detach().abs().amax()) < 1e-12


@pytest.mark.parametrize("curve", EVERY, ids=repr)
def test_each_piece_is_bent_as_it_is_said_to_be(curve: Piecewise) -> None:
    for (low, high), bend in zip(pairwise((-8.0, *curve.cuts, 8.0)), curve.bends, strict=True):
        x = torch.linspace(low, high, 2001, dtype=torch.float64)
        bent = curve.value(x).diff().diff()
        size = 1e-15 * float(1 + curve.value(x).abs().amax())
        assert (bent.abs() <= 10 * size).all() if bend == 0 else (bend * bent >= -10 * size).all()
        assert bend == 0 or float((bend * bent).amax()) > 1e3 * size


# Lines


def boxes(count: int = 60) -> Interval:
    generator = torch.Generator().manual_seed(0)
    low = -7 + 10 * torch.rand(count, generator=generator, dtype=torch.float64)
    width = 10.0 ** (2.2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
    return Interval(low, low + width)


def hull(curve: Piecewise, box: Interval, share: float) -> tuple[Tensor, Tensor]:
    """Points of boxes, and of the concave envelope there the highest chord between samples on either side of them."""
    point = torch.lerp(box.lower, box.upper, share)
    steps = torch.linspace(0, 1, 161, dtype=torch.float64)[:, None]
    bent = torch.tensor([*curve.cuts, 0.0], dtype=torch.float64)[:, None].expand(-1, len(point))
    left = torch.cat([torch.lerp(box.lower, point, steps), torch.minimum(torch.maximum(bent, box.lower), point)])
    right = torch.cat([torch.lerp(point, box.upper, steps), torch.minimum(torch.maximum(bent, point), box.upper)])
    run = right[:, None] - left[None]
    weight = torch.where(run > 0, (right[:, None] - point) / run.clamp(min=1e-300), 1.0)
    chords = weight * curve.value(left)[None] + (1 - weight) * curve.value(right)[:, None]
    return point, torch.maximum(chords.flatten(0, 1).amax(0), curve.value(point))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.5, 0.8, 1.0])
@named
def test_the_line_at_a_point_is_the_lowest_there(curve: Piecewise, share: float) -> None:
    box = boxes()
    point, highest = hull(curve, box, share)
    line = upper_line_at(curve, box, point)
    size = 1 + curve.value(box.lower).abs() + curve.value(box.upper).abs()
    gap = (line.slopes[0] * point + line.offset - highest) / size
    assert float(gap.amin()) >= -1e-12
    assert float(gap.amax()) < 1e-4


@named
def test_an_offset_is_the_least_that_holds(curve: Piecewise) -> None:
    box = boxes()
    x = torch.lerp(box.lower, box.upper, torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None])
    x = torch.cat([x, *(torch.minimum(box.lower.clamp(min=cut), box.upper)[None] for cut in curve.cuts)])
    for slope in (-3.0, -0.1, 0.0, 0.05, 0.5, 1.0, 1.05, 4.0):
        offset = upper_offset(curve, torch.full_like(box.lower, slope), box)
        most = (curve.value(x) - slope * x).amax(0)
        size = 1 + curve.value(box.lower).abs() + curve.value(box.upper).abs() + abs(slope) * box.magnitude
        assert bool((offset >= most).all())
        assert float(((offset - most) / size).amax()) < 1e-6


@named
def test_a_bad_touching_point_is_loose_and_never_wrong(curve: Piecewise, monkeypatch: pytest.MonkeyPatch) -> None:
    box = boxes()
    x = torch.lerp(box.lower, box.upper, torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None])
    for bad in (-1e9, -1.5, 0.3, 2.0, float("nan"), float("inf")):
        monkeypatch.setattr(
            "tightverify.relax.piecewise_lines.touching",
            lambda _curve, _piece, slope, low, high, bad=bad: torch.full_like(slope, bad).nan_to_num(nan=0.0).clamp(low, high),
        )
        planes = lines_at(curve, box, box.centre)
        assert bool((planes.upper.at(x) >= curve.value(x)).all())
        assert bool((planes.lower.at(x) <= curve.value(x)).all())


@named
def test_tight_lines_are_mostly_better_than_constants(curve: Piecewise) -> None:
    """Where the largest value is at an end, the line that reaches it there has the least slope of all secants to it."""
    box = boxes()
    x = torch.lerp(box.lower, box.upper, torch.linspace(0, 1, 20_001, dtype=torch.float64)[:, None])
    y = curve.value(x)
    upper = tight_lines(curve, box).upper
    at_end = (y.amax(0) == y[-1]) & (box.width > 0.05)
    steepest = ((y[-1] - y[:-1]) / (x[-1] - x[:-1])).amin(0)
    assert bool(at_end.any())
    assert float((upper.slopes[0] - steepest)[at_end].abs().amax()) < 2e-3 * float(1 + steepest[at_end].abs().amax())


def test_an_operation_of_every_kind_is_in_the_contract() -> None:
    listed = {type(op.curve) for op in ops.OPS if isinstance(op, PiecewiseOperation)}
    assert listed == {Gelu, GeluByTanh, Silu, Mish, HardSwish, Power}


@pytest.mark.parametrize(
    ("slope", "shift"), [(1e-6, 0.3), (1e-6, 1.0), (1e-3, 0.5), (0.003, 0.5), (0.015, 1.0), (1 / 1000, 0.5), (1 / 3e8, 1 / 3)]
)
def test_a_flat_hard_swish_allows_for_what_cancels_near_its_bends(slope: float, shift: float) -> None:
    """Where slope x and shift leave little of one another, and x is large."""
    op = ops.HardSwish(slope, shift)
    draw = torch.Generator().manual_seed(0)
    for cut in op.curve.cuts:
        x = cut * (1 + 1e-6 * (2 * torch.rand(500, generator=draw, dtype=torch.float64) - 1))
        box = Interval(x[None], x[None])
        interval, planes = op.interval(box), op.relax(box)
        for k, point in enumerate(x.tolist()):
            value = exact.operation(op, ball(point))
            assert not exact.is_below(value, float(interval.lower[0, k]))
            assert not exact.is_above(value, float(interval.upper[0, k]))
            above, below = (exact.plane_at(side, k, (point,)) for side in (planes.upper, planes.lower))
            assert above is not None
            assert below is not None
            assert not value > arb(above)
            assert not value < arb(below)


@pytest.mark.parametrize("exponent", [3, 16, 17, 33, 64])
def test_changes_of_high_powers_keep_their_digits(exponent: int) -> None:
    op = ops.PiecewiseDifference(ops.Power(exponent))
    for x, d in ((1.0, 0.49), (0.8, 1e-9), (-0.7, 0.3), (1.1, -0.2)):
        found = float(op.forward(*torch.tensor([x, d], dtype=torch.float64).unbind()))
        value = ball(x) ** exponent - (ball(x) - ball(d)) ** exponent
        assert abs(float(ball(found) - value)) <= 1e-13 * abs(float(value))


def test_lines_of_powers_that_overflow_claim_nothing() -> None:
    for exponent, low, width in ((33, -2.54e10, 3.4e9), (63, 4.357e8, 29.0), (64, 1e5, 1.0)):
        box = Interval(torch.tensor([[low]], dtype=torch.float64), torch.tensor([[low + width]], dtype=torch.float64))
        planes = ops.Power(exponent).relax(box)
        assert float(planes.upper.offset) == torch.inf
        assert float(planes.lower.offset) == -torch.inf
