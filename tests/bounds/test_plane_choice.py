"""Choices of planes: nearly always the tightest ones at points, and surely the neuron's own ones of the side asked for.

And the mixtures of what was chosen: convex ones, of the side that each coefficient's sign asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tightverify.bounds import mixtures
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.bounds.mixtures import Mixture, mixing_error
from tightverify.bounds.plane_choice import Answer, Choices, PlaneChoice
from tightverify.bounds.recorder import PairsOf, Trial
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval, by_sign, negative

INPUTS, ROWS, NEURONS = 3, 40, 5
EXTREMES = (math.inf, -math.inf, math.nan, 1e308, -1e308, 0.0)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boxes_of(arity: int) -> list[Interval]:
    low = [drawn(INPUTS, NEURONS, seed=k) for k in range(arity)]
    return [Interval(one, one + drawn(INPUTS, NEURONS, seed=10 + k).exp()) for k, one in enumerate(low)]


def pairs_of(boxes: list[Interval], count: int) -> tuple[Planes, ...]:
    """Planes above that support a paraboloid at random points; planes below that support another one."""

    def support(seed: int) -> Plane:
        shares = [drawn(INPUTS, NEURONS, seed=100 * seed + k).sigmoid() for k in range(len(boxes))]
        steps = [(share - 0.5) * box.width for share, box in zip(shares, boxes, strict=True)]
        slopes = tuple(-2 * step / box.width for step, box in zip(steps, boxes, strict=True))
        heights = [step * (step + 2 * box.centre) / box.width for step, box in zip(steps, boxes, strict=True)]
        return Plane(slopes, torch.stack(heights).sum(0))

    return tuple(Planes(support(k + count).map(torch.neg), support(k)) for k in range(count))


def points_of(boxes: list[Interval], seed: int, spread: float = 0.4) -> list[Tensor]:
    steps = [spread * drawn(INPUTS, ROWS, NEURONS, seed=seed + k) for k in range(len(boxes))]
    return [box.centre[:, None] + step * box.width[:, None] for box, step in zip(boxes, steps, strict=True)]


def heights(sides: list[Plane], points: list[Tensor]) -> Tensor:
    """(B, R, n, K)"""
    return torch.stack([side.map(lambda part: part[:, None]).at(*points) for side in sides], dim=-1)


@pytest.mark.parametrize("count", [2, 3, 9, 17])
@pytest.mark.parametrize("arity", [1, 2, 3])
def test_the_tightest_plane_is_chosen(arity: int, count: int) -> None:
    boxes = boxes_of(arity)
    pairs, points, row = pairs_of(boxes, count), points_of(boxes, 7), drawn(INPUTS, ROWS, NEURONS, seed=3)
    found = PlaneChoice(pairs, boxes).tightest(negative(row), points)
    assert torch.equal(found.upper, row < 0)
    gaps = torch.where(
        found.upper[..., None],
        heights([pair.upper for pair in pairs], points),
        -heights([pair.lower for pair in pairs], points),
    )
    mine = gaps.gather(-1, found.which[..., None])[..., 0]
    value = found.plane.at(*points)
    assert torch.allclose(torch.where(found.upper, value, -value), mine, rtol=1e-12, atol=1e-12)
    missed = mine - gaps.amin(-1)
    assert float((missed < 1e-9).double().mean()) > 0.9
    assert float(missed.mean()) < 0.01 * float((gaps.mean(-1) - gaps.amin(-1)).mean())


def spoilt(values: Tensor) -> Tensor:
    """The same with numbers that mean nothing here and there."""
    many = torch.tensor(EXTREMES, dtype=torch.float64).repeat(values.numel() // 11 + 1)
    places = torch.arange(0, values.numel(), 11)
    return values.flatten().index_copy(0, places, many[: len(places)]).view(values.shape)


@pytest.mark.parametrize("spoil", ["points", "boxes", "slopes", "thin boxes"])
@pytest.mark.parametrize("arity", [1, 2, 3])
def test_whatever_the_numbers_planes_are_the_neurons_own(arity: int, spoil: str) -> None:
    """Every plane has an offset of its own, by which it is known."""
    boxes, count = boxes_of(arity), 5
    points, row = points_of(boxes, 7, 3.0), drawn(INPUTS, ROWS, NEURONS, seed=3)
    number = 100.0 * torch.arange(INPUTS * NEURONS, dtype=torch.float64).view(INPUTS, NEURONS)
    pairs = tuple(
        Planes(Plane(lower.slopes, number + k), Plane(upper.slopes, number + 50 + k))
        for k, (lower, upper) in enumerate((pair.lower, pair.upper) for pair in pairs_of(boxes, count))
    )
    if spoil == "points":
        points = [spoilt(point) for point in points]
    elif spoil == "boxes":
        boxes = [box.map(spoilt) for box in boxes]
    elif spoil == "slopes":
        pairs = tuple(
            Planes(*(Plane(tuple(map(spoilt, side.slopes)), side.offset) for side in (pair.lower, pair.upper)))
            for pair in pairs
        )
    else:
        boxes = [Interval(box.lower, box.lower) for box in boxes]
    found = PlaneChoice(pairs, boxes).tightest(negative(row), points).plane.offset - number[:, None]
    assert ((found >= 0) & (found < 100)).all(), "another neuron's"
    assert torch.equal(found >= 50, row < 0), "the other side's"
    assert (found % 50 < count).all()


def test_tables_are_made_once_for_the_same_planes() -> None:
    boxes = boxes_of(2)
    pairs, choices = pairs_of(boxes, 4), Choices()
    first = choices.of(1, pairs, lambda: boxes)
    assert choices.of(1, pairs, lambda: boxes) is first
    assert choices.of(2, pairs, lambda: boxes) is not first
    assert choices.of(1, pairs[:3], lambda: boxes).pairs == pairs[:3]


def test_numbers_are_taken_by_sign() -> None:
    signs = torch.tensor([1.0, -1.0, math.inf, -math.inf, 5e-324, -5e-324], dtype=torch.float64)
    one, other = (torch.tensor(EXTREMES, dtype=torch.float64)[None].expand(3, -1), torch.full((3, 1), 7.0, dtype=torch.float64))
    for positive, rest in ((one, other), (other, one)):
        found = by_sign(signs, positive, rest)
        assert torch.equal(found.nan_to_num(3.0), torch.where(signs > 0, positive, rest).nan_to_num(3.0))


class Heard(Trial):
    """Remembers the answers."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def selected(self, place: int, bounds: Tensor) -> None: ...

    def mixed(self, bounds: Tensor, multipliers: Multipliers) -> None: ...

    def answered(self, number: int, answer: Answer) -> None:
        plane = answer.plane.map(torch.clone)  # mixtures are made in place
        self.answers.append(Answer(plane, answer.places, answer.bits))

    def proved(self, proved: Tensor, planes: PairsOf, last: int, start: int) -> None: ...


