"""Thousands of tiny dense linear programs at once, in numpy:

    minimise cost @ x  subject to  row_lower <= rows @ x <= row_upper,  lower <= x <= upper,      for each of N programs.

Every bound is one inequality `row @ x >= least` of a standard form (an upper bound is the lower bound of the negation), which
`batched_simplex` solves exactly: by a dual simplex method whose every answer is proved anew from its working set. Columns and
rows are first scaled by powers of two, which rounds nothing. Programs go through in portions that fit the processor's cache.

A typical use fits planes to samples, N at a time: minimise cost @ (a, b, c) subject to a u_i + b v_i + c >= f_i for all i,
where the samples' places (u_i, v_i) are shared and their values f_i are each program's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvers.backends.batched_simplex import Outcome, Proved, Standard, solve
from solvers.base import Backend, Capabilities, Changes, Options, Session
from solvers.errors import BackendError, ProblemError
from solvers.problem import Floats, Problem
from solvers.solution import Answer, Status

MOST_VARIABLES = 5
MOST_ROWS = 200
PORTION = 2**17
"""numbers in the largest array of a step"""

STATUS: dict[int, Status] = {
    Outcome.OPEN: Status.ITERATION_LIMIT,
    Outcome.OPTIMAL: Status.OPTIMAL,
    Outcome.INFEASIBLE: Status.INFEASIBLE,
    Outcome.UNBOUNDED: Status.UNBOUNDED,
}


@dataclass(frozen=True, eq=False)
class Batch:
    """N programs with m rows and n variables each; an array without the axis of N, or a bound as one number, is for all."""

    cost: Floats
    """(N, n) or (n,)"""
    rows: Floats
    """(N, m, n) or (m, n)"""
    row_lower: Floats
    """(N, m) or (m,), like `row_upper`"""
    row_upper: Floats
    lower: Floats
    """(N, n) or (n,), like `upper`"""
    upper: Floats

    def __init__(
        self,
        cost: ArrayLike,
        rows: ArrayLike,
        row_lower: ArrayLike = -np.inf,
        row_upper: ArrayLike = np.inf,
        lower: ArrayLike = 0.0,
        upper: ArrayLike = np.inf,
    ) -> None:
        costs, matrix = _numbers("cost", cost), _numbers("rows", rows)
        if costs.ndim not in (1, 2) or matrix.ndim not in (2, 3) or matrix.shape[-1] != costs.shape[-1]:
            raise ProblemError(
                f"the cost has shape {costs.shape} and the rows {matrix.shape}; wanted (N, n) or (n,), and (N, m, n) or (m, n)"
            )
        height, width = matrix.shape[-2:]
        fields = {
            "cost": costs,
            "rows": matrix,
            "row_lower": _bound("row_lower", row_lower, height),
            "row_upper": _bound("row_upper", row_upper, height),
            "lower": _bound("lower", lower, width),
            "upper": _bound("upper", upper, width),
        }
        sizes = {len(array) for name, array in fields.items() if array.ndim > (2 if name == "rows" else 1)}
        if len(sizes) > 1:
            raise ProblemError(
                f"the arrays are for {' and '.join(map(str, sorted(sizes)))} programs; wanted one number of them"
            )
        for name, array in fields.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("cost", "rows"):
            if not np.isfinite(fields[name]).all():
                raise ProblemError(f"the {name} hold a NaN or an infinite number; every coefficient must be finite")
        _check_bounds("row", self.row_lower, self.row_upper)
        _check_bounds("variable", self.lower, self.upper)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(programs, rows, variables)"""
        for name, axes in (("cost", 1), ("rows", 2), ("row_lower", 1), ("row_upper", 1), ("lower", 1), ("upper", 1)):
            array = getattr(self, name)
            if array.ndim > axes:
                return (len(array), *self.rows.shape[-2:])
        return (1, *self.rows.shape[-2:])


@dataclass(frozen=True, eq=False)
class BatchSolution:
    """N answers. Where there is no optimum, `primal` and `objective` are NaN and `dual` is 0."""

    status: NDArray[np.object_]
    """(N,) of Status; ITERATION_LIMIT where nothing was proved"""
    primal: Floats
    """(N, n)"""
    dual: Floats
    """(N, m), in the signs of `solution`"""
    ray: Floats
    """(N, m): of an infeasible program the multipliers of the rows that no point survives, else 0"""
    objective: Floats
    """(N,)"""
    iterations: NDArray[np.intp]
    """(N,)"""


