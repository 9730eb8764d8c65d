"""What a module computes, as nodes that are made while it runs, each with its bounds over the regions of a batch.

Three kinds beside the input: sums of weighted maps, functions that only move and add numbers (as they are, none with a minus),
and operations. Of each its interval is worked out at once, its linear functions of the input (`Form`: LBP) and its planes when
they are asked for. What bounds are made of differs by the method: `forward` says whether operands' boxes are those that forms
leave of the intervals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from tightverify.relax.planes import Plane, Planes
from tightverify.training.functions import Function
from tightverify.training.maps import Function as Moving
from tightverify.training.maps import Map, pulled
from tightverify.training.regions import TrainingRegion
from tightverify.training.slots import Slot
from tightverify.values import Interval, tamed

Rows: TypeAlias = Tensor | Slot


@dataclass(frozen=True, eq=False)
class Form:
    """Linear functions of the flat input below and above a node's values: slopes (n, B, ...), offsets (B, ...)."""

    lower: tuple[Tensor, Tensor]
    upper: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Bounding:
    """Over which regions, and whether forms tighten boxes; numbers the nodes in the order of their making.

    Where no batch norm asks for the inputs' own values, and rows stop at intervals, these are all that is kept of layers.
    """

    region: TrainingRegion
    forward: bool
    intervals_only: bool
    lines: str = "default"
    """the strategy of `methods.LINES` by which planes are chosen"""
    numbers: count[int] = field(default_factory=count)
    alike: dict[tuple[object, ...], list[Applied]] = field(default_factory=dict)
    """operations of one kind and shape, whose planes are made at once where their boxes are known before"""


class Node(ABC):
    """A tensor (B, ...) that the module computes."""

    def __init__(self, bounding: Bounding, operands: Sequence[Node]) -> None:
        self.bounding, self.operands = bounding, tuple(operands)
        self.number = next(bounding.numbers)
        self.interval = self.enclose()

    @property
    def shape(self) -> torch.Size:
        return self.interval.lower.shape

    @abstractmethod
    def enclose(self) -> Interval: ...

    @cached_property
    @abstractmethod
    def value(self) -> Tensor:
        """At the inputs themselves."""

    @cached_property
    @abstractmethod
    def form(self) -> Form: ...

    @abstractmethod
    def pull(self, rows: Tensor) -> tuple[Tensor | float, Sequence[Rows]]:
        """Rows (R, B, ...) as a constant (R, B) and rows over the operands, whose sum is nowhere above."""

    stops: ClassVar[bool] = False
    """whether it is an operation, at which rows may stop"""

    scores: Node | None = None
    """of the logarithm of a softmax what it reads, whose differences are its own"""
    are_shares: bool = False
    """whether it is a softmax"""

    @property
    def settled(self) -> bool:
        """Whether nothing but operations' values, moved about, is in it: rows need not go on for intervals' sake."""
        return self.stops

    @cached_property
    def box(self) -> Interval:
        """The interval that planes are made over."""
        if not self.bounding.forward:
            return self.interval
        ends = [least(self, slopes, offset) for slopes, offset in (self.form.lower, negative(self.form.upper))]
        lower, upper = torch.maximum(self.interval.lower, ends[0]), torch.minimum(self.interval.upper, -ends[1])
        middle = (lower + upper) / 2  # Rounding may cross the two by a little.
        return Interval(torch.minimum(lower, middle), torch.maximum(upper, middle))


