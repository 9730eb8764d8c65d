"""From a network, inputs and a region to verdicts: the loop that runs a method's stages, and the books it keeps.

A stage is a function from (problem, what is known) to more that is known; `stages` has them, and the list of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from tightverify import evidence
from tightverify.bounds.evidence_recorder import EvidenceRecorder
from tightverify.bounds.interval import interval_bounds
from tightverify.bounds.memory import largest_temporary
from tightverify.branch.node import Branch
from tightverify.branch.saved import earlier_evidence, tree_file
from tightverify.budget import Clock
from tightverify.decimals import at_least
from tightverify.disk import make_folder
from tightverify.errors import SoundnessFault
from tightverify.graph import Graph
from tightverify.recording.question import question
from tightverify.recording.record import Record, evidence_file
from tightverify.region import Ball
from tightverify.settings import Settings
from tightverify.spec import Property
from tightverify.stages import share_of, stages_for
from tightverify.stages.bounding import linear_stage
from tightverify.stages.problem import BoundsSoFar, Problem
from tightverify.stages.progress import Callback, Step
from tightverify.threads import threads_for
from tightverify.values import above, gamma, times


class Verdict(Enum):
    """What a run says of one input; the value is the sentence that a user reads."""

    ROBUST = "proved: no point of the region changes the answer"
    COUNTEREXAMPLE = "a point of the region changes the answer; it was replayed through the original model"
    UNKNOWN = "neither proved nor refuted by this method"
    TIMED_OUT = "the time limit ran out before a proof or a counterexample was found"
    MISCLASSIFIED = "the model's answer at the input itself is not the label: nothing to verify"


@dataclass(frozen=True, eq=False)
class Ending:
    """How the work on one input ended, with the best bounds reached.

    `margins` are proved lower bounds of the property's rows (for a label: of its output minus each other one, in the
    order of the classes), -inf where nothing was proved; `margin` is the one that decides. `stage` is the stage that
    decided, or the last that tried. `seconds` is the input's share of the time of its batch. `tree` has the nodes of the search
    tree, if the region was split. `note` says what kept a stage from trying all it could, where an input was left open.
    """

    verdict: Verdict
    margins: Tensor
    margin: float
    stage: str
    seconds: float
    counterexample: Tensor | None
    tree: tuple[Branch, ...] = ()
    note: str = ""

    def evidence(self) -> evidence.Ending:
        """What is written down of it beside what led there."""
        point = torch.zeros(0) if self.counterexample is None else self.counterexample.flatten()
        margins, values = (part.to(torch.float64).numpy() for part in (self.margins, point))
        return evidence.Ending(self.verdict.name, self.stage, self.margin, margins, values)


@dataclass(frozen=True, eq=False, repr=False)
class Result(Ending):
    """The verdict on one input: its place among those given, its label if it was to keep one, and how it ended."""

    index: int = 0
    label: int | None = None

    def __repr__(self) -> str:
        label = "" if self.label is None else f", label {self.label}"
        margin = f", margin {at_least(self.margin, 4)}" if math.isfinite(self.margin) else ""
        stage = f", {self.stage}" if self.stage else ""
        return f"Result({self.index}: {self.verdict.name}{label}{margin}{stage}, {self.seconds:.3g} s)"


def misclassified(rows: int) -> Ending:
    """The ending of an input that was not verified, for the model's answer there is not its label."""
    nothing = torch.full((rows,), -math.inf, dtype=torch.float64)
    return Ending(Verdict.MISCLASSIFIED, nothing, -math.inf, "", 0.0, None)


