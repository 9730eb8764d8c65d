"""Named linear and mixed-integer programs with known answers, for every backend.

`optimum` is None where there is none; `primal` and `dual` are given where they are the only ones. The numbers are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from solvers import Problem, Status

INF = np.inf


@dataclass(frozen=True)
class Named:
    name: str
    problem: Problem
    status: Status = Status.OPTIMAL
    optimum: Fraction | None = None
    primal: tuple[Fraction, ...] | None = None
    dual: tuple[Fraction, ...] | None = None

    def __str__(self) -> str:
        return self.name


def _exact(numbers: str) -> tuple[Fraction, ...]:
    return tuple(Fraction(number) for number in numbers.split())


def _solved(name: str, problem: Problem, optimum: str, primal: str | None = None, dual: str | None = None) -> Named:
    return Named(
        name,
        problem,
        Status.OPTIMAL,
        Fraction(optimum),
        None if primal is None else _exact(primal),
        None if dual is None else _exact(dual),
    )


LINEAR = (
    _solved("ordinary", Problem([-3, -5], [[1, 0], [0, 2], [3, 2]], -INF, [4, 12, 18]), "-36", "2 6", "0 -3/2 -1"),
    _solved("lower rows", Problem([2, 3], [[1, 1], [1, 2]], [4, 5], INF), "9", "3 1", "1 1"),
    _solved("with an offset", Problem([1, 1], [[2, 1]], [2], INF, 0, 5, offset=7), "8", "1 0", "1/2"),
    _solved("degenerate vertex", Problem([-1, -1], [[1, 0], [0, 1], [1, 1]], -INF, [1, 1, 2]), "-2", "1 1"),
    _solved(
        "degenerate, cycles without care",  # Beale
        Problem(
            [-0.75, 150, -0.02, 6],
            [[0.25, -60, -0.04, 9], [0.5, -90, -0.02, 3], [0, 0, 1, 0]],
            -INF,
            [0, 0, 1],
        ),
        "-1/20",
        "1/25 0 1 0",
    ),
    _solved("free variables", Problem([1, 0], [[1, 1], [1, -1]], [1, -3], INF, -INF, INF), "-1", "-1 2", "1/2 1/2"),
    _solved("equality rows", Problem([1, 2, 3], [[1, 1, 1], [1, -1, 0]], [6, 1], [6, 1], 0, 10), "17/2", "7/2 5/2 0"),
    _solved("equality rows, one dual", Problem([1, 2], [[1, 1], [1, -1]], [3, 1], [3, 1]), "4", "2 1", "3/2 -1/2"),
    _solved("range row at its upper end", Problem([-1, -2], [[1, 1]], [0.5], [1.5], 0, 1), "-5/2", "1/2 1", "-1"),
    _solved("range row at its lower end", Problem([1, 2], [[1, 1]], [0.5], [1.5], 0, 1), "1/2", "1/2 0", "1"),
    _solved("range row inside", Problem([1, -1], [[1, 1]], [0.5], [1.5], 0, 1), "-1", "0 1", "0"),
    _solved("fixed variable", Problem([1, 1], [[1, 1]], [3], INF, [2, 0], [2, 5]), "3", "2 1", "1"),
    _solved("all fixed", Problem([1, -1], [[1, 1]], [1], [9], [2, 3], [2, 3]), "-1", "2 3", "0"),
    _solved(
        "badly scaled rows",
        Problem([1, 1], [[1e4, 0], [0, 1e-4]], [1e4, 1e-4], INF, 0, 100),
        "2",
    ),
    _solved("badly scaled costs", Problem([1e8, 1], [[1, 1]], [1], INF, 0, [10, 0.5]), "100000001/2", "1/2 1/2", "1e8"),
    _solved("badly scaled columns", Problem([1e-4, 1e4], [[1e-4, 1e4]], [2e4], INF, 0, [1e8, 1e8]), "20000"),
    _solved("empty row", Problem([1, 1], [[0, 0], [1, 1]], [-1, 1], [1, INF], 0, [1, 0.5]), "1"),
    _solved("free row", Problem([1, 2], [[1, -1], [1, 1]], [-INF, 1], INF, 0, 3), "1", "1 0", "0 1"),
    _solved("zero column", Problem([1, 0, -1], [[1, 0, 0]], [1], INF, [0, 0, 0], [4, 4, 2]), "-1"),
    _solved("zero cost", Problem([0, 0], [[1, 1]], [1], [1], 0, 1), "0"),
    _solved("no rows", Problem([1, -1], None, lower=-1, upper=2), "-3", "-1 2", ""),
    _solved("one variable", Problem([2], [[4]], [1], INF), "1/2", "1/4", "1/2"),
    _solved("one variable, one bound", Problem([-1], [[1]], -INF, [5], -INF, 3), "-3", "3", "0"),
    _solved("several optima", Problem([1, 1], [[1, 1]], [1], INF, 0, 1), "1", None, "1"),
    Named("infeasible rows", Problem([1, 1], [[1, 1], [1, 1]], [3, -INF], [INF, 2]), Status.INFEASIBLE),
    Named("infeasible bounds", Problem([1, 1], [[1, 1]], [3], INF, 0, 1), Status.INFEASIBLE),
    Named("infeasible equality", Problem([0, 0], [[1, 1], [1, 1]], [1, 2], [1, 2], -5, 5), Status.INFEASIBLE),
    Named("infeasible empty row", Problem([1], [[0]], [1], INF), Status.INFEASIBLE),
    Named("unbounded", Problem([-1, -1], [[1, -1]], [0], [0]), Status.UNBOUNDED),
    Named("unbounded, free", Problem([1, 0], [[1, 1]], -INF, [1], -INF, INF), Status.UNBOUNDED),
)

WHOLE = [True, True]
MIXED = (
    _solved("knapsack", Problem([-8, -11, -6, -4], [[5, 7, 4, 3]], -INF, [14], 0, 1, [True] * 4), "-21", "0 1 1 1"),
    _solved("whole", Problem([-5, -4], [[6, 4], [1, 2]], -INF, [24, 6], 0, INF, WHOLE), "-20", "4 0"),
    _solved("mixed", Problem([-1, -1], [[2, 1], [1, 3]], -INF, [4.5, 6], 0, INF, [True, False]), "-8/3", "1 5/3"),
    _solved("whole, equality", Problem([3, 2], [[2, 3]], [12], [12], 0, 10, WHOLE, offset=1), "9", "0 4"),
    _solved("binary cover", Problem([1, 1, 1], [[1, 1, 0], [0, 1, 1], [1, 0, 1]], 1, INF, 0, 1, [True] * 3), "2"),
    _solved("whole, below 0", Problem([1], [[2]], [-5], INF, -10, 10, [True]), "-2", "-2"),
    Named("whole, infeasible", Problem([1, 1], [[1, 1]], 0.25, 0.75, 0, 1, WHOLE), Status.INFEASIBLE),
    Named("whole, infeasible rows", Problem([1, 1], [[1, 1]], 3, INF, 0, 1, WHOLE), Status.INFEASIBLE),
    Named("whole, unbounded", Problem([-1, -1], [[1, -1]], -0.5, 0.75, 0, INF, WHOLE), Status.UNBOUNDED),
)


def hard_knapsacks(rows: int = 25, variables: int = 200) -> Problem:
    """A mixed-integer program that no solver here ends in minutes."""
    random = np.random.default_rng(0)
    weights = random.integers(10, 100, (rows, variables)).astype(float)
    return Problem(
        -random.integers(50, 60, variables).astype(float), weights, -INF, weights.sum(1) // 2, 0, 1, [True] * variables
    )


def random_program(seed: int, rows: int, variables: int, fill: float = 0.5) -> Problem:
    """Feasible and bounded, with rows of every kind."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, variables)) * (random.random((rows, variables)) < fill)
    activity = matrix @ random.uniform(-0.5, 0.5, variables)
    kind = np.arange(rows) % 4
    low = np.where(kind == 1, -INF, activity - np.where(kind == 3, 0.0, 0.5))
    high = np.where(kind == 0, INF, activity + np.where(kind == 3, 0.0, 0.5))
    equal = (kind == 3) & (np.arange(rows) < variables // 2)
    low, high = np.where((kind == 3) & ~equal, activity - 1, low), np.where((kind == 3) & ~equal, activity + 1, high)
    return Problem(random.normal(size=variables), matrix, low, high, -1, 1)
