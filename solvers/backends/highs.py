"""HiGHS through highspy's arrays: the default, and the one that is asked thousands of questions of one problem.

A session is one `Highs` object. What changes is told it as whole arrays, and it goes on from its last basis: by the dual
simplex method after other bounds or rows, which leave that basis dual feasible, and by the primal one after another cost,
which leaves it primal feasible. (HiGHS itself would always take the dual one.)

Ctrl-C is noted by a handler that holds for the time of a solve, and HiGHS asks for it at every iteration: no thread is
needed. A program's own handler is called once the solve is over.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import cache, partial
from importlib import metadata, util
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from solvers.base import Backend, Capabilities, Changes, Options, Session, dual_objective
from solvers.errors import BackendError
from solvers.problem import Floats, Problem
from solvers.solution import Answer, Basis, Status

STATUS: dict[str, Status] = {
    "kModelEmpty": Status.OPTIMAL,
    "kOptimal": Status.OPTIMAL,
    "kInfeasible": Status.INFEASIBLE,
    "kUnbounded": Status.UNBOUNDED,
    "kUnboundedOrInfeasible": Status.INFEASIBLE_OR_UNBOUNDED,
    "kTimeLimit": Status.TIME_LIMIT,
    "kIterationLimit": Status.ITERATION_LIMIT,
    "kSolutionLimit": Status.ITERATION_LIMIT,
    "kMemoryLimit": Status.ITERATION_LIMIT,
    "kInterrupt": Status.INTERRUPTED,
    "kHighsInterrupt": Status.INTERRUPTED,
}
WITHOUT_OPTIMUM = (Status.INFEASIBLE, Status.UNBOUNDED, Status.INFEASIBLE_OR_UNBOUNDED)
RESTS = {"kLower": -1, "kBasic": 0, "kUpper": 1, "kZero": 2, "kNonbasic": 2}
DUAL_SIMPLEX, PRIMAL_SIMPLEX = 1, 4
NO_LIMIT = 2**31 - 1
PATIENCE = 10
"""How many iterations for each row and variable the dual simplex method has from where the last solve ended."""
TOLERANCE = 1e-9
"""How far rows and reduced costs may be off: a hundredth of HiGHS's own choice, for next to no time."""
TINY = 5_000
"""A linear program with fewer coefficients is over before anyone presses a key: Python raises KeyboardInterrupt after it."""
LARGEST = 1e15
"""HiGHS takes no coefficient of rows that is not below this"""
FEASIBLE = 2
"""HiGHS's word for it in `primal_solution_status` and `dual_solution_status`"""


class Highs(Backend):
    name = "highs"
    capabilities = Capabilities(mixed_integer=True, duals=True, warm_start=True, time_limit=True, interruptible=True)

    @property
    def version(self) -> str:
        return _version()

    def missing(self) -> str | None:
        return None if util.find_spec("highspy") else "highspy is not installed: pip install highspy"

    def refuses(self, problem: Problem) -> str | None:
        size = float(np.abs(problem.rows.data).max(initial=0.0))
        if not size < LARGEST:
            return (
                f"highs takes coefficients below {LARGEST:g}, this problem has {size:.3g}: scale it, or choose another solver"
            )
        return super().refuses(problem)

    def _open(self, problem: Problem, options: Options) -> Session:
        return _HighsSession(self, problem, options)


@cache
def _version() -> str:
    return metadata.version("highspy")


@cache
def _silent() -> Any:
    """HiGHS that is silent from the first: 1.16 prints its name when callbacks are set, and highspy sets some as it begins."""
    import highspy

    class Silent(highspy.Highs):
        def enableCallbacks(self) -> None:
            self.setOptionValue("output_flag", False)
            begin: Any = super().enableCallbacks  # it has no types
            begin()

    return Silent