def negative(side: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return -side[0], -side[1]


def least(node: Node, slopes: Tensor, offset: Tensor) -> Tensor:
    """(B, ...): the least values of linear functions of the input over the regions."""
    rows = flat(slopes).permute(2, 1, 0)
    return node.bounding.region.minimise(rows).T.reshape(offset.shape) + offset


def flat(x: Tensor) -> Tensor:
    """(R, B, n) of (R, B, ...), where there may be no more axes."""
    return x.reshape(*x.shape[:2], -1)


def within(rows: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """(R, B): the least `rows @ y` of y between two ends."""
    ends = rows.clamp(min=0) * lower + rows.clamp(max=0) * upper
    return flat(ends).sum(-1)


class Input(Node):
    def __init__(self, bounding: Bounding) -> None:
        super().__init__(bounding, ())

    def enclose(self) -> Interval:
        return self.bounding.region.box

    @cached_property
    def value(self) -> Tensor:
        return self.bounding.region.x

    @cached_property
    def form(self) -> Form:
        x = self.value
        size = x[0].numel()
        one = torch.eye(size, dtype=x.dtype, device=x.device).view(size, 1, *x.shape[1:]).expand(-1, len(x), *x.shape[1:])
        return Form((one, torch.zeros_like(x)), (one, torch.zeros_like(x)))

    def pull(self, rows: Tensor) -> tuple[Tensor | float, Sequence[Rows]]:
        raise NotImplementedError("rows over the input go nowhere")


class Enclosed(Node):
    """What is known by its interval alone."""

    stops = True

    def __init__(self, like: Node, interval: Interval) -> None:
        self.found = interval
        super().__init__(like.bounding, ())

    def enclose(self) -> Interval:
        return self.found

    @cached_property
    def value(self) -> Tensor:
        raise NotImplementedError("only intervals are kept")

    @cached_property
    def form(self) -> Form:
        raise NotImplementedError("only intervals are kept")

    def pull(self, rows: Tensor) -> tuple[Tensor | float, Sequence[Rows]]:
        raise NotImplementedError("rows stop here")


class Weighing(Node):
    """`sum of map(operand), + bias`; terms without a map are added as they are."""

    def __init__(self, bounding: Bounding, terms: Sequence[tuple[Node, Map | None]], bias: Tensor | None = None) -> None:
        self.maps, self.bias = [map for _, map in terms], bias
        super().__init__(bounding, [node for node, _ in terms])

    def enclose(self) -> Interval:
        lower, upper = [], []
        for node, map in zip(self.operands, self.maps, strict=True):
            low, high = node.interval.lower, node.interval.upper
            if map is not None:
                middle, radius = map.push((low + high) / 2), map.spread((high - low) / 2)
                low, high = middle - radius, middle + radius
            lower.append(low)
            upper.append(high)
        return Interval(self._sum(lower), self._sum(upper))

    def _sum(self, parts: Sequence[Tensor]) -> Tensor:
        total = parts[0]
        for part in (*parts[1:], *([] if self.bias is None else [self.bias])):
            total = total + part
        return total

    @cached_property
    def value(self) -> Tensor:
        parts = zip(self.operands, self.maps, strict=True)
        return self._sum([node.value if map is None else map.push(node.value) for node, map in parts])

    @cached_property
    def form(self) -> Form:
        sides: list[tuple[list[Tensor], list[Tensor]]] = [([], []), ([], [])]
        for node, map in zip(self.operands, self.maps, strict=True):
            slopes, offsets = zip(node.form.lower, node.form.upper, strict=True)
            if map is not None:
                slopes = apart(map.push_each, map.spread_each, *slopes)
                offsets = apart(map.push, map.spread, *offsets)
            for (slope_sum, offset_sum), slope, offset in zip(sides, slopes, offsets, strict=True):
                slope_sum.append(slope)
                offset_sum.append(offset)
        lower, upper = ((sum(slopes[1:], slopes[0]), self._sum(offsets)) for slopes, offsets in sides)
        return Form(lower, upper)

    def pull(self, rows: Tensor) -> tuple[Tensor | float, Sequence[Rows]]:
        constant: Tensor | float = 0.0
        if self.bias is not None:
            constant = flat(rows * self.bias).sum(-1)
        return constant, [rows if map is None else map.pull(rows) for map in self.maps]


def apart(push: Moving, spread: Moving, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The two sides of what a map makes of two sides."""
    middle, radius = push((lower + upper) / 2), spread((upper - lower) / 2)
    return middle - radius, middle + radius


Back = Callable[[Tensor], Sequence[Rows]]


class Moved(Node):
    """A function that moves numbers of its operands about, and adds up or averages some of them.

    `back` maps rows over its values to rows over its operands, where that is quicker than to differentiate it.
    """

    def __init__(self, bounding: Bounding, function: Moving, operands: Sequence[Node], back: Back | None = None) -> None:
        self.function, self.back = function, back
        super().__init__(bounding, operands)

    @property
    def settled(self) -> bool:
        return all(node.settled for node in self.operands)

    def enclose(self) -> Interval:
        ends = (node.interval for node in self.operands)
        lower, upper = zip(*((end.lower, end.upper) for end in ends), strict=True)
        return Interval(self.function(*lower), self.function(*upper))

    @cached_property
    def value(self) -> Tensor:
        return self.function(*(node.value for node in self.operands))

    @cached_property
    def form(self) -> Form:
        each = torch.func.vmap(self.function)
        lower, upper = ([getattr(node.form, side) for node in self.operands] for side in ("lower", "upper"))
        sides = [
            (each(*(slopes for slopes, _ in side)), self.function(*(offset for _, offset in side))) for side in (lower, upper)
        ]
        return Form(sides[0], sides[1])

    def pull(self, rows: Tensor) -> tuple[Tensor | float, Sequence[Rows]]:
        if self.back is not None:
            return 0.0, self.back(rows)
        operands = tuple(rows.new_zeros(node.shape) for node in self.operands)
        return 0.0, pulled(self.function, operands, rows)


def joined(boxes: Sequence[Interval]) -> Interval:
    """One after the other, along the batch."""
    if len(boxes) == 1:
        return boxes[0]
    return Interval(torch.cat([box.lower for box in boxes]), torch.cat([box.upper for box in boxes]))


def part_of(planes: Planes, start: int, stop: int) -> Planes:
    return planes.map(lambda part: part[start:stop])


class Applied(Node):
    """An operation on operands of one shape."""

    stops = True

    def __init__(self, bounding: Bounding, function: Function, operands: Sequence[Node]) -> None:
        self.function = function
        super().__init__(bounding, operands)
        bounding.alike.setdefault((function.op, self.shape), []).append(self)

    def enclose(self) -> Interval:
        return self.function.interval(*(node.box for node in self.operands))

    @cached_property
    def value(self) -> Tensor:
        return self.function.op.forward(*(node.value for node in self.operands))

    @cached_property
    def planes(self) -> Planes:
        """Those of all operations like it are made at once, unless the boxes of later ones wait for these."""
        op, alike = self.function.op, [self] if self.bounding.forward else self.bounding.alike[self.function.op, self.shape]
        boxes = [joined([one.operands[k].box for one in alike]).map(tamed) for k in range(op.arity)]
        found, batch = op.by_lines(self.bounding.lines, *boxes), self.shape[0]
        for k, one in enumerate(alike):
            one.__dict__["planes"] = part_of(found, k * batch, (k + 1) * batch)
        own: Planes = self.__dict__["planes"]
        return own

    @cached_property
    def form(self) -> Form:
        def side(plane: Plane, below: bool) -> tuple[Tensor, Tensor]:
            total, offset = None, plane.offset
            for slope, node in zip(plane.slopes, self.operands, strict=True):
                low, high = (node.form.lower, node.form.upper) if below else (node.form.upper, node.form.lower)
                positive, other = slope.clamp(min=0), slope.clamp(max=0)
                part = positive * low[0] + other * high[0]
                total = part if total is None else total + part
                offset = offset + positive * low[1] + other * high[1]
            assert total is not None
            return total, offset

        return Form(side(self.planes.lower, True), side(self.planes.upper, False))

    def pull(self, rows: Tensor) -> tuple[Tensor | float, Sequence[Rows]]:
        positive, other = rows.clamp(min=0), rows.clamp(max=0)
        lower, upper = self.planes.lower, self.planes.upper
        pairs = zip(lower.slopes, upper.slopes, strict=True)
        return within(rows, lower.offset, upper.offset), [positive * below + other * above for below, above in pairs]
