"""What forms pay for: in rational arithmetic, sums of random floats that cancel never get beyond what was exact before."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tightverify.bounds.back_substitution import Pending, through_form
from tightverify.bounds.forms import Form, Side, composed, composed_size
from tightverify.graph import Graph, Input
from tightverify.relax.planes import Plane, Planes
from tightverify.values import gamma

NEURONS, INPUTS = 6, 5
DOUBLE = torch.float64
GRAPH = Graph((Input(0, INPUTS),), 0, (INPUTS,))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=DOUBLE)


def random_form(generator: torch.Generator) -> Form:
    sides = (Side({0: normal(generator, 1, NEURONS, INPUTS)}, normal(generator, 1, NEURONS)) for _ in range(2))
    return Form(*sides)


def exactly(side: Side, k: int, x: list[float]) -> Fraction:
    """One function's value at a point."""
    slope = side.slopes[0][0, k].tolist()
    return Fraction(float(side.offset[0, k])) + sum(Fraction(a) * Fraction(b) for a, b in zip(slope, x, strict=True))


def beyond_stop(seed: int, rounding: float) -> list[Fraction]:
    """How far rows that stop at a form get above what that form says of them, for so much rounding paid."""
    generator = torch.Generator().manual_seed(seed)
    form, x, row = random_form(generator), normal(generator, INPUTS), normal(generator, 1, 4, NEURONS)
    settled = form.settled({0: x.abs()[None]}, rounding, x.abs().sum()[None])
    pending = Pending(GRAPH, {})
    constant = through_form(settled, row, pending)
    slopes = pending.take(0)
    assert slopes is not None
    found = []
    for r in range(4):
        reached = exactly(Side({0: slopes}, constant), r, x.tolist())
        wanted = Fraction(0)
        for k, weight in enumerate(row[0, r].tolist()):
            wanted += Fraction(weight) * exactly(form.lower if weight > 0 else form.upper, k, x.tolist())
        found.append(reached - wanted)
    return found


def beyond_operation(seed: int, rounding: float) -> list[Fraction]:
    """The same of an operation's form, beside what its planes and its operands' forms say."""
    generator = torch.Generator().manual_seed(seed)
    operands, x = [random_form(generator), random_form(generator)], normal(generator, INPUTS)
    lower, upper = (
        Plane((normal(generator, 1, NEURONS), normal(generator, 1, NEURONS)), normal(generator, 1, NEURONS)) for _ in range(2)
    )
    planes, sizes = Planes(lower, upper), {0: x.abs()[None]}
    form = composed(planes, operands).widen(rounding * composed_size(planes, [each.size(sizes) for each in operands]))
    found = []
    for sign, side, plane in ((1, form.lower, lower), (-1, form.upper, upper)):
        for k in range(NEURONS):
            wanted = Fraction(float(plane.offset[0, k]))
            for slope, operand in zip(plane.slopes, operands, strict=True):
                weight = float(slope[0, k])
                least = operand.lower if sign * weight > 0 else operand.upper
                wanted += Fraction(weight) * exactly(least, k, x.tolist())
            found.append(sign * (exactly(side, k, x.tolist()) - wanted))
    return found


@pytest.mark.parametrize("beyond", [beyond_stop, beyond_operation])
def test_what_sums_may_lose_is_paid_for(beyond: Callable[[int, float], list[Fraction]]) -> None:
    paid = [value for seed in range(30) for value in beyond(seed, gamma(2 * (NEURONS + INPUTS)))]
    assert max(paid) <= 0
    unpaid = [value for seed in range(30) for value in beyond(seed, 0.0)]
    assert max(unpaid) > 0, "it would show"