@dataclass(eq=False)
class Ledger:
    """The books of one batch, kept on the CPU: what is known, which stage said so, and what time each input has used.

    Inputs are `stopped` when all of it is used, and `hurried` when a stage had too little for them.
    """

    wanted: Property
    known: BoundsSoFar
    stages: list[str]
    seconds: Tensor
    stopped: Tensor
    hurried: Tensor

    @classmethod
    def empty(cls, problem: Problem) -> Ledger:
        count, rows = problem.wanted.rows.shape[:2]
        margins = torch.full((count, rows), -math.inf, dtype=torch.float64)
        known = BoundsSoFar(margins, torch.zeros(count, dtype=torch.bool), problem.region.centre.cpu().clone())
        seconds, stopped = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool)
        return cls(problem.wanted, known, [""] * count, seconds, stopped, stopped.clone())

    def open_inputs(self, thorough: bool) -> Tensor:
        settled = self.stopped
        if not thorough:
            settled = settled | self.known.refuted | self.known.proved(self.wanted)
        return torch.nonzero(~settled).flatten()

    def enter(self, inputs: Tensor, stage: str, found: BoundsSoFar, took: float, limit: float) -> None:
        """Write down what a stage found on some inputs, and that they shared the time it took."""
        self.known.margins[inputs] = found.margins
        self.known.refuted[inputs] = found.refuted
        self.known.points[inputs] = found.points
        if found.intervals:
            self.known = self.known.with_intervals(inputs, found.intervals)
        self.known = replace(
            self.known, trees={**self.known.trees, **found.trees}, refusals={**self.known.refusals, **found.refusals}
        )
        self.seconds[inputs] += took / len(inputs)
        if found.least is not None:
            self.known = self.known.with_least(inputs, found.least)
        done = found.proved(self.wanted[inputs]) | found.refuted
        self.stopped[inputs] = (self.seconds[inputs] >= limit) & ~done
        if found.stopped is not None:
            self.hurried[inputs] |= found.stopped
        for number in inputs.tolist():
            self.stages[number] = stage

    def refuse_contradictions(self, graph: Graph) -> None:
        """What is proved may break at a point by the user's own rounding, but not for sure, by the intervals of that point."""
        (both,) = torch.nonzero(self.known.proved(self.wanted) & self.known.refuted, as_tuple=True)
        if not len(both):
            return
        wanted, points = self.wanted[both], self.known.points[both]
        outputs = interval_bounds(graph.to("cpu"), Ball.points(points))[graph.output]
        most = times(wanted.rows.clamp(min=0), outputs.upper) + times(wanted.rows.clamp(max=0), outputs.lower) + wanted.offsets
        size = times(wanted.rows.abs(), outputs.magnitude) + wanted.offsets.abs()
        if bool(wanted.broken(above(most, gamma(wanted.rows.shape[2] + 4) * size)).any()):
            raise SoundnessFault("a point of a region breaks what was proved of it: this is a bug, please report it")

    def endings(self, shape: tuple[int, ...], numbers: Tensor) -> Iterator[Ending]:
        """The endings in the order of the inputs. A proof counts before anything else."""
        proved, decisive = self.known.proved(self.wanted), self.known.worst(self.wanted).tolist()
        for k, (margins, number) in enumerate(zip(self.known.margins, numbers.tolist(), strict=True)):
            verdict, point = Verdict.UNKNOWN, None
            if bool(proved[k]):
                verdict = Verdict.ROBUST
            elif bool(self.known.refuted[k]):
                verdict, point = Verdict.COUNTEREXAMPLE, self.known.points[k].view(shape)
            elif bool(self.stopped[k] | self.hurried[k]):
                verdict = Verdict.TIMED_OUT
            tree = self.known.trees.get(number, ())
            note = self.known.refusals.get(number, "") if verdict in (Verdict.UNKNOWN, Verdict.TIMED_OUT) else ""
            yield Ending(verdict, margins, decisive[k], self.stages[k], float(self.seconds[k]), point, tree, note)


def decide(problem: Problem) -> Iterator[Ending]:
    """Run a method's stages over a batch, with as many threads as suit its size."""
    with threads_for(largest_temporary(problem.graph, problem.region, problem.budget), problem.settings.device):
        return run_stages(problem)


def run_stages(problem: Problem) -> Iterator[Ending]:
    """All stages of a method; inputs leave the batch when they are decided or their time is up.

    A stage may take its share of what is left of the inputs' time; what it does not finish in that is left to those after it.
    One whose share is nothing is passed by.
    """
    limit, device = problem.settings.time_limit, problem.settings.device
    ledger = Ledger.empty(problem)
    stages = stages_for(problem)
    for place, (name, stage) in enumerate(stages, start=1):
        inputs = ledger.open_inputs(problem.settings.thorough)
        if not len(inputs):
            break
        clock = Clock.start(float(ledger.seconds[inputs].max()), len(inputs))
        share = share_of(problem, stage, [later for _, later in stages[place:]], limit - clock.used)
        if share == 0:
            continue
        budget = replace(problem.budget, deadline=clock.deadline(limit, share))
        told: Told = {}
        problem.recorder.stage(name)
        some = replace(problem[inputs], stage=name, clock=clock, budget=budget, callback=noting(problem.callback, told))
        found = stage(some.to(device), ledger.known[inputs].to(device)).to("cpu")
        rest = [k for k, (number, what) in enumerate(in_short(some.step(found)).items()) if told.get(number) != what]
        if rest:
            some[torch.tensor(rest)].report(found[torch.tensor(rest)])
        took = clock.took
        ledger.enter(inputs, name, found, took, limit)
        problem.recorder.margins(name, ledger.known.margins)
        if stage is linear_stage:
            problem = replace(problem, pace=took / len(inputs))
    ledger.refuse_contradictions(problem.graph)
    return ledger.endings(problem.graph.input_shape, problem.numbers)


Told = dict[int, tuple[list[float], bool]]
"""What was last said of each input: its margins, and whether it is open."""


def in_short(step: Step) -> Told:
    return dict(zip(step.inputs.tolist(), zip(step.margins.tolist(), step.open.tolist(), strict=True), strict=True))


def noting(callback: Callback, told: Told) -> Callback:
    """The same callback, and a note of what it was told."""

    def note(step: Step) -> None:
        told.update(in_short(step))
        callback(step)

    return note


Keep = Callable[[Problem], Iterator[Ending]]
"""Decides a batch, and maybe keeps evidence of that."""


def keeper(settings: Settings) -> Keep:
    """How batches are decided: where evidence is wanted, with a record of each input, in a file of its name."""
    folder = settings.evidence
    if folder is None:
        return decide
    make_folder(folder, "evidence")

    def keep(problem: Problem) -> Iterator[Ending]:
        number = int(problem.files[0])
        asked = question(number, problem.model.source, settings.method, problem.graph, problem.region, problem.wanted)
        trees = settings.trees
        earlier = None if trees is None else earlier_evidence(tree_file(trees, number), asked.fingerprint)
        endings: list[Ending] = []
        with problem.unwritten.noting(), Record(evidence_file(folder, number), earlier) as record:
            if not record.goes_on:
                record.add(asked)
            endings.extend(decide(replace(problem, recorder=EvidenceRecorder(record))))
            record.add(endings[0].evidence())
        if not endings:
            problem.unwritten.say()
        yield from endings

    return keep
