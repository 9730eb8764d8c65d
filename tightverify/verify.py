"""From a network, inputs and a region to verdicts: the loop that runs a method's stages, and the books it keeps.

A stage is a function from (problem, what is known) to more that is known; `stages` has them, and the list of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from tightverify.stages.problem import BoundsSoFar, Problem, Stage
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
    `sentence` has the counterexample's words, where it is made of words.
    """

    verdict: Verdict
    margins: Tensor
    margin: float
    stage: str
    seconds: float
    counterexample: Tensor | None
    tree: tuple[Branch, ...] = ()
    note: str = ""
    sentence: str = ""

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


Deliver = Callable[[int, Ending], None]
"""Takes an input's number and its ending, when it is decided."""


@dataclass(eq=False)
class Ledger:
    """The books of one batch, kept on the CPU: what is known, which stage said so, and what time each input has used.

    Inputs are `stopped` when all of it is used, `hurried` when a stage had too little for them, and `settled` when their ending
    was handed out.
    """

    spec: Property
    known: BoundsSoFar
    stages: list[str]
    seconds: Tensor
    stopped: Tensor
    hurried: Tensor
    settled: Tensor

    @classmethod
    def empty(cls, problem: Problem) -> Ledger:
        count, rows = problem.spec.rows.shape[:2]
        margins = torch.full((count, rows), -math.inf, dtype=torch.float64)
        known = BoundsSoFar(margins, torch.zeros(count, dtype=torch.bool), problem.region.centre.cpu().clone())
        seconds, nothing = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool)
        return cls(problem.spec, known, [""] * count, seconds, nothing, nothing.clone(), nothing.clone())

    @property
    def open_inputs(self) -> Tensor:
        """The places of those that are to go on."""
        return torch.nonzero(~self.settled).flatten()

    def learn(self, inputs: Tensor, stage: str, found: BoundsSoFar, took: float, limit: float) -> None:
        """Write down what a stage found on some inputs, and how long each took there."""
        self.known.margins[inputs] = found.margins
        self.known.refuted[inputs] = found.refuted
        self.known.points[inputs] = found.points
        if found.intervals:
            self.known = self.known.with_intervals(inputs, found.intervals)
        self.known = replace(
            self.known, trees={**self.known.trees, **found.trees}, refusals={**self.known.refusals, **found.refusals}
        )
        self.seconds[inputs] += took
        if found.least is not None:
            self.known = self.known.with_least(inputs, found.least)
        done = found.proved(self.spec[inputs]) | found.refuted
        self.stopped[inputs] = (self.seconds[inputs] >= limit) & ~done
        if found.stopped is not None:
            self.hurried[inputs] |= found.stopped
        for number in inputs.tolist():
            self.stages[number] = stage

    def refuse_contradictions(self, graph: Graph, inputs: Tensor) -> None:
        """What is proved may break at a point by the user's own rounding, but not for sure, by the intervals of that point."""
        both = inputs[(self.known.proved(self.spec) & self.known.refuted)[inputs]]
        if not len(both):
            return
        spec, points = self.spec[both], self.known.points[both]
        outputs = interval_bounds(graph.to("cpu"), Ball.points(points))[graph.output]
        most = times(spec.rows.clamp(min=0), outputs.upper) + times(spec.rows.clamp(max=0), outputs.lower) + spec.offsets
        size = times(spec.rows.abs(), outputs.magnitude) + spec.offsets.abs()
        if bool(spec.broken(above(most, gamma(spec.rows.shape[2] + 4) * size)).any()):
            raise SoundnessFault("a point of a region breaks what was proved of it: this is a bug, please report it")

    def settle(self, inputs: Tensor, problem: Problem, deliver: Deliver) -> None:
        """Hand out the endings of some inputs. A proof counts before anything else."""
        self.refuse_contradictions(problem.graph, inputs)
        self.settled[inputs] = True
        proved, decisive = self.known.proved(self.spec).tolist(), self.known.worst(self.spec).tolist()
        for k in inputs.tolist():
            verdict, point = Verdict.UNKNOWN, None
            if proved[k]:
                verdict = Verdict.ROBUST
            elif bool(self.known.refuted[k]):
                verdict, point = Verdict.COUNTEREXAMPLE, self.known.points[k].view(problem.graph.input_shape)
            elif bool(self.stopped[k] | self.hurried[k]):
                verdict = Verdict.TIMED_OUT
            number = int(problem.numbers[k])
            tree = self.known.trees.get(number, ())
            note = self.known.refusals.get(number, "") if verdict in (Verdict.UNKNOWN, Verdict.TIMED_OUT) else ""
            margins, seconds = self.known.margins[k].clone(), float(self.seconds[k])
            words = "" if point is None or problem.model.embedding is None else problem.model.embedding.sentence(point)
            deliver(number, Ending(verdict, margins, decisive[k], self.stages[k], seconds, point, tree, note, words))


def decide(problem: Problem, deliver: Deliver) -> None:
    """Run a method's stages over a batch, with as many threads as suit its size."""
    with threads_for(largest_temporary(problem.graph, problem.region, problem.budget), problem.settings.device):
        run_stages(problem, deliver)


