"""The cases of a formula as boxes of inputs and rows over the outputs, in floats that keep what is proved true.

A case is satisfied where all of its constraints `a y <= b` hold: it is refuted where on its whole box one of `a y - b > 0`
holds. So each is a property of which one row is needed, and the query is unsatisfiable if all cases are proved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from tightverify.errors import InputError, UnsupportedError
from tightverify.inputs.vnnlib.syntax import Case, Constraint, Formula, factors_of, named, read_formula
from tightverify.spec import Property

EXACT = 2**53
"""Whole numbers up to here are floats."""
ROUNDS = 3
"""How often constraints that join inputs are gone through for bounds of single ones."""


@dataclass(frozen=True, eq=False)
class Query:
    """Boxes (N, inputs) around those that the cases state, their rows, and the cases themselves.

    Rows are over the outputs, and after them over the `extras`: inputs that a constraint joins with others, and products. Where
    a case leaves an input without a bound, its box is `cut` (a sentence of why), and shows nothing but what satisfies it.
    """

    lower: Tensor
    upper: Tensor
    refuted: Property
    cases: tuple[Case, ...]
    extras: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def outputs(self) -> int:
        return self.refuted.rows.shape[2] - len(self.extras)


def read_query(path: Path) -> Query:
    """What a file asks; cases whose box is empty are left out."""
    with named(path):
        return query_of(read_formula(path))


def query_of(formula: Formula) -> Query:
    """A formula's cases in floats."""
    boxes, cases, cut = list[list[tuple[float, float]]](), list[Case](), list[str]()
    for case in formula.cases:
        ends = ends_of(case)
        bounds = box_between(*ends, formula.inputs)
        if bounds is None or any(not c.linear.terms and not holds(c, {}) for c in case):
            continue
        boxes.append([(below(low), -below(-high)) for low, high in bounds])
        cases.append(case)
        cut.append(unbounded(*ends, formula))
    used = {name for case in cases for constraint in joint(case) for name in constraint.linear.terms}
    extras = tuple(sorted(used - places_of(formula.outputs, ()).keys()))
    places = places_of(formula.outputs, extras)
    rows = [[row_of(constraint, places) for constraint in joint(case)] for case in cases]
    lower, upper = torch.tensor(boxes, dtype=torch.float64).view(-1, formula.inputs, 2).unbind(2)
    return Query(lower, upper, property_of(rows, len(places)), tuple(cases), extras, tuple(cut))


def joint(case: Case) -> list[Constraint]:
    """The constraints that are rows: all but bounds of single inputs."""
    return [constraint for constraint in case if constraint.linear.terms and not constraint.bounds_one]


def places_of(outputs: int, extras: Sequence[str]) -> dict[str, int]:
    """Where outputs and extras stand in a row."""
    return {name: place for place, name in enumerate((*(f"Y_{k}" for k in range(outputs)), *extras))}


class Ends(dict[int, Fraction]):
    """The least numbers that inputs are known not to be above, by their places."""

    def lower(self, place: int, limit: Fraction) -> None:
        self[place] = min(self.get(place, limit), limit)


def ends_of(case: Case) -> tuple[Ends, Ends]:
    """The upper ends that a case states of its inputs, and those of their negatives.

    Constraints that join some bound each by the others.
    """
    upper, negated = Ends(), Ends()
    several = []
    for constraint in case:
        if constraint.bounds_one:
            ((name, coefficient),) = constraint.linear.terms.items()
            (upper if coefficient > 0 else negated).lower(int(name[2:]), -constraint.linear.constant / abs(coefficient))
        elif constraint.of_inputs:
            several.append(constraint)
    for constraint in several * ROUNDS:
        for name, coefficient in constraint.linear.terms.items():
            rest = least_of_others(constraint, name, upper, negated)
            if rest is not None:
                ends, limit = (upper if coefficient > 0 else negated), -rest / abs(coefficient)
                ends.lower(int(name[2:]), limit)
    return upper, negated


def box_of(case: Case, inputs: int) -> list[tuple[Fraction, Fraction]] | None:
    """A box around what a case states of its inputs, None if it is empty; where an end is missing, one near the other, or 0."""
    return box_between(*ends_of(case), inputs)


def box_between(upper: Ends, negated: Ends, inputs: int) -> list[tuple[Fraction, Fraction]] | None:
    """The same between the ends that are known."""
    if any(-negated[place] > upper[place] for place in upper.keys() & negated.keys()):
        return None
    found = []
    for place in range(inputs):
        high = upper.get(place)
        low = -negated[place] if place in negated else Fraction(-1) if high is None else high - near(high)
        found.append((low, low + near(low) if high is None else high))
    return found


def near(end: Fraction) -> Fraction:
    """How far from an end the other is put that is missing."""
    return max(Fraction(1), abs(end))


def unbounded(upper: Ends, negated: Ends, formula: Formula) -> str:
    """Which input lacks an end, in words; nothing if all have both."""
    place = next((place for place in range(formula.inputs) if place not in upper or place not in negated), None)
    if place is None:
        return ""
    name = formula.called[place] if formula.called else f"X_{place}"
    return f"{name} has no {'lower' if place in upper else 'upper'} bound"


def least_of_others(constraint: Constraint, name: str, upper: Ends, negated: Ends) -> Fraction | None:
    """The least value of a constraint's sum without one of its inputs, None where that is unbounded."""
    total = constraint.linear.constant
    for other, coefficient in constraint.linear.terms.items():
        ends = negated if coefficient > 0 else upper
        if other != name:
            if int(other[2:]) not in ends:
                return None
            total -= abs(coefficient) * ends[int(other[2:])]
    return total


def row_of(constraint: Constraint, places: Mapping[str, int]) -> tuple[list[float], float]:
    """The row `a y - b` in floats, times a number: coefficients exact, the offset not above its own."""
    scale = Fraction(math.lcm(*(value.denominator for value in constraint.linear.terms.values())))
    row = [0.0] * len(places)
    for name, coefficient in constraint.linear.terms.items():
        value = coefficient * scale
        if abs(value) > EXACT:
            raise UnsupportedError(f"the coefficient {float(coefficient):g} of {name} has too many digits; round it")
        row[places[name]] = float(value)
    return row, below(constraint.linear.constant * scale)


def property_of(rows: list[list[tuple[list[float], float]]], outputs: int) -> Property:
    """One row of each case is needed; a case without any is never refuted; the last row of fewer is repeated."""
    never = ([0.0] * outputs, -1.0)
    most = max((len(some) for some in rows), default=1) or 1
    filled = [[*some, *[some[-1] if some else never] * (most - len(some))] for some in rows]
    matrix = torch.tensor([[row for row, _ in some] for some in filled], dtype=torch.float64).view(-1, most, outputs)
    return Property(matrix, torch.tensor([[d for _, d in some] for some in filled], dtype=torch.float64).view(-1, most), 1)


def below(value: Fraction) -> float:
    """The greatest float that is not above a number."""
    try:
        found = float(value)
    except OverflowError as error:
        raise InputError(f"a number of {len(str(abs(int(value))))} digits is too large for floats") from error
    return found if Fraction(found) <= value else math.nextafter(found, -math.inf)


def holds(constraint: Constraint, values: Mapping[str, Fraction]) -> bool:
    """Whether a constraint holds for the values of variables, exactly."""
    found = constraint.linear.constant
    for name, coefficient in constraint.linear.terms.items():
        found += coefficient * prod(values[factor] for factor in factors_of(name))
    return found < 0 if constraint.strict else found <= 0
