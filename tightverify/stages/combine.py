"""The stage `combine`: every bound from its own mixture of planes, in rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.column_generation import generated
from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.linear import linear_bounds, new_pass
from tightverify.bounds.rebound import rebound
from tightverify.bounds.recorder import SILENT
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.scores import summed_scores, what_matters
from tightverify.bounds.window import further
from tightverify.branch.leaf import LEAST_LIMIT, LIMIT
from tightverify.branch.passes import proved_above
from tightverify.errors import OutOfTimeError
from tightverify.graph import Apply
from tightverify.region import SplitBy
from tightverify.settings import Settings
from tightverify.stages.problem import BoundsSoFar, Problem, or_else
from tightverify.values import below


def efforts(settings: Settings) -> tuple[Effort, ...]:
    """The rounds of `combine`: the second for what the first leaves open, and so on."""
    kinds = "tightest", "edges", "corners"

    def effort(directions: int, steps: int, *more: str, part: float = 1.0, pairs: bool = True) -> Effort:
        fitting = Fitting(
            (*kinds, *more),
            or_else(settings.directions, directions),
            settings.solver,
            pairs=pairs and not settings.without_pairs,
        )
        return Effort(fitting, steps, 20, part)

    return (effort(4, 2, pairs=False), effort(8, 3, part=0.5), effort(16, 4, "ring"))[: settings.rounds]


QUICK = Effort(Fitting(("tightest",), directions=0), steps=4, last_steps=12)
"""A round that takes little time, with no polygons but those at hand."""
PREPARING = 0.5
"""The most of its time that a stage takes to bound a region as well as it may, before it makes do with `QUICK`."""
MIXTURE_SHARE = 8
"""A row's mixtures take about so many times the memory of the row itself."""
NEAR = 0.1
"""Planes are made for a margin that is not farther than this from a proof: they bring a hundredth or two."""
LEAST_GAIN = 0.01
"""A round of `combine` after which no margin of an input has gained more is its last."""
REACH = 3.0
"""So is one after which more is wanting than so many times what it has gained: rounds gain less and less."""
AHEAD = 0.1
"""A thorough run tries to prove its worst row so much higher, as a share of the way to the row's value at the centre."""


MORE_STEPS = 3
"""So many times as many steps are taken where all operations have one operand: their lines cost nothing to make."""
STRAIGHT_STEPS = 5, 2
"""So many where all of these are straight up to breakpoints, and for their last rows, to which no planes are added."""


def efforts_for(problem: Problem) -> tuple[Effort, ...]:
    """The rounds of `combine` for what a network is made of."""
    rounds = efforts(problem.settings)
    ops = [node.op for node in problem.graph.nodes if isinstance(node, Apply)]
    if any(op.arity > 1 for op in ops):
        return rounds
    more, last = STRAIGHT_STEPS if all(op.traits.straight for op in ops) else (MORE_STEPS, 1)
    return tuple(replace(effort, steps=more * effort.steps, last_steps=last * effort.last_steps) for effort in rounds)


def combine_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Every bound from its own mixture of planes, in rounds, each with proofs by contradiction in the end."""
    return combined(problem, known, by_contradiction)


def rounds_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """The same without them: what comes next proves all that is open in a way of its own."""
    return combined(problem, known, as_found)


def first_round_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """One such round: what the search of `complete` starts from is bounded as in the second."""
    return rounds_stage(replace(problem, settings=replace(problem.settings, rounds=1)), known)


Closing = Callable[[Problem, LinearBounds, Tensor], Tensor]
"""What is made of a round's margins (B, R) in its end."""


