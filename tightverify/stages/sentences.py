"""The stage `sentences`: regions of few points, each of which is bounded by itself.

What the user's model makes of a point in its floats proves nothing of what it is in real arithmetic. So each point is a region
that holds nothing else, bounded by intervals: their widths are what rounding may have done. That takes hardly longer than
running the network, and leaves next to nothing open. Where a bound is not above 0 the user's model is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tightverify.attack import breaks
from tightverify.bounds.interval import interval_bounds, rows_over
from tightverify.errors import OutOfTimeError
from tightverify.evidence import Entry, Points
from tightverify.recording.record import plain
from tightverify.region import Ball, Finite
from tightverify.stages.problem import BoundsSoFar, Problem
from tightverify.values import below

MOST = 4096
"""Points of a region that are tried one by one."""
REPLAYED = 256
"""Of those that may break the property, so many are tried on the user's model, the worst first."""


def sentences_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """All points of regions that have few; other regions are left as they are."""
    region = problem.region.finite
    for k, count in enumerate([] if region is None else region.counts):
        assert region is not None
        one = problem[torch.tensor([k])]
        if count > MOST:
            continue
        try:
            found = tried(one, region[k : k + 1], known[slice(k, k + 1)])
        except OutOfTimeError:
            known = known.with_stopped(torch.tensor([k]))
            continue
        refuted, points = known.refuted.clone(), known.points.clone()
        refuted[k], points[k] = found.refuted[0], found.points[0]
        known = replace(known.with_margins(slice(k, k + 1), found.margins), refuted=refuted, points=points)
        one.report(known[slice(k, k + 1)])
    return known


def tried(problem: Problem, region: Finite, known: BoundsSoFar) -> BoundsSoFar:
    """What all points of one input's region say of it."""
    numbers = region.all_of(0)
    points = region.sentences(0, numbers)
    bounds = torch.cat([bounded(problem, some) for some in points.split(at_once(problem))])
    passes = problem.recorder.begin(problem.region)

    def made(number: int) -> Sequence[Entry]:
        return [Points(number, numbers.numpy().astype(np.int32), plain(bounds))]

    passes.proof(made)
    margins = torch.where(torch.isfinite(bounds), bounds, -math.inf)
    known = known.with_margins(slice(None), margins.amin(0, keepdim=True))
    spec = problem.spec
    worst = spec[torch.zeros(len(points), dtype=torch.long)].worst(margins)
    least = spec.worst(margins.amin(0, keepdim=True))
    if len(points) and spec.needed < margins.shape[1]:  # each point may have rows of its own that hold
        least = worst.amin(0, keepdim=True)
        known = known.with_least(torch.zeros(1, dtype=torch.long), least)
    suspects = worst.argsort()[: min(REPLAYED, int((worst <= 0).sum()))]
    broken = torch.nonzero(breaks(problem.model, spec[torch.zeros_like(suspects)], points[suspects])).flatten()
    if not len(broken):
        return known
    return replace(known, refuted=torch.ones_like(known.refuted), points=points[suspects[broken[:1]]])


def bounded(problem: Problem, points: Tensor) -> Tensor:
    """(P, R): lower bounds of the rows at points (P, n)."""
    problem.budget.check()
    output = interval_bounds(problem.graph, Ball.points(points))[problem.graph.output]
    return below(rows_over(problem.spec.rows, output) + problem.spec.offsets, 0.0)


def at_once(problem: Problem) -> int:
    """How many points are bounded together: of each the intervals of all neurons are kept."""
    return max(1, problem.budget.memory // (16 * sum(node.size for node in problem.graph.nodes)))
