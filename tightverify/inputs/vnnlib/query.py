"""The cases of a formula as boxes of inputs and rows over the outputs, in floats that keep what is proved true.

A case is satisfied where all of its constraints `a y <= b` hold: it is refuted where on its whole box one of `a y - b > 0`
holds. So each is a property of which one row is needed, and the query is unsatisfiable if all cases are proved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from tightverify.errors import InputError, UnsupportedError
from tightverify.inputs.vnnlib.syntax import Case, Constraint, Formula, read_formula
from tightverify.spec import Property

EXACT = 2**53
"""Whole numbers up to here are floats."""


@dataclass(frozen=True, eq=False)
class Query:
    """Boxes (N, inputs) around those that the cases state, their rows, and the cases themselves."""

    lower: Tensor
    upper: Tensor
    refuted: Property
    cases: tuple[Case, ...]

    def __len__(self) -> int:
        return len(self.cases)


def read_query(path: Path) -> Query:
    """What a file asks; cases whose box is empty are left out."""
    try:
        return query_of(read_formula(path))
    except UnsupportedError as error:
        raise UnsupportedError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def query_of(formula: Formula) -> Query:
    """A formula's cases in floats."""
    boxes, rows, cases = [], [], []
    for case in formula.cases:
        bounds = box_of(case, formula.inputs)
        if bounds is None or any(not c.linear.terms and not holds(c, {}) for c in case):
            continue
        boxes.append([(below(low), -below(-high)) for low, high in bounds])
        rows.append([row_of(constraint, formula.outputs) for constraint in case if constraint.variables == "Y"])
        cases.append(case)
    lower, upper = torch.tensor(boxes, dtype=torch.float64).view(-1, formula.inputs, 2).unbind(2)
    return Query(lower, upper, property_of(rows, formula.outputs), tuple(cases))


def box_of(case: Case, inputs: int) -> list[tuple[Fraction, Fraction]] | None:
    """The box that a case states, None if it is empty."""
    low: dict[int, Fraction] = {}
    high: dict[int, Fraction] = {}
    for constraint in case:
        if "X" not in constraint.variables:
            continue
        if len(constraint.linear.terms) > 1:
            raise UnsupportedError(
                "a constraint joins several inputs, or inputs and outputs: bounds of single inputs are supported"
            )
        ((name, coefficient),) = constraint.linear.terms.items()
        place, limit = int(name[2:]), -constraint.linear.constant / coefficient
        if coefficient > 0:
            high[place] = min(high.get(place, limit), limit)
        else:
            low[place] = max(low.get(place, limit), limit)
    for place in range(inputs):
        if place not in low or place not in high:
            raise UnsupportedError(f"X_{place} has no {'upper' if place in low else 'lower'} bound: give it one")
    found = [(low[place], high[place]) for place in range(inputs)]
    return None if any(least > most for least, most in found) else found


def row_of(constraint: Constraint, outputs: int) -> tuple[list[float], float]:
    """The row `a y - b` in floats, times a number: coefficients exact, the offset not above its own."""
    scale = Fraction(math.lcm(*(value.denominator for value in constraint.linear.terms.values())))
    row = [0.0] * outputs
    for name, coefficient in constraint.linear.terms.items():
        value = coefficient * scale
        if abs(value) > EXACT:
            raise UnsupportedError(f"the coefficient {float(coefficient):g} of {name} has too many digits; round it")
        row[int(name[2:])] = float(value)
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


def holds(constraint: Constraint, values: dict[str, Fraction]) -> bool:
    """Whether a constraint holds for the values of variables, exactly."""
    found = sum((c * values[name] for name, c in constraint.linear.terms.items()), constraint.linear.constant)
    return found < 0 if constraint.strict else found <= 0
