"""What a solver answers. Its words are claims; only `safe_bound` is proved (see `safe`).

Duals are derivatives of the optimum by the rows' bounds: `dual[i] >= 0` where a row rests on its lower bound, `<= 0` where on
its upper one, and `cost - rows.T @ dual` are the reduced costs. Backends with other signs translate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from solvers.errors import SolverError
from solvers.problem import Floats, Problem


class Status(Enum):
    """How a solve ended, as its solver tells it; the value is the sentence that a user reads."""

    OPTIMAL = "the solver claims an optimum"
    INFEASIBLE = "the solver claims that no point satisfies all rows and bounds"
    UNBOUNDED = "the solver claims that the cost falls without end"
    INFEASIBLE_OR_UNBOUNDED = "the solver claims that there is no optimum, and not whether for want of points or of a bound"
    TIME_LIMIT = "the time limit ran out"
    ITERATION_LIMIT = "a limit on iterations, nodes or memory was reached"
    INTERRUPTED = "the solve was interrupted"
    UNKNOWN = "the solver said nothing that is known here"


@dataclass(frozen=True, eq=False)
class Basis:
    """Where each variable and each row rests, in words that every warm start here understands."""

    variables: tuple[int, ...]
    rows: tuple[int, ...]
    """-1 at the lower bound, 1 at the upper bound, 0 basic, 2 free and not basic"""


@dataclass(frozen=True, eq=False)
class Solution:
    """One answer to one problem.

    `objective` is the cost of `primal`, `claimed_bound` the lower bound on the optimum that the solver claims; both are
    NaN where it gives none. `ray` is what it gives as a proof of infeasibility: multipliers of the rows that no point
    survives (a dual ray, in the signs of `dual`). `relaxation_dual` is for mixed-integer problems the dual of a relaxation.
    """

    problem: Problem
    status: Status
    primal: Floats | None
    dual: Floats | None
    objective: float
    claimed_bound: float
    iterations: int
    seconds: float
    solver: str
    version: str
    read_basis: Callable[[], Basis | None] | None = None
    ray: Floats | None = None
    log: str = ""
    prover: Callable[[Solution], float] | None = None
    """what makes a proved bound of the answer; sessions that `solvers.load` opens have one"""

    @cached_property
    def basis(self) -> Basis | None:
        """Where the solve ended, for a warm start; read from the solver's words when first asked for."""
        return None if self.read_basis is None else self.read_basis()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "basis": self.basis, "read_basis": None}

    @cached_property
    def safe_bound(self) -> float:
        """A proved lower bound on the optimum, +inf if infeasibility is proved; worked out when first asked for."""
        if self.prover is None:
            raise SolverError("nothing that proves bounds was given with this solution; open sessions by solvers.load")
        return self.prover(self)

    @property
    def reduced_costs(self) -> Floats | None:
        """`cost - rows.T @ dual`, not rounded outward."""
        if self.dual is None:
            return None
        return np.asarray(self.problem.cost - self.problem.rows.T @ self.dual)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a backend fills in; `base.Session.solve` makes a `Solution` of it, with the times and names that it knows."""

    status: Status
    primal: Any = None
    dual: Any = None
    objective: float = np.nan
    claimed_bound: float = np.nan
    iterations: int = 0
    read_basis: Callable[[], Basis | None] | None = None
    ray: Any = None
    log: str = ""
