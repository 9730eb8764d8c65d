"""What sweeps find, written down as evidence: batches taken apart, rows and multipliers as the few numbers that they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.evidence import PROPERTY, BackSubstitution, Bounded, Branch, Empty, Pairs, Polygon, Resumed
from tightverify.evidence.entries import Choices, Floats, Places
from tightverify.recording.record import Record, plain
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval


@dataclass(eq=False)
class Trial:
    """What was tried for some rows: each walk's bounds (B, R) and multipliers, and the pairs of planes that answered it.

    Where `mixed`, walk s took a mean of the first s answers, which are two of (B, R, n) for each operation, one for each side;
    else it took the pair `first` + s of all operations.
    """

    mixed: bool
    first: int = 0
    bounds: list[Tensor] = field(default_factory=list)
    multipliers: list[dict[int, Tensor]] = field(default_factory=list)
    output_multipliers: list[Tensor] = field(default_factory=list)
    output_constraint: OutputConstraint | None = None
    answers: list[dict[int, list[Tensor]]] = field(default_factory=list)

    def bounded(self, bounds: Tensor, multipliers: Multipliers) -> None:
        self.bounds.append(bounds)
        self.multipliers.append(dict(multipliers.values))
        self.output_constraint = multipliers.output_constraint
        if self.output_constraint is not None:
            self.output_multipliers.append(multipliers.output_multipliers)
        self.answers.append({})

    def answered(self, number: int, which: Sequence[Tensor]) -> None:
        """The pairs (B, n, R) with the tightest planes, for each side, after the last walk."""
        self.answers[-1][number] = [chosen.transpose(1, 2).to(torch.int16) for chosen in which]

    @property
    def best(self) -> Tensor:
        """(B, R): the walk whose bound counts."""
        return torch.stack(self.bounds).argmax(0)


@dataclass(frozen=True, eq=False)
class Notes:
    """Where a batch's bounds are written down: a record, and (B,) the numbers of the regions' sweeps there."""

    record: Record
    bounding_passes: Tensor

    @classmethod
    def begin(cls, record: Record | None, region: Region) -> Notes | None:
        """New sweeps for a batch of regions; None where nothing is recorded."""
        if record is None:
            return None
        return cls(record, torch.tensor([record.new_pass() for _ in range(len(region))], device=region.centre.device))

    @classmethod
    def together(cls, several: Sequence[Notes]) -> Notes | None:
        """Those of one record as a batch."""
        return cls(several[0].record, torch.cat([notes.bounding_passes for notes in several])) if several else None

    def map(self, change: Callable[[Tensor], Tensor]) -> Notes:
        """The same change of the batch that is made to all its tensors."""
        return Notes(self.record, change(self.bounding_passes))

    def one(self, k: int) -> Notes:
        """Those of one region of the batch."""
        return self.map(lambda bounding_passes: bounding_passes[k : k + 1])

    def output_constraint(self, parts: OutputConstraint) -> Notes:
        """New sweeps of the parts on which a row of the property is supposed to be at most a limit."""
        numbers = [
            self.record.new_pass(parent, PROPERTY, row, limit)
            for parent, row, limit in zip(
                self.bounding_passes.tolist(), parts.which.tolist(), parts.limit.tolist(), strict=True
            )
        ]
        return Notes(self.record, torch.tensor(numbers, device=self.bounding_passes.device))

    def resumed(self, bounding_passes: Tensor) -> Notes:
        """Sweeps of an earlier run, which goes on with the planes and polygons of this one region."""
        for bounding_pass in bounding_passes.tolist():
            self.record.add(Resumed(bounding_pass, int(self.bounding_passes)))
        return Notes(self.record, bounding_passes)

    def halves(self, cuts: Sequence[tuple[int, int, float]]) -> Notes:
        """New sweeps of both halves of each part, where a node's neuron is at most a value, and where it is at least."""
        numbers = [
            self.record.new_pass(parent, *cut, above)
            for parent, cut in zip(self.bounding_passes.tolist(), cuts, strict=True)
            for above in (False, True)
        ]
        return Notes(self.record, torch.tensor(numbers, device=self.bounding_passes.device))

    def interval(self, number: int, interval: Interval) -> None:
        for bounding_pass, lower, upper in zip(
            self.bounding_passes.tolist(), plain(interval.lower), plain(interval.upper), strict=True
        ):
            self.record.add(Bounded(bounding_pass, number, lower, upper))

    def planes(self, number: int, pairs: Sequence[Planes]) -> None:
        lower, upper = side([pair.lower for pair in pairs]), side([pair.upper for pair in pairs])
        for k, bounding_pass in enumerate(self.bounding_passes.tolist()):
            self.record.add(Pairs(bounding_pass, number, lower[:, k], upper[:, k]))

    def polygons(self, number: int, polygons: Polygons, holds: Tensor, neurons: Tensor) -> None:
        """Polygons of (B * k) neurons, (B, k) of which neurons they tell anything, and which neurons these are."""
        vertices = plain(polygons.vertices).reshape(*neurons.shape, *polygons.vertices.shape[1:])
        told, places = plain(holds), plain(neurons.to(torch.int32))
        for k, bounding_pass in enumerate(self.bounding_passes.tolist()):
            self.record.add(Polygon(bounding_pass, number, places[k], vertices[k], told[k]))

    def empty(self, number: int, interval: Interval, crossed: Tensor) -> None:
        """An interval that contradicts the one at hand, of the regions where it does."""
        for k in torch.nonzero(crossed).flatten().tolist():
            self.record.add(Empty(int(self.bounding_passes[k]), number, plain(interval.lower[k]), plain(interval.upper[k])))

    def branch(self, number: int, parent: int, closed: str, margins: Tensor) -> None:
        """A node of a search tree, whose sweep these notes are about."""
        self.record.add(Branch(number, parent, int(self.bounding_passes), closed, plain(margins)))

    def back_substitution(
        self,
        about: tuple[str, int],
        rows: Mapping[int, Tensor],
        trial: Trial,
        proved: Tensor,
        sizes: Mapping[int, int],
        start: int,
    ) -> None:
        """Rows and their bounds; `sizes` are of the operations that have a choice, `start` is the pair that all begin with."""
        best, bound = trial.best, torch.stack(trial.bounds).amax(0)
        none = np.zeros((2, 0, bound.shape[1], 0), dtype=np.uint8)
        for k, bounding_pass in enumerate(self.bounding_passes.tolist()):
            places, weights = sparse({number: of_one(row, k) for number, row in rows.items()})
            mine = of_one(best, k)
            multiplied, multipliers = constrained_too(trial, mine, k, *sparse(best_multipliers(trial, mine, k)))
            self.record.add(
                BackSubstitution(
                    bounding_pass,
                    *about,
                    places,
                    weights,
                    trial.mixed,
                    start,
                    list(sizes) if trial.mixed else [],
                    mine.cpu().numpy().astype(np.int32) + trial.first,
                    taken(trial, sizes, k, int(mine.max()), start) if trial.mixed else none,
                    multiplied,
                    multipliers,
                    plain(of_one(bound, k)),
                    plain(of_one(proved, k)),
                )
            )