class _HighsSession(Session):
    def __init__(self, backend: Backend, problem: Problem, options: Options) -> None:
        super().__init__(backend, problem, options)
        import highspy

        self._api: Any = highspy
        self._status = {getattr(highspy.HighsModelStatus, name): status for name, status in STATUS.items()}
        rests = {getattr(highspy.HighsBasisStatus, name): place for name, place in RESTS.items()}
        self._rests = rests.__getitem__
        self._interruption = _Interruption()
        self._log: list[str] = []
        self._ran = False
        self._highs: Any = _silent()()
        self._told: dict[str, Any] = {"simplex_strategy": DUAL_SIMPLEX}
        self._tell("output_flag", False)
        self._tell("log_to_console", False)
        self._tell("primal_feasibility_tolerance", TOLERANCE)
        self._tell("dual_feasibility_tolerance", TOLERANCE)
        # Not of `self` nor of a bound method: the object would hold itself for ever.
        self._highs.setCallback(_listener(self._interruption, self._log, highspy.cb.HighsCallbackType.kCallbackLogging), None)
        kinds = highspy.cb.HighsCallbackType
        for kind in (kinds.kCallbackSimplexInterrupt, kinds.kCallbackIpmInterrupt, kinds.kCallbackMipInterrupt):
            self._highs.startCallback(kind)
        self._columns = np.arange(problem.shape[1], dtype=np.int32)
        self._rows = np.arange(problem.shape[0], dtype=np.int32)
        self._check(self._highs.passModel(_model(highspy, problem)), "the problem")

    def _tell(self, option: str, value: Any) -> None:
        """Set an option unless it is so already."""
        if self._told.get(option) != value:
            self._check(self._highs.setOptionValue(option, value), f"{option} = {value}")
            self._told[option] = value

    def _check(self, status: Any, what: str) -> None:
        if status == self._api.HighsStatus.kError:
            raise BackendError(f"highs does not take {what}; ask for a log to see why")

    def _change(self, changes: Changes) -> None:
        old, highs = self.problem, self._highs
        only_cost = changes.given.keys() == {"cost"} and self._ended_feasible()
        self._tell("simplex_strategy", PRIMAL_SIMPLEX if only_cost else DUAL_SIMPLEX)
        if changes.cost is not None:
            self._check(highs.changeColsCost(len(self._columns), self._columns, changes.cost), "the cost")
        if changes.lower is not None or changes.upper is not None:
            lower = old.lower if changes.lower is None else changes.lower
            upper = old.upper if changes.upper is None else changes.upper
            self._check(highs.changeColsBounds(len(self._columns), self._columns, lower, upper), "the variables' bounds")
        if changes.row_lower is not None or changes.row_upper is not None:
            lower = old.row_lower if changes.row_lower is None else changes.row_lower
            upper = old.row_upper if changes.row_upper is None else changes.row_upper
            self._check(highs.changeRowsBounds(len(self._rows), self._rows, lower, upper), "the rows' bounds")

    def _ended_feasible(self) -> bool:
        """Asked before HiGHS is told of a change, which makes it forget."""
        return bool(self._highs.getInfo().primal_solution_status == FEASIBLE)

    def _extend(self, before: int) -> None:
        problem = self.problem
        rows = problem.rows[before:]
        status = self._highs.addRows(
            rows.shape[0],
            problem.row_lower[before:],
            problem.row_upper[before:],
            rows.nnz,
            rows.indptr[:-1].astype(np.int32),
            rows.indices.astype(np.int32),
            rows.data,
        )
        self._check(status, "the new rows")
        self._rows = np.arange(problem.shape[0], dtype=np.int32)
        self._tell("simplex_strategy", DUAL_SIMPLEX)

    def _begin_at(self, basis: Basis) -> None:
        words = self._api.HighsBasisStatus
        table = {-1: words.kLower, 0: words.kBasic, 1: words.kUpper, 2: words.kZero}
        theirs = self._api.HighsBasis()
        theirs.col_status = [table[k] for k in basis.variables]
        theirs.row_status = [table[k] for k in basis.rows]
        theirs.valid = True
        self._check(self._highs.setBasis(theirs), "this basis")

    def _run(self, options: Options) -> Answer:
        highs = self._highs
        self._tell("threads", options.threads)
        interior = options.interior and not self.problem.is_mixed_integer
        self._tell("solver", "ipm" if interior else "choose")
        if interior:
            self._tell("simplex_strategy", DUAL_SIMPLEX)
        self._follow(options.log)
        limit = options.time_limit
        # HiGHS counts all the runs of an object together.
        self._tell("time_limit", limit if limit == np.inf else highs.getRunTime() + limit)
        if self.problem.rows.nnz < TINY and not self.problem.is_mixed_integer:
            return self._answer(self._run_to_the_end())
        with self._interruption as interruption:
            status = self._run_to_the_end()
            interruption.heeded = status is Status.INTERRUPTED
        return self._answer(status)

    def _run_to_the_end(self) -> Status:
        """Run; if a method does not get there from where the last solve ended, the dual simplex method from scratch.

        Far costs may lead the primal one around for long, and the dual one has been seen to go in circles after new rows.
        """
        primal = self._told["simplex_strategy"] == PRIMAL_SIMPLEX
        patience = sum(self.problem.shape) * (1 if primal else PATIENCE)
        hurried = self._ran and not self.problem.is_mixed_integer
        self._ran = True
        self._tell("simplex_iteration_limit", patience if hurried else NO_LIMIT)
        self._highs.run()
        status = self._ended()
        if hurried and status is Status.ITERATION_LIMIT:
            self._check(self._highs.clearSolver(), "a fresh start")
            self._tell("solver", "choose")
            self._tell("simplex_strategy", DUAL_SIMPLEX)
            self._tell("simplex_iteration_limit", NO_LIMIT)
            self._highs.run()
            status = self._ended()
        return status

    def _ended(self) -> Status:
        return self._status.get(self._highs.getModelStatus(), Status.UNKNOWN)

    def _follow(self, wanted: bool) -> None:
        self._log.clear()
        if wanted != self._told.get("output_flag", False):
            kind = self._api.cb.HighsCallbackType.kCallbackLogging
            self._tell("output_flag", wanted)
            (self._highs.startCallback if wanted else self._highs.stopCallback)(kind)

    def _answer(self, status: Status) -> Answer:
        highs, problem = self._highs, self.problem
        info = highs.getInfo()
        whole = problem.is_mixed_integer
        found = highs.getSolution()
        feasible = found.value_valid and info.primal_solution_status == FEASIBLE and status not in WITHOUT_OPTIMUM
        primal = found.col_value if feasible else None
        proper = found.dual_valid and not whole and status not in WITHOUT_OPTIMUM
        dual = np.array(found.row_dual, dtype=np.float64) if proper else None
        objective = info.objective_function_value if feasible else np.nan
        if whole:
            bound = info.mip_dual_bound
        elif status is Status.OPTIMAL:
            bound = objective
        else:
            bound = np.nan if dual is None else dual_objective(problem, dual)
        return Answer(
            status=status,
            primal=primal,
            dual=dual,
            objective=objective,
            claimed_bound=bound,
            iterations=max(info.simplex_iteration_count, 0) + max(info.ipm_iteration_count, 0),
            read_basis=None if whole else partial(_basis, self._rests, highs.getBasis()),
            ray=self._ray() if status is Status.INFEASIBLE and not whole else None,
            log="".join(self._log),
        )

    def _ray(self) -> Floats | None:
        """HiGHS solves once more, without presolve, if that was what found out."""
        _, there, ray = self._highs.getDualRay()
        return np.array(ray, dtype=np.float64) if there else None


