"""Programs and the multipliers that prove something by them, as evidence: solved before, nothing is worked out here."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import solvers
from solvers.leaves import ProofTree
from tightverify.evidence import PROPERTY, CutoffTightening, Leaves, Program
from tightverify.evidence.entries import Floats, Places
from tightverify.refine.converge import Converged
from tightverify.refine.cutoff_tightening import CutoffTightened
from tightverify.refine.milp import Grown
from tightverify.refine.mixed import MixedProgram
from tightverify.refine.network_lp import NetworkProgram


def linear_proof(found: Converged, row: int, bounding_pass: int, node: int = PROPERTY) -> tuple[Program, ...]:
    """The program of the best bound of a row, or of a node's neuron, and its multipliers; nothing, where nothing was proved."""
    if found.best is None:
        return ()
    program, problem = found.program, found.best.problem
    dual = np.zeros(problem.shape[0]) if found.best.dual is None else np.asarray(found.best.dual, dtype=np.float64)
    whole = program.widened(problem).changed(
        lower=np.maximum(problem.lower, program.lower), upper=np.minimum(problem.upper, program.upper)
    )
    origins, held = (part[: problem.shape[0]] for part in (program.origins, program.held))
    asked = written(program, whole, origins, held, row, bounding_pass, dual, found.proved, np.zeros((0, 2)))
    return (replace(asked, node=node),)


def cutoff_proof(mixed: MixedProgram, found: CutoffTightened, row: int, bounding_pass: int) -> tuple[Program, CutoffTightening]:
    """A program with whole variables, and what narrowed its intervals."""
    return mixed_program(mixed, row, bounding_pass), cutoff_tightening_of(found)


def tree_proof(grown: Grown, row: int, bounding_pass: int) -> tuple[Program, Leaves]:
    """A program with whole variables, and the tree that was grown over it."""
    return mixed_program(grown.mixed, row, bounding_pass, grown.limit), leaves_of(grown.tree)


def mixed_program(mixed: MixedProgram, row: int, bounding_pass: int, limit: float = math.inf) -> Program:
    """The program with whole variables, which `leaves_of` its tree prove something of where the row is at most the limit."""
    breaks = [(float(variable), value) for variable, values in mixed.breaks.items() for value in values]
    pairs = np.array(breaks, dtype=np.float64).reshape(-1, 2)
    return written(
        mixed.network, mixed.problem, mixed.origins, mixed.held, row, bounding_pass, np.zeros(0), -math.inf, pairs, limit
    )


def written(
    program: NetworkProgram,
    problem: solvers.Problem,
    origins: Places | NDArray[np.int64],
    held: Places | NDArray[np.int64],
    row: int,
    bounding_pass: int,
    dual: Floats,
    bound: float,
    breaks: Floats,
    limit: float = math.inf,
) -> Program:
    stops = [place.stop for place in program.columns.values()]
    return Program(
        bounding_pass=bounding_pass,
        node=PROPERTY,
        row=row,
        members=np.array(list(program.columns), dtype=np.int32),
        columns=np.array([0, *stops], dtype=np.int32),
        cost=problem.cost,
        data=problem.rows.data,
        indices=problem.rows.indices.astype(np.int32),
        indptr=problem.rows.indptr.astype(np.int32),
        row_lower=problem.row_lower,
        row_upper=problem.row_upper,
        lower=problem.lower,
        upper=problem.upper,
        origins=origins.astype(np.int32),
        held=held.astype(np.int32),
        dual=dual,
        bound=bound,
        breaks=breaks,
        limit=limit,
    )


def cutoff_tightening_of(found: CutoffTightened) -> CutoffTightening:
    """The new ends of intervals, and what proves them."""
    dual = np.stack([end.multipliers for end in found.ends]) if found.ends else np.zeros((0, 0))
    which = np.nonzero(dual)
    return CutoffTightening(
        limit=found.limit,
        variables=np.array([end.column for end in found.ends], dtype=np.int32),
        above=np.array([end.sign < 0 for end in found.ends], dtype=np.bool_),
        ends=np.array([end.value for end in found.ends]),
        places=np.stack(which, axis=1).astype(np.int32),
        dual=dual[which],
    )


def leaves_of(tree: ProofTree) -> Leaves:
    """The leaves of a tree that kept them, and its open nodes."""
    cover = tree.cover()
    dual = np.array([leaf.multipliers for leaf in cover])
    which = np.nonzero(dual)
    bounds = np.array([leaf.bound for leaf in cover])
    return Leaves(
        lower=np.array([leaf.lower for leaf in cover]),
        upper=np.array([leaf.upper for leaf in cover]),
        places=np.stack(which, axis=1).astype(np.int32),
        dual=dual[which],
        bounds=bounds,
        infeasible=np.isposinf(bounds),
    )
