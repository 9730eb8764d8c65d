"""Gurobi through its matrix interface; an optional extra.

A row with two different finite bounds is an equality with a slack variable of its own, `rows @ x - s = row_lower` with
0 <= s <= row_upper - row_lower, made when the row is loaded (or first becomes such a row: then the model is built anew). The
multiplier of the equality is that of the row. Gurobi's Farkas multipliers are those of solution.py with the other sign.

pip's gurobipy brings a restricted licence, for 2000 variables (slacks among them) and 2000 rows.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import metadata, util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.base import Backend, Capabilities, Changes, Options, Session, dual_objective
from solvers.errors import BackendError
from solvers.problem import Floats, Problem
from solvers.solution import Answer, Basis, Status

STATUS: dict[int, Status] = {
    2: Status.OPTIMAL,
    3: Status.INFEASIBLE,
    4: Status.INFEASIBLE_OR_UNBOUNDED,
    5: Status.UNBOUNDED,
    7: Status.ITERATION_LIMIT,
    8: Status.ITERATION_LIMIT,
    9: Status.TIME_LIMIT,
    10: Status.ITERATION_LIMIT,
    11: Status.INTERRUPTED,
    16: Status.ITERATION_LIMIT,
    17: Status.ITERATION_LIMIT,
}
WITHOUT_OPTIMUM = (Status.INFEASIBLE, Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED)
TOO_LARGE, NO_LICENCE = 10010, 10009


class Gurobi(Backend):
    name = "gurobi"
    capabilities = Capabilities(mixed_integer=True, duals=True, warm_start=True, time_limit=True, interruptible=True)

    @property
    def version(self) -> str:
        return _version()

    def missing(self) -> str | None:
        return None if util.find_spec("gurobipy") else "gurobipy is not installed: pip install gurobipy"

    def _open(self, problem: Problem, options: Options) -> Session:
        return _GurobiSession(self, problem, options)


@cache
def _version() -> str:
    return metadata.version("gurobipy")


class _GurobiSession(Session):
    def __init__(self, backend: Backend, problem: Problem, options: Options) -> None:
        super().__init__(backend, problem, options)
        import gurobipy

        self._api = gurobipy
        try:
            self._environment = gurobipy.Env(empty=True)
            self._environment.setParam("OutputFlag", 0)
            self._environment.start()
        except gurobipy.GurobiError as error:
            raise BackendError(f"gurobi gives no licence ({error}); see gurobi.com for one, or choose highs") from error
        self._build(problem)

    def _build(self, problem: Problem) -> None:
        """A model of the problem from nothing."""
        self._model = self._api.Model(env=self._environment)
        self._model.Params.InfUnbdInfo = 0 if problem.is_mixed_integer else 1
        self._model.ObjCon = problem.offset
        self._variables = self._model.addMVar(
            problem.shape[1],
            lb=problem.lower,
            ub=problem.upper,
            obj=problem.cost,
            vtype=np.where(problem.integer, "I", "C"),
        )
        self._slacks: dict[int, Any] = {}
        self._rows: list[Any] = []
        self._add(problem, 0)

    def _add(self, problem: Problem, before: int) -> None:
        rows = slice(before, problem.shape[0])
        low, high = problem.row_lower[rows], problem.row_upper[rows]
        sense, side = _sides(low, high)
        if len(low):
            block = self._model.addMConstr(problem.rows[rows], self._variables, sense, side)
            self._model.update()
            self._rows.extend(block.tolist())
            for row in np.flatnonzero(_ranged(low, high)).tolist():
                column = self._api.Column([-1.0], [self._rows[before + row]])
                self._slacks[before + row] = self._model.addVar(ub=high[row] - low[row], column=column)
        self._model.update()

    def _change(self, changes: Changes) -> None:
        if changes.row_lower is not None or changes.row_upper is not None:
            now = self.problem.changed(**changes.given)
            ranged = _ranged(now.row_lower, now.row_upper)
            if set(np.flatnonzero(ranged).tolist()) - self._slacks.keys():
                self._build(now)
                return
            self._move_rows(now)
        for attribute, values in (("Obj", changes.cost), ("LB", changes.lower), ("UB", changes.upper)):
            if values is not None:
                self._variables.setAttr(attribute, values)

    def _move_rows(self, problem: Problem) -> None:
        low, high = problem.row_lower, problem.row_upper
        sense, side = _sides(low, high)
        self._model.setAttr("Sense", self._rows, sense.tolist())
        self._model.setAttr("RHS", self._rows, side.tolist())
        ranged = _ranged(low, high)
        for row, slack in self._slacks.items():
            slack.UB = high[row] - low[row] if ranged[row] else 0.0

    def _extend(self, before: int) -> None:
        self._add(self.problem, before)

    def _begin_at(self, basis: Basis) -> None:
        self._model.update()
        columns = np.array([{-1: -1, 0: 0, 1: -2, 2: -3}[k] for k in basis.variables], dtype=np.intc)
        self._variables.setAttr("VBasis", columns)
        rests = [0 if place == 0 else -1 for place in basis.rows]
        for row, slack in self._slacks.items():  # the slack takes the row's place; the equality itself is never basic
            slack.VBasis = {-1: -1, 0: 0, 1: -2, 2: -1}[basis.rows[row]]
            rests[row] = -1
        self._model.setAttr("CBasis", self._rows, rests)

    def _run(self, options: Options) -> Answer:
        model, log = self._model, list[str]()
        model.Params.Threads = options.threads
        model.Params.Method = 2 if options.interior and not self.problem.is_mixed_integer else -1
        model.Params.TimeLimit = min(options.time_limit, 1e100)
        messages = self._api.GRB.Callback.MESSAGE

        def listen(model: Any, where: int) -> None:
            if where == messages:
                log.append(model.cbGet(self._api.GRB.Callback.MSG_STRING))

        try:
            if options.log:
                model.Params.LogToConsole = 0
                model.Params.OutputFlag = 1
                model.optimize(listen)
                model.Params.OutputFlag = 0
            else:
                model.optimize()
        except self._api.GurobiError as error:
            raise BackendError(self._fault(error)) from error
        return self._answer("".join(log))

    def _fault(self, error: Any) -> str:
        rows, variables = self.problem.shape
        if error.errno == TOO_LARGE:
            slacks = f" and {len(self._slacks)} slacks for ranges" if self._slacks else ""
            return (
                f"gurobi's restricted licence allows 2000 variables and 2000 rows, this problem has {variables} variables"
                f"{slacks} and {rows} rows: choose highs, or get a licence at gurobi.com"
            )
        if error.errno == NO_LICENCE:
            return f"gurobi has no valid licence ({error}): choose highs, or get one at gurobi.com"
        return f"gurobi failed: {error} (its error {error.errno})"

    def _answer(self, log: str) -> Answer:
        model, problem = self._model, self.problem
        whole = problem.is_mixed_integer
        status = STATUS.get(model.Status, Status.UNKNOWN)
        if status is Status.INFEASIBLE_OR_UNBOUNDED:
            status = self._tell_apart()
        has_point = model.SolCount > 0 and status not in WITHOUT_OPTIMUM
        dual = None if whole else self._per_row("Pi", status not in WITHOUT_OPTIMUM)
        objective = model.ObjVal if has_point else np.nan
        if whole:
            bound = _attribute(model, "ObjBound", np.nan)
        elif status is Status.OPTIMAL:
            bound = objective
        else:
            bound = np.nan if dual is None else dual_objective(problem, dual)
        ray = None if whole else self._per_row("FarkasDual", status is Status.INFEASIBLE)
        return Answer(
            status=status,
            primal=self._variables.X if has_point else None,
            dual=dual,
            objective=objective,
            claimed_bound=bound,
            iterations=int(model.IterCount),
            read_basis=None if whole else partial(_same, self._basis(status)),
            ray=None if ray is None else -ray,
            log=log,
        )

    def _tell_apart(self) -> Status:
        """Presolve may say "infeasible or unbounded": without its dual reductions it is one of them."""
        model = self._model
        model.Params.DualReductions = 0
        model.optimize()
        model.Params.DualReductions = 1
        return STATUS.get(model.Status, Status.UNKNOWN)

    def _per_row(self, attribute: str, wanted: bool) -> Floats | None:
        if not wanted:
            return None
        try:
            return np.array(self._model.getAttr(attribute, self._rows), dtype=np.float64)
        except (self._api.GurobiError, AttributeError):
            return None

    def _basis(self, status: Status) -> Basis | None:
        if status is not Status.OPTIMAL:
            return None
        try:
            columns = self._variables.getAttr("VBasis").tolist()
            rows = self._model.getAttr("CBasis", self._rows)
        except (self._api.GurobiError, AttributeError):
            return None
        places = {0: 0, -1: -1, -2: 1, -3: 2}
        sense, _ = _sides(self.problem.row_lower, self.problem.row_upper)
        rests = [0 if k == 0 else (1 if s == "<" else -1) for k, s in zip(rows, sense, strict=True)]
        for row, slack in self._slacks.items():
            if rests[row] != 0:
                rests[row] = places[slack.VBasis]
        return Basis(tuple(places[k] for k in columns), tuple(rests))


def _same(basis: Basis | None) -> Basis | None:
    return basis


def _attribute(model: Any, name: str, otherwise: float) -> float:
    try:
        return float(model.getAttr(name))
    except Exception:
        return otherwise


def _ranged(low: Floats, high: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(low) & np.isfinite(high) & (low != high))


def _sides(low: Floats, high: Floats) -> tuple[NDArray[np.str_], Floats]:
    """Gurobi's sense and right-hand side of each row; a row without bounds is one that lies below infinity."""
    both, above = np.isfinite(low) & np.isfinite(high), np.isfinite(low) & ~np.isfinite(high)
    sense = np.where(both, "=", np.where(above, ">", "<"))
    return sense, np.where(both | above, low, np.where(np.isfinite(high), high, 1e100))
