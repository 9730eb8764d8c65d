"""The stage `pieces`: regions that a few unknown coefficients move, cut into pieces."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.linear import new_pass
from tightverify.bounds.recorder import PassRecorder
from tightverify.bounds.window import further
from tightverify.branch.zonotope_splits import Pieces, over_pieces
from tightverify.errors import OutOfTimeError
from tightverify.stages.problem import BoundsSoFar, Problem
from tightverify.values import below

MOST_HALVINGS = 5
"""So often the region of an input is halved, at most, where a few unknown coefficients move it."""


def pieces_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Linear bounds over pieces of regions that a few unknown coefficients move; other regions are left as they are."""
    for part, some in problem.parts():
        region = some.region.generated
        if region is None:
            return known

        def bound(pieces: Pieces, some: Problem = some) -> Tensor:
            cut = replace(some[pieces.owners], region=pieces.region)
            places = torch.arange(len(pieces.owners))
            found = torch.cat([_linear(piece, pieces[places[part]].recorder) for part, piece in cut.parts()])
            return torch.where(torch.isfinite(found), found, -math.inf)

        def worst(margins: Tensor, owners: Tensor, some: Problem = some) -> Tensor:
            return some.spec[owners].worst(margins)

        try:
            trees = over_pieces(region, known.margins[part], bound, worst, MOST_HALVINGS, some.recorder)
        except OutOfTimeError:
            known = known.with_stopped(part)
            continue
        found = dict(zip(some.numbers.tolist(), map(tuple, trees.branches), strict=True))
        known = replace(known.with_margins(part, trees.done), trees={**known.trees, **found})
        if trees.late:
            known = known.with_stopped(part)
        some.report(known[part])
        some.finish(known[part])
    return known


def _linear(problem: Problem, recorder: PassRecorder) -> Tensor:
    """The rows' lower bounds by one bounding pass."""
    window = further(problem.settings.window)
    bounds = new_pass(problem.graph, problem.region, window, 0, recorder).run(problem.budget)
    lower = bounds.lower({problem.graph.output: problem.spec.rows})
    return below(lower + problem.spec.offsets, 0.0)
