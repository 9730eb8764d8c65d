"""Problem: what it takes, what it refuses and in which words, that nothing changes under it, and what its copies share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from solvers import Problem, ProblemError

INF = np.inf
VECTORS = ("cost", "row_lower", "row_upper", "lower", "upper", "integer")


def problem(**given: Any) -> Problem:
    """Two rows, three variables, with some parts replaced."""
    parts: dict[str, Any] = {
        "cost": [1.0, 2.0, 3.0],
        "rows": [[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]],
        "row_lower": [-1.0, 0.0],
        "row_upper": [5.0, INF],
        "lower": [0.0, -INF, 1.0],
        "upper": [4.0, INF, 1.0],
        "integer": [True, False, False],
        "offset": 0.5,
    }
    return Problem(**{**parts, **given})


def test_what_was_given_is_what_it_holds() -> None:
    p = problem()
    assert p.shape == (2, 3)
    np.testing.assert_array_equal(p.cost, [1, 2, 3])
    np.testing.assert_array_equal(p.rows.toarray(), [[1, 0, 2], [0, 3, 0]])
    np.testing.assert_array_equal(p.row_lower, [-1, 0])
    np.testing.assert_array_equal(p.row_upper, [5, INF])
    np.testing.assert_array_equal(p.lower, [0, -INF, 1])
    np.testing.assert_array_equal(p.upper, [4, INF, 1])
    np.testing.assert_array_equal(p.integer, [True, False, False])
    assert p.offset == 0.5
    assert p.is_mixed_integer


def test_defaults() -> None:
    p = Problem([1, -1])
    assert p.shape == (0, 2)
    np.testing.assert_array_equal(p.lower, [0, 0])
    np.testing.assert_array_equal(p.upper, [INF, INF])
    assert p.offset == 0
    assert not p.is_mixed_integer
    q = Problem([1, -1], np.ones((3, 2)))
    np.testing.assert_array_equal(q.row_lower, [-INF] * 3)
    np.testing.assert_array_equal(q.row_upper, [INF] * 3)


def test_one_number_stands_for_all_bounds() -> None:
    p = problem(row_lower=-2, row_upper=7.5, lower=-1, upper=9)
    for name, wanted in (("row_lower", [-2] * 2), ("row_upper", [7.5] * 2), ("lower", [-1] * 3), ("upper", [9] * 3)):
        np.testing.assert_array_equal(getattr(p, name), wanted)


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix, np.array, list])
def test_rows_of_every_kind(make: Any) -> None:
    rows = np.array([[1, 0, 2], [0, 3, 0]])
    p = problem(rows=make(rows))
    assert isinstance(p.rows, sparse.csr_array)
    assert p.rows.dtype == np.float64
    np.testing.assert_array_equal(p.rows.toarray(), rows)


def test_duplicates_are_summed_and_zeros_dropped() -> None:
    given = sparse.coo_array(([1.0, 2.5, 0.0, 4.0, -4.0], ([0, 0, 1, 1, 1], [2, 2, 0, 1, 1])), shape=(2, 3))
    p = problem(rows=given)
    assert p.rows.nnz == 1
    np.testing.assert_array_equal(p.rows.toarray(), [[0, 0, 3.5], [0, 0, 0]])
    assert p.rows.has_sorted_indices


def test_empty_sizes() -> None:
    assert Problem([]).shape == (0, 0)
    assert Problem([], np.zeros((2, 0)), -1, 1).shape == (2, 0)
    assert Problem([1], np.zeros((0, 1))).shape == (0, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cost": [[1.0, 2.0, 3.0]]}, r"cost has shape \(1, 3\); wanted one axis"),
        ({"cost": 1.0}, r"cost has shape \(\)"),
        ({"cost": ["one", "two", "three"]}, "cost cannot be made an array of numbers"),
        ({"cost": [[1.0], [1.0, 2.0]]}, "cost cannot be made an array of numbers"),
        ({"cost": [1.0, np.nan, 3.0]}, "the cost holds a NaN or an infinite number"),
        ({"cost": [1.0, INF, 3.0]}, "the cost holds a NaN or an infinite number"),
        ({"offset": np.nan}, "the cost holds a NaN or an infinite number"),
        ({"rows": np.ones((2, 4))}, r"the rows have shape \(2, 4\); wanted \(m, 3\)"),
        ({"rows": [1.0, 2.0, 3.0, 4.0]}, "the rows have shape"),
        ({"rows": [[1.0, np.nan, 2.0], [0.0, 0.0, 0.0]]}, "the rows hold a NaN or an infinite number"),
        ({"rows": [[1.0, -INF, 2.0], [0.0, 0.0, 0.0]]}, "the rows hold a NaN or an infinite number"),
        ({"rows": "rows"}, "the rows cannot be made a sparse matrix"),
        ({"row_lower": [0.0]}, r"row_lower has shape \(1,\); wanted \(2,\)"),
        ({"row_upper": np.zeros(3)}, r"row_upper has shape \(3,\); wanted \(2,\)"),
        ({"lower": np.zeros((3, 1))}, r"lower has shape \(3, 1\); wanted \(3,\)"),
        ({"upper": np.zeros(2)}, r"upper has shape \(2,\); wanted \(3,\)"),
        ({"lower": [0.0, np.nan, 1.0]}, "a variable's bound is NaN"),
        ({"row_upper": np.nan}, "a row's bound is NaN"),
        ({"lower": [INF, 0.0, 0.0], "upper": INF}, r"a variable's lower bound is \+inf"),
        ({"upper": -INF, "lower": -INF}, "its upper bound -inf"),
        ({"row_lower": INF, "row_upper": INF}, r"a row's lower bound is \+inf"),
        ({"row_lower": -INF, "row_upper": [-INF, 0.0]}, "its upper bound -inf"),
        ({"lower": [0.0, 0.0, 2.0]}, "the bounds of variable 2 are crossed: 2.0 above 1.0; swap them"),
        ({"row_lower": [0.0, 1.0], "row_upper": [0.0, 0.5]}, "the bounds of row 1 are crossed: 1.0 above 0.5"),
        ({"lower": 0.30000000000000004, "upper": 0.3}, "0.30000000000000004 above 0.3"),
        ({"integer": [True, False]}, r"integer has shape \(2,\) and type bool; wanted \(3,\) of True and False"),
        ({"integer": [0, 2, 1]}, r"integer has shape \(3,\) and type int64"),
        ({"integer": True}, r"integer has shape \(\)"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ProblemError, match=words) as caught:
        problem(**given)
    assert "\n" not in str(caught.value)


def test_sums_of_duplicates_that_overflow_are_refused() -> None:
    with pytest.raises(ProblemError, match="infinite"):
        problem(rows=sparse.coo_array(([1e308, 1e308], ([0, 0], [0, 0])), shape=(2, 3)))


def test_equal_bounds_are_no_crossing() -> None:
    problem(lower=1.0, upper=1.0, row_lower=0.0, row_upper=-0.0)


@pytest.mark.parametrize("name", VECTORS)
def test_arrays_are_copied_and_read_only(name: str) -> None:
    given = np.array(getattr(problem(), name))
    before = given.copy()
    p = problem(**{name: given})
    given[:] = ~given if name == "integer" else 99
    np.testing.assert_array_equal(getattr(p, name), before)
    with pytest.raises(ValueError, match="read-only"):
        getattr(p, name)[0] = 0


def test_rows_are_copied_and_read_only() -> None:
    given = sparse.csr_array(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    p = problem(rows=given)
    given.data[:] = 99
    given.indices[:] = 0
    np.testing.assert_array_equal(p.rows.toarray(), [[1, 0, 2], [0, 3, 0]])
    for part in (p.rows.data, p.rows.indices, p.rows.indptr):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 1


def test_fields_cannot_be_set() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem().offset = 1.0  # type: ignore[misc]


def test_read_only_rows_can_be_computed_with() -> None:
    p = problem()
    np.testing.assert_array_equal(p.rows @ [1.0, 1.0, 1.0], [3, 3])
    np.testing.assert_array_equal(p.rows.T @ [1.0, 2.0], [1, 6, 2])
    np.testing.assert_array_equal(p.rows[[1]].toarray(), [[0, 3, 0]])
    np.testing.assert_array_equal(p.rows.tocsc().toarray(), p.rows.toarray())
    np.testing.assert_array_equal(abs(p.rows).toarray(), p.rows.toarray())


@pytest.mark.parametrize("name", ["cost", "lower", "upper", "row_lower", "row_upper"])
def test_changed_shares_what_stays(name: str) -> None:
    p = problem()
    value = getattr(p, name) * 1.0
    q = p.changed(**{name: value})
    assert not np.shares_memory(getattr(q, name), value)
    assert not getattr(q, name).flags.writeable
    for other in (*VECTORS, "rows", "offset"):
        if other != name:
            assert getattr(q, other) is getattr(p, other)


def test_changed_changes_only_the_copy() -> None:
    p = problem()
    q = p.changed(cost=[7, 8, 9], upper=6.0)
    np.testing.assert_array_equal(q.cost, [7, 8, 9])
    np.testing.assert_array_equal(q.upper, [6, 6, 6])
    np.testing.assert_array_equal(p.cost, [1, 2, 3])
    np.testing.assert_array_equal(p.upper, [4, INF, 1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cost": [1.0, 2.0]}, r"cost has shape \(2,\); wanted \(3,\)"),
        ({"cost": [1.0, 2.0, np.nan]}, "the cost holds"),
        ({"lower": 5.0}, "crossed"),
        ({"upper": np.nan}, "NaN"),
        ({"row_lower": [9.0, 0.0]}, "the bounds of row 0 are crossed"),
        ({"rows": np.ones((3, 3))}, r"row_lower has shape \(2,\); wanted \(3,\)"),
        ({"integer": [1, 0, 0]}, "integer has"),
    ],
)
def test_changed_checks_what_is_new(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ProblemError, match=words):
        problem().changed(**changes)


def test_changed_takes_rows_types_and_offset() -> None:
    p = problem().changed(rows=np.ones((1, 3)), row_lower=0, row_upper=1, offset=-2.0, integer=[False, False, True])
    assert p.shape == (1, 3)
    assert p.offset == -2
    np.testing.assert_array_equal(p.integer, [False, False, True])


def test_with_rows_adds_them_at_the_end() -> None:
    p = problem()
    q = p.with_rows([[1, 1, 1], [0, 0, 5]], -INF, [8, 9])
    assert q.shape == (4, 3)
    np.testing.assert_array_equal(q.rows.toarray(), [[1, 0, 2], [0, 3, 0], [1, 1, 1], [0, 0, 5]])
    np.testing.assert_array_equal(q.row_lower, [-1, 0, -INF, -INF])
    np.testing.assert_array_equal(q.row_upper, [5, INF, 8, 9])
    np.testing.assert_array_equal(q.integer, p.integer)
    assert q.offset == p.offset
    assert p.shape == (2, 3)
    assert not q.rows.data.flags.writeable
    assert p.with_rows(np.zeros((0, 3)), [], []).shape == (2, 3)


@pytest.mark.parametrize(
    ("rows", "low", "high", "words"),
    [
        (np.ones((1, 2)), 0, 1, r"the rows have shape \(1, 2\)"),
        (np.ones((1, 3)), [0, 0], 1, r"row_lower has shape \(2,\); wanted \(1,\)"),
        (np.ones((1, 3)), 2, 1, "crossed"),
    ],
)
def test_with_rows_checks_them(rows: Any, low: Any, high: Any, words: str) -> None:
    with pytest.raises(ProblemError, match=words):
        problem().with_rows(rows, low, high)


def test_relaxed_forgets_only_that_variables_are_whole() -> None:
    p = problem()
    q = p.relaxed()
    assert p.is_mixed_integer
    assert not q.is_mixed_integer
    assert q.offset == p.offset
    for name in ("cost", "row_lower", "row_upper", "lower", "upper"):
        np.testing.assert_array_equal(getattr(q, name), getattr(p, name))
    np.testing.assert_array_equal(q.rows.toarray(), p.rows.toarray())
