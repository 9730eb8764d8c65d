"""The stage `combine`: every bound from its own mixture of planes, in rounds."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.again import again
from tightverify.bounds.blame import blame_of_all, what_matters
from tightverify.bounds.columns import generated
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import LinearBounds, linear_bounds
from tightverify.errors import OutOfTimeError
from tightverify.settings import Settings
from tightverify.stages.problem import Known, Problem, or_else
from tightverify.values import below


def efforts(settings: Settings) -> tuple[Effort, ...]:
    """The rounds of `combine`: the second for what the first leaves open, and so on."""
    kinds = "tightest", "edges", "corners"

    def effort(directions: int, steps: int, *more: str, part: float = 1.0) -> Effort:
        fitting = Fitting((*kinds, *more), or_else(settings.directions, directions), settings.solver)
        return Effort(fitting, steps, 20, part)

    return (effort(4, 2), effort(8, 3, part=0.5), effort(16, 4, "ring"))[: settings.rounds]


MIXTURE_SHARE = 8
"""A row's mixtures take about so many times the memory of the row itself."""
NEAR = 0.1
"""Planes are made for a margin that is not farther than this from a proof: they bring a hundredth or two."""
LEAST_GAIN = 0.01
"""A round of `combine` after which no margin of an input has gained more is its last."""
REACH = 3.0
"""So is one after which more is wanting than so many times what it has gained: rounds gain less and less."""


def combine_stage(problem: Problem, known: Known) -> Known:
    """Every bound from its own mixture of planes, in rounds: each goes on from what the last one found."""
    rounds = efforts(problem.settings)
    most = max(effort.fitting.directions for effort in rounds)
    for part, some in problem.parts(most, MIXTURE_SHARE):
        left = torch.arange(len(some.region), device=some.region.centre.device)
        margins = known.margins[part].clone()
        try:
            before = linear_bounds(some.graph, some.region, some.check, record=some.record)
            for number, effort in enumerate(rounds, start=1):
                now = some[left]
                bounds = sweep(now, before, margins[left], effort)
                lower = bounds.lower({now.graph.output: now.wanted.rows}, effort.last_steps)
                lower = torch.maximum(lower, near_misses(now, bounds, lower, effort))
                lower = below(lower + now.wanted.offsets, 0.0)
                lower = torch.where(torch.isfinite(lower), lower, -math.inf)
                promising = torch.nan_to_num(lower - margins[left], nan=0.0).amax(1) > LEAST_GAIN
                former = now.wanted.worst(margins[left])
                margins[left] = torch.maximum(margins[left], lower)
                worst = now.wanted.worst(margins[left])
                known = known.with_margins(part, margins)
                known = known.with_intervals(left + part.start, bounds.intervals)
                now.report(known[part][left], number)
                if not problem.settings.thorough:
                    promising &= ~now.wanted.proved(margins[left]) & (-worst < REACH * (worst - former))
                going = torch.nonzero(promising).flatten()
                left, before = left[going], bounds[going]
                if not len(left):
                    break
        except OutOfTimeError:
            return replace(known, stopped=True)
    return known


def sweep(problem: Problem, before: LinearBounds, margins: Tensor, effort: Effort) -> LinearBounds:
    """A sweep over all neurons, or over the part of them that the open margins depend on most, in whichever frame."""
    if effort.part == 1:
        return combined_bounds(problem.graph, problem.region, effort, before.intervals, problem.check, problem.record)
    _, pull = before.pulled({problem.graph.output: problem.wanted.rows}, effort.last_steps)
    blamed = blame_of_all(before, pull, ~(margins > 0) | problem.settings.thorough)
    return again(before, *what_matters(blamed, effort.part), effort, problem.check)


def first_round_stage(problem: Problem, known: Known) -> Known:
    """One round of `combine`: what the search of `complete` starts from is bounded as in the second."""
    return combine_stage(replace(problem, settings=replace(problem.settings, rounds=1)), known)


def near_misses(problem: Problem, bounds: LinearBounds, lower: Tensor, effort: Effort) -> Tensor:
    """The bounds (B, R) again, with planes made for them, of inputs that little is wanting to (of all, if `thorough`)."""
    worst = problem.wanted.worst(lower + problem.wanted.offsets)
    near = torch.ones_like(worst, dtype=torch.bool) if problem.settings.thorough else (worst <= 0) & (worst > -NEAR)
    chosen = torch.nonzero(near).flatten()
    found = lower.clone()
    if len(chosen):
        rows = {problem.graph.output: problem.wanted.rows[chosen]}
        found[chosen] = generated(bounds[chosen], rows, effort.last_steps, 1, effort.fitting)[0]
    return found
