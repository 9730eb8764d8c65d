"""The stage `combine`: every bound from its own mixture of planes, in rounds."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.columns import generated
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds
from tightverify.bounds.linear import LinearBounds, linear_bounds
from tightverify.errors import OutOfTimeError
from tightverify.settings import Settings
from tightverify.stages.problem import Known, Problem, or_else
from tightverify.values import Interval, below


def efforts(settings: Settings) -> tuple[Effort, ...]:
    """The rounds of `combine`: the second for what the first leaves open, and so on."""
    kinds = "tightest", "edges", "corners"

    def effort(directions: int, steps: int, *more: str) -> Effort:
        return Effort(Fitting((*kinds, *more), or_else(settings.directions, directions), settings.solver), steps, 20)

    return (effort(4, 2), effort(8, 3), effort(16, 4, "ring"))[: settings.rounds]


MIXTURE_SHARE = 8
"""A row's mixtures take about so many times the memory of the row itself."""
NEAR = 0.1
"""Planes are made for a margin that is not farther than this from a proof: they bring a hundredth or two."""
LEAST_GAIN = 0.01
"""A round of `combine` after which no margin of an input has gained more is its last."""


def combine_stage(problem: Problem, known: Known) -> Known:
    """Every bound from its own mixture of planes, in rounds: each starts from the intervals that the last one found."""
    rounds = efforts(problem.settings)
    most = max(effort.fitting.directions for effort in rounds)
    for part, some in problem.parts(most, MIXTURE_SHARE):
        left = torch.arange(len(some.region), device=some.region.centre.device)
        margins = known.margins[part].clone()
        try:
            intervals = linear_bounds(some.graph, some.region, some.check, record=some.record).intervals
            for number, effort in enumerate(rounds, start=1):
                now = some[left]
                bounds = combined_bounds(now.graph, now.region, effort, intervals, now.check, now.record)
                lower = bounds.lower({now.graph.output: now.wanted.rows}, effort.last_steps)
                lower = torch.maximum(lower, near_misses(now, bounds, lower, effort))
                lower = below(lower + now.wanted.offsets, 0.0)
                lower = torch.where(torch.isfinite(lower), lower, -math.inf)
                gain = torch.nan_to_num(lower - margins[left], nan=0.0).amax(1)
                margins[left] = torch.maximum(margins[left], lower)
                known = known.with_margins(part, margins)
                known = known.with_intervals(left + part.start, bounds.intervals)
                now.report(known[part][left], number)
                settled = now.wanted.proved(margins[left])
                going = torch.nonzero((gain > LEAST_GAIN) & (problem.settings.thorough | ~settled)).flatten()
                left, intervals = left[going], of_inputs(bounds.intervals, going)
                if not len(left):
                    break
        except OutOfTimeError:
            return replace(known, stopped=True)
    return known


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


def of_inputs(intervals: list[Interval], chosen: Tensor) -> list[Interval]:
    return [interval.map(lambda ends: ends[chosen]) for interval in intervals]
