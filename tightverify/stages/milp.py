"""The stage `milp`: open rows decided by mixed-integer programs (`refine.milp`).

Each open row starts from its linear program cut to convergence, as in the stage `lp`; every point that a program comes upon is
tried as a counterexample. Networks of ReLU, clamps and maxima are decided exactly, others as far as refining goes in the time
given: without a limit it goes on until every row is decided. Regions that are no boxes are passed by. A row of which
a solver does not take a program stays open, with what is proved by then, and a note that says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tightverify.graph import Apply, Graph
from tightverify.refine.converge import Cutter, Cutting
from tightverify.refine.milp import Deciding, Progress, decide
from tightverify.refine.proof import cutoff_proof, tree_proof
from tightverify.refine.relaxed import Relaxed
from tightverify.stages.combine import efforts
from tightverify.stages.dump import dumped
from tightverify.stages.one_input import OneInput, input_by_input
from tightverify.stages.problem import BoundsSoFar
from tightverify.stages.replay import inputs_of, replayed


def surely_ends(graph: Graph) -> bool:
    """Whether a network is linear in pieces, so that its programs hold it exactly."""
    return all(node.op.traits.straight for node in graph.nodes if isinstance(node, Apply))


def decided(one: OneInput, relaxed: Relaxed, known: BoundsSoFar) -> Iterator[BoundsSoFar]:
    """Every row that is open, until the input is decided."""
    return one.row_by_row(known, partial(row_decided, one, relaxed), every=False)


def row_decided(one: OneInput, relaxed: Relaxed, known: BoundsSoFar, row: int) -> Iterator[BoundsSoFar]:
    """What a row's programs find: the linear one cut to convergence, then those with whole variables."""
    problem, place, settings, recorder = one.problem, one.place, one.problem.settings, relaxed.bounds.recorder
    deciding = Deciding(settings.lp_solver, keep=recorder.listens)
    cutter = Cutter.over(relaxed, one.rows(row), Cutting(solver=settings.lp_solver, fits=settings.solver))
    target = -float(problem.spec.offsets[place, row])
    for start in one.converged(cutter, row, target, recorder):
        known = one.learnt(known, row, start)
        yield known
    if not known.margins[place, row] > 0 and not one.settled(known):
        step: Progress | None = None
        try:
            for step in decide(relaxed, start, cutter.session.problem, target, deciding, problem.budget):
                known = one.with_bound(known, row, step.bound)
                if step.cutoff_tightened is not None:
                    recorder.proof(partial(cutoff_proof, step.mixed, step.cutoff_tightened, row))
                if step.point is not None:
                    known = replayed(problem, known, place, inputs_of(problem, cutter.program, step.point, place))
                yield known
                if bool(known.refuted[place]):
                    break
        finally:  # when the time has run out too
            if step is not None and step.best.grown is not None:
                recorder.proof(partial(tree_proof, step.best.grown, row))
        if step is not None:
            with problem.unwritten.noting():
                dumped(settings.dump, step.mixed.problem, int(problem.numbers[place]), row, "milp")


milp_stage = input_by_input(lambda settings: efforts(settings)[:1], decided)
"""Every open row by a mixed-integer program."""
