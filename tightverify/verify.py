"""From a network, inputs and a region to verdicts: the list of stages, and the loop that runs them.

A stage is a function from (problem, what is known) to more that is known. Cheap ones come first; each sees only the
inputs that the ones before left open. To add a stage, write it and name it in `METHODS`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from tightverify.attack import Search, attack
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds, fitted_bounds
from tightverify.bounds.interval import interval_bounds, rows_over
from tightverify.bounds.linear import linear_bounds, parts
from tightverify.bounds.pieces import over_pieces
from tightverify.errors import OutOfTimeError, UsageError
from tightverify.graph import Graph
from tightverify.models.model import Model
from tightverify.region import Region, Zonotope
from tightverify.settings import Settings
from tightverify.spec import Property
from tightverify.values import Interval, below


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
    decided, or the last that tried. `seconds` is the input's share of the time of its batch.
    """

    verdict: Verdict
    margins: Tensor
    margin: float
    stage: str
    seconds: float
    counterexample: Tensor | None


@dataclass(frozen=True, eq=False)
class Result(Ending):
    """The verdict on one input: its place among those given, its label if it was to keep one, and how it ended."""

    index: int
    label: int | None


def misclassified(rows: int) -> Ending:
    """The ending of an input that was not verified, for the model's answer there is not its label."""
    nothing = torch.full((rows,), -math.inf, dtype=torch.float64)
    return Ending(Verdict.MISCLASSIFIED, nothing, -math.inf, "", 0.0, None)


@dataclass(frozen=True, eq=False)
class Step:
    """What was known of some inputs at one moment of a run: after a stage, a round of it, or a part of its inputs.

    `round` counts from 1 in a stage that works in rounds, and is 0 otherwise. `inputs` (n,) are numbered as they were given;
    `margins` (n, R) are their proved lower bounds of all rows, `worst` (n,) the ones that decide, and `open` (n,) says which
    are neither proved nor refuted. `seconds` is each input's share, so far, of the time of its batch.
    """

    stage: str
    round: int
    inputs: Tensor
    margins: Tensor
    worst: Tensor
    open: Tensor
    seconds: float


Watch = Callable[[Step], None]


