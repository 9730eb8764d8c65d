"""HiGHS as SciPy ships it: `linprog` and `milp`. Nothing to install, no warm start: every solve is from scratch."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from scipy import sparse

from solvers.base import Backend, Capabilities, Changes, Options, Session
from solvers.problem import Floats, Problem
from solvers.solution import Answer, Status

STATUS: dict[int, Status] = {
    0: Status.OPTIMAL,
    1: Status.TIME_LIMIT,
    2: Status.INFEASIBLE,
    3: Status.UNBOUNDED,
}
"""1 is any limit, and no other one is set here; 4 is all else"""
OTHER = 4


class Scipy(Backend):
    name = "scipy"
    capabilities = Capabilities(mixed_integer=True, duals=True, warm_start=False, time_limit=True, interruptible=False)

    @property
    def version(self) -> str:
        return _version()

    def missing(self) -> str | None:
        return None

    def refuses(self, problem: Problem) -> str | None:
        if problem.shape[1] == 0:
            return "scipy takes no problem without variables: choose highs"
        return super().refuses(problem)

    def _open(self, problem: Problem, options: Options) -> Session:
        return _ScipySession(self, problem, options)


@cache
def _version() -> str:
    return metadata.version("scipy")


class _ScipySession(Session):
    def _change(self, changes: Changes) -> None:
        """Every run reads the problem anew."""

    def _extend(self, before: int) -> None:
        """Every run reads the problem anew."""

    def _run(self, options: Options) -> Answer:
        told: dict[str, Any] = {"time_limit": options.time_limit} if np.isfinite(options.time_limit) else {}
        run = _mixed if self.problem.is_mixed_integer else _linear
        answer, code = run(self.problem, told)
        if code == OTHER:  # often "unbounded or infeasible", which presolve cannot tell apart
            answer, _ = run(self.problem, {**told, "presolve": False})
        return answer


def _mixed(problem: Problem, told: dict[str, Any]) -> tuple[Answer, int]:
    from scipy.optimize import Bounds, LinearConstraint, milp

    rows = [LinearConstraint(problem.rows, problem.row_lower, problem.row_upper)] if problem.shape[0] else []
    found = milp(
        problem.cost,
        integrality=problem.integer.astype(int),
        bounds=Bounds(problem.lower, problem.upper),
        constraints=rows,
        options=told,
    )
    status = STATUS.get(found.status, Status.UNKNOWN)
    bound = found.get("mip_dual_bound")
    return Answer(
        status=status,
        primal=found.x,
        objective=_with_offset(problem, found.fun),
        claimed_bound=_with_offset(problem, bound),
        iterations=int(found.get("mip_node_count") or 0),
        log=found.message,
    ), found.status


def _linear(problem: Problem, told: dict[str, Any]) -> tuple[Answer, int]:
    """`linprog` knows rows below a number and rows equal to one: a range is two of the former."""
    from scipy.optimize import linprog

    equal = np.flatnonzero(problem.row_lower == problem.row_upper)
    ranged = problem.row_lower != problem.row_upper
    below = np.flatnonzero(ranged & np.isfinite(problem.row_upper))
    above = np.flatnonzero(ranged & np.isfinite(problem.row_lower))
    matrix = problem.rows
    found = linprog(
        problem.cost,
        A_ub=sparse.vstack([matrix[below], -matrix[above]], format="csr"),
        b_ub=np.concatenate([problem.row_upper[below], -problem.row_lower[above]]),
        A_eq=matrix[equal],
        b_eq=problem.row_upper[equal],
        bounds=np.stack([problem.lower, problem.upper], axis=1),
        method="highs",
        options=told,
    )
    status = STATUS.get(found.status, Status.UNKNOWN)
    optimal = status is Status.OPTIMAL
    dual: Floats | None = None
    if optimal:
        dual = np.zeros(problem.shape[0])
        dual[equal] = found.eqlin.marginals
        dual[below] += found.ineqlin.marginals[: len(below)]
        dual[above] -= found.ineqlin.marginals[len(below) :]
    objective = _with_offset(problem, found.fun) if optimal else np.nan
    return Answer(
        status=status,
        primal=found.x if optimal else None,
        dual=dual,
        objective=objective,
        claimed_bound=objective,
        iterations=int(found.nit),
        log=found.message,
    ), found.status


def _with_offset(problem: Problem, value: float | None) -> float:
    return np.nan if value is None else float(value) + problem.offset