def combined(problem: Problem, known: BoundsSoFar, closing: Closing) -> BoundsSoFar:
    """Rounds: each goes on from what the last one found."""
    rounds = efforts_for(problem)
    most = max(effort.fitting.directions for effort in rounds)
    for part, some in problem.parts(most, MIXTURE_SHARE):
        left = torch.arange(len(some.region), device=some.region.centre.device)
        margins = known.margins[part].clone()
        begun: BoundingPass | None = None
        try:
            window = further(some.settings.window)
            before = linear_bounds(some.graph, some.region, some.budget, recorder=some.recorder, window=window)
            own = rows_of(some, before) if SplitBy.GENERATORS in some.region.splits else margins.clone()
            for number, effort in enumerate(rounds, start=1):
                now = some[left]
                begun = beginning(now, effort)
                bounds = bounding_pass(now, before, margins[left], effort, begun)
                lower = bounds.lower({now.graph.output: now.spec.rows}, effort.last_steps)
                lower = torch.maximum(lower, near_misses(now, bounds, lower, effort))
                lower = below(lower + now.spec.offsets, 0.0)
                lower = torch.where(torch.isfinite(lower), lower, -math.inf)
                margins[left] = torch.maximum(margins[left], lower)
                known = known.with_margins(part, margins)  # at once: the time may run out in what closes the round
                known, begun = known.with_intervals(left + part.start, bounds.intervals), None
                lower = closing(now, bounds, lower)
                promising = torch.nan_to_num(lower - own[left], nan=0.0).amax(1) > LEAST_GAIN
                former = now.spec.worst(own[left])
                own[left] = torch.maximum(own[left], lower)
                margins[left] = torch.maximum(margins[left], lower)
                worst = now.spec.worst(own[left])
                known = known.with_margins(part, margins)
                now.report(known[part][left], number)
                if not problem.settings.thorough:
                    promising &= ~now.spec.proved(margins[left]) & (-worst < REACH * (worst - former))
                going = torch.nonzero(promising).flatten()
                now[~promising].finish(known[part][left[~promising]])
                left, before = left[going], bounds[going]
                if not len(left):
                    break
        except OutOfTimeError:
            known = known.with_stopped(left + part.start)
            if begun is not None:  # what comes next starts from the nodes that the pass came by
                known = known.with_intervals(left + part.start, [*begun.intervals, *before.intervals[len(begun.intervals) :]])
    return known


def rows_of(problem: Problem, bounds: LinearBounds) -> Tensor:
    """The margins (B, R) that a first round is to better where those known are of pieces: no round over all gets there soon."""
    lower = bounds.lower({problem.graph.output: problem.spec.rows})
    return below(lower + problem.spec.offsets, 0.0)


def beginning(problem: Problem, effort: Effort) -> BoundingPass:
    """A pass that has come by no node yet."""
    recorder = problem.recorder.begin(problem.region) if effort.part == 1 else SILENT
    return new_pass(problem.graph, problem.region, problem.settings.window, effort.steps, recorder)


def bounding_pass(problem: Problem, before: LinearBounds, margins: Tensor, effort: Effort, begun: BoundingPass) -> LinearBounds:
    """A bounding pass over all neurons, or over the part of them that the open margins depend on most, in whichever frame.

    One over all goes on from what was `begun`, which has all that it finds, also where the time runs out.
    """
    if effort.part == 1:
        return begun.run(problem.budget, effort.fitting.relaxation, before.intervals)
    _, primal_point = before.at_primal_point({problem.graph.output: problem.spec.rows}, effort.last_steps)
    scores = summed_scores(before, primal_point, ~(margins > 0) | problem.settings.thorough)
    return rebound(before, *what_matters(scores, effort.part), effort, problem.budget)


def near_misses(problem: Problem, bounds: LinearBounds, lower: Tensor, effort: Effort) -> Tensor:
    """The bounds (B, R) again, with planes made for them, of inputs that little is wanting to (of all, if `thorough`).

    Where no time is left they stay as they are.
    """
    worst = problem.spec.worst(lower + problem.spec.offsets)
    near = torch.ones_like(worst, dtype=torch.bool) if problem.settings.thorough else (worst <= 0) & (worst > -NEAR)
    chosen = torch.nonzero(near).flatten()
    found = lower.clone()
    growing = any(isinstance(node, Apply) and node.op.traits.columns is not None for node in problem.graph.nodes)
    if len(chosen) and growing and problem.budget.left >= 0:
        rows = {problem.graph.output: problem.spec.rows[chosen]}
        found[chosen] = generated(bounds[chosen], rows, effort.last_steps, 1, effort.fitting)[0]
    return found


def as_found(_problem: Problem, _bounds: LinearBounds, margins: Tensor) -> Tensor:
    """The margins as they are."""
    return margins


def by_contradiction(problem: Problem, bounds: LinearBounds, margins: Tensor) -> Tensor:
    """The margins (B, R) again, where parts of the region on which a row fails come out empty, or prove it higher than thought.

    Of open inputs within reach of a proof; if `thorough` of all, where they are proved up to some way above that. All rows have
    to be needed.
    """
    spec = problem.spec
    if spec.needed < margins.shape[1] or problem.budget.left < 0:
        return margins
    worst, row = margins.min(1)
    value = spec.margins(problem.graph.forward(problem.region.centre)[:, None])[:, 0].gather(1, row[:, None])[:, 0]
    higher = torch.lerp(worst, value, AHEAD) if problem.settings.thorough else worst
    within_reach = (value > -worst) | problem.settings.thorough
    nearly = torch.where(within_reach, (-LIMIT * worst).clamp(min=LEAST_LIMIT), -math.inf)
    limits = torch.where(worst > 0, higher, nearly)
    limits = torch.where(torch.isfinite(limits), limits, -math.inf)  # where nothing is known of a row, nothing is near
    return proved_above(bounds, spec, margins, limits, problem.budget)
