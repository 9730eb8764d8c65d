"""Linear and mixed-integer programs: one way to state them, many solvers behind it, and bounds that are proved.

Knows nothing of networks.
"""

from __future__ import annotations

import numpy as np

from solvers.base import Backend, Capabilities, Options, Session
from solvers.errors import BackendError, ProblemError, SolverError
from solvers.formats.files import read, write
from solvers.leaves import safe_bound_of
from solvers.problem import Problem
from solvers.registry import BACKENDS, backend
from solvers.solution import Basis, Solution, Status

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendError",
    "Basis",
    "Capabilities",
    "Options",
    "Problem",
    "ProblemError",
    "Session",
    "Solution",
    "SolverError",
    "Status",
    "backend",
    "load",
    "read",
    "solve",
    "write",
]


def load(
    problem: Problem,
    solver: str = "highs",
    *,
    time_limit: float = np.inf,
    threads: int = 1,
    log: bool = False,
    interior: bool = False,
) -> Session:
    """A session: the problem in the solver's memory, to be solved again with other costs, bounds or rows."""
    session = backend(solver).load(problem, Options(time_limit, threads, log, interior))
    session.prover = safe_bound_of
    return session


def solve(
    problem: Problem, solver: str = "highs", *, time_limit: float = np.inf, threads: int = 1, log: bool = False
) -> Solution:
    """Solve a problem once."""
    return load(problem, solver, time_limit=time_limit, threads=threads, log=log).solve()