def unwatched(_step: Step) -> None:
    """Looks away."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is asked of a batch of inputs: every stage reads it, none changes it.

    `numbers` are the inputs' places among those given. `watch` is told every step; `stage` and `clock` say of what and when.
    """

    model: Model
    graph: Graph
    region: Region
    wanted: Property
    settings: Settings
    numbers: Tensor
    watch: Watch = unwatched
    stage: str = ""
    clock: Callable[[], float] = lambda: 0.0
    check: Callable[[], None] = lambda: None

    def __getitem__(self, inputs: slice | Tensor) -> Problem:
        return replace(self, region=self.region[inputs], wanted=self.wanted[inputs], numbers=self.numbers[inputs])

    def to(self, device: str) -> Problem:
        """The regions and rows on another device; the graph is on the one that it was given on."""
        region, wanted, numbers = self.region.to(device), self.wanted.to(device), self.numbers.to(device)
        return replace(self, region=region, wanted=wanted, numbers=numbers)

    def report(self, known: Known, round: int = 0) -> None:
        """Tell the watch what is known of these inputs now; what a stage does not tell is told when it ends."""
        self.watch(self.step(known, round))

    def step(self, known: Known, round: int = 0) -> Step:
        undecided = ~(self.wanted.proved(known.margins) | known.refuted)
        found = (self.numbers, known.margins, self.wanted.worst(known.margins), undecided)
        numbers, margins, worst, undecided = (value.to("cpu", copy=True) for value in found)
        return Step(self.stage, round, numbers, margins, worst, undecided, self.clock())

    def parts(self, directions: int = 0, share: int = 1) -> Iterator[tuple[slice, Problem]]:
        """The inputs cut into parts in which the largest temporary keeps to a part of the memory allowed."""
        for part in parts(self.graph, self.region, self.settings.memory // share, directions):
            yield part, self[part]


@dataclass(frozen=True, eq=False)
class Known:
    """What has been found for a batch: sound lower bounds of the rows (B, R), and replayed counterexamples."""

    margins: Tensor
    refuted: Tensor
    points: Tensor
    stopped: bool = False

    def __getitem__(self, inputs: slice | Tensor) -> Known:
        return Known(self.margins[inputs], self.refuted[inputs], self.points[inputs], self.stopped)

    def to(self, device: str) -> Known:
        return Known(self.margins.to(device), self.refuted.to(device), self.points.to(device), self.stopped)

    def with_margins(self, part: slice, margins: Tensor) -> Known:
        """The better of the old and the new bounds, for some of the inputs."""
        together = self.margins.clone()
        together[part] = torch.maximum(together[part], torch.where(torch.isfinite(margins), margins, -math.inf))
        return replace(self, margins=together)


Stage = Callable[[Problem, Known], Known]


def interval_stage(problem: Problem, known: Known) -> Known:
    """Interval arithmetic, forward."""
    output = interval_bounds(problem.graph, problem.region)[problem.graph.output]
    lower = rows_over(problem.wanted.rows, output)
    return known.with_margins(slice(None), below(lower + problem.wanted.offsets, 0.0))


def linear_stage(problem: Problem, known: Known) -> Known:
    """Linear bounds by back-substitution, every intermediate bound included."""
    for part, some in problem.parts():
        try:
            bounds = linear_bounds(some.graph, some.region, some.check)
        except OutOfTimeError:
            return replace(known, stopped=True)
        lower = bounds.lower({some.graph.output: some.wanted.rows})
        known = known.with_margins(part, below(lower + some.wanted.offsets, 0.0))
        some.report(known[part])
    return known


def planes_stage(problem: Problem, known: Known) -> Known:
    """The same with the tightest planes over polygons, beside the closed-form ones."""
    fitting = Fitting(directions=or_else(problem.settings.directions, 2), solver=problem.settings.solver)
    for part, some in problem.parts(fitting.directions):
        try:
            bounds = fitted_bounds(some.graph, some.region, fitting, some.check)
        except OutOfTimeError:
            return replace(known, stopped=True)
        lower = bounds.lower({some.graph.output: some.wanted.rows})
        known = known.with_margins(part, below(lower + some.wanted.offsets, 0.0))
        some.report(known[part])
    return known


def or_else(value: int | None, default: int) -> int:
    return default if value is None else value


def efforts(settings: Settings) -> tuple[Effort, ...]:
    """The rounds of `combine`: the second for what the first leaves open, and so on."""
    kinds = "tightest", "edges", "corners"

    def effort(directions: int, steps: int, *more: str) -> Effort:
        return Effort(Fitting((*kinds, *more), or_else(settings.directions, directions), settings.solver), steps, 20)

    return (effort(4, 2), effort(8, 3), effort(16, 4, "ring"))[: settings.rounds]


MIXTURE_SHARE = 8
"""A row's mixtures take about so many times the memory of the row itself."""
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
            intervals = linear_bounds(some.graph, some.region, some.check).intervals
            for number, effort in enumerate(rounds, start=1):
                now = some[left]
                bounds = combined_bounds(now.graph, now.region, effort, intervals, now.check)
                lower = bounds.lower({now.graph.output: now.wanted.rows}, effort.last_steps)
                lower = below(lower + now.wanted.offsets, 0.0)
                lower = torch.where(torch.isfinite(lower), lower, -math.inf)
                gain = torch.nan_to_num(lower - margins[left], nan=0.0).amax(1)
                margins[left] = torch.maximum(margins[left], lower)
                known = known.with_margins(part, margins)
                now.report(known[part][left], number)
                settled = now.wanted.proved(margins[left])
                going = torch.nonzero((gain > LEAST_GAIN) & (problem.settings.thorough | ~settled)).flatten()
                left, intervals = left[going], of_inputs(bounds.intervals, going)
                if not len(left):
                    break
        except OutOfTimeError:
            return replace(known, stopped=True)
    return known


def of_inputs(intervals: list[Interval], chosen: Tensor) -> list[Interval]:
    return [interval.map(lambda ends: ends[chosen]) for interval in intervals]


def attack_stage(problem: Problem, known: Known) -> Known:
    """Gradient search for a counterexample, replayed through the original model."""
    search = Search(problem.settings.restarts, problem.settings.attack_steps, problem.settings.seed)
    if search.restarts == 0:
        return known
    try:
        found, points = attack(problem.model, problem.graph, problem.region, problem.wanted, search, problem.check)
    except OutOfTimeError:
        return replace(known, stopped=True)
    return replace(known, refuted=found, points=points)


MOST_HALVINGS = 5
"""So often the region of an input is halved, at most, where a few unknown shares move it."""


def pieces_stage(problem: Problem, known: Known) -> Known:
    """Linear bounds over pieces of regions that a few unknown shares move; other regions are left as they are."""
    if not isinstance(problem.region, Zonotope):
        return known
    for part, some in problem.parts():
        assert isinstance(some.region, Zonotope)

        def bound(pieces: Zonotope, owners: Tensor, some: Problem = some) -> Tensor:
            cut = replace(some[owners], region=pieces)
            found = torch.cat([_linear(piece) for _, piece in cut.parts()])
            return torch.where(torch.isfinite(found), found, -math.inf)

        def worst(margins: Tensor, owners: Tensor, some: Problem = some) -> Tensor:
            return some.wanted[owners].worst(margins)

        try:
            margins = over_pieces(some.region, known.margins[part], bound, worst, MOST_HALVINGS)
        except OutOfTimeError:
            return replace(known, stopped=True)
        known = known.with_margins(part, margins)
        some.report(known[part])
    return known


def _linear(problem: Problem) -> Tensor:
    """The rows' lower bounds by one sweep."""
    lower = linear_bounds(problem.graph, problem.region, problem.check).lower({problem.graph.output: problem.wanted.rows})
    return below(lower + problem.wanted.offsets, 0.0)


METHODS: dict[str, tuple[tuple[str, Stage], ...]] = {
    "interval": (("interval", interval_stage), ("attack", attack_stage)),
    "linear": (("interval", interval_stage), ("linear", linear_stage), ("attack", attack_stage)),
    "planes": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("planes", planes_stage),
    ),
    "combine": (
        ("interval", interval_stage),
        ("linear", linear_stage),
        ("attack", attack_stage),
        ("planes", planes_stage),
        ("combine", combine_stage),
    ),
}


