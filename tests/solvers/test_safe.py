"""`safe_bound` is never above the optimum, whatever dual it is given: against optima in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from solvers import Problem, Status, load, solve
from solvers.leaves import leaf_bound
from solvers.safe import proves_infeasible, safe_bound
from tests.helpers.exact_programs import exact_lagrangian, exact_optimum, exact_whole_optimum

ORDINARY = st.floats(-10, 10).map(lambda value: round(value, 3))
WILD = st.one_of(ORDINARY, st.floats(-1e8, 1e8), st.sampled_from([0.0, 1e-9, 1 / 3, 0.1, 1e8, -1e8, 1e-160, 1e154]))
ANY = st.one_of(WILD, st.floats(allow_nan=True, allow_infinity=True))
UNBOUNDED_SIDES = st.sampled_from(["both", "lower", "upper", "equal", "none"])


@st.composite
def problems(draw: st.DrawFn, numbers: st.SearchStrategy[float] = ORDINARY, whole: bool = False) -> Problem:
    """Bounded variables, rows of every kind."""
    n, m = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    rows = np.array([[draw(numbers) for _ in range(n)] for _ in range(m)]).reshape(m, n)
    lower = np.array([draw(st.integers(-3, 2) if whole else numbers) for _ in range(n)], dtype=float)
    upper = lower + np.array([draw(st.integers(0, 4) if whole else st.floats(0, 10)) for _ in range(n)])
    row_lower, row_upper = np.full(m, -np.inf), np.full(m, np.inf)
    for i in range(m):
        kind, value = draw(UNBOUNDED_SIDES), draw(numbers)
        if kind in ("both", "lower", "equal"):
            row_lower[i] = value
        if kind in ("both", "upper", "equal"):
            row_upper[i] = value if kind == "equal" else value + (draw(st.floats(0, 5)) if kind == "both" else 0)
    cost = np.array([draw(numbers) for _ in range(n)])
    return Problem(cost, rows, row_lower, row_upper, lower, upper, np.full(n, whole), draw(ORDINARY))


def never_above(bound: float, optimum: Fraction | None) -> bool:
    if math.isnan(bound):
        return False
    if optimum is None or bound == -math.inf:
        return True
    return bound != math.inf and Fraction(bound) <= optimum


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(WILD), st.data())
def test_any_multipliers_prove_at_most_the_optimum(problem: Problem, data: st.DataObject) -> None:
    dual = np.array([data.draw(ANY) for _ in range(problem.shape[0])])
    assert never_above(safe_bound(problem, dual), exact_optimum(problem))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(WILD), st.data())
def test_usable_multipliers_prove_their_lagrangian_and_lose_little(problem: Problem, data: st.DataObject) -> None:
    dual = np.array([data.draw(ORDINARY) for _ in range(problem.shape[0])])
    exact = exact_lagrangian(problem, dual)
    assume(exact is not None)
    assert exact is not None
    bound = safe_bound(problem, dual)
    assert never_above(bound, exact)
    dense = np.abs(problem.rows.toarray())
    with np.errstate(all="ignore"):
        reach = np.maximum(np.abs(problem.lower), np.abs(problem.upper))
        size = (np.abs(problem.cost) + dense.T @ np.abs(dual)) @ reach + np.abs(problem.offset) + 1
        sides = np.where(dual > 0, problem.row_lower, problem.row_upper)
        size += np.abs(dual[dual != 0] * sides[dual != 0]).sum()
    if math.isfinite(size):  # of sums beyond all floats nothing has to be proved
        assert float(exact - Fraction(bound)) <= 1e-13 * size


@pytest.mark.parametrize("multiplier", [-4.0, 2.0])
def test_sums_beyond_all_floats_prove_no_more_than_they_are(multiplier: float) -> None:
    variables, dual = np.array([1e154, 0.0]), np.array([0.0, 0.0, multiplier])
    rows = np.array([[0.0, 0.0], [0.0, 0.0], [1e155, 0.0]])
    problem = Problem(np.zeros(2), rows, np.zeros(3), np.array([0.0, np.inf, 0.0]), variables, variables)
    assert never_above(safe_bound(problem, dual), exact_lagrangian(problem, dual))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problems())
def test_the_solvers_dual_loses_next_to_nothing(problem: Problem) -> None:
    solution = solve(problem)
    optimum = exact_optimum(problem)
    bound = solution.safe_bound
    if optimum is None:
        assert solution.status is not Status.OPTIMAL or bound < math.inf
        return
    assert never_above(bound, optimum)
    if solution.status is Status.OPTIMAL:
        assert float(optimum - Fraction(bound)) <= 1e-6 * max(1.0, abs(float(optimum)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problems(), st.data())
def test_damaged_duals_are_weaker_never_wrong(problem: Problem, data: st.DataObject) -> None:
    """Truncated, reversed, with the wrong sign, scaled, with a NaN."""
    optimum = exact_optimum(problem)
    dual = solve(problem).dual
    assume(dual is not None and len(dual) > 0)
    assert dual is not None
    damages = [dual[:-1], dual[::-1], -dual, 1e9 * dual, np.append(dual, 1.0), np.round(dual), dual.astype(np.float32)]
    spoiled = dual.copy()
    spoiled[data.draw(st.integers(0, len(dual) - 1))] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
    for damaged in [*damages, spoiled]:
        assert never_above(safe_bound(problem, damaged), optimum)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems(whole=True))
def test_leaves_prove_the_optimum_of_whole_problems(problem: Problem) -> None:
    optimum = exact_whole_optimum(problem)
    solution = solve(problem)
    bound = solution.safe_bound
    assert never_above(bound, optimum) or (optimum is None and bound == math.inf)
    if optimum is None:
        return
    assert bound != math.inf
    assert float(optimum - Fraction(bound)) <= 1e-6 * max(1.0, abs(float(optimum)))
    for leaves in (1, 2, 5):
        assert never_above(leaf_bound(problem, solution.claimed_bound, leaves), optimum)
    for claim in (math.inf, -math.inf, math.nan, float(optimum) + 5, float(optimum) - 5):
        assert never_above(leaf_bound(problem, claim), optimum)


def test_infeasibility_is_proved_by_a_ray() -> None:
    problem = Problem([1.0, 1.0], [[1.0, 1.0], [1.0, 1.0]], [3.0, -np.inf], [np.inf, 2.0], 0.0, 10.0, offset=7.0)
    assert proves_infeasible(problem, np.array([1.0, -1.0]))
    assert not proves_infeasible(problem, np.array([-1.0, 1.0]))
    solution = solve(problem)
    assert solution.status is Status.INFEASIBLE
    assert solution.safe_bound == math.inf


def test_a_feasible_problem_is_never_proved_infeasible() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        rows = generator.normal(size=(3, 3))
        point = generator.uniform(-1, 1, 3)
        values = rows @ point
        problem = Problem(np.zeros(3), rows, values - 1e-15, values + 1e-15, -1.0, 1.0)
        for _ in range(5):
            assert not proves_infeasible(problem, generator.normal(size=3) * 10.0 ** generator.integers(-3, 12))


def test_free_variables_need_bounds_known_beforehand() -> None:
    """minimise x + y, x + 3 y >= 1, 3 x + y >= 1: the optimum is 1/2; the reduced costs are 0 only up to rounding."""
    problem = Problem([1.0, 1.0], [[1.0, 3.0], [3.0, 1.0]], 1.0, np.inf, -np.inf, np.inf)
    dual = np.array([0.25, 0.25]) * (1 + 1e-15)
    assert safe_bound(problem, dual) == -math.inf
    known = safe_bound(problem, dual, lower=np.full(2, -100.0), upper=np.full(2, 100.0))
    assert 0.5 - 1e-9 <= known <= 0.5


@pytest.mark.parametrize(("lower", "upper", "sign"), [(0.0, np.inf, 1.0), (-np.inf, 0.0, -1.0)])
def test_one_sided_variables_are_bounded_where_their_reduced_cost_keeps_them(lower: float, upper: float, sign: float) -> None:
    problem = Problem([sign * 2.0], [[1.0]], -5.0, 5.0, lower, upper)
    assert -1e-12 <= safe_bound(problem, [sign * 1.0]) + 5.0 <= 0.0 or safe_bound(problem, [sign * 1.0]) <= 0.0
    assert safe_bound(problem, [0.0]) == pytest.approx(0.0, abs=1e-300)
    assert safe_bound(problem, [sign * 3.0]) == -math.inf


def test_variables_without_an_upper_bound_lose_next_to_nothing() -> None:
    """Reduced costs of basic variables are 0 up to rounding: exactly 0 is told apart, a wrong sign is mended."""
    assert solve(Problem([1.0, 1.0], [[1.0, 2.0]], 2.0, 9.0)).safe_bound == pytest.approx(1.0, abs=1e-12)
    generator = np.random.default_rng(0)
    for size in (3, 10, 40):
        rows = generator.uniform(0.1, 1, (size, size + 5))
        problem = Problem(generator.uniform(0.5, 1, size + 5), rows, generator.uniform(1, 2, size), np.inf, 0.0, np.inf)
        solution = solve(problem)
        assert solution.objective - 1e-9 <= solution.safe_bound <= solution.objective + 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems(WILD), st.data())
def test_any_multipliers_are_safe_without_upper_bounds(problem: Problem, data: st.DataObject) -> None:
    """Bounds that do not bind at the optimum of the bounded problem may be left out; then its optimum is an upper bound."""
    loose = problem.changed(upper=np.full(problem.shape[1], np.inf))
    dual = np.array([data.draw(ANY) for _ in range(problem.shape[0])])
    assert never_above(safe_bound(loose, dual), exact_optimum(problem))


def test_overflow_proves_nothing() -> None:
    problem = Problem([1.0], [[1e300]], 1.0, np.inf, -1e300, 1e300)
    for dual in (1e300, -1e300, 1e308):
        assert safe_bound(problem, [dual]) <= 1e-300


def test_safe_bounds_follow_a_session() -> None:
    """Each solution keeps the problem that it answers, whatever the session is asked next."""
    problem = Problem([1.0, 0.0], [[1.0, 1.0]], 1.0, np.inf, 0.0, 5.0)
    session = load(problem)
    first = session.solve()
    second = session.solve(cost=[-1.0, -1.0])
    third = session.solve(upper=[1.0, 1.0])
    assert first.safe_bound == pytest.approx(0.0, abs=1e-9)
    assert second.safe_bound == pytest.approx(-10.0)
    assert third.safe_bound == pytest.approx(-2.0)


def test_the_rounding_of_reduced_costs_is_paid_for() -> None:
    """Wide boxes magnify what cancels in `cost - rows.T @ dual`: against the same sum in rational numbers."""
    generator = np.random.default_rng(1)
    for _ in range(200):
        rows = generator.normal(size=(8, 2))
        dual = generator.normal(size=8)
        cost = rows.T @ dual  # nothing is left of it but rounding
        problem = Problem(cost, rows, -1.0, 1.0, -1e12, 1e12)
        exact = exact_lagrangian(problem, dual)
        assert exact is not None
        assert never_above(safe_bound(problem, dual), exact)


@pytest.mark.parametrize(("cost", "row_lower", "row_upper", "optimum"), [(1.0, 3.0, np.inf, 2.0), (-1.0, -np.inf, 5.0, -2.0)])
def test_a_split_leaves_no_whole_number_out(cost: float, row_lower: float, row_upper: float, optimum: float) -> None:
    problem = Problem([cost], [[2.0]], row_lower, row_upper, 0.0, 10.0, [True])
    assert optimum - 1e-6 <= leaf_bound(problem) <= optimum


def test_nodes_that_are_still_open_count() -> None:
    """A knapsack of twelve things: with few leaves the bound is weak, with many it is the optimum, and never above it."""
    generator = np.random.default_rng(5)
    worth, weight = generator.integers(10, 40, 12), generator.integers(10, 40, 12)
    problem = Problem(-worth, [weight], -np.inf, weight.sum() / 2, 0.0, 1.0, np.full(12, True))
    choices = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    optimum = -int((choices @ worth)[choices @ weight <= weight.sum() / 2].max())
    bounds = [leaf_bound(problem, leaves=leaves) for leaves in (1, 2, 3, 5, 10, 20, 40, 1000)]
    assert (np.diff(bounds) >= -1e-6).all()
    assert bounds[0] < optimum - 1e-3
    assert all(bound <= optimum for bound in bounds)
    assert bounds[-1] == pytest.approx(optimum, abs=1e-6)
