"""Any solver that Pyomo reaches, by its name there: `pyomo:glpk`, `pyomo:cbc`, `pyomo:appsi_highs`, `pyomo:cplex`, ...

Every solve writes a new model and starts from scratch, so this is for checking one solver against another and not for
speed. Pyomo's writers know no rows without variables: such a row is dropped, or, if 0 is outside its bounds, is itself the
proof that there is no feasible point. A variable that stands nowhere gets the value next to 0.

What GLPK says of an infeasible program Pyomo mostly does not read: the status then is UNKNOWN.
"""

from __future__ import annotations

import logging
import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata, util
from typing import Any

import numpy as np

from solvers.base import Backend, Capabilities, Changes, Options, Session, impossible_row
from solvers.errors import BackendError
from solvers.problem import Problem
from solvers.solution import Answer, Status

STATUS: dict[str, Status] = {
    "optimal": Status.OPTIMAL,
    "globallyOptimal": Status.OPTIMAL,
    "infeasible": Status.INFEASIBLE,
    "unbounded": Status.UNBOUNDED,
    "infeasibleOrUnbounded": Status.INFEASIBLE_OR_UNBOUNDED,
    "maxTimeLimit": Status.TIME_LIMIT,
    "maxIterations": Status.ITERATION_LIMIT,
    "maxEvaluations": Status.ITERATION_LIMIT,
    "userInterrupt": Status.INTERRUPTED,
}
HOW = {
    "glpk": "install the program glpsol (Debian: apt install glpk-utils)",
    "cbc": "install the program cbc (Debian: apt install coinor-cbc)",
    "appsi_highs": "pip install highspy",
}
WHOLE_SECONDS = ("glpk",)
"""solvers whose time limit is a whole number of seconds: it is rounded up"""


class Pyomo(Backend):
    """`interruptible` is False because a solver may hold Ctrl-C back; where it gets through the solve ends, without a bound."""

    capabilities = Capabilities(mixed_integer=True, duals=True, warm_start=False, time_limit=True, interruptible=False)

    def __init__(self, name_in_pyomo: str) -> None:
        self.name_in_pyomo = name_in_pyomo
        self.name = f"pyomo:{name_in_pyomo}"

    @property
    def version(self) -> str:
        return _version(self.name_in_pyomo)

    def missing(self) -> str | None:
        if not util.find_spec("pyomo"):
            return "Pyomo is not installed: pip install pyomo"
        if _reached(self.name_in_pyomo):
            return None
        how = HOW.get(self.name_in_pyomo, "install it, and see `pyomo help --solvers` for the names that Pyomo knows")
        return f"Pyomo reaches no solver {self.name_in_pyomo!r} here: {how}"

    def refuses(self, problem: Problem) -> str | None:
        if problem.shape[1] == 0:
            return f"{self.name} takes no problem without variables: choose highs"
        return super().refuses(problem)

    def _open(self, problem: Problem, options: Options) -> Session:
        return _PyomoSession(self, problem, options, self.name_in_pyomo)


@contextmanager
def _quiet() -> Iterator[None]:
    """Pyomo logs, with a traceback, what `missing` says in a sentence and what a status says."""
    logger = logging.getLogger("pyomo")
    former = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(former)


@cache
def _reached(name: str) -> bool:
    import pyomo.environ  # its import makes the solvers known  # noqa: F401
    from pyomo.opt import SolverFactory

    with _quiet():
        return bool(SolverFactory(name).available(exception_flag=False))


@cache
def _version(name: str) -> str:
    from pyomo.opt import SolverFactory

    with _quiet():
        own = SolverFactory(name).version() if _reached(name) else None
    through = f"through Pyomo {metadata.version('pyomo')}"
    return f"{'.'.join(map(str, own))} {through}" if own else through


