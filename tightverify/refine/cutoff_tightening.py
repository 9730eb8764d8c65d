"""Intervals narrowed by an output constraint: that a row is at most a limit.

To prove a row above some value only the inputs with a value of at most a limit, a little above that, need to be looked at. On
those the program with binaries, its whole variables relaxed, has one more row, and bounds the variables that are cut from both
sides, one after the other, each with what the ones before have come to. Narrower intervals mean smaller M for all planes that
hold in one cell alone, and many a function loses its breakpoint. What is proved of a program over such intervals is proved
of those inputs; all others have a row above the limit (as in `bounds.contradiction`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

import solvers
from solvers.leaves import proof
from tightverify.budget import UNLIMITED, Budget
from tightverify.refine.mixed import Breaks, MixedProgram
from tightverify.refine.network_lp import Floats, NetworkProgram

LIMIT = 0.01
"""The limit, relative to how far a row's bound is below what is wanted."""
WORTH_ANOTHER = 0.05
"""Another round is worth it after one that took so much of the widths."""


@dataclass(frozen=True, eq=False)
class End:
    """A new end of a variable's interval, the lower one (sign 1) or the upper one (-1), and the multipliers that prove it.

    They are those of the rows, and of the output constraint. An infinite end on the wrong side: nothing is left.
    """

    column: int
    sign: float
    value: float
    multipliers: Floats


@dataclass(frozen=True, eq=False)
class CutoffTightened:
    """The program, its bounds narrowed, and where its variables are cut still; `nothing` says that no input is left."""

    program: NetworkProgram
    breaks: Breaks
    limit: float = math.inf
    """what the row is at least where it was not looked at"""
    nothing: bool = False
    ends: tuple[End, ...] = ()
    """the new ends, in the order in which they were found; each is proved over those before"""

    def holds(self, problem: solvers.Problem) -> solvers.Problem:
        """A problem over the program's variables with these bounds."""
        lower, upper = np.maximum(problem.lower, self.program.lower), np.minimum(problem.upper, self.program.upper)
        return problem.changed(lower=lower, upper=upper)


def cutoff_tightened(mixed: MixedProgram, limit: float, budget: Budget = UNLIMITED, solver: str = "highs") -> CutoffTightened:
    """The cut variables' intervals where the program's row is at most the limit."""
    network, count = mixed.network, len(mixed.network.lower)
    problem = mixed.problem.relaxed()
    lower, upper = problem.lower.copy(), problem.upper.copy()
    lower[:count], upper[:count] = np.maximum(lower[:count], network.lower), np.minimum(upper[:count], network.upper)
    columns = sorted(mixed.breaks)
    held = problem.with_rows(sparse.csr_array(problem.cost[None]), -np.inf, np.nextafter(limit, np.inf))
    session = solvers.load(held, solver)
    width, found = np.inf, list[End]()
    while (upper - lower)[columns].sum() < (1 - WORTH_ANOTHER) * width:
        width = (upper - lower)[columns].sum()
        for column in columns:
            for sign, ends in ((1.0, lower), (-1.0, upper)):
                budget.check()
                cost = np.zeros(len(lower))
                cost[column] = sign
                multipliers, bound = proof(session.solve(cost=cost, lower=lower, upper=upper))
                if bound > sign * ends[column]:
                    found.append(End(column, sign, sign * bound, multipliers))
                    ends[column] = sign * bound
                if lower[column] > upper[column]:
                    return CutoffTightened(network, mixed.breaks, limit, True, tuple(found))
    inside = {
        column: tuple(value for value in values if lower[column] < value < upper[column])
        for column, values in mixed.breaks.items()
    }
    breaks = {column: values for column, values in inside.items() if values}
    narrower = replace(network, lower=lower[:count], upper=upper[:count])
    return CutoffTightened(narrower, breaks, limit, False, tuple(found))
