"""Optima of tiny linear and integer programs in rational arithmetic, by trying every vertex or every whole point."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import numpy as np

from solvers import Problem

Row = list[Fraction]


def fractions(values: np.ndarray) -> Row:
    return [Fraction(float(value)) for value in values]


def solve_square(matrix: list[Row], right: Row) -> Row | None:
    """The solution of a square system; None if it is singular."""
    size = len(matrix)
    table = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = next((k for k in range(column, size) if table[k][column] != 0), None)
        if pivot is None:
            return None
        table[column], table[pivot] = table[pivot], table[column]
        head = table[column][column]
        table[column] = [value / head for value in table[column]]
        for k in range(size):
            if k != column and table[k][column] != 0:
                factor = table[k][column]
                table[k] = [a - factor * b for a, b in zip(table[k], table[column], strict=True)]
    return [row[-1] for row in table]


def constraints(problem: Problem) -> list[tuple[Row, Fraction]]:
    """All finite sides as (g, h) with g @ x >= h."""
    found: list[tuple[Row, Fraction]] = []
    dense = problem.rows.toarray()
    identity = np.eye(problem.shape[1])
    sides = [*zip(dense, problem.row_lower, problem.row_upper, strict=True)]
    sides += [*zip(identity, problem.lower, problem.upper, strict=True)]
    for row, low, high in sides:
        exact = fractions(row)
        if np.isfinite(low):
            found.append((exact, Fraction(float(low))))
        if np.isfinite(high):
            found.append(([-value for value in exact], -Fraction(float(high))))
    return found


def dot(left: Row, right: Row) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))


def exact_optimum(problem: Problem) -> Fraction | None:
    """The optimum of a problem whose variables are all bounded; None if no point is feasible."""
    cost, offset = fractions(problem.cost), Fraction(problem.offset)
    every = constraints(problem)
    values = [
        dot(cost, point)
        for chosen in combinations(every, problem.shape[1])
        if (point := solve_square([row for row, _ in chosen], [side for _, side in chosen])) is not None
        and all(dot(row, point) >= side for row, side in every)
    ]
    return min(values) + offset if values else None


def exact_whole_optimum(problem: Problem) -> Fraction | None:
    """The optimum where all variables are whole and bounded."""
    cost, offset = fractions(problem.cost), Fraction(problem.offset)
    every = constraints(problem)
    ranges = [range(int(np.ceil(low)), int(np.floor(high)) + 1) for low, high in zip(problem.lower, problem.upper, strict=True)]
    points = ([Fraction(value) for value in point] for point in product(*ranges))
    values = [dot(cost, point) for point in points if all(dot(row, point) >= side for row, side in every)]
    return min(values) + offset if values else None


def exact_lagrangian(problem: Problem, dual: np.ndarray) -> Fraction | None:
    """What multipliers that are all usable prove, exactly, for bounded variables; None if one needs an infinite side."""
    total = Fraction(problem.offset)
    dense = [fractions(row) for row in problem.rows.toarray()]
    reduced = fractions(problem.cost)
    for row, y, low, high in zip(dense, fractions(dual), problem.row_lower, problem.row_upper, strict=True):
        if y == 0:
            continue
        side = low if y > 0 else high
        if not np.isfinite(side):
            return None
        total += y * Fraction(float(side))
        reduced = [r - y * a for r, a in zip(reduced, row, strict=True)]
    for r, low, high in zip(reduced, problem.lower, problem.upper, strict=True):
        total += min(r * Fraction(float(low)), r * Fraction(float(high)))
    return total
