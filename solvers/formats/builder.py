"""A problem on its way out of a file: columns and rows by name, in the order in which they appear.

Two things that the formats have no exact or no portable way to say are said in a way that every tool understands, and
understood again when read back:

* the objective's constant is the cost of a last column `constant`, fixed at 1 (some tools read a constant with the
  other sign, some ignore it);
* a row with two bounds may be two rows in sequence, `NAME_low` and `NAME_up`, with the same coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from solvers.errors import ProblemError
from solvers.problem import Problem

CONSTANT = "constant"
LOW, UP = "_low", "_up"


class ProblemBuilder:
    """Filled by a reader, then made a `Problem`."""

    def __init__(self) -> None:
        self.maximise = False
        self.offset = 0.0
        self.columns: dict[str, int] = {}
        self.cost: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integer: list[bool] = []
        self.rows: list[str] = []
        self.row_lower: list[float] = []
        self.row_upper: list[float] = []
        self.entries: list[dict[int, float]] = []

    def column(self, name: str, integer: bool = False) -> int:
        """The column of a name; a new one may be anything from 0 up."""
        if name not in self.columns:
            self.columns[name] = len(self.cost)
            self.cost.append(0.0)
            self.lower.append(0.0)
            self.upper.append(math.inf)
            self.integer.append(integer)
        return self.columns[name]

    def known(self, name: str) -> int:
        if name not in self.columns:
            raise ProblemError(f"column {name!r} has a bound or a type, and occurs nowhere before")
        return self.columns[name]

    def row(self, name: str, low: float, high: float) -> int:
        self.rows.append(name)
        self.row_lower.append(low)
        self.row_upper.append(high)
        self.entries.append({})
        return len(self.rows) - 1

    def enter(self, row: int, column: int, value: float) -> None:
        if column in self.entries[row]:
            raise ProblemError(f"row {self.rows[row]!r} names one column twice; add its coefficients up")
        self.entries[row][column] = value

    def problem(self) -> Problem:
        """The problem, a maximisation turned into a minimisation of the negated objective."""
        count = self._without_constant()
        kept = list(self._joined())
        indptr = np.cumsum([0, *(len(self.entries[k]) for k, _, _ in kept)])
        indices = [j for k, _, _ in kept for j in self.entries[k]]
        data = [value for k, _, _ in kept for value in self.entries[k].values()]
        matrix = sparse.csr_array(
            (np.array(data, dtype=np.float64), np.array(indices, dtype=np.int64), indptr), shape=(len(kept), count)
        )
        sign = -1.0 if self.maximise else 1.0
        return Problem(
            cost=sign * np.array(self.cost[:count], dtype=np.float64),
            rows=matrix,
            row_lower=np.array([low for _, low, _ in kept], dtype=np.float64),
            row_upper=np.array([high for _, _, high in kept], dtype=np.float64),
            lower=np.array(self.lower[:count], dtype=np.float64),
            upper=np.array(self.upper[:count], dtype=np.float64),
            integer=np.array(self.integer[:count], dtype=np.bool_),
            offset=sign * self.offset,
        )

    def _without_constant(self) -> int:
        """The number of columns without a last one that stands for the objective's constant, which is taken in."""
        last = len(self.cost) - 1
        if self.columns.get(CONSTANT, -1) != last or last < 0 or not self.lower[last] == self.upper[last] == 1:
            return len(self.cost)
        if any(entry.get(last, 0.0) for entry in self.entries):
            return len(self.cost)
        for entry in self.entries:
            entry.pop(last, None)
        self.offset += self.cost[last]
        return last

    def _joined(self) -> Iterator[tuple[int, float, float]]:
        """Rows with their bounds, those joined that were written as two."""
        k = 0
        while k < len(self.rows):
            low, high = self.row_lower[k], self.row_upper[k]
            step = 2 if self._is_pair(k) else 1
            yield k, low, self.row_upper[k + 1] if step == 2 else high
            k += step

    def _is_pair(self, k: int) -> bool:
        return (
            k + 1 < len(self.rows)
            and self.rows[k].endswith(LOW)
            and self.rows[k + 1] == self.rows[k].removesuffix(LOW) + UP
            and self.row_upper[k] == math.inf
            and self.row_lower[k + 1] == -math.inf
            and self.row_lower[k] <= self.row_upper[k + 1]
            and self.entries[k] == self.entries[k + 1]
        )
