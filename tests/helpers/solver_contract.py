"""The contract of a solver on programs whose answers are known: status, value, primal and dual, and the safe bound."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import solvers
from solvers import Problem, Solution, Status, solve
from tests.helpers.solver_problems import LINEAR, MIXED, Named

TOLERANCE = 1e-6


def scale(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return max(1.0, finite.max(initial=0.0))


def assert_feasible(problem: Problem, primal: np.ndarray) -> None:
    for values, low, high in (
        (primal, problem.lower, problem.upper),
        (problem.rows @ primal, problem.row_lower, problem.row_upper),
    ):
        slack = TOLERANCE * max(1.0, np.abs(values).max(initial=0.0))
        assert (values >= low - slack).all()
        assert (values <= high + slack).all()
    whole = primal[problem.integer]
    assert np.allclose(whole, np.round(whole), atol=1e-5)


def assert_optimal_pair(solution: Solution) -> None:
    """Dual feasibility, complementarity and equal values: the multipliers' signs are those of solution.py."""
    problem, primal, dual = solution.problem, solution.primal, solution.dual
    assert primal is not None
    assert dual is not None
    reduced = solution.reduced_costs
    for weights, values, low, high in (
        (dual, problem.rows @ primal, problem.row_lower, problem.row_upper),
        (reduced, primal, problem.lower, problem.upper),
    ):
        small = TOLERANCE * scale(problem.cost)
        room = TOLERANCE * max(1.0, np.abs(values).max(initial=0.0))
        assert (values[weights > small] <= low[weights > small] + room).all()
        assert (values[weights < -small] >= high[weights < -small] - room).all()
    value = lagrangian(problem, dual)
    assert value == pytest.approx(solution.objective, rel=TOLERANCE, abs=TOLERANCE)


def lagrangian(problem: Problem, dual: np.ndarray) -> float:
    """In rational arithmetic, but for multipliers and reduced costs next to 0 at a side without a bound."""
    y = [Fraction(float(value)) for value in dual]
    reduced = [Fraction(float(value)) for value in problem.cost]
    dense = problem.rows.toarray()
    for row, weight in enumerate(y):
        for column in np.flatnonzero(dense[row]):
            reduced[column] -= weight * Fraction(float(dense[row, column]))
    total = Fraction(problem.offset)
    for weights, low, high in ((y, problem.row_lower, problem.row_upper), (reduced, problem.lower, problem.upper)):
        for weight, least, most in zip(weights, low, high, strict=True):
            side = float(least if weight > 0 else most)
            if np.isfinite(side):
                total += weight * Fraction(side)
            else:
                assert abs(weight) <= TOLERANCE * scale(problem.cost)
    return float(total)


def close(values: np.ndarray, wanted: tuple[Fraction, ...]) -> bool:
    return np.allclose(values, [float(value) for value in wanted], rtol=1e-6, atol=1e-6)


def linear(name: str, case: Named) -> None:
    """What a solver says of a linear program whose answer is known."""
    solution = solve(case.problem, name)
    assert solution.problem is case.problem
    assert solution.solver == name
    assert solution.seconds >= 0
    if case.status is not Status.OPTIMAL:
        if name == "pyomo:glpk" and solution.status is Status.UNKNOWN:
            return  # what GLPK's presolver finds out, Pyomo does not read
        assert solution.status in (case.status, Status.INFEASIBLE_OR_UNBOUNDED)
        assert solution.primal is None
        assert solution.dual is None
        assert solution.claimed_bound in (np.inf if case.status is Status.INFEASIBLE else -np.inf, -np.inf)
        if solution.ray is not None:
            assert lagrangian(case.problem.changed(cost=0 * case.problem.cost, offset=0.0), solution.ray) > 0
        return
    optimum = float(case.optimum)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(optimum, rel=1e-7, abs=1e-7)
    assert solution.claimed_bound == pytest.approx(optimum, rel=1e-7, abs=1e-7)
    assert_feasible(case.problem, solution.primal)
    assert_optimal_pair(solution)
    assert case.primal is None or close(solution.primal, case.primal)
    assert case.dual is None or close(solution.dual, case.dual)
    assert solution.safe_bound == -np.inf or Fraction(solution.safe_bound) <= case.optimum


def mixed_integer(name: str, case: Named) -> None:
    """What it says of one with whole variables."""
    solution = solve(case.problem, name)
    assert solution.dual is None
    if case.status is not Status.OPTIMAL:
        # GLPK's words on a relaxation without a bound are none that Pyomo knows
        assert solution.status in (case.status, Status.INFEASIBLE_OR_UNBOUNDED, Status.UNKNOWN)
        assert solution.status is not Status.UNKNOWN or (name, case.status) == ("pyomo:glpk", Status.UNBOUNDED)
        return
    optimum = float(case.optimum)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(optimum)
    assert solution.claimed_bound == pytest.approx(optimum, rel=1e-4)
    assert_feasible(case.problem, solution.primal)
    assert case.primal is None or close(solution.primal, case.primal)
    assert solution.safe_bound == -np.inf or Fraction(solution.safe_bound) <= case.optimum


def check(name: str) -> None:
    """All named programs that the solver takes, for one that stands outside of the package."""
    for case in LINEAR:
        linear(name, case)
    for case in MIXED:
        if solvers.backend(name).refuses(case.problem) is None:
            mixed_integer(name, case)