def run_stages(problem: Problem, deliver: Deliver) -> None:
    """All stages of a method; inputs leave the batch when they are decided or their time is up, each at once.

    A stage may take its share of what is left of the inputs' time; what it does not finish in that is left to those after it.
    One whose share is nothing is passed by.
    """
    ledger, stages = Ledger.empty(problem), stages_for(problem)
    for place, (name, stage) in enumerate(stages, start=1):
        inputs = ledger.open_inputs
        if not len(inputs):
            break
        clock = Clock.start(float(ledger.seconds[inputs].max()), len(inputs))
        left = problem.settings.time_limit - clock.used
        share = share_of(problem, stage, [later for _, later in stages[place:]], left)
        if share == 0:
            continue
        problem.recorder.stage(name)
        Turn(problem, ledger, name, inputs, place == len(stages), clock, deliver).run(stage, share)
        problem.recorder.margins(name, ledger.known.margins)
        if stage is linear_stage:
            problem = replace(problem, pace=clock.took / len(inputs))


@dataclass(eq=False)
class Turn:
    """One stage's work on the inputs of a batch that are open: those that it decides, or the last is done with, leave it."""

    problem: Problem
    ledger: Ledger
    name: str
    inputs: Tensor
    last: bool
    clock: Clock
    deliver: Deliver
    reported: Reported = field(default_factory=dict)

    def run(self, stage: Stage, share: float) -> None:
        settings = self.problem.settings
        budget = replace(self.problem.budget, deadline=self.clock.deadline(settings.time_limit, share))
        some = replace(self._some, budget=budget, listen=self.hear)
        found = stage(some.to(settings.device), self.ledger.known[self.inputs].to(settings.device)).to("cpu")
        self._report(torch.arange(len(self.inputs)), found)
        left = self._left
        self._learn(left, found[left])
        self._settle(left, self.last)

    def hear(self, numbers: Tensor, known: BoundsSoFar, finished: bool) -> None:
        """What the stage says of some inputs: who is decided leaves at once, and in the last stage who it has finished with."""
        ending = self.last and finished
        if self.problem.settings.thorough and not ending:
            return
        given = torch.searchsorted(self.problem.numbers[self.inputs], numbers.cpu())
        spec = self.ledger.spec[self.inputs[given]].to(str(known.margins.device))
        gone = ~self.ledger.settled[self.inputs[given]]
        if not ending:
            gone &= (known.proved(spec) | known.refuted).cpu()
        chosen = torch.nonzero(gone).flatten()
        if len(chosen):
            found = replace(known, intervals=())[chosen.to(known.margins.device)].to("cpu")
            self._report(given[chosen], found)
            self._learn(given[chosen], found)
            self._settle(given[chosen], ending)

    @property
    def _some(self) -> Problem:
        some = self.problem[self.inputs]
        return replace(some, stage=self.name, clock=self.clock, callback=noting(self.problem.callback, self.reported))

    @property
    def _left(self) -> Tensor:
        """The places in this turn of those that have not left."""
        return torch.nonzero(~self.ledger.settled[self.inputs]).flatten()

    def _report(self, places: Tensor, found: BoundsSoFar) -> None:
        """Report what the stage has not."""
        some = self._some[places]
        rest = [k for k, (number, what) in enumerate(in_short(some.step(found)).items()) if self.reported.get(number) != what]
        if rest:
            some[torch.tensor(rest)].report(found[torch.tensor(rest)])

    def _learn(self, places: Tensor, found: BoundsSoFar) -> None:
        """Enter what was found, and each input's share of the time."""
        took, limit = self.clock.took / len(self.inputs), self.problem.settings.time_limit
        self.ledger.learn(self.inputs[places], self.name, found, took, limit)

    def _settle(self, places: Tensor, ending: bool) -> None:
        """Let those go that are decided, or out of time, or all as it is the end."""
        inputs, ledger = self.inputs[places], self.ledger
        gone = ledger.stopped[inputs] | ending
        if not self.problem.settings.thorough:
            gone |= ledger.known.refuted[inputs] | ledger.known.proved(ledger.spec)[inputs]
        ledger.settle(inputs[gone], self.problem, self.deliver)


Reported = dict[int, tuple[list[float], bool]]
"""What was last said of each input: its margins, and whether it is open."""


def in_short(step: Step) -> Reported:
    return dict(zip(step.inputs.tolist(), zip(step.margins.tolist(), step.open.tolist(), strict=True), strict=True))


def noting(callback: Callback, reported: Reported) -> Callback:
    """The same callback, and a note of what was reported."""

    def note(step: Step) -> None:
        reported.update(in_short(step))
        callback(step)

    return note


Keep = Callable[[Problem, Deliver], None]
"""Decides a batch, hands out each ending when its input is decided, and maybe keeps evidence of that."""


def keeper(settings: Settings) -> Keep:
    """How batches are decided: where evidence is wanted, with a record of each input, in a file of its name."""
    folder = settings.evidence
    if folder is None:
        return decide
    make_folder(folder, "evidence")

    def keep(problem: Problem, deliver: Deliver) -> None:
        number = int(problem.files[0])
        asked = question(number, problem.model.source, settings.method, problem.graph, problem.region, problem.spec)
        trees = settings.trees
        earlier = None if trees is None else earlier_evidence(tree_file(trees, number), asked.fingerprint)
        endings: list[tuple[int, Ending]] = []
        with problem.unwritten.noting(), Record(evidence_file(folder, number), earlier) as record:
            if not record.goes_on:
                record.add(asked)
            decide(replace(problem, recorder=EvidenceRecorder(record)), lambda *ending: endings.append(ending))
            record.add(endings[0][1].evidence())
        if not endings:
            problem.unwritten.say()
        for ending in endings:  # only now: whoever has the verdict has its evidence
            deliver(*ending)

    return keep
