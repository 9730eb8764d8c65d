"""What is asked of a batch of inputs, what is known of it, and what a run tells those who watch it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tightverify.bounds.memory import parts
from tightverify.bounds.recorder import NOBODY, Recorder
from tightverify.branch.node import Branch
from tightverify.budget import STOPPED, UNLIMITED, Budget, Clock
from tightverify.disk import Unwritten
from tightverify.graph import Graph
from tightverify.models.model import Model
from tightverify.region import Region
from tightverify.settings import Settings
from tightverify.spec import Property
from tightverify.stages.progress import Callback, Step, no_callback
from tightverify.values import Interval

Listen = Callable[[Tensor, "BoundsSoFar", bool], None]
"""Hears the numbers (n,) of some inputs, what is known of these, and whether a stage has finished with them."""


def nobody_listens(_numbers: Tensor, _known: BoundsSoFar, _finished: bool) -> None:
    """Looks away."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is asked of a batch of inputs: every stage reads it, none changes it.

    `numbers` are the inputs' places among those given, `files` the numbers of the files kept of them. `callback` is told every
    step; `stage` and `clock` say of what and when. The `budget` is that of these inputs together, in this stage; `pace` is how
    many seconds linear bounds took of each, 0 where that is not known. `listen` hears of inputs that may leave.
    The `recorder` hears of all that is found. What cannot be written meanwhile is `unwritten`: said when the batch is decided.
    """

    model: Model
    graph: Graph
    region: Region
    spec: Property
    settings: Settings
    numbers: Tensor
    files: Tensor
    callback: Callback = no_callback
    stage: str = ""
    clock: Clock = STOPPED
    budget: Budget = UNLIMITED
    pace: float = 0.0
    recorder: Recorder = NOBODY
    unwritten: Unwritten = field(default_factory=Unwritten)
    listen: Listen = nobody_listens

    def __getitem__(self, inputs: slice | Tensor) -> Problem:
        numbers, files = self.numbers[inputs], self.files[inputs]
        return replace(self, region=self.region[inputs], spec=self.spec[inputs], numbers=numbers, files=files)

    def to(self, device: str) -> Problem:
        """The regions and rows on another device; the graph is on the one that it was given on."""
        region, spec, numbers = self.region.to(device), self.spec.to(device), self.numbers.to(device)
        return replace(self, region=region, spec=spec, numbers=numbers)

    def report(self, known: BoundsSoFar, round: int = 0, leaves: tuple[int, ...] = ()) -> None:
        """Tell what is known of these inputs now; those that are decided leave. What a stage does not tell, its end tells."""
        self.callback(self.step(known, round, leaves))
        self.listen(self.numbers, known, False)

    def finish(self, known: BoundsSoFar) -> None:
        """Tell that the stage is done with these inputs, of which all is known that it will find; the others go on."""
        self.listen(self.numbers, known, True)

    def step(self, known: BoundsSoFar, round: int = 0, leaves: tuple[int, ...] = ()) -> Step:
        undecided = ~(known.proved(self.spec) | known.refuted)
        found = (self.numbers, known.margins, known.worst(self.spec), undecided)
        numbers, margins, worst, undecided = (value.to("cpu", copy=True) for value in found)
        return Step(self.stage, round, numbers, margins, worst, undecided, self.clock.seconds, leaves)

    def within(self, share: float) -> Problem:
        """The same, with a part of the time that is left."""
        return replace(self, budget=self.budget.within(share))

    def parts(self, directions: int = 0, share: int = 1) -> Iterator[tuple[slice, Problem]]:
        """The inputs cut into parts in which the largest temporary keeps to a part of the memory allowed.

        A part has its inputs' own share of the time that is left when its turn comes: what earlier ones leave goes to later
        ones, and none can take what belongs to others.
        """
        for part in parts(self.graph, self.region, self.budget, directions, share, self.settings.stopping):
            some = self[part]
            yield part, some.within(len(some.region) / (len(self.region) - part.start))


@dataclass(frozen=True, eq=False)
class BoundsSoFar:
    """What has been found for a batch: sound lower bounds of the rows (B, R), and replayed counterexamples.

    `intervals` are the narrowest that are known of every node, if a stage has left any. `trees` are the nodes of the search
    trees of inputs whose regions were split, by the inputs' numbers. `refusals` say, by these too, why a stage left a row open
    that a solver would not take.
    """

    margins: Tensor
    refuted: Tensor
    points: Tensor
    stopped: Tensor | None = None
    """(B,): on which inputs the time ran out before a stage was done with them; None for on none"""
    intervals: tuple[Interval, ...] = ()
    trees: Mapping[int, tuple[Branch, ...]] = field(default_factory=dict)
    least: Tensor | None = None
    """(B,): a lower bound of the row value that decides, if one was proved part by part: each part may have rows of its own"""
    refusals: Mapping[int, str] = field(default_factory=dict)

    def worst(self, spec: Property) -> Tensor:
        """(B,): the best lower bound of the row value that decides."""
        worst = spec.worst(self.margins)
        return worst if self.least is None else torch.maximum(worst, self.least)

    def proved(self, spec: Property) -> Tensor:
        """(B,): whether the property is proved."""
        worst = self.worst(spec)
        return torch.isfinite(worst) & (worst > 0)

    def with_stopped(self, inputs: slice | Tensor) -> BoundsSoFar:
        """The same, the time having run out on some of the inputs."""
        together = torch.zeros_like(self.refuted) if self.stopped is None else self.stopped.clone()
        together[inputs] = True
        return replace(self, stopped=together)

    def with_least(self, inputs: Tensor, least: Tensor) -> BoundsSoFar:
        """The better of the old and the new bounds of what decides, for some of the inputs."""
        together = torch.full_like(self.margins[:, 0], -math.inf) if self.least is None else self.least.clone()
        together[inputs] = torch.maximum(together[inputs], torch.where(torch.isfinite(least), least, -math.inf))
        return replace(self, least=together)

    def __getitem__(self, inputs: slice | Tensor) -> BoundsSoFar:
        intervals = tuple(interval.map(lambda ends: ends[inputs]) for interval in self.intervals)
        least, stopped = (None if value is None else value[inputs] for value in (self.least, self.stopped))
        margins, refuted, points = self.margins[inputs], self.refuted[inputs], self.points[inputs]
        return BoundsSoFar(margins, refuted, points, stopped, intervals, self.trees, least, self.refusals)

    def to(self, device: str) -> BoundsSoFar:
        margins, refuted, points = (value.to(device) for value in (self.margins, self.refuted, self.points))
        intervals = tuple(interval.map(lambda ends: ends.to(device)) for interval in self.intervals)
        least, stopped = (None if value is None else value.to(device) for value in (self.least, self.stopped))
        return BoundsSoFar(margins, refuted, points, stopped, intervals, self.trees, least, self.refusals)

    def with_margins(self, part: slice, margins: Tensor) -> BoundsSoFar:
        """The better of the old and the new bounds, for some of the inputs."""
        together = self.margins.clone()
        together[part] = torch.maximum(together[part], torch.where(torch.isfinite(margins), margins, -math.inf))
        return replace(self, margins=together)

    def with_intervals(self, inputs: Tensor, found: Sequence[Interval]) -> BoundsSoFar:
        """The new intervals for some of the inputs, which are within the old ones."""
        old = self.intervals or tuple(everything(len(self.margins), interval) for interval in found)

        def put(ends: Tensor, new: Tensor) -> Tensor:
            return ends.index_copy(0, inputs, new)

        pairs = zip(old, found, strict=True)
        return replace(self, intervals=tuple(Interval(put(a.lower, b.lower), put(a.upper, b.upper)) for a, b in pairs))


def missing(intervals: Sequence[Interval]) -> bool:
    """Whether some inputs have none yet: of theirs not even the first node's are finite."""
    return not intervals or not bool(torch.isfinite(intervals[0].lower).all())


def everything(batch: int, like: Interval) -> Interval:
    upper = like.upper.new_full((batch, like.upper.shape[1]), math.inf)
    return Interval(-upper, upper)


Stage = Callable[[Problem, BoundsSoFar], BoundsSoFar]
"""From a problem and what is known to more that is known."""


def or_else(value: int | None, default: int) -> int:
    return default if value is None else value