def taken(trial: Trial, sizes: Mapping[int, int], k: int, steps: int, start: int) -> Choices:
    """(2, S, R, N): the pairs that answered the walks before the best ones, of one region's rows."""
    most = max((int(which.max()) for answer in trial.answers for sides in answer.values() for which in sides), default=0)
    kind = np.uint8 if max(most, start) < 256 else np.uint16
    found = np.full((2, steps, trial.bounds[0].shape[1], sum(sizes.values())), start, dtype=kind)
    for step, answer in enumerate(trial.answers[:steps]):
        place = 0
        for number, size in sizes.items():
            if number in answer:
                for into, which in zip(found[:, step], answer[number], strict=True):
                    into[:, place : place + size] = which[k].cpu().numpy()
            place += size
    return found


def best_multipliers(trial: Trial, best: Tensor, k: int) -> dict[int, Tensor]:
    """(R, n) of each held node, for one region's rows, each from its best walk."""
    found: dict[int, Tensor] = {}
    for step, multipliers in enumerate(trial.multipliers):
        mine = (best == step)[:, None]
        for number, values in multipliers.items():
            value = of_one(values, k)
            found[number] = torch.where(mine, value, found.get(number, torch.zeros_like(value)))
    return found


def constrained_too(trial: Trial, best: Tensor, k: int, places: Places, values: Floats) -> tuple[Places, Floats]:
    """Multipliers of neurons and, as neurons of `PROPERTY`, those of what one region's rows are bounded under."""
    if trial.output_constraint is None:
        return places, values
    output_multipliers = torch.stack([of_one(share, k) for share in trial.output_multipliers]).gather(0, best[None])[0]
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