def mixed(steps: int) -> tuple[list[Plane], Heard, list[Tensor]]:
    """The mixtures step by step, with coefficients some of which change their signs."""
    boxes, heard = boxes_of(2), Heard()
    mixture = Mixture(0, PlaneChoice(pairs_of(boxes, 9), boxes), heard)
    rows = [drawn(INPUTS, ROWS, NEURONS, seed=1) + 0.5 * drawn(INPUTS, ROWS, NEURONS, seed=50 + step) for step in range(steps)]
    found = []
    for step, row in enumerate(rows):
        mixture.visit(points_of(boxes, 200 + 10 * step), step)
        found.append(mixture.take(row).map(torch.clone))
    return found, heard, rows


def faults(steps: int = 12) -> int:
    """How many coefficients of mixtures are no convex combinations, to the rounding allowed, of their side's answers alone."""
    found, heard, rows = mixed(steps)
    parts = [torch.stack([*answer.plane.slopes, answer.plane.offset]) for answer in heard.answers]
    exact = [[Fraction(0)] * parts[0].numel()]
    count = 0
    for step, (plane, answer) in enumerate(zip(found, parts, strict=True), start=1):
        share = Fraction(2, step + 1)
        anew = (rows[step - 1] < 0) != (rows[step - 2] < 0) if step > 1 else torch.ones_like(rows[0], dtype=torch.bool)
        weights = [Fraction(1) if new else share for new in anew.expand_as(answer).flatten().tolist()]
        new = [Fraction(number) for number in answer.flatten().tolist()]
        exact.append([old + weight * (to - old) for old, to, weight in zip(exact[-1], new, weights, strict=True)])
        allowed = mixing_error(step) * float(torch.stack(parts).abs().amax())
        mine = torch.stack([*plane.slopes, plane.offset]).flatten().tolist()
        count += sum(abs(Fraction(number) - right) > allowed for number, right in zip(mine, exact[-1], strict=True))
    return count


def test_mixtures_are_convex_and_begin_anew_where_signs_change() -> None:
    _, heard, rows = mixed(12)
    for answer, row in zip(heard.answers, rows, strict=True):
        assert torch.equal(answer.upper, row < 0)
    changes = sum(int(((one < 0) != (other < 0)).sum()) for one, other in pairwise(rows))
    assert changes > 100
    assert faults() == 0


def without_new_beginnings(old: Plane, new: Plane, weight: Tensor) -> Plane:
    """Lower planes mixed with upper ones, where signs have changed."""
    return BLENDED(old, new, torch.full_like(weight, float(weight.min())))


BLENDED = mixtures.blended


@pytest.mark.parametrize("wrong", [without_new_beginnings, lambda old, new, weight: BLENDED(old, new, 1.0001 * weight)])
def test_other_mixtures_are_caught(wrong: Callable[[Plane, Plane, Tensor], Plane], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "blended", wrong)
    assert faults()


@pytest.mark.parametrize("arity", [1, 2, 3])
def test_the_same_is_chosen_whatever_torch_s_default_dtype_is(arity: int) -> None:
    boxes = boxes_of(arity)
    pairs, points, upper = pairs_of(boxes, 9), points_of(boxes, 7), negative(drawn(INPUTS, ROWS, NEURONS, seed=3))
    usual = PlaneChoice(pairs, boxes).tightest(upper, points)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = PlaneChoice(pairs, boxes).tightest(upper, points)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.places, usual.places)
