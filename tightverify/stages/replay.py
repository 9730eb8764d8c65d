"""Points that a stage came upon, tried as counterexamples: through the user's own model, like the search's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tightverify.attack import breaks, into_dtype
from tightverify.graph import Input
from tightverify.refine.network_lp import Floats, NetworkProgram
from tightverify.stages.problem import BoundsSoFar, Problem


def replayed(problem: Problem, known: BoundsSoFar, place: int, point: Tensor) -> BoundsSoFar:
    """What is known, and whether a flat point (n,) refutes the input at a place of the batch."""
    here = torch.tensor([place])
    if bool(known.refuted[place]) or not bool(torch.isfinite(point).all()):
        return known
    one = problem[here]
    moved, inside = into_dtype(one.region, one.region.project(point[None]), problem.model.dtype)
    if not bool((inside & breaks(problem.model, one.spec, moved))[0]):
        return known
    refuted, points = known.refuted.clone(), known.points.clone()
    refuted[place], points[place] = True, moved[0]
    return replace(known, refuted=refuted, points=points)


def inputs_of(problem: Problem, program: NetworkProgram, primal: Floats, place: int) -> Tensor:
    """The input (n,) at a point of a program; what the program does not read is as in the region's centre."""
    x = problem.region.centre[place].clone()
    for number, node in enumerate(problem.graph.nodes):
        if isinstance(node, Input) and number in program.columns:
            x[node.block] = torch.from_numpy(np.array(primal[program.columns[number]]))
    return x