def _basis(rests: Callable[[Any], int], theirs: Any) -> Basis | None:
    """Read late: each word of HiGHS's costs as much as a step of a tiny program."""
    if not theirs.valid:
        return None
    return Basis(tuple(map(rests, theirs.col_status)), tuple(map(rests, theirs.row_status)))


def _model(api: Any, problem: Problem) -> Any:
    model = api.HighsLp()
    matrix = problem.rows
    model.num_row_, model.num_col_ = problem.shape
    model.col_cost_, model.offset_ = problem.cost, problem.offset
    model.col_lower_, model.col_upper_ = problem.lower, problem.upper
    model.row_lower_, model.row_upper_ = problem.row_lower, problem.row_upper
    model.a_matrix_.format_ = api.MatrixFormat.kRowwise
    model.a_matrix_.num_row_, model.a_matrix_.num_col_ = problem.shape
    model.a_matrix_.start_ = matrix.indptr.astype(np.int32, copy=False)
    model.a_matrix_.index_ = matrix.indices.astype(np.int32, copy=False)
    model.a_matrix_.value_ = matrix.data
    if problem.is_mixed_integer:
        kinds = (api.HighsVarType.kContinuous, api.HighsVarType.kInteger)
        model.integrality_ = [kinds[whole] for whole in problem.integer.tolist()]
    return model


class _Interruption:
    """Takes Ctrl-C for the time of a solve; a press that the solve did not heed, or that is the program's own affair, is
    passed on at the end. Only the main thread is told of signals."""

    def __init__(self) -> None:
        self.asked = False
        self.heeded = False
        self._former: Any = None

    def __enter__(self) -> _Interruption:
        self.asked = self.heeded = False
        self._former = None
        if threading.current_thread() is threading.main_thread():
            former = signal.getsignal(signal.SIGINT)
            if callable(former):
                self._former = former
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._former is None:
            return
        signal.signal(signal.SIGINT, self._former)
        if self.asked and not (self.heeded and self._former is signal.default_int_handler):
            self._former(signal.SIGINT, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _listener(interruption: _Interruption, log: list[str], logging: Any) -> Any:
    def listen(kind: Any, message: str, _told: Any, answer: Any, _nothing: Any) -> None:
        if kind == logging:
            log.append(message)
        elif answer is not None:
            answer.user_interrupt = interruption.asked  # False too: HiGHS remembers the last solve's

    return listen
