"""Stages that work on one input after the other, and keep the best of what each has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

import solvers
from tightverify.bounds.fitted import Effort, combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.recorder import PassRecorder
from tightverify.bounds.window import further
from tightverify.errors import OutOfTimeError
from tightverify.refine.converge import Converged, Cutter
from tightverify.refine.network_lp import defined
from tightverify.refine.proof import linear_proof
from tightverify.refine.relaxed import Relaxed, relaxed
from tightverify.settings import Settings
from tightverify.stages.combine import MIXTURE_SHARE, PREPARING, QUICK
from tightverify.stages.problem import BoundsSoFar, Problem, Stage, missing
from tightverify.stages.replay import inputs_of, replayed
from tightverify.values import Interval, below

Improving = Callable[["OneInput", Relaxed, BoundsSoFar], Iterator[BoundsSoFar]]
"""From one input's relaxation and what is known to ever more that is known."""
RowImproving = Callable[[BoundsSoFar, int], Iterator[BoundsSoFar]]
"""From what is known and the number of a row to ever more that is known of that row."""


def input_by_input(rounds_of: Callable[[Settings], tuple[Effort, ...]], improving: Improving) -> Stage:
    """A stage that goes from input to input, each relaxed as in the last of some rounds of `combine`."""

    def stage(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
        if not problem.region.separable:
            return known
        device = str(known.margins.device)
        problem, known = replace(problem.to("cpu"), graph=problem.graph.to("cpu")), known.to("cpu")
        rounds = rounds_of(problem.settings)
        for part, some in problem.parts(max(effort.fitting.directions for effort in rounds), MIXTURE_SHARE):
            try:
                relaxations = relaxed_inputs(some, rounds, known[part].intervals)
            except OutOfTimeError:
                known = known.with_stopped(part)
                continue
            for place, one in enumerate(relaxations, start=part.start):
                mine = some.within(1 / (part.start + len(relaxations) - place))
                try:
                    here = OneInput(replace(problem, budget=mine.budget), place, rounds[-1])
                    for better in improving(here, one, known) if defined(one.bounds, 0) else ():
                        known = better
                except OutOfTimeError:
                    known = known.with_stopped(torch.tensor([place]))
                alone = torch.tensor([place])
                problem[alone].report(known[alone])
                problem[alone].finish(known[alone])
        return known.to(device)

    return stage


def relaxed_inputs(problem: Problem, rounds: tuple[Effort, ...], intervals: Sequence[Interval]) -> list[Relaxed]:
    """The batch relaxed as in the last of so many rounds of `combine`, from the intervals that it left if there are any.

    Where half of the time is not enough for that, it is relaxed as quickly as may be: programs are to have time too.
    """
    graph, region, recorder, window = problem.graph, problem.region, problem.recorder, problem.settings.window
    preparing, first = problem.budget.within(PREPARING), missing(intervals)
    if first:
        known = intervals or None
        found = linear_bounds(graph, region, problem.budget, known=known, recorder=recorder, window=further(window))
        intervals = found.intervals
    try:
        for effort in rounds[:-1] if first else ():
            intervals = combined_bounds(graph, region, effort, intervals, preparing, recorder, window).intervals
        return relaxed(graph, region, rounds[-1], intervals, preparing, recorder, window)
    except OutOfTimeError:
        return relaxed(graph, region, QUICK, intervals, problem.budget, recorder, window)


@dataclass(frozen=True, eq=False)
class OneInput:
    """One input of a batch, at its place there."""

    problem: Problem
    place: int
    effort: Effort

    def row_by_row(self, known: BoundsSoFar, improved: RowImproving, every: bool) -> Iterator[BoundsSoFar]:
        """Row after row, until the input is decided or cannot be proved here, unless `every` row is wanted.

        A row of which a solver does not take a program stays open.
        """
        place, spec = self.place, self.problem.spec[torch.tensor([self.place])]
        failed, spare = 0, spec.rows.shape[1] - spec.needed
        for row in self.order(known.margins[place], spare > 0):
            if not every and (failed > spare or self.settled(known)):
                return
            try:
                for better in improved(known, row):
                    known = better
                    yield known
            except solvers.SolverError as error:
                known = self.refused(known, row, error)
                yield known
            failed += not known.margins[place, row] > 0

    def order(self, margins: Tensor, easy_first: bool) -> list[int]:
        """The rows that are not proved: the hardest first where all are needed, for it decides."""
        rows = torch.argsort(margins, descending=easy_first).tolist()
        return [row for row in rows if self.problem.settings.thorough or not margins[row] > 0]

    def rows(self, row: int) -> dict[int, Tensor]:
        return {self.problem.graph.output: self.problem.spec.rows[self.place, row]}

    def refused(self, known: BoundsSoFar, row: int, error: solvers.SolverError) -> BoundsSoFar:
        """What is known, and why the row was left open; the first such row of an input is the one that is stated."""
        number = int(self.problem.numbers[self.place])
        note = f"the stage {self.problem.stage} left row {row} open: {error}"
        return replace(known, refusals={number: note, **known.refusals})

    def settled(self, known: BoundsSoFar) -> bool:
        here = torch.tensor([self.place])
        return bool(known.refuted[self.place]) or bool(known[here].proved(self.problem.spec[here])[0])

    def converged(self, cutter: Cutter, row: int, target: float, recorder: PassRecorder) -> Iterator[Converged]:
        """What a program finds, solve by solve; the recorder hears of its best bound, also where the time runs out."""
        found: Converged | None = None
        try:
            for found in cutter.converge(self.rows(row), target, self.problem.budget):
                yield found
        finally:
            if found is not None:
                recorder.proof(partial(linear_proof, found, row))

    def learnt(self, known: BoundsSoFar, row: int, found: Converged) -> BoundsSoFar:
        """What a program has proved, and whether its worst input is a counterexample."""
        known = self.with_bound(known, row, found.proved)
        if found.point is None:
            return known
        return replayed(self.problem, known, self.place, inputs_of(self.problem, found.program, found.point, self.place))

    def with_bound(self, known: BoundsSoFar, row: int, proved: float) -> BoundsSoFar:
        """The row's margin by a proved bound of its linear part."""
        margins = known.margins[self.place : self.place + 1].clone()
        bound = torch.tensor(proved, dtype=torch.float64)
        margins[0, row] = torch.maximum(margins[0, row], below(bound + self.problem.spec.offsets[self.place, row], 0.0))
        return known.with_margins(slice(self.place, self.place + 1), margins)