class _PyomoSession(Session):
    def __init__(self, backend: Backend, problem: Problem, options: Options, name: str) -> None:
        super().__init__(backend, problem, options)
        self._name = name

    def _change(self, changes: Changes) -> None:
        """Every run writes the problem anew."""

    def _extend(self, before: int) -> None:
        """Every run writes the problem anew."""

    def _run(self, options: Options) -> Answer:
        from pyomo.opt import SolverFactory

        problem = self.problem
        if impossible_row(problem) is not None:
            return Answer(Status.INFEASIBLE)
        model, rows = _model(problem)
        told: dict[str, Any] = {"load_solutions": False}
        if np.isfinite(options.time_limit):
            whole = self._name in WHOLE_SECONDS
            told["timelimit"] = math.ceil(options.time_limit) if whole else options.time_limit
        with _quiet():
            solver = SolverFactory(self._name)
            try:
                results = solver.solve(model, **told)
            except KeyboardInterrupt:
                return Answer(Status.INTERRUPTED)
            except subprocess.TimeoutExpired:  # the solver did not keep to its own limit
                return Answer(Status.TIME_LIMIT)
            except Exception as error:  # every interface of Pyomo's has errors of its own
                raise BackendError(f"{self.backend.name} failed ({type(error).__name__}: {error}); try highs") from error
            return _answer(problem, model, rows, results)


def _model(problem: Problem) -> tuple[Any, list[int]]:
    """The model, and which row each of its constraints is."""
    import pyomo.environ as pyo
    from pyomo.core.expr.numeric_expr import LinearExpression

    def bound(value: float) -> float | None:
        return value if math.isfinite(value) else None

    lower, upper = problem.lower.tolist(), problem.upper.tolist()
    model = pyo.ConcreteModel()
    model.x = pyo.Var(
        range(len(lower)),
        bounds=lambda _, j: (bound(lower[j]), bound(upper[j])),
        domain=lambda _, j: pyo.Integers if problem.integer[j] else pyo.Reals,
    )
    variables = [model.x[j] for j in range(len(lower))]
    used = np.flatnonzero(problem.cost).tolist()
    model.cost = pyo.Objective(
        expr=LinearExpression(
            constant=problem.offset, linear_coefs=problem.cost[used].tolist(), linear_vars=[variables[j] for j in used]
        )
    )
    start, index, value = problem.rows.indptr.tolist(), problem.rows.indices.tolist(), problem.rows.data.tolist()
    bounded = np.isfinite(problem.row_lower) | np.isfinite(problem.row_upper)
    rows: list[int] = np.flatnonzero(bounded & (np.diff(problem.rows.indptr) > 0)).tolist()

    def constraint(_: Any, row: int) -> Any:
        part = slice(start[row], start[row + 1])
        body = LinearExpression(linear_coefs=value[part], linear_vars=[variables[j] for j in index[part]])
        low, high = float(problem.row_lower[row]), float(problem.row_upper[row])
        return body == low if low == high else (bound(low), body, bound(high))

    model.rows = pyo.Constraint(rows, rule=constraint)
    if not problem.is_mixed_integer:
        model.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    return model, rows


def _answer(problem: Problem, model: Any, rows: list[int], results: Any) -> Answer:
    termination = results.solver.termination_condition
    status = STATUS.get(getattr(termination, "name", str(termination)), Status.UNKNOWN)
    primal, dual = None, None
    if len(results.solution) and status in (Status.OPTIMAL, Status.TIME_LIMIT, Status.ITERATION_LIMIT, Status.INTERRUPTED):
        model.solutions.load_from(results)
        nearest = np.clip(0.0, problem.lower, problem.upper)
        values = [model.x[j].value for j in range(len(nearest))]
        primal = np.array([near if value is None else value for value, near in zip(values, nearest, strict=True)])
        if status is Status.OPTIMAL and not problem.is_mixed_integer:
            given = [model.dual.get(model.rows[row]) for row in rows]
            if all(value is not None for value in given):
                dual = np.zeros(problem.shape[0])
                dual[rows] = given
    objective = np.nan if primal is None else float(problem.cost @ primal) + problem.offset
    bound = objective if status is Status.OPTIMAL and not problem.is_mixed_integer else _number(results.problem.lower_bound)
    return Answer(status=status, primal=primal, dual=dual, objective=objective, claimed_bound=bound)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
