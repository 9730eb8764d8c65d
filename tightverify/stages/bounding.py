"""The stages that bound every neuron once: interval arithmetic, linear bounds, fitted planes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tightverify.bounds.alternatives import with_alternatives
from tightverify.bounds.bounding_pass import closed_form_by
from tightverify.bounds.fitted import Fitting, fitted_bounds
from tightverify.bounds.interval import interval_bounds, rows_over
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.window import IntervalPass, WindowPass, further
from tightverify.errors import OutOfTimeError
from tightverify.settings import WINDOW, Settings
from tightverify.stages.problem import BoundsSoFar, Problem, or_else
from tightverify.values import below


def interval_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Interval arithmetic, forward."""
    intervals = interval_bounds(problem.graph, problem.region)
    recorder = problem.recorder.begin(problem.region)
    for number, interval in enumerate(intervals):
        recorder.interval(number, interval)
    lower = rows_over(problem.spec.rows, intervals[problem.graph.output])
    return known.with_margins(slice(None), below(lower + problem.spec.offsets, 0.0))


def linear_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Linear bounds by back-substitution, every intermediate bound included: later stages may go on from these."""

    def bounded(some: Problem) -> LinearBounds:
        by_lines = closed_form_by(some.settings.lines)
        window = some.settings.window if some.settings.method == "linear" else further(some.settings.window)
        found = linear_bounds(some.graph, some.region, some.budget, by_lines, recorder=some.recorder, window=window)
        return tried_with_others(some, found)

    return part_by_part(problem, known, bounded, keep=True)


def tried_with_others(problem: Problem, bounds: LinearBounds) -> LinearBounds:
    """Rows are tried with operations' alternatives, unless a strategy of lines was asked for: it has no others."""
    return with_alternatives(bounds) if problem.settings.lines == "default" else bounds


def crown_ibp_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Every row by back-substitution over the intervals of interval arithmetic."""

    def bounded(some: Problem) -> LinearBounds:
        intervals = IntervalPass(some.graph, some.region, recorder=some.recorder.begin(some.region))
        return tried_with_others(some, intervals.run(some.budget, closed_form_by(some.settings.lines)))

    return part_by_part(problem, known, bounded)


def lbp_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Linear functions of the input for every node, forward, and for every row."""
    return in_window(problem, known, 0)


def crown_lbp_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Every row by back-substitution over the intervals that linear functions of the input, forward, leave."""

    def bounded(some: Problem) -> LinearBounds:
        forms = WindowPass.over(some.graph, some.region, 0)
        return tried_with_others(some, forms.run(some.budget, closed_form_by(some.settings.lines)))

    return part_by_part(problem, known, bounded)


def window_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """Back-substitution through so many frames, and linear functions of the input from there on."""
    return in_window(problem, known, or_else(problem.settings.window, WINDOW))


def in_window(problem: Problem, known: BoundsSoFar, frames: int) -> BoundsSoFar:
    """Every neuron and every row with a window of so many frames."""

    def bounded(some: Problem) -> WindowPass:
        found = WindowPass.over(some.graph, some.region, frames)
        found.run(some.budget, closed_form_by(some.settings.lines))
        return found

    return part_by_part(problem, known, bounded)


def planes_fitting(settings: Settings) -> Fitting:
    """How `planes` fits planes."""
    return Fitting(directions=or_else(settings.directions, Fitting().directions), solver=settings.solver)


def planes_stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
    """The same with the tightest planes over polygons, beside the closed-form ones."""
    fitting = planes_fitting(problem.settings)

    def bounded(some: Problem) -> LinearBounds:
        return fitted_bounds(some.graph, some.region, fitting, some.budget, some.recorder, some.settings.window)

    return part_by_part(problem, known, bounded, fitting.directions)


def part_by_part(
    problem: Problem,
    known: BoundsSoFar,
    bounded: Callable[[Problem], LinearBounds | WindowPass],
    directions: int = 0,
    keep: bool = False,
) -> BoundsSoFar:
    """Every row by one bounding pass over each part of the batch, whose intervals are kept on request."""
    for part, some in problem.parts(directions):
        try:
            bounds = bounded(some)
        except OutOfTimeError:
            known = known.with_stopped(part)
            continue
        lower = bounds.lower({some.graph.output: some.spec.rows})
        known = known.with_margins(part, below(lower + some.spec.offsets, 0.0))
        if keep:
            inputs = torch.arange(part.start, part.start + len(some.region), device=lower.device)
            known = known.with_intervals(inputs, bounds.intervals)
        some.report(known[part])
        some.finish(known[part])
    return known
