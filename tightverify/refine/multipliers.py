"""What a program's multipliers say as mixtures: planes for one pass of back-substitution, which then proves the same bound.

As in `refine.network_lp`: of a neuron with multipliers p_k of its lower and q_k of its upper planes, the pass's coefficient is
`sum p - sum q`, and the planes that it takes are the mixtures with weights p / sum p and q / sum q. Where the program is
`boxed`, a neuron's own interval is a pair of constant planes, whose multiplier is its reduced cost. Intervals of affine
nodes and edges of polygons have no place in a pass: where they have multipliers, the pass's bound is lower than the program's,
and so it is by what neurons gain that use both sides at once.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

import solvers
from tightverify.bounds.rows import padded
from tightverify.errors import UsageError
from tightverify.graph import Apply
from tightverify.refine.network_lp import Floats, NetworkProgram, Places, places_of
from tightverify.refine.relaxed import Relaxed
from tightverify.relax.planes import Plane, Planes


def mixtures(relaxed: Relaxed, program: NetworkProgram, solution: solvers.Solution) -> dict[int, Planes]:
    """Planes (1, 1, n) of every operation of the program, moved apart for rounding: fit for
    `bounds.back_substitution.back_substitute`."""
    if solution.dual is None:
        raise UsageError(f"the solution has no multipliers ({solution.status.value}): there are no mixtures in it")
    found: dict[int, Planes] = {}
    for number, node in enumerate(relaxed.graph.nodes):
        if isinstance(node, Apply) and number in program.columns:
            first = relaxed.bounds.planes[number][0]
            sides = [mixed_side(program, solution, number, node, side, first) for side in (False, True)]
            (found[number],) = padded(relaxed.bounds, node, (Planes(*sides),))
    return found


def mixed_side(
    program: NetworkProgram, solution: solvers.Solution, number: int, node: Apply, upper: bool, first: Planes
) -> Plane:
    """One side's mixture; the first plane where nothing has a multiplier."""
    problem, dual, reduced = solution.problem, solution.dual, solution.reduced_costs
    assert dual is not None
    assert reduced is not None
    sign = -1.0 if upper else 1.0
    mine = program.columns[number]
    neuron = program.neuron[: len(dual)]
    rows = np.flatnonzero((neuron >= mine.start) & (neuron < mine.stop) & (sign * dual > 0))
    weight, which = sign * dual[rows], neuron[rows] - mine.start
    ends = (problem.row_upper if upper else problem.row_lower)[rows]
    box = (problem.upper if upper else problem.lower)[mine]
    constant = np.where(np.isfinite(box), np.maximum(sign * reduced[mine], 0.0), 0.0)

    def summed(values: Floats) -> Floats:
        return np.asarray(np.bincount(which, weight * values, node.size), dtype=np.float64)

    total = summed(np.ones_like(weight)) + constant
    share = np.where(total > 0, total, 1.0)
    sums = [-summed(values) for values in coefficients(problem, program, node, rows, which)]
    offset = summed(ends) + constant * np.where(constant > 0, box, 0.0)
    used = torch.from_numpy(total > 0).view(1, 1, -1)
    mixed = Plane(tuple(batched(part / share) for part in sums), batched(offset / share))
    return mixed.where(used, (first.upper if upper else first.lower).map(lambda part: part[:, None]))


def coefficients(problem: solvers.Problem, program: NetworkProgram, node: Apply, rows: Places, which: Places) -> list[Floats]:
    """Of each row the coefficients of its neuron's operands; where two operands are one variable, the first has them all."""
    matrix = sparse.csr_matrix(problem.rows)
    taken: list[Places] = []
    found: list[Floats] = []
    for operand in node.operands:
        places = places_of(program.columns, operand)[which]
        values = np.asarray(matrix[rows, places], dtype=np.float64).reshape(-1) if len(rows) else np.zeros(0)
        for other in taken:
            values = np.where(places == other, 0.0, values)
        taken.append(places)
        found.append(values)
    return found


def batched(values: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).view(1, 1, -1)
