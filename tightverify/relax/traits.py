"""What an operation may know of itself beyond its value, its interval and its closed form: the record that callers read.

Each part answers one question, of N functions at once, and is None for an operation that has no answer: callers then leave it
as its closed form has it. Whatever is asked, the planes that come back surely hold the function over all that its operands can
be; solvers, tolerances and points steer how tight they are.

| part | who asks |
|---|---|
| `roles` | tables of bounds, how to call a node by what reads it |
| `factors` | whoever fits planes to F(x) G(y) and measures them |
| `fitted` | bounding passes with fitted planes |
| `pairs` | bounding passes that take neurons two and two |
| `columns` | column generation: planes at the points where rows are attained |
| `envelope` | linear programs: the plane that cuts a point off |
| `breakpoints`, `choice`, `cells` | mixed-integer programs: how binaries hold it; splits, where |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tightverify.relax.curves import Symmetric
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval


@dataclass(frozen=True, eq=False)
class OperandSet:
    """What the k operands of N functions can be: a box each, and of one or two operands the polygon that is left of it."""

    ends: Tensor
    """(N, 2 k): lower and upper ends, operand by operand"""
    polygons: Polygons | None

    @classmethod
    def of_boxes(cls, ends: Tensor) -> OperandSet:
        return cls(ends, Polygons.of_operands(ends))

    @property
    def low(self) -> Tensor:
        return self.ends[:, 0::2]

    @property
    def high(self) -> Tensor:
        return self.ends[:, 1::2]

    @property
    def middle(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def planar(self) -> Polygons:
        """The polygons of functions of one or two operands."""
        assert self.polygons is not None
        return self.polygons

    def __getitem__(self, chosen: Tensor) -> OperandSet:
        return OperandSet(self.ends[chosen], None if self.polygons is None else self.polygons[chosen])

    def interval(self, operand: int) -> Interval:
        return Interval(self.ends[:, 2 * operand], self.ends[:, 2 * operand + 1])


@dataclass(frozen=True)
class Search:
    """How planes are looked for: by which solver, and how near to the tightest; `once`: by one program over few samples."""

    solver: str = "batched"
    tolerance: float = 1e-3
    once: bool = False


PlanePairs = tuple[Tensor, Tensor]
"""K planes below and above each of N functions of k operands, (N, K, k + 1): slopes and offset"""


class FittedPlanes(ABC):
    """Planes for bounding passes, over all that the operands can be."""

    planar: ClassVar[bool] = True
    """whether they are tighter over polygons of two operands than over their boxes"""

    @abstractmethod
    def planes(self, operands: OperandSet, kinds: Sequence[str], search: Search) -> PlanePairs:
        """Of these kinds (`relax.fitted.family.KINDS`), where the function has several."""


class PairedPlanes(ABC):
    """Planes for two of such functions, each of one operand, over polygons of both."""

    @abstractmethod
    def planes(self, polygons: Polygons) -> PlanePairs:
        """K planes below and above the sum and the difference of N pairs, (N, 2, K, 3)."""


class SupportingPlanes(ABC):
    """Planes that support the function's envelopes, or nearly so, wherever that is asked."""

    @abstractmethod
    def at(self, operands: OperandSet, points: Tensor, search: Search) -> PlanePairs:
        """At points (N, K, k) inside of what the operands can be."""


class Cells(SupportingPlanes):
    """Planes over cells of the operands' boxes, and by how much they fail outside of them."""

    @abstractmethod
    def offsets(self, operands: OperandSet, lower: Tensor, upper: Tensor, search: Search) -> tuple[Tensor, Tensor]:
        """(N,) and (N,): the offsets with which slopes (N, k) hold below and above over all that the operands can be."""


@dataclass(frozen=True, eq=False)
class Support:
    """Planes (m, k + 1), slopes and offset, of m functions, and what any plane of theirs has at its point at the best.

    `best` (m,) is the plane's own value there for functions whose envelope it is; for fitted planes a bound beyond it.
    """

    planes: Tensor
    best: Tensor


class Envelope(ABC):
    """The function's convex and concave envelopes, by the planes that support them; equal ones may be asked together."""

    @abstractmethod
    def support(self, operands: OperandSet, points: Tensor, upper: Tensor, search: Search) -> Support:
        """At points (m, k), of the upper envelope where `upper` (m,) says so, of the lower one elsewhere."""


@dataclass(frozen=True)
class ChoiceRow:
    """`low <= y + operands @ x + binary z <= high` for a function's value y, its operands x and a binary z of its own."""

    operands: tuple[float, ...]
    binary: float | None
    low: float
    high: float


class Choice(ABC):
    """Rows with a binary that hold the function exactly, whatever cells its operands are cut into."""

    @abstractmethod
    def rows(self, box: Sequence[tuple[float, float]]) -> list[ChoiceRow]:
        """Over a box of its operands; where the binary's rows would be infinite, those without it alone."""


@dataclass(frozen=True)
class Traits:
    """The record; see the module."""

    roles: tuple[str, ...] = ()
    """what the function does to each operand first, "" for nothing; its own name, where there is nothing to say"""
    factors: tuple[Symmetric, Symmetric] | None = None
    """F and G where it is F(x) G(y) for smooth curves, G = 1 for one of one operand"""
    breakpoints: tuple[float, ...] | None = None
    """where a function of one operand bends that is a straight line elsewhere; None for others"""
    choice: Choice | None = None
    fitted: FittedPlanes | None = None
    pairs: PairedPlanes | None = None
    columns: SupportingPlanes | None = None
    envelope: Envelope | None = None
    cells: Cells | None = None

    @property
    def straight(self) -> bool:
        """Whether it has straight pieces alone, which binaries hold exactly."""
        return self.choice is not None or self.breakpoints is not None


def where_upper(upper: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """(m, k + 1): the planes above where `upper` says so, those below elsewhere."""
    return torch.where(upper[:, None], above, below)
