"""The stage `pieces`: regions that a few unknown shares move, cut into pieces."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.pieces import over_pieces
from tightverify.errors import OutOfTimeError
from tightverify.region import Zonotope
from tightverify.stages.problem import Known, Problem
from tightverify.values import below

MOST_HALVINGS = 5
"""So often the region of an input is halved, at most, where a few unknown shares move it."""


def pieces_stage(problem: Problem, known: Known) -> Known:
    """Linear bounds over pieces of regions that a few unknown shares move; other regions are left as they are."""
    if not isinstance(problem.region, Zonotope):
        return known
    for part, some in problem.parts():
        assert isinstance(some.region, Zonotope)

        def bound(pieces: Zonotope, owners: Tensor, some: Problem = some) -> Tensor:
            cut = replace(some[owners], region=pieces)
            found = torch.cat([_linear(piece) for _, piece in cut.parts()])
            return torch.where(torch.isfinite(found), found, -math.inf)

        def worst(margins: Tensor, owners: Tensor, some: Problem = some) -> Tensor:
            return some.wanted[owners].worst(margins)

        try:
            margins = over_pieces(some.region, known.margins[part], bound, worst, MOST_HALVINGS)
        except OutOfTimeError:
            return replace(known, stopped=True)
        known = known.with_margins(part, margins)
        some.report(known[part])
    return known


def _linear(problem: Problem) -> Tensor:
    """The rows' lower bounds by one sweep."""
    lower = linear_bounds(problem.graph, problem.region, problem.check).lower({problem.graph.output: problem.wanted.rows})
    return below(lower + problem.wanted.offsets, 0.0)
