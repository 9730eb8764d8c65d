"""What a backend is: it says whether it is there and what it can do, and loads problems into sessions.

A session holds one problem in the solver's own memory and is solved again and again with another cost, other bounds or more
rows, from the last basis where the solver can. `Session` keeps the problem, the clock and the checks; a backend's own
session does the rest in three methods: `_change`, `_extend` and `_run`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from solvers.errors import BackendError, SolverError
from solvers.problem import Floats, Problem
from solvers.solution import Answer, Basis, Solution, Status

CLAIMED = {Status.INFEASIBLE: np.inf, Status.UNBOUNDED: -np.inf, Status.INFEASIBLE_OR_UNBOUNDED: -np.inf}
"""the bound that a status claims by itself"""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do beyond solving a linear program once."""

    mixed_integer: bool
    duals: bool
    warm_start: bool
    time_limit: bool
    interruptible: bool


@dataclass(frozen=True)
class Options:
    """What a solve can be told. `log` asks for the solver's own words in `Solution.log`.

    `interior` asks for an interior point method, from nothing, where a solver has one and the problem is a linear program: on
    large sparse ones it may be ten times as fast as a simplex method without a basis to start from.
    """

    time_limit: float = np.inf
    threads: int = 1
    log: bool = False
    interior: bool = False

    def __post_init__(self) -> None:
        if not self.time_limit > 0:
            raise SolverError(f"the time limit is {self.time_limit} seconds; it must be above 0")
        if self.threads < 1:
            raise SolverError(f"{self.threads} threads were asked for; wanted 1 or more")


@dataclass(frozen=True)
class Changes:
    """The parts of a problem that a solve shall change first; None leaves a part as it is."""

    cost: Floats | None = None
    lower: Floats | None = None
    upper: Floats | None = None
    row_lower: Floats | None = None
    row_upper: Floats | None = None

    @property
    def given(self) -> dict[str, Floats]:
        return {name: value for name, value in vars(self).items() if value is not None}


class Session(ABC):
    """One problem, loaded; `problem` is always the one that the next `solve` is about."""

    def __init__(self, backend: Backend, problem: Problem, options: Options) -> None:
        self.backend = backend
        self.problem = problem
        self.options = options
        self.prover: Callable[[Solution], float] | None = None

    def solve(
        self,
        *,
        cost: ArrayLike | None = None,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        row_lower: ArrayLike | None = None,
        row_upper: ArrayLike | None = None,
        time_limit: float | None = None,
        basis: Basis | None = None,
        interior: bool | None = None,
    ) -> Solution:
        """Solve, after changing what is given; the changes stay. Starts from `basis`, else the last one where it can.

        `time_limit` and `interior` are for this solve alone.
        """
        asked = {"cost": cost, "lower": lower, "upper": upper, "row_lower": row_lower, "row_upper": row_upper}
        given = {name: value for name, value in asked.items() if value is not None}
        if given:
            changed = self.problem.changed(**given)
            self._change(Changes(**{name: getattr(changed, name) for name in given}))
            self.problem = changed
        if basis is not None:
            self._begin_at(basis)
        options = self.options if time_limit is None else replace(self.options, time_limit=time_limit)
        options = options if interior is None else replace(options, interior=interior)
        began = time.perf_counter()
        answer = self._run(options)
        return self._solution(answer, time.perf_counter() - began)

    def add_rows(self, rows: Any, row_lower: ArrayLike, row_upper: ArrayLike) -> None:
        """Add rows at the end; the last basis stays usable."""
        before = self.problem.shape[0]
        longer = self.problem.with_rows(rows, row_lower, row_upper)
        fault = self.backend.refuses(longer)
        if fault is not None:
            raise BackendError(fault)
        self.problem = longer
        self._extend(before)

    def _begin_at(self, basis: Basis) -> None:
        """Make the next solve start from a basis; solvers that can say how."""
        raise BackendError(f"{self.backend.name} cannot start from a basis; leave it out, or choose highs or gurobi")

    def _solution(self, answer: Answer, seconds: float) -> Solution:
        def vector(values: Any, size: int) -> Floats | None:
            if values is None:
                return None
            array = np.array(values, dtype=np.float64)
            return array if array.shape == (size,) else None

        rows, variables = self.problem.shape
        ray = answer.ray
        if ray is None and answer.status is Status.INFEASIBLE and not self.problem.is_mixed_integer:
            ray = impossible_row(self.problem)
        return Solution(
            problem=self.problem,
            status=answer.status,
            primal=vector(answer.primal, variables),
            dual=vector(answer.dual, rows),
            objective=answer.objective,
            claimed_bound=CLAIMED.get(answer.status, answer.claimed_bound),
            iterations=answer.iterations,
            seconds=seconds,
            solver=self.backend.name,
            version=self.backend.version,
            read_basis=answer.read_basis,
            ray=vector(ray, rows),
            log=answer.log,
            prover=self.prover,
        )

    @abstractmethod
    def _change(self, changes: Changes) -> None:
        """Tell the solver of new arrays; `self.problem` still is the old one."""

    @abstractmethod
    def _extend(self, before: int) -> None:
        """Tell the solver of the rows of `self.problem` from `before` on."""

    @abstractmethod
    def _run(self, options: Options) -> Answer: ...


class Backend(ABC):
    """A solver. Making one costs nothing: its package is imported when it is first asked something."""

    name: str
    capabilities: Capabilities

    @property
    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def missing(self) -> str | None:
        """Why the solver cannot be used here and what to do about it, in a sentence; None if it can."""

    def refuses(self, problem: Problem) -> str | None:
        """Why the solver cannot take this problem, in a sentence; None if it can."""
        if problem.is_mixed_integer and not self.capabilities.mixed_integer:
            return f"{self.name} solves no problems with whole variables: choose another solver, or relax the problem"
        return None

    def load(self, problem: Problem, options: Options) -> Session:
        """A session on a problem; says why if there cannot be one."""
        fault = self.missing() or self.refuses(problem)
        if fault is not None:
            raise BackendError(fault)
        return self._open(problem, options)

    @abstractmethod
    def _open(self, problem: Problem, options: Options) -> Session: ...


def dual_objective(problem: Problem, dual: Floats) -> float:
    """What multipliers of the rows claim as a bound, in plain floating point; see `safe` for the proved one."""
    reduced = problem.cost - problem.rows.T @ dual
    total = problem.offset
    for weights, low, high in ((dual, problem.row_lower, problem.row_upper), (reduced, problem.lower, problem.upper)):
        small = np.abs(weights) <= 1e-9 * np.abs(weights).max(initial=1.0)
        side = np.where(weights > 0, low, high)
        total += float(np.where(small & ~np.isfinite(side), 0.0, weights * np.where(weights == 0, 0.0, side)).sum())
    return total


def impossible_row(problem: Problem) -> Floats | None:
    """A ray that names a row without variables whose bounds leave 0 out, if there is one: presolvers give none for it."""
    for row in np.flatnonzero((problem.row_lower > 0) | (problem.row_upper < 0)).tolist():
        if problem.rows.indptr[row] == problem.rows.indptr[row + 1]:
            ray = np.zeros(problem.shape[0])
            ray[row] = 1.0 if problem.row_lower[row] > 0 else -1.0
            return ray
    return None
