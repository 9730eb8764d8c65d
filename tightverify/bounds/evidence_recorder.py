"""What bounding passes find, written down as evidence: batches taken apart, rows and multipliers as few numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor

from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.bounds.plane_choice import Answer
from tightverify.bounds.recorder import PairsOf, PassRecorder, Recorder, Trial
from tightverify.evidence import PROPERTY, BackSubstitution, Bounded, Branch, Empty, Entry, Margins, Pairs, Polygon, Resumed
from tightverify.evidence.entries import Choices, Floats, Places
from tightverify.recording.record import Record, plain
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """For each coefficient (B, R, n) of an operation, which pair answered it, and on which side."""

    which: Tensor
    upper: Tensor


@final
@dataclass(eq=False)
class RecordedTrial(Trial):
    """What was tried for some rows: each back-substitution's bounds (B, R) and multipliers, and the pairs of planes that
    answered it.

    Where `is_mixed`, number s took a mean of the first s answers, of which those of the other side count as the first one of
    the side that it is on now, since mixtures begin anew there; else it took the pair `first` + s of all operations.
    """

    passes: RecordedPass
    about: tuple[str, int]
    rows: Mapping[int, Tensor]
    is_mixed: bool = False
    first: int = 0
    bounds: list[Tensor] = field(default_factory=list)
    multipliers: list[dict[int, Tensor]] = field(default_factory=list)
    output_multipliers: list[Tensor] = field(default_factory=list)
    output_constraint: OutputConstraint | None = None
    answers: list[dict[int, Answers]] = field(default_factory=list)

    def selected(self, place: int, bounds: Tensor) -> None:
        if not self.bounds:
            self.first = place
        self.bounds.append(bounds)

    def mixed(self, bounds: Tensor, multipliers: Multipliers) -> None:
        self.is_mixed = True
        self.bounds.append(bounds)
        self.multipliers.append(dict(multipliers.values))
        self.output_constraint = multipliers.output_constraint
        if self.output_constraint is not None:
            self.output_multipliers.append(multipliers.output_multipliers)
        self.answers.append({})

    def answered(self, number: int, answer: Answer) -> None:
        self.answers[-1][number] = Answers(answer.which.to(torch.int16), answer.upper)

    @property
    def best(self) -> Tensor:
        """(B, R): the back-substitution whose bound counts."""
        return torch.stack(self.bounds).argmax(0)

    def proved(self, proved: Tensor, planes: PairsOf, last: int, start: int) -> None:
        choice = {n: pairs for n, pairs in planes.items() if n <= last and len(pairs) > 1} if self.is_mixed else {}
        sizes = {number: pairs[0].upper.offset.shape[-1] for number, pairs in choice.items()}
        best, bound = self.best, torch.stack(self.bounds).amax(0)
        none = np.zeros((2, 0, bound.shape[1], 0), dtype=np.uint8)
        for k, bounding_pass in enumerate(self.passes.numbers.tolist()):
            places, weights = sparse({number: of_one(row, k) for number, row in self.rows.items()})
            mine = of_one(best, k)
            multiplied, multipliers = constrained_too(self, mine, k, *sparse(best_multipliers(self, mine, k)))
            self.passes.record.add(
                BackSubstitution(
                    bounding_pass,
                    *self.about,
                    places,
                    weights,
                    self.is_mixed,
                    start,
                    list(sizes),
                    mine.cpu().numpy().astype(np.int32) + self.first,
                    taken(self, sizes, k, mine, start) if self.is_mixed else none,
                    multiplied,
                    multipliers,
                    plain(of_one(bound, k)),
                    plain(of_one(proved, k)),
                )
            )


@final
@dataclass(frozen=True, eq=False)
class RecordedPass(PassRecorder):
    """Where a batch's bounds are written down: a record, and (B,) the numbers of the regions' passes there."""

    record: Record
    passes: Tensor

    @property
    def numbers(self) -> Tensor:
        return self.passes

    @property
    def listens(self) -> bool:
        return True

    def _with(self, numbers: Sequence[int]) -> RecordedPass:
        return RecordedPass(self.record, torch.tensor(numbers, device=self.numbers.device))

    def interval(self, number: int, interval: Interval) -> None:
        for bounding_pass, lower, upper in zip(
            self.numbers.tolist(), plain(interval.lower), plain(interval.upper), strict=True
        ):
            self.record.add(Bounded(bounding_pass, number, lower, upper))

    def planes(self, number: int, pairs: Sequence[Planes]) -> None:
        lower, upper = side([pair.lower for pair in pairs]), side([pair.upper for pair in pairs])
        for k, bounding_pass in enumerate(self.numbers.tolist()):
            self.record.add(Pairs(bounding_pass, number, lower[:, k], upper[:, k]))

    def polygons(self, number: int, polygons: Polygons, holds: Tensor, neurons: Tensor) -> None:
        vertices = plain(polygons.vertices).reshape(*neurons.shape, *polygons.vertices.shape[1:])
        known, places = plain(holds), plain(neurons.to(torch.int32))
        for k, bounding_pass in enumerate(self.numbers.tolist()):
            self.record.add(Polygon(bounding_pass, number, places[k], vertices[k], known[k]))

    def empty(self, number: int, interval: Interval, crossed: Tensor) -> None:
        for k in torch.nonzero(crossed).flatten().tolist():
            self.record.add(Empty(int(self.numbers[k]), number, plain(interval.lower[k]), plain(interval.upper[k])))

    def trial(self, about: tuple[str, int], rows: Mapping[int, Tensor]) -> RecordedTrial:
        return RecordedTrial(self, about, rows)

    def branch(self, k: int, number: int, parent: int, closed: str, margins: Tensor) -> None:
        self.record.add(Branch(number, parent, int(self.numbers[k]), closed, plain(margins)))

    def proof(self, make: Callable[[int], Sequence[Entry]]) -> None:
        for entry in make(int(self.numbers)):
            self.record.add(entry)

    def map(self, change: Callable[[Tensor], Tensor]) -> RecordedPass:
        return RecordedPass(self.record, change(self.numbers))

    def together(self, others: Sequence[PassRecorder]) -> RecordedPass:
        return RecordedPass(self.record, torch.cat([self.numbers, *(other.numbers for other in others)]))

    def halves(self, cuts: Sequence[tuple[int, int, float]]) -> RecordedPass:
        return self._with(
            [
                self.record.new_pass(parent, *cut, above)
                for parent, cut in zip(self.numbers.tolist(), cuts, strict=True)
                for above in (False, True)
            ]
        )

    def output_constraint(self, parts: OutputConstraint) -> RecordedPass:
        every = zip(self.numbers.tolist(), parts.which.tolist(), parts.limit.tolist(), strict=True)
        return self._with([self.record.new_pass(parent, PROPERTY, row, limit) for parent, row, limit in every])

    def resumed(self, numbers: Tensor) -> RecordedPass:
        for number in numbers.tolist():
            self.record.add(Resumed(number, int(self.numbers)))
        return RecordedPass(self.record, numbers)


@final
@dataclass(frozen=True, eq=False)
class EvidenceRecorder(Recorder):
    """Writes down all that it hears of a run over one input, in its record."""

    record: Record

    @property
    def goes_on(self) -> bool:
        return self.record.goes_on

    def begin(self, region: Region) -> RecordedPass:
        numbers = torch.tensor([self.record.new_pass() for _ in range(len(region))], device=region.centre.device)
        return RecordedPass(self.record, numbers)

    def stage(self, name: str) -> None:
        self.record.stage = name

    def margins(self, stage: str, margins: Tensor) -> None:
        self.record.add(Margins(stage, margins[0].numpy().copy()))

    def keep(self) -> tuple[int, int]:
        return self.record.keep()


def taken(trial: RecordedTrial, sizes: Mapping[int, int], k: int, best: Tensor, start: int) -> Choices:
    """(2, S, R, N): the pairs that answered the back-substitutions before each row's best one (R,), of one region.

    A coefficient has planes of one side alone: the same is written for both.
    """
    steps = int(best.max())
    most = max((int(answers.which.max()) for each in trial.answers for answers in each.values()), default=0)
    found = np.full((steps, len(best), sum(sizes.values())), start, dtype=np.uint8 if max(most, start) < 256 else np.uint16)
    place = 0
    for number, size in sizes.items():
        found[:, :, place : place + size] = history(trial, number, k, best, torch.full((len(best), size), start)).cpu().numpy()
        place += size
    return np.stack([found, found])


def history(trial: RecordedTrial, number: int, k: int, best: Tensor, start: Tensor) -> Tensor:
    """(S, R, n): the answers of one operation, back from each row's best step; before the last change of sides they stay."""
    steps = int(best.max())
    which, upper, changed = start, torch.zeros_like(start, dtype=torch.bool), torch.ones_like(start, dtype=torch.bool)
    found = [which] * steps
    for step in range(steps - 1, -1, -1):
        answers = trial.answers[step].get(number)
        if answers is not None:
            mine, side = of_one(answers.which, k).long(), of_one(answers.upper, k)
            last = (best == step + 1)[:, None]
            upper = torch.where(last, side, upper)
            changed = ~last & (changed | (side != upper))
            which = torch.where(changed, which, mine)
        found[step] = which
    return torch.stack(found) if found else start.new_zeros((0, *start.shape))


