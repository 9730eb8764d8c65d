"""The batched backend against HiGHS and against the definition of an optimum, on batches of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from solvers.backends.batched import Batch, Batched, BatchSolution, solve_batch
from solvers.base import Options
from solvers.errors import BackendError, ProblemError
from solvers.problem import Problem
from solvers.solution import Status

SETTINGS = settings(derandomize=True, deadline=None, max_examples=60)
WORDS = {0: Status.OPTIMAL, 2: Status.INFEASIBLE, 3: Status.UNBOUNDED}


def full(batch: Batch):
    """The arrays of each program."""
    count, height, width = batch.shape
    rows = np.broadcast_to(batch.rows, (count, height, width))
    vectors = [
        np.broadcast_to(array, (count, array.shape[-1]))
        for array in (batch.cost, batch.row_lower, batch.row_upper, batch.lower, batch.upper)
    ]
    return zip(rows, *vectors, strict=True)


def by_highs(rows, cost, row_lower, row_upper, lower, upper):
    """Status and objective; infeasibility is asked without a cost, as HiGHS may not tell it from unboundedness."""
    matrix = np.concatenate([rows, -rows])
    right = np.concatenate([row_upper, -row_lower])
    keep = np.isfinite(right)
    given = {"A_ub": matrix[keep], "b_ub": right[keep], "bounds": np.stack([lower, upper], axis=1), "method": "highs"}
    if linprog(0 * cost, **given).status == 2:
        return Status.INFEASIBLE, np.nan
    found = linprog(cost, **given)
    if found.status != 0:  # presolve calls some unbounded programs infeasible
        found = linprog(cost, **given, options={"presolve": False})
    return WORDS[found.status], found.fun


def check_optimum(solution: BatchSolution, k: int, rows, cost, row_lower, row_upper, lower, upper, tolerance=1e-9):
    """Feasible, dual feasible, and the Lagrangian's value is the objective's."""
    x, y = solution.primal[k], solution.dual[k]
    slack = tolerance * (1 + np.abs(rows) @ np.abs(x))
    assert (rows @ x >= row_lower - slack).all()
    assert (rows @ x <= row_upper + slack).all()
    assert ((x >= lower) & (x <= upper)).all()
    reduced = cost - rows.T @ y
    size = np.abs(cost) + np.abs(rows).T @ np.abs(y)
    reduced = np.where(np.abs(reduced) <= 1e-11 * size, 0.0, reduced)
    value, scale = 0.0, 0.0
    for weight, low, high in ((y, row_lower, row_upper), (reduced, lower, upper)):
        rest = np.where(weight > 0, low, np.where(weight < 0, high, 0.0))
        assert np.isfinite(rest).all(), "a multiplier of a bound that is not there"
        value += float(weight @ rest)
        scale += float(np.abs(weight) @ np.abs(rest))
    assert solution.objective[k] == pytest.approx(cost @ x, rel=1e-12, abs=1e-12)
    assert abs(value - solution.objective[k]) <= tolerance * (scale + np.abs(cost) @ np.abs(x))


def check_ray(ray, rows, row_lower, row_upper, lower, upper):
    """The rows, so weighted, sum to something that no point within the variables' bounds attains."""
    sums = ray @ rows
    sums = np.where(np.abs(sums) <= 1e-11 * (np.abs(ray) @ np.abs(rows)), 0.0, sums)
    wanted = sum(w * (low if w > 0 else high) for w, low, high in zip(ray, row_lower, row_upper, strict=True) if w)
    got = sum(s * (high if s > 0 else low) for s, low, high in zip(sums, lower, upper, strict=True) if s)
    assert got < wanted


def check(batch: Batch) -> BatchSolution:
    solution = solve_batch(batch)
    for k, (rows, cost, *bounds) in enumerate(full(batch)):
        status, objective = by_highs(rows, cost, *bounds)
        assert solution.status[k] is status, (k, rows, cost, bounds)
        if status is Status.OPTIMAL:
            check_optimum(solution, k, rows, cost, *bounds)
            assert solution.objective[k] == pytest.approx(objective, rel=1e-9, abs=1e-9)
        else:
            assert np.isnan(solution.primal[k]).all()
            assert np.isnan(solution.objective[k])
        if status is Status.INFEASIBLE:
            check_ray(solution.ray[k], rows, *bounds)
    return solution


