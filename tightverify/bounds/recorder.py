"""What listens to a run: it hears of every bounding pass, of what is found there, of rows and the bounds tried for them.

Three interfaces, one inside the other: a `Recorder` hears of a run and hands out a `PassRecorder` for each batch of bounding
passes that begins, which hands out a `Trial` for each call that bounds rows. Nobody listens by default (`NOBODY`, `SILENT`,
`UNHEARD`), which costs nothing: those who tell hand over what they have at hand, and whatever is to be made of it the recorder
makes (`bounds.evidence_recorder` does, for evidence).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.bounds.plane_choice import Answer
from tightverify.evidence import Entry
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval

PairsOf = Mapping[int, tuple[Planes, ...]]
"""Pairs of planes of operations, by node."""


class Trial(ABC):
    """Hears of all that is tried for some rows in one call: back-substitutions with one choice of planes after the other."""

    @abstractmethod
    def selected(self, place: int, bounds: Tensor) -> None:
        """Bounds (B, R) with every operation's pair of planes at one place."""

    @abstractmethod
    def mixed(self, bounds: Tensor, multipliers: Multipliers) -> None:
        """Bounds (B, R) with the mixtures of planes by now, and with the multipliers by now."""

    @abstractmethod
    def answered(self, number: int, answer: Answer) -> None:
        """The planes of an operation that its mixtures move to before the next back-substitution."""

    @abstractmethod
    def proved(self, proved: Tensor, planes: PairsOf, last: int, start: int) -> None:
        """Bounds (B, R), rounding paid for, by planes up to a `last` node; mixtures began with the pair at `start`."""


class PassRecorder(ABC):
    """Hears of a batch of bounding passes, one over each region."""

    @property
    @abstractmethod
    def numbers(self) -> Tensor:
        """(B,): by which whoever listens knows the passes; (0,) where nobody does."""

    @property
    @abstractmethod
    def listens(self) -> bool:
        """Whether anything is made of what it hears: else nobody need keep things for it."""

    @abstractmethod
    def interval(self, number: int, interval: Interval) -> None:
        """What is known of a node's neurons by now."""

    @abstractmethod
    def planes(self, number: int, pairs: Sequence[Planes]) -> None:
        """The planes of an operation from now on."""

    @abstractmethod
    def polygons(self, number: int, polygons: Polygons, holds: Tensor, neurons: Tensor) -> None:
        """Polygons (B * k) of an operation's neurons (B, k); of those that `holds` (B, k) denies they say nothing."""

    @abstractmethod
    def empty(self, number: int, interval: Interval, crossed: Tensor) -> None:
        """An interval that contradicts the one at hand, on the regions (B,) where they have `crossed`."""

    @abstractmethod
    def trial(self, about: tuple[str, int], rows: Mapping[int, Tensor]) -> Trial:
        """Rows are about to be bounded; `about` says what they are."""

    @abstractmethod
    def branch(self, k: int, number: int, parent: int, closed: str, margins: Tensor) -> None:
        """The pass over region k is about a node of a search tree, whose rows have these margins (R,)."""

    @abstractmethod
    def proof(self, make: Callable[[int], Sequence[Entry]]) -> None:
        """What else proves something in the pass over one region: made of the pass's number, if anybody wants it."""

    @abstractmethod
    def map(self, change: Callable[[Tensor], Tensor]) -> PassRecorder:
        """The same change of the batch that is made to all its tensors."""

    @abstractmethod
    def together(self, others: Sequence[PassRecorder]) -> PassRecorder:
        """This one's passes and others' of the same run as a batch."""

    @abstractmethod
    def halves(self, cuts: Sequence[tuple[int, int, float]]) -> PassRecorder:
        """New passes over both halves of each part, where a node's neuron is at most a value, and where it is at least."""

    @abstractmethod
    def output_constraint(self, parts: OutputConstraint) -> PassRecorder:
        """New passes over the parts on which a row of the property is at most a limit."""

    @abstractmethod
    def resumed(self, numbers: Tensor) -> PassRecorder:
        """The passes of an earlier run that go on with the planes and polygons of this one region."""


class Recorder(ABC):
    """Hears of a run, stage by stage."""

    @property
    @abstractmethod
    def goes_on(self) -> bool:
        """Whether it has heard of an earlier run whose search this one continues."""

    @abstractmethod
    def begin(self, region: Region) -> PassRecorder:
        """New bounding passes over a batch of regions."""

    @abstractmethod
    def stage(self, name: str) -> None:
        """What comes next is found in this stage."""

    @abstractmethod
    def margins(self, stage: str, margins: Tensor) -> None:
        """The margins (B, R) that are proved by the end of a stage."""

    @abstractmethod
    def keep(self) -> tuple[int, int]:
        """Save what was heard by now, for another run to go on from: how many parts and bounding passes are saved then."""


@final
class NoTrial(Trial):
    """Nobody hears what is tried."""

    def selected(self, place: int, bounds: Tensor) -> None:
        pass

    def mixed(self, bounds: Tensor, multipliers: Multipliers) -> None:
        pass

    def answered(self, number: int, answer: Answer) -> None:
        pass

    def proved(self, proved: Tensor, planes: PairsOf, last: int, start: int) -> None:
        pass


@final
class Silent(PassRecorder):
    """Nobody hears of the passes."""

    @property
    def numbers(self) -> Tensor:
        return torch.zeros(0, dtype=torch.long)

    @property
    def listens(self) -> bool:
        return False

    def interval(self, number: int, interval: Interval) -> None:
        pass

    def planes(self, number: int, pairs: Sequence[Planes]) -> None:
        pass

    def polygons(self, number: int, polygons: Polygons, holds: Tensor, neurons: Tensor) -> None:
        pass

    def empty(self, number: int, interval: Interval, crossed: Tensor) -> None:
        pass

    def trial(self, about: tuple[str, int], rows: Mapping[int, Tensor]) -> Trial:
        return UNHEARD

    def branch(self, k: int, number: int, parent: int, closed: str, margins: Tensor) -> None:
        pass

    def proof(self, make: Callable[[int], Sequence[Entry]]) -> None:
        pass

    def map(self, change: Callable[[Tensor], Tensor]) -> Silent:
        return self

    def together(self, others: Sequence[PassRecorder]) -> Silent:
        return self

    def halves(self, cuts: Sequence[tuple[int, int, float]]) -> Silent:
        return self

    def output_constraint(self, parts: OutputConstraint) -> Silent:
        return self

    def resumed(self, numbers: Tensor) -> Silent:
        return self


@final
class Nobody(Recorder):
    """Nobody hears of the run."""

    @property
    def goes_on(self) -> bool:
        return False

    def begin(self, region: Region) -> PassRecorder:
        return SILENT

    def stage(self, name: str) -> None:
        pass

    def margins(self, stage: str, margins: Tensor) -> None:
        pass

    def keep(self) -> tuple[int, int]:
        return 0, 0


UNHEARD = NoTrial()
SILENT = Silent()
NOBODY = Nobody()