def solve_batch(batch: Batch) -> BatchSolution:
    """Solve all programs; the answer to one does not hang on the others."""
    count, height, width = batch.shape
    if not width:
        found = solve_batch(_with_a_variable(batch))
        return replace(found, primal=found.primal[:, :0])
    form = _Form.of(batch)
    outcome = np.zeros(count, dtype=np.int8)
    primal = np.full((count, width), np.nan)
    dual, ray = np.zeros((count, height)), np.zeros((count, height))
    iterations = np.zeros(count, dtype=np.intp)
    portion = max(1, PORTION // form.programs.rows.shape[-2])
    for start in range(0, count, portion):
        part = slice(start, start + portion)
        proved = solve(form.programs.take(part))
        outcome[part] = proved.outcome
        iterations[part] = proved.steps
        best = proved.outcome == Outcome.OPTIMAL
        scale = form.column_scale if form.column_scale.ndim == 1 else form.column_scale[part]
        primal[part][best] = (proved.points * scale)[best]
        form.spread(dual[part], proved, proved.working, proved.weights, best, part)
        empty = proved.outcome == Outcome.INFEASIBLE
        if empty.any():
            form.spread(ray[part], proved, proved.working, proved.weights, empty, part)
            form.spread(ray[part], proved, proved.entering[:, None], np.ones((len(empty), 1)), empty, part)
    np.clip(primal, batch.lower, batch.upper, out=primal)
    table = np.array([STATUS[k] for k in range(len(STATUS))], dtype=object)
    return BatchSolution(table[outcome], primal, dual, ray, (primal * batch.cost).sum(axis=1), iterations)


@dataclass(frozen=True, eq=False)
class _Form:
    """The standard form of a batch, and the way back."""

    programs: Standard
    column_scale: Floats
    """x = column_scale * the form's x; (n,) or (N, n)"""
    row_scale: Floats
    """what the rows were multiplied with and the multipliers must be: (K,) or (N, K), below 0 for a row's upper bound"""
    row: NDArray[np.intp]
    """(K,): the row that a row of the form stands for, -1 for bounds of variables"""

    @staticmethod
    def of(batch: Batch) -> _Form:
        count, _, width = batch.shape
        below = np.flatnonzero(np.atleast_2d(batch.row_lower > -np.inf).any(axis=0))
        above = np.flatnonzero(np.atleast_2d(batch.row_upper < np.inf).any(axis=0))
        column_scale = _power_of_two(np.stack([np.abs(a).max(axis=-1, initial=0.0) for a in _columns(batch.rows)], axis=-1))
        scaled = batch.rows * column_scale[..., None, :]
        sizes = reduce(np.maximum, [np.abs(a) for a in _columns(scaled)])
        scale = _power_of_two(sizes)
        scaled *= scale[..., None]
        unit = np.broadcast_to(np.eye(width), (*scaled.shape[:-2], width, width))
        rows = np.concatenate([unit, -unit, scaled[..., below, :], -scaled[..., above, :]], axis=-2)
        ones = np.ones((*scaled.shape[:-2], 2 * width))
        parts = (
            batch.lower / column_scale,
            -batch.upper / column_scale,
            (batch.row_lower * scale)[..., below],
            (-batch.row_upper * scale)[..., above],
        )
        if all(part.ndim == 1 for part in parts):
            least = np.concatenate(parts)
        else:
            least = np.concatenate([np.broadcast_to(part, (count, part.shape[-1])) for part in parts], axis=1)
        blank = np.concatenate([ones == 0, (sizes == 0)[..., below], (sizes == 0)[..., above]], axis=-1)
        if blank.any():  # rows of zeros: 0 >= least holds, or fails by more than any rounding
            least = np.where(blank, np.where(least > 0, 1e300, -np.inf), least)
        return _Form(
            programs=Standard(np.array(np.broadcast_to(batch.cost * column_scale, (count, width))), rows, least),
            column_scale=column_scale,
            row_scale=np.concatenate([ones, scale[..., below], -scale[..., above]], axis=-1),
            row=np.concatenate([np.full(2 * width, -1), below, above]),
        )

    def spread(
        self, out: Floats, proved: Proved, index: NDArray[np.intp], weights: Floats, chosen: NDArray[np.bool_], part: slice
    ) -> None:
        """Add the weights (N, k) of k rows of the form each to those of the batch's rows (N, m), for the chosen programs."""
        every = np.arange(len(index))[:, None]
        scale = self.row_scale[index] if self.row_scale.ndim == 1 else self.row_scale[part][every, index]
        row = self.row[index]
        used = (row >= 0) & chosen[:, None] & (weights != 0)
        np.add.at(out, (np.broadcast_to(every, row.shape)[used], row[used]), (weights * scale)[used])


class Batched(Backend):
    """One tiny program as a batch of one, so that the method is under every test of a backend."""

    name = "batched"
    capabilities = Capabilities(mixed_integer=False, duals=True, warm_start=False, time_limit=False, interruptible=False)

    @property
    def version(self) -> str:
        return f"numpy {np.__version__}"

    def missing(self) -> str | None:
        return None

    def refuses(self, problem: Problem) -> str | None:
        rows, variables = problem.shape
        if variables > MOST_VARIABLES or rows > MOST_ROWS:
            return (
                f"batched is for up to {MOST_VARIABLES} variables and {MOST_ROWS} rows, this problem has {variables} variables"
                f" and {rows} rows: choose another solver"
            )
        return super().refuses(problem)

    def _open(self, problem: Problem, options: Options) -> Session:
        return _BatchedSession(self, problem, options)


class _BatchedSession(Session):
    """Keeps nothing: a solve takes less than a warm start would save."""

    def _change(self, changes: Changes) -> None:
        pass

    def _extend(self, before: int) -> None:
        fault = self.backend.refuses(self.problem)
        if fault is not None:
            raise BackendError(fault)

    def _run(self, options: Options) -> Answer:
        problem = self.problem
        batch = Batch(problem.cost, problem.rows.toarray(), problem.row_lower, problem.row_upper, problem.lower, problem.upper)
        found = solve_batch(batch)
        status = found.status[0]
        best = status is Status.OPTIMAL
        objective = float(found.objective[0]) + problem.offset
        return Answer(
            status=status,
            primal=found.primal[0] if best else None,
            dual=found.dual[0] if best else None,
            objective=objective,
            claimed_bound=np.inf if status is Status.INFEASIBLE else objective,
            iterations=int(found.iterations[0]),
            ray=found.ray[0] if status is Status.INFEASIBLE else None,
        )


def _numbers(name: str, values: Any) -> Floats:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} cannot be made an array of numbers ({error})") from error


