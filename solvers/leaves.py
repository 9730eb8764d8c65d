"""A proved bound for mixed-integer problems: a tree whose every leaf is proved by itself.

A solver's own tree bound cannot be checked: its cuts and its pruning are not shown. So a small tree is grown again: a node is
the relaxation under narrower bounds of the whole variables; it is split at a variable whose value v in its relaxation is not
whole, into x_j <= floor(v) and x_j >= floor(v) + 1, which together hold every whole x_j. At any time the open nodes and the
leaves cover all feasible points, so that the least of their bounds, each a `safe.safe_bound` of that node's relaxation (+inf
where infeasibility is proved), bounds the optimum. The solver's claim only says where to stop: a node whose bound
reaches it is left alone.
"""

from __future__ import annotations

import heapq
import math
from itertools import count

import numpy as np

from solvers.problem import Floats, Problem
from solvers.safe import safe_bound_of
from solvers.solution import Solution

WHOLE = 1e-6
"""How far a value may be from a whole number and still be taken for one: steers the search, proves nothing."""
CLOSE = 1e-7
"""How far below the claim, relative to its size, a node's bound may be to be left alone."""

Node = tuple[float, int, Floats, Floats]


def leaf_bound(problem: Problem, claim: float = math.inf, leaves: int = 1000, solver: str = "highs") -> float:
    """A proved lower bound on the optimum, from at most so many leaves: about the claim, if it is right and they suffice."""
    from solvers import load

    session = load(problem.relaxed(), solver)
    wanted = claim - CLOSE * max(1.0, abs(claim)) if math.isfinite(claim) else math.inf
    lower = np.where(problem.integer, np.ceil(problem.lower), problem.lower)
    upper = np.where(problem.integer, np.floor(problem.upper), problem.upper)
    order = count()
    heap: list[Node] = [(-math.inf, next(order), lower, upper)]
    settled = math.inf
    solved = 0
    while heap and solved < leaves:
        known, _, lower, upper = heapq.heappop(heap)
        if (lower > upper).any():
            continue
        if known >= wanted:
            settled = min(settled, known)
            continue
        solution = session.solve(lower=lower, upper=upper)
        solved += 1
        bound = max(known, safe_bound_of(solution))
        split = None if bound >= wanted else fractional(problem, solution)
        if split is None:
            settled = min(settled, bound)
            continue
        variable, value = split
        for side_lower, side_upper in halves(lower, upper, variable, value):
            heapq.heappush(heap, (bound, next(order), side_lower, side_upper))
    open_bound = min((node[0] for node in heap), default=math.inf)
    return min(settled, open_bound)


def fractional(problem: Problem, solution: Solution) -> tuple[int, float] | None:
    """The whole variable whose value is farthest from a whole number; None if all are whole, or no values are known."""
    if solution.primal is None or not np.isfinite(solution.primal).all():
        return None
    distance = np.where(problem.integer, np.abs(solution.primal - np.round(solution.primal)), 0.0)
    worst = int(np.argmax(distance)) if len(distance) else 0
    return (worst, float(solution.primal[worst])) if len(distance) and distance[worst] > WHOLE else None


def halves(lower: Floats, upper: Floats, variable: int, value: float) -> list[tuple[Floats, Floats]]:
    """The bounds on either side of a value that is not whole."""
    below, above = upper.copy(), lower.copy()
    below[variable] = math.floor(value)
    above[variable] = math.floor(value) + 1
    return [(lower, below), (above, upper)]