def stages_of(method: str) -> tuple[tuple[str, Stage], ...]:
    """The stages of a method, by its name."""
    if method not in METHODS:
        raise UsageError(f"the method {method!r} does not exist; choose one of {', '.join(METHODS)}")
    return METHODS[method]


@dataclass(frozen=True, eq=False)
class Ledger:
    """The books of one batch, kept on the CPU: what is known, which stage said so, and what time each input has used."""

    wanted: Property
    known: Known
    stages: list[str]
    seconds: Tensor
    stopped: Tensor

    @classmethod
    def empty(cls, problem: Problem) -> Ledger:
        count, rows = problem.wanted.rows.shape[:2]
        margins = torch.full((count, rows), -math.inf, dtype=torch.float64)
        known = Known(margins, torch.zeros(count, dtype=torch.bool), problem.region.centre.cpu().clone())
        seconds, stopped = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool)
        return cls(problem.wanted, known, [""] * count, seconds, stopped)

    def open_inputs(self, thorough: bool) -> Tensor:
        settled = self.stopped
        if not thorough:
            settled = settled | self.known.refuted | self.wanted.proved(self.known.margins)
        return torch.nonzero(~settled).flatten()

    def enter(self, inputs: Tensor, stage: str, found: Known, took: float, limit: float) -> None:
        """Write down what a stage found on some inputs, and that they shared the time it took."""
        self.known.margins[inputs] = found.margins
        self.known.refuted[inputs] = found.refuted
        self.known.points[inputs] = found.points
        self.seconds[inputs] += took / len(inputs)
        done = self.wanted[inputs].proved(found.margins) | found.refuted
        self.stopped[inputs] = ((self.seconds[inputs] >= limit) | found.stopped) & ~done
        for number in inputs.tolist():
            self.stages[number] = stage

    def endings(self, shape: tuple[int, ...]) -> Iterator[Ending]:
        """The endings in the order of the inputs. A proof counts before anything else."""
        proved = self.wanted.proved(self.known.margins)
        for k, margins in enumerate(self.known.margins):
            verdict, point = Verdict.UNKNOWN, None
            if bool(proved[k]):
                verdict = Verdict.ROBUST
            elif bool(self.known.refuted[k]):
                verdict, point = Verdict.COUNTEREXAMPLE, self.known.points[k].view(shape)
            elif bool(self.stopped[k]):
                verdict = Verdict.TIMED_OUT
            worst = float(self.wanted.worst(margins))
            yield Ending(verdict, margins, worst, self.stages[k], float(self.seconds[k]), point)


def decide(problem: Problem) -> Iterator[Ending]:
    """Run a method's stages over a batch; inputs leave it when they are decided or their time is up."""
    limit, device = problem.settings.time_limit, problem.settings.device
    ledger = Ledger.empty(problem)
    stages = stages_of(problem.settings.method)
    if isinstance(problem.region, Zonotope) and linear_stage in dict(stages).values():
        stages = (*stages, ("pieces", pieces_stage))
    for name, stage in stages:
        inputs = ledger.open_inputs(problem.settings.thorough)
        if not len(inputs):
            break
        began = time.monotonic()
        used = float(ledger.seconds[inputs].max())
        check, clock = stopwatch(began + (limit - used) * len(inputs)), shared_clock(began, used, len(inputs))
        told: Told = {}
        some = replace(problem[inputs], stage=name, clock=clock, check=check, watch=noting(problem.watch, told))
        found = stage(some.to(device), ledger.known[inputs].to(device)).to("cpu")
        rest = [k for k, (number, what) in enumerate(in_short(some.step(found)).items()) if told.get(number) != what]
        if rest:
            some[torch.tensor(rest)].report(found[torch.tensor(rest)])
        ledger.enter(inputs, name, found, time.monotonic() - began, limit)
    return ledger.endings(problem.graph.input_shape)


Told = dict[int, tuple[list[float], bool]]
"""What was last said of each input: its margins, and whether it is open."""


def in_short(step: Step) -> Told:
    return dict(zip(step.inputs.tolist(), zip(step.margins.tolist(), step.open.tolist(), strict=True), strict=True))


def noting(watch: Watch, told: Told) -> Watch:
    """The same watch, and a note of what it was told."""

    def note(step: Step) -> None:
        told.update(in_short(step))
        watch(step)

    return note


def shared_clock(began: float, used: float, inputs: int) -> Callable[[], float]:
    """The seconds of each of some inputs, which had used so many before and share the time from now on."""
    return lambda: used + (time.monotonic() - began) / inputs


def stopwatch(deadline: float) -> Callable[[], None]:
    """A check that raises once the deadline has passed."""

    def check() -> None:
        if time.monotonic() > deadline:
            raise OutOfTimeError("the time limit ran out")

    return check