def _bound(name: str, values: ArrayLike, size: int) -> Floats:
    array = _numbers(name, values)
    if array.ndim == 0:
        array = np.full(size, float(array))
    if array.ndim > 2 or array.shape[-1] != size:
        raise ProblemError(f"{name} has shape {array.shape}; wanted (N, {size}), ({size},) or one number")
    return array


def _check_bounds(kind: str, low: Floats, high: Floats) -> None:
    if np.isnan(low).any() or np.isnan(high).any():
        raise ProblemError(f"a {kind}'s bound is NaN; give a number, or an infinity for no bound")
    if (low == np.inf).any() or (high == -np.inf).any():
        raise ProblemError(f"a {kind}'s lower bound is +inf, or its upper bound -inf; nothing lies there")
    crossed = np.argwhere(np.atleast_2d(low > high))
    if len(crossed):
        program, k = crossed[0]
        raise ProblemError(f"the bounds of {kind} {k} are crossed in program {program}; swap them")


def _columns(rows: Floats) -> list[Floats]:
    """One by one, as numpy is slow at maxima along a last axis of few entries."""
    return [rows[..., j] for j in range(rows.shape[-1])]


def _with_a_variable(batch: Batch) -> Batch:
    """A batch without variables with one that is fixed at 0."""
    cost, rows = np.zeros((*batch.cost.shape[:-1], 1)), np.zeros((*batch.rows.shape[:-1], 1))
    return Batch(cost, rows, batch.row_lower, batch.row_upper, np.zeros((*batch.lower.shape[:-1], 1)), 0.0)


def _power_of_two(sizes: Floats) -> Floats:
    """The inverse of sizes, to a factor of 2; 1 for 0."""
    return np.asarray(np.ldexp(1.0, -np.clip(np.frexp(sizes)[1], -500, 500)))