def draw_batch(seed: int, count: int, height: int, width: int, shared: str, whole: bool, loose: float) -> Batch:
    """Rows of every kind: equalities, ranges, one side, none, zeros, repeated ones; variables boxed, fixed, free, half free."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int):
        return rng.integers(-2, 3, shape).astype(float) if whole else rng.normal(size=shape)

    def bounds(middle, slack: float):
        kinds = rng.integers(0, 5, middle.shape)
        low = middle - slack * np.abs(numbers(*middle.shape))
        high = middle + slack * np.abs(numbers(*middle.shape))
        low = np.where(kinds == 0, middle, np.where(kinds >= 3, -np.inf, low))
        high = np.where(kinds == 0, middle, np.where((kinds == 2) | (kinds == 4), np.inf, high))
        return low, high

    axis = () if "rows" in shared else (count,)
    rows = numbers(*axis, height, width)
    if height > 2:
        rows[..., -1, :] = rows[..., 0, :]
    if height > 4:
        rows[..., 1, :] = 0.0
    if width > 2:
        rows[..., 0] *= rng.integers(0, 2)
    cost = numbers(*(() if "cost" in shared else (count,)), width)
    inside = numbers(count, width)
    middle = np.einsum("...ij,...j->...i", rows, inside) + loose * numbers(count, height)
    low, high = bounds(middle, 1.0)
    lower, upper = bounds(inside, 2.0)
    if "bounds" in shared:
        lower, upper = lower[0], upper[0]
    return Batch(cost, rows, low, high, lower, upper)


@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(0, 12),
    width=st.integers(1, 5),
    shared=st.sets(st.sampled_from(["rows", "cost", "bounds"])),
    whole=st.booleans(),
    loose=st.sampled_from([0.0, 0.3]),
)
def test_agrees_with_highs(seed, height, width, shared, whole, loose):
    if "bounds" in shared:
        loose = 0.3
    check(draw_batch(seed, 6, height, width, shared, whole, loose))


@SETTINGS
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 5), shared=st.sampled_from(["", "rows"]))
def test_bounds_that_scale_the_answer(seed, width, shared):
    """Multiplying columns, rows and the cost by powers of ten up to 1e8 changes the answer by just that."""
    batch = draw_batch(seed, 6, 8, width, shared, False, 0.0)
    rng = np.random.default_rng(seed)
    by_row, by_column = 10.0 ** rng.integers(-8, 9, 8), 10.0 ** rng.integers(-8, 9, width)
    scaled = Batch(
        batch.cost * by_column,
        batch.rows * by_row[:, None] * by_column,
        batch.row_lower * by_row,
        batch.row_upper * by_row,
        batch.lower / by_column,
        batch.upper / by_column,
    )
    plain, found = solve_batch(batch), solve_batch(scaled)
    assert (found.status == plain.status).all()
    np.testing.assert_allclose(found.objective, plain.objective, rtol=1e-9, atol=1e-11)
    for k, (rows, _, *bounds) in enumerate(full(scaled)):
        if found.status[k] is Status.OPTIMAL:
            scale = np.abs(by_row)
            x = found.primal[k]
            slack = 1e-9 * (scale + np.abs(rows) @ np.abs(x))
            assert (rows @ x >= bounds[0] - slack).all()
            assert (rows @ x <= bounds[1] + slack).all()


def fits(count: int, samples: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, 1, (samples, 2))
    values = np.tanh(rng.normal(size=(count, 2)) @ places.T) + rng.normal(size=(count, 1))
    rows = np.column_stack([places, np.ones(samples)])
    return Batch(rows.mean(axis=0), rows, values, lower=-100, upper=100)


def test_planes_above_samples():
    batch = fits(40, 100)
    solution = check(batch)
    assert {*solution.status} == {Status.OPTIMAL}


def test_a_big_batch_answers_as_its_parts_in_any_order():
    batch = fits(5000, 100)
    solution = solve_batch(batch)
    order = np.random.default_rng(1).permutation(5000)
    again = solve_batch(Batch(batch.cost, batch.rows, batch.row_lower[order], lower=-100, upper=100))
    np.testing.assert_allclose(again.objective, solution.objective[order], rtol=1e-12)
    np.testing.assert_allclose(again.primal, solution.primal[order], rtol=0, atol=1e-11)
    assert {*solution.status} == {Status.OPTIMAL}
    slack = solution.primal @ batch.rows.T - batch.row_lower
    assert slack.min() >= -1e-9
    np.testing.assert_allclose((solution.dual * batch.row_lower).sum(axis=1), solution.objective, rtol=1e-9)


def test_mixed_outcomes_in_one_batch():
    solution = check(
        Batch(
            cost=[[1.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0], [1.0, -1.0]],
            rows=[[1.0, 2.0], [1.0, 2.0]],
            row_lower=[[2.0, -np.inf], [2.0, -np.inf], [2.0, -np.inf], [5.0, -np.inf], [2.0, -np.inf]],
            row_upper=[[np.inf, 4.0], [np.inf, 1.0], [np.inf, np.inf], [5.0, np.inf], [np.inf, 4.0]],
        )
    )
    assert [s.name for s in solution.status] == ["OPTIMAL", "INFEASIBLE", "UNBOUNDED", "OPTIMAL", "OPTIMAL"]


def test_known_answers():
    """min x + 2 y, x + y >= 3 (dual 1), y - x <= 1 (dual -0.5 with x free from below)"""
    rows = [[1.0, 1.0], [-1.0, 1.0]]
    solution = check(Batch([1.0, 2.0], rows, [3.0, -np.inf], [np.inf, 1.0], lower=-np.inf))
    assert solution.status[0] is Status.UNBOUNDED
    solution = check(Batch([1.0, -2.0], rows, [3.0, -np.inf], [np.inf, 1.0], lower=-np.inf, upper=np.inf))
    assert solution.status[0] is Status.UNBOUNDED
    solution = check(Batch([2.0, -1.0], rows, [3.0, -np.inf], [np.inf, 1.0], lower=-np.inf, upper=np.inf))
    np.testing.assert_allclose(solution.primal, [[1.0, 2.0]])
    np.testing.assert_allclose(solution.dual, [[0.5, -1.5]])
    assert solution.objective[0] == 0.0


@pytest.mark.parametrize("free", [False, True])
def test_no_rows(free):
    lower, upper = (-np.inf, np.inf) if free else (-1.0, 2.0)
    solution = check(Batch([[1.0, -1.0], [0.0, 0.0]], np.zeros((0, 2)), lower=lower, upper=upper))
    assert solution.status[1] is Status.OPTIMAL
    assert solution.dual.shape == (2, 0)


def test_no_programs_and_no_variables():
    empty = solve_batch(Batch(np.zeros((0, 3)), np.ones((4, 3))))
    assert empty.status.shape == (0,)
    assert empty.primal.shape == (0, 3)
    assert empty.dual.shape == (0, 4)
    nothing = solve_batch(Batch(np.zeros(0), np.zeros((1, 0)), [[-1.0], [1.0]]))
    assert [*nothing.status] == [Status.OPTIMAL, Status.INFEASIBLE]


def test_an_empty_row_fails_whatever_the_other_rows_sizes():
    batch = Batch([1.0], [[1.0], [0.0]], [[1e9, 1e-6], [1e9, -1e-6]], lower=-np.inf)
    assert [*solve_batch(batch).status] == [Status.INFEASIBLE, Status.OPTIMAL]


def test_costs_that_tie_with_rows_end():
    """Klee-Minty-like ties: many rows parallel to the cost, and every vertex on many rows."""
    rng = np.random.default_rng(3)
    rows = rng.integers(-1, 2, (60, 4)).astype(float)
    batch = Batch(np.tile(rows[:20], (3, 1)), rows, row_lower=0.0, lower=-np.inf, upper=np.inf)
    check(batch)
    check(Batch(np.tile(rows[:20], (3, 1)), rows, row_lower=-1.0, row_upper=1.0, lower=-np.inf))


def test_every_vertex_on_many_rows():
    """Working sets whose inverses hold what rounding leaves of zeros; each program must still be settled."""
    for seed in (40, 115):
        rng = np.random.default_rng(seed)
        rows, least = rng.integers(-1, 2, (200, 5)).astype(float), -rng.integers(0, 2, 200).astype(float)
        solution = solve_batch(Batch(rng.integers(-1, 2, (1000, 5)), rows, row_lower=least, lower=-5, upper=5))
        assert {*solution.status} == {Status.OPTIMAL}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rows": np.ones((2, 3))}, r"\(2, 3\)"),
        ({"rows": [[np.nan, 1.0]]}, "NaN"),
        ({"cost": [[1.0, np.inf]]}, "infinite"),
        ({"row_lower": [1.0, 2.0]}, "row_lower has shape"),
        ({"lower": 3.0, "upper": [[4.0, 4.0], [4.0, 2.0]]}, "variable 1 are crossed in program 1"),
        ({"upper": np.nan}, "NaN"),
        ({"row_lower": np.inf}, r"\+inf"),
        ({"cost": np.ones((3, 2)), "upper": np.ones((2, 2))}, "2 and 3 programs"),
        ({"cost": "many"}, "array of numbers"),
    ],
)
def test_batches_that_make_no_sense(given, words):
    with pytest.raises(ProblemError, match=words):
        Batch(**{"cost": np.ones(2), "rows": np.ones((1, 2)), **given})


def test_backend_solves_and_solves_again():
    problem = Problem([2.0, 3.0], [[1.0, 1.0], [1.0, -1.0]], [4.0, -2.0], [np.inf, 2.0], offset=10.0)
    session = Batched().load(problem, Options())
    found = session.solve()
    assert found.status is Status.OPTIMAL
    assert found.objective == pytest.approx(19.0)
    np.testing.assert_allclose(found.primal, [3.0, 1.0])
    np.testing.assert_allclose(found.dual, [2.5, -0.5])
    assert session.solve(cost=[-1.0, 0.0]).status is Status.UNBOUNDED
    session.add_rows([[1.0, 0.0]], -np.inf, 5.0)
    assert session.solve().objective == pytest.approx(5.0)
    bad = session.solve(row_upper=[np.inf, 2.0, -1.0])
    assert bad.status is Status.INFEASIBLE
    assert bad.primal is None
    check_ray(
        bad.ray, bad.problem.rows.toarray(), *(getattr(bad.problem, n) for n in ("row_lower", "row_upper", "lower", "upper"))
    )


def test_backend_refuses_what_is_too_big():
    backend = Batched()
    assert "6 variables" in backend.refuses(Problem(np.ones(6)))
    assert "201 rows" in backend.refuses(Problem([1.0], np.ones((201, 1))))
    assert "whole" in backend.refuses(Problem([1.0], integer=[True]))
    session = backend.load(Problem([1.0], np.ones((200, 1))), Options())
    with pytest.raises(BackendError, match="201 rows"):
        session.add_rows([[1.0]], 0.0, 1.0)
