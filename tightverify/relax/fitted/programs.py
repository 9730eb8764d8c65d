"""Thousands of small linear programs of one kind, by any solver of `solvers`: the lowest plane above some samples.

`batched` takes them all at once. Any other solver is handed many of them as one program, each with rows and variables of its
own, so that what it asks for each call is asked once.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from scipy import sparse

import solvers
from solvers.backends.batched import Batch, solve_batch
from solvers.problem import Floats
from solvers.solution import Status
from tightverify.errors import UsageError

BLOCK_ROWS = 1500
"""rows of the programs that a solver is given as one"""
EASY = solvers.Problem(np.ones(1), np.ones((1, 1)), 0, 1, 0, 1)
"""what any solver takes that is there"""


def check_solver(name: str) -> None:
    """Say why a solver cannot be used here, if it cannot."""
    try:
        solvers.load(EASY, name)  # it may be installed and yet have no licence
    except solvers.SolverError as error:
        raise UsageError(str(error)) from error


def programs(rows: Floats, target: Floats, low: Floats, high: Floats, solver: str) -> tuple[Floats, Floats]:
    """Minimise z with rows (N, M, k) @ (..., z) >= target (N, M) and bounds (N, k): planes (N, k) and multipliers (N, M)."""
    cost = np.eye(rows.shape[2])[-1]
    if solver == "batched":
        answer = solve_batch(Batch(cost, rows, target, np.inf, low, high))
        planes, weights = np.nan_to_num(answer.primal), np.clip(answer.dual, 0, None)
        failed = np.flatnonzero(answer.status != Status.OPTIMAL)
        if len(failed):
            planes[failed], weights[failed] = programs(rows[failed], target[failed], low[failed], high[failed], "highs")
        return planes, weights
    planes, weights = np.zeros(low.shape), np.zeros(target.shape)
    portion = max(1, BLOCK_ROWS // rows.shape[1])
    for start in range(0, len(rows), portion):
        part = slice(start, start + portion)
        planes[part], weights[part] = side_by_side(rows[part], target[part], low[part], high[part], solver)
    return planes, weights


def side_by_side(rows: Floats, target: Floats, low: Floats, high: Floats, solver: str) -> tuple[Floats, Floats]:
    """Several programs as one, each with rows and variables of its own: what a solver asks for every program is asked once.

    Where the solver has no answer, or does not take the problem, they are solved one by one; a program without an answer has
    planes and multipliers of 0.
    """
    count, height, width = rows.shape
    columns = np.arange(count)[:, None, None] * width + np.arange(width)[None, None]
    columns = np.broadcast_to(columns, rows.shape).ravel()
    starts = np.arange(0, rows.size + 1, width)
    matrix = sparse.csr_array((rows.ravel(), columns, starts), shape=(count * height, count * width))
    cost = np.tile(np.eye(width)[-1], count)
    problem = solvers.Problem(cost, matrix, target.ravel(), np.inf, low.ravel(), high.ravel())
    found: solvers.Solution | None = None
    with suppress(solvers.BackendError):
        found = solvers.solve(problem, solver)
    if found is not None and found.primal is not None and found.dual is not None:
        return found.primal.reshape(count, width), np.clip(found.dual, 0, None).reshape(count, height)
    if count == 1:
        return np.zeros((1, width)), np.zeros((1, height))
    each = [slice(k, k + 1) for k in range(count)]
    alone = [side_by_side(rows[one], target[one], low[one], high[one], solver) for one in each]
    return np.concatenate([planes for planes, _ in alone]), np.concatenate([weights for _, weights in alone])
