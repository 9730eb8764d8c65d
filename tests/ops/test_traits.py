"""The contract of the traits sees what is wrong: every part, broken on purpose, fails its check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from torch import Tensor

from tests.helpers import traits_contract as contract
from tightverify.ops import MULTIPLY, SIGMOID_TANH, GruUpdate, LeakyRelu, Maximum, Operation, Tanh
from tightverify.relax.planes import Planes
from tightverify.relax.traits import (
    Cells,
    Choice,
    ChoiceRow,
    Envelope,
    FittedPlanes,
    OperandSet,
    PlanePairs,
    Search,
    Support,
    Traits,
)
from tightverify.values import Interval

NEARER = 0.02


@dataclass(frozen=True)
class Claiming(Operation):
    """An operation that claims other traits."""

    whole: Operation
    claimed: Traits
    name = "claiming"

    @property
    def arity(self) -> int:  # type: ignore[override]
        return self.whole.arity

    @property
    def traits(self) -> Traits:
        return self.claimed

    def forward(self, *operands: Tensor) -> Tensor:
        return self.whole.forward(*operands)

    def interval(self, *boxes: Interval) -> Interval:
        return self.whole.interval(*boxes)

    def relax(self, *boxes: Interval) -> Planes:
        return self.whole.relax(*boxes)


class ProductLike(FittedPlanes, Cells, Envelope):
    """Whatever knows its planes."""


@dataclass(frozen=True)
class Nearer(FittedPlanes, Cells, Envelope):
    """Planes that are a little too near."""

    whole: ProductLike

    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        return nearer(*self.whole.planes(operands, kinds, search))

    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        return nearer(*self.whole.at(operands, points, search))

    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        found = self.whole.offsets(operands, lower, upper, search)
        return found[0] + NEARER, found[1] - NEARER

    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        found = self.whole.support(operands, points, upper, search)
        planes = found.planes.clone()
        planes[:, -1] -= NEARER * (2.0 * upper - 1.0)
        return replace(found, planes=planes)


def nearer(lower: Tensor, upper: Tensor) -> PlanePairs:
    lower, upper = lower.clone(), upper.clone()
    lower[..., -1] += NEARER
    upper[..., -1] -= NEARER
    return lower, upper


@dataclass(frozen=True)
class Loose(Choice):
    """Rows of which one is missing."""

    whole: Choice
    missing: int

    def rows(self, box: Sequence[tuple[float, float]]) -> list[ChoiceRow]:
        rows = self.whole.rows(box)
        return rows[: self.missing] + rows[self.missing + 1 :]


def broken(op: Operation, part: str) -> Operation:
    return Claiming(op, replace(op.traits, **{part: Nearer(getattr(op.traits, part))}))  # type: ignore[arg-type]


PARTS: dict[str, Callable[[Operation], None]] = {
    "fitted": contract.fitted_planes_hold,
    "columns": contract.planes_at_points_hold,
    "cells": contract.slopes_hold_with_the_offsets_of_larger_boxes,
    "envelope": contract.supports_hold_and_touch,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("op", [SIGMOID_TANH, MULTIPLY, Tanh(), GruUpdate(), LeakyRelu()], ids=lambda op: op.name)
def test_planes_that_are_too_near_are_seen(op: Operation, part: str) -> None:
    if getattr(op.traits, part) is not None:
        PARTS[part](op)
        with pytest.raises(AssertionError):
            PARTS[part](broken(op, part))


def test_bends_that_are_not_told_are_seen() -> None:
    for bends in ((), (0.5,), (-0.5, 0.5)):
        with pytest.raises(AssertionError):
            contract.it_is_straight_between_breakpoints(Claiming(LeakyRelu(), Traits(breakpoints=bends)))


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_row_is_seen(missing: int) -> None:
    choice = Maximum().traits.choice
    assert choice is not None
    with pytest.raises(AssertionError):
        contract.rows_with_a_binary_hold_its_value_alone(Claiming(Maximum(), Traits(choice=Loose(choice, missing))))