def best_multipliers(trial: RecordedTrial, best: Tensor, k: int) -> dict[int, Tensor]:
    """(R, n) of each node with interval constraints, for one region's rows, each from its best back-substitution."""
    found: dict[int, Tensor] = {}
    for step, multipliers in enumerate(trial.multipliers):
        mine = (best == step)[:, None]
        for number, values in multipliers.items():
            value = of_one(values, k)
            found[number] = torch.where(mine, value, found.get(number, torch.zeros_like(value)))
    return found


def constrained_too(trial: RecordedTrial, best: Tensor, k: int, places: Places, values: Floats) -> tuple[Places, Floats]:
    """Multipliers of neurons and, as neurons of `PROPERTY`, those of what one region's rows are bounded under."""
    if trial.output_constraint is None:
        return places, values
    output_multipliers = torch.stack([of_one(values, k) for values in trial.output_multipliers]).gather(0, best[None])[0]
    row, which = np.arange(len(best), dtype=np.int32), int(trial.output_constraint.which[k])
    more = np.stack([row, np.full_like(row, PROPERTY), np.full_like(row, which)], axis=1)
    return np.concatenate([places, more]), np.concatenate([values, plain(output_multipliers)])


def of_one(rows: Tensor, k: int) -> Tensor:
    """(R, ...): one region's of (B or 1, R, ...)."""
    return rows[k if len(rows) > 1 else 0]


def sparse(rows: Mapping[int, Tensor]) -> tuple[Places, Floats]:
    """(T, 3) row, node and neuron of every coefficient that is not 0, and (T,) the coefficients."""
    places, values = [np.zeros((0, 3), dtype=np.int32)], [np.zeros(0)]
    for number, row in sorted(rows.items()):
        array = plain(row)
        which, neurons = np.nonzero(array)
        places.append(np.stack([which, np.full_like(which, number), neurons], axis=1).astype(np.int32))
        values.append(array[which, neurons])
    return np.concatenate(places), np.concatenate(values)


def side(planes: Sequence[Plane]) -> Floats:
    """(K, B, n, k + 1): slopes and offset of planes (B, n), an energy's slopes being (B, n, k) already."""
    return np.stack(
        [
            plain(torch.cat([*(s if s.dim() == 3 else s[..., None] for s in plane.slopes), plane.offset[..., None]], dim=-1))
            for plane in planes
        ]
    )
