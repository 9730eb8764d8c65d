"""The stage `lp`: margins that are still open by the program of the whole relaxed network, cut to convergence.

For each open input the planes are made anew, over the intervals and polygons of the last round that `combine` takes; then each
row that is not proved is bounded by a linear program over all operations' convex hulls at once (`refine.converge`), until its
bound is above 0 or nothing is left to cut. Where `Settings.obbt` asks for it, the neurons that matter most to a row that
stays open are bounded by programs of their own, everything is relaxed again, and the row is tried once more.

A row whose program the solver does not take stays open, with what is proved by then, and a note that says why.

The program's own worst input is tried as a counterexample. A ball of the norm 1 or 2 is no polyhedron of few sides: such
regions are passed by, and what was known of their inputs stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

import solvers
from tightverify.refine.converge import Converged, Cutter, Cutting
from tightverify.refine.obbt import obbt, weightiest
from tightverify.refine.relaxed import Relaxed, relaxed
from tightverify.stages.combine import efforts
from tightverify.stages.dump import dumped
from tightverify.stages.one_input import OneInput, input_by_input
from tightverify.stages.problem import BoundsSoFar


@dataclass(eq=False)
class Programs:
    """One input's programs: the planes that were cut for one row, and what neurons were bounded to, serve the next ones."""

    one: OneInput
    relaxed: Relaxed
    cutter: Cutter | None = None

    def improved(self, known: BoundsSoFar, row: int) -> Iterator[BoundsSoFar]:
        try:
            yield from self._improved(known, row)
        except solvers.SolverError:
            self.cutter = None  # what it holds of the refused rows is unclear
            raise

    def _improved(self, known: BoundsSoFar, row: int) -> Iterator[BoundsSoFar]:
        one, problem, settings = self.one, self.one.problem, self.one.problem.settings
        if self.cutter is None:
            self.cutter = self._over(row, Cutting(solver=settings.lp_solver, fits=settings.solver))
        found: Converged | None = None
        for found in self._converged(self.cutter, row):
            known = one.learnt(known, row, found)
            yield known
        if found is not None and not known.margins[one.place, row] > 0 and settings.obbt > 0 and not one.settled(known):
            chosen = weightiest(self.relaxed, found, settings.obbt)
            intervals = obbt(self.relaxed, chosen, self.cutter.cutting, settings.processes, problem.budget)
            here = problem[torch.tensor([one.place])]
            (self.relaxed,) = relaxed(here.graph, here.region, one.effort, intervals, here.budget, here.recorder)
            self.cutter = self._over(row, self.cutter.cutting)
            for found in self._converged(self.cutter, row):
                known = one.learnt(known, row, found)
                yield known
        with problem.unwritten.noting():
            dumped(settings.dump, self.cutter.session.problem, int(problem.numbers[one.place]), row, "lp")

    def _over(self, row: int, cutting: Cutting) -> Cutter:
        return Cutter.over(self.relaxed, self.one.rows(row), cutting)

    def _converged(self, cutter: Cutter, row: int) -> Iterator[Converged]:
        """Until the row is proved; in a thorough run until nothing is left to cut."""
        spec, settings = self.one.problem.spec, self.one.problem.settings
        target = torch.inf if settings.thorough else -float(spec.offsets[self.one.place, row])
        return self.one.converged(cutter, row, target, self.relaxed.bounds.recorder)


def improvements(one: OneInput, relaxed: Relaxed, known: BoundsSoFar) -> Iterator[BoundsSoFar]:
    """Every row that is open, of a thorough run every row at all."""
    return one.row_by_row(known, Programs(one, relaxed).improved, every=one.problem.settings.thorough)


lp_stage = input_by_input(efforts, improvements)
"""Every open row by the program over all convex hulls."""
