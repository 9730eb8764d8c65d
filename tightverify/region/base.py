"""What every region answers: the interface that bounds, search, attack and evidence read.

A region is a set of flat inputs around one input; a `Region` is a batch of such sets of one kind, over flat inputs (B, n). Each
kind is a final class in a file of its own (`ball`, `zonotope`), which answers everything itself: nobody asks of which kind a
region is. What a kind has to answer exactly is the least value of a linear function over it, up to rounding that
`rounding_scale` lets the caller allow for. Whatever it says of a set may be said of a larger one: that loses, and stays sound.
Only `contains` must never say yes of a point that may lie outside.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Self

import torch
from torch import Tensor

from tightverify.errors import RegionError
from tightverify.evidence import RegionEntry
from tightverify.values import Interval


class SplitBy(Enum):
    """What a region may be cut by, so that bounds over its parts come out tighter than over the whole."""

    NEURONS = "values of the network's neurons"
    COORDINATES = "values of the input's coordinates: the region answers `within`"
    GENERATORS = "the unknown coefficients that move all of an input: the region answers `generated`"


@dataclass(frozen=True, eq=False)
class Region(ABC):
    """A batch of regions: `centre` (B, n) are the inputs themselves, `box` is a hull of the regions."""

    centre: Tensor
    box: Interval

    def __len__(self) -> int:
        return self.centre.shape[0]

    def map(self, change: Callable[..., Tensor], *others: Self) -> Self:
        """The same change of the batch, made to every tensor of these regions, which come first in each."""

        def changed(name: str) -> Any:
            first, *rest = (getattr(one, name) for one in (self, *others))
            if isinstance(first, Interval):
                lower, upper = ([getattr(one, end) for one in (first, *rest)] for end in ("lower", "upper"))
                return Interval(change(*lower), change(*upper))
            if isinstance(first, Tensor):
                return change(first, *rest)
            if any(other != first for other in rest):
                raise RegionError(f"regions of {name} {first} and others were made; wanted those of one kind for all inputs")
            return first

        if any(type(other) is not type(self) for other in others):
            raise RegionError("regions of several kinds were made; wanted those of one kind for all inputs")
        return replace(self, **{field.name: changed(field.name) for field in fields(self)})

    def __getitem__(self, inputs: slice | Tensor) -> Self:
        """The regions of some of the inputs."""
        return self.map(lambda values: values[inputs])

    def to(self, device: str) -> Self:
        return self.map(lambda values: values.to(device))

    def joined(self, others: Sequence[Self]) -> Self:
        """These and others of the same kind as one batch."""
        return self.map(lambda *values: torch.cat(values), *others)

    # What bounds read

    @property
    @abstractmethod
    def words(self) -> str:
        """What kind of set it is, in a few words."""

    @property
    def separable(self) -> bool:
        """Whether the regions are their boxes: the minimum of a linear function is a sum over coordinates."""
        return False

    @property
    @abstractmethod
    def rounding_scale(self) -> Tensor:
        """(B, n): what one unit of a coordinate's coefficient may add to the sums in `minimise`, in absolute value."""

    @property
    @abstractmethod
    def reach(self) -> Interval:
        """How far each coordinate can get, whatever the box says; it does not meet the box where the region is empty."""

    @abstractmethod
    def minimise(self, rows: Tensor, block: slice = slice(None), scratch: bool = False) -> Tensor:
        """(B, R): the least `rows @ x`, for rows (B or 1, R, m) over the m coordinates of a block.

        For one block of several the region must be separable. Rounding is the caller's to allow for. With `scratch`
        the rows may be overwritten.
        """

    @abstractmethod
    def furthest(self, places: Tensor, values: Interval) -> Tensor | None:
        """(B,): how far the coordinates at `places` can be, in the norm 2, from the middle of a box of their values (B, m).

        None where only the box says that.
        """

    # What search and attack read

    @property
    def splits(self) -> frozenset[SplitBy]:
        """What a search may cut the regions by."""
        return frozenset({SplitBy.NEURONS, SplitBy.COORDINATES})

    @abstractmethod
    def within(self, box: Interval) -> Self:
        """What is in a smaller box."""

    @property
    def generated(self) -> Generated | None:
        """The same regions, if they may be cut along generators."""
        return None

    @property
    def finite(self) -> Finite | None:
        """The same regions, if each is a set of so many points."""
        return None

    @abstractmethod
    def minimiser(self, rows: Tensor) -> Tensor:
        """(B, R, n): a point at which `rows @ x` is least, or nearly: it steers a search, and proves nothing."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The step (B, ..., n) along a gradient that goes from the centre about to the border: it steers a search."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """A point inside, near x (B, ..., n): for search, not for proof."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(B, count, n): points of the region, many of them on its border and at its corners."""

    @abstractmethod
    def contains(self, x: Tensor) -> Tensor:
        """(B,): whether each point (B, n) surely lies inside; what rounding leaves in doubt is refused."""

    # What is written down

    @property
    def balls(self) -> list[tuple[float, float]]:
        """Each one's radius and norm, as a record says them; the radius is infinite where it is no ball."""
        return [(math.inf, math.inf)] * len(self)

    @property
    @abstractmethod
    def written(self) -> RegionEntry:
        """What evidence says of a single region."""


@dataclass(frozen=True, eq=False)
class Generated(Region):
    """Regions in which all of an input moves along directions (B, K, n), each times an unknown coefficient in [-1, 1]."""

    generators: Tensor

    @property
    @abstractmethod
    def longest(self) -> Tensor:
        """(B,): the generators that move the inputs most."""

    @abstractmethod
    def halves(self, which: Tensor) -> Self:
        """(2 B): both halves of each, one after the other, along a generator (B,) of each."""


@dataclass(frozen=True, eq=False)
class Finite(Region):
    """Regions of so many points each, which may be tried one by one."""

    @property
    @abstractmethod
    def counts(self) -> list[int]:
        """How many points there are in each."""

    @abstractmethod
    def all_of(self, number: int) -> Tensor:
        """(P, T): all points of one region, by their numbers."""

    @abstractmethod
    def sentences(self, number: int, which: Tensor) -> Tensor:
        """(P, n): points of one region, given their numbers (P, T)."""

    @abstractmethod
    def nearby(self, x: Tensor) -> Tensor:
        """(B, K, n): points of each region next to one of its points x (B, n), and x itself."""
