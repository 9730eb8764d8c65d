"""Which of an operation's planes is the tightest at a point: looked up, not searched for.

The boxes of an operation's operands are cut into a few hundred cells. Of each cell and side are known the plane that is the
tightest in its middle, the one that gets farthest beyond it somewhere in the cell, and their difference, whose sign at a point
says which of the two is the tighter one there. So a choice takes a few look-ups, however many planes there are. In cells where
three planes meet it may miss the best of them: one time in a hundred, for next to nothing. Points beyond the boxes count with
the nearest cell.

Soundness needs no more than that a plane is the neuron's own and of the side that was asked for. Tables are (B, n, 2, .), the 2
being the lower and the upper side, and flat: a place in them is the neuron's number, a bit for the side, and as many bits as
the last axis needs, whose values all have an entry. So whatever comes of a point, also of one that is infinite or no number,
the place is that of one of the neuron's planes of that side. Nothing here branches on the numbers: processors take long over
branches that they cannot foresee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval, negative

CELL_BITS = 8
CELLS = 1 << CELL_BITS
LEAD = torch.tensor([[1.0], [-1.0]])
"""Of lower planes the higher is the tighter one, of upper planes the lower."""
PARTS = {1: 256, 2: 16, 3: 6}
"""Into how many parts an operand's interval is cut, by the number of operands: at most CELLS cells."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The planes (B, R, n) that were chosen for rows, and their places in the tables."""

    plane: Plane
    places: Tensor
    bits: int

    @property
    def which(self) -> Tensor:
        """(B, R, n): of which pairs they are."""
        return self.places & ((1 << self.bits) - 1)

    @property
    def upper(self) -> Tensor:
        """(B, R, n): whether they are upper planes."""
        return (self.places >> self.bits & 1).bool()


def taken(table: Tensor, places: Tensor) -> Tensor:
    """The entries of a flat table, in the places' shape."""
    return table.index_select(0, places.flatten()).view(places.shape)


class PlaneChoice:
    """An operation's pairs of planes (B, n), to choose from at points of its operands' boxes (B, n)."""

    def __init__(self, pairs: tuple[Planes, ...], boxes: Sequence[Interval]) -> None:
        self.pairs = pairs
        self._bits = (len(pairs) - 1).bit_length()
        self._parts = PARTS[len(boxes)]
        self._units = [torch.nan_to_num(self._parts / box.width, 0.0, 0.0, 0.0)[:, None] for box in boxes]
        self._starts = [
            torch.nan_to_num(-box.lower[:, None] * u, 0.0, 0.0, 0.0) for box, u in zip(boxes, self._units, strict=True)
        ]
        planes = side_by_side(pairs, 1 << self._bits)
        sides = torch.arange(2 * planes[0].shape[:2].numel(), device=planes[0].device).view(planes[0].shape[:3])
        found = candidates(planes, len(pairs), middles(boxes, self._parts), [box.width / (2 * self._parts) for box in boxes])
        best, second = (which | sides[..., None] << self._bits for which in found)
        self._planes = [part.flatten() for part in planes]
        self._first_cells = sides[:, None, :, 0] << CELL_BITS
        self._candidates = torch.stack([best, second], dim=-1).flatten()
        self._leads = [(taken(part, second) - taken(part, best)).mul_(LEAD.to(part)).flatten() for part in self._planes]
        """by how much the second one is tighter than the first, as a plane"""

    def tightest(self, upper: Tensor, point: Sequence[Tensor]) -> Answer:
        """Of the upper planes where `upper` (B, R, n) is -1, of the lower ones where it is 0, those tightest at (B, R, n)."""
        cells = self._cells(point).bitwise_or_(self._first_cells).bitwise_or_(upper & CELLS)
        *slopes, lead = (taken(part, cells) for part in self._leads)
        for slope, operand in zip(slopes, point, strict=True):
            lead.addcmul_(slope, operand)
        places = taken(self._candidates, cells.mul_(2).add_(1).add_(negative(lead)))
        *slopes, offset = (taken(part, places) for part in self._planes)
        return Answer(Plane(tuple(slopes), offset), places, self._bits)

    def _cells(self, point: Sequence[Tensor]) -> Tensor:
        """(B, R, n): the cell of a point, among the neuron's own."""
        cells: Tensor | None = None
        for start, unit, operand in zip(self._starts, self._units, point, strict=True):
            along = torch.addcmul(start, unit, operand).clamp_(0, self._parts - 1)
            cells = along if cells is None else cells.floor_().mul_(self._parts).add_(along)
        assert cells is not None
        return cells.long().clamp_(0, CELLS - 1)


@dataclass(frozen=True, eq=False)
class Choices:
    """The choices that have been made ready, by operation: as long as it has the same planes."""

    ready: dict[int, PlaneChoice] = field(default_factory=dict)

    def of(self, number: int, pairs: tuple[Planes, ...], boxes: Callable[[], Sequence[Interval]]) -> PlaneChoice:
        choice = self.ready.get(number)
        if choice is None or choice.pairs is not pairs:
            choice = self.ready[number] = PlaneChoice(pairs, boxes())
        return choice


def side_by_side(pairs: Sequence[Planes], room: int) -> list[Tensor]:
    """Slopes and offset of pairs (B, n), each as (B, n, 2, room): the last pair is repeated."""
    pairs = [*pairs, *[pairs[-1]] * (room - len(pairs))]
    sides = [[(*plane.slopes, plane.offset) for plane in side] for side in ([p.lower for p in pairs], [p.upper for p in pairs])]
    stacked = [[torch.stack(part, dim=-1) for part in zip(*side, strict=True)] for side in sides]
    return [torch.stack(both, dim=2) for both in zip(*stacked, strict=True)]


def middles(boxes: Sequence[Interval], parts: int) -> list[Tensor]:
    """The operands (B, n, CELLS) in the middles of the cells, which are numbered along the last operand first."""
    number = torch.arange(CELLS, device=boxes[0].lower.device)
    found: list[Tensor] = []
    for box in reversed(boxes):
        share = ((number % parts).to(box.lower) + 0.5) / parts
        found.append(box.lower[..., None] + box.width[..., None] * share)
        number = number // parts
    return found[::-1]


def candidates(planes: Sequence[Tensor], count: int, points: Sequence[Tensor], half: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(B, n, 2, C): which of the first `count` of planes (B, n, 2, K) is the tightest in the middle (B, n, C) of a cell, and
    which gets farthest beyond that one in the cell, whose half widths are (B, n).

    The last bits of the heights are the planes' numbers: so the greater height brings its plane along.
    """
    room = planes[0].shape[-1]
    towards = LEAD.to(planes[0])
    each = [[towards * part[..., k, None] for part in planes] for k in range(count)]
    heights = [offset for *_, offset in each]
    for k, (*slopes, _) in enumerate(each):
        for slope, operand in zip(slopes, points, strict=True):
            heights[k] = torch.addcmul(heights[k], slope, operand[:, :, None])
    best = numbered(heights[0], 0, room)
    for k in range(1, count):
        best = torch.maximum(best, numbered(heights[k], k, room))
    which = best.view(torch.int64) & (room - 1)
    steepness = [torch.gather((towards * part), 3, which) for part in planes[:-1]]
    second = torch.full_like(best, -torch.inf)
    for k, (*slopes, _) in enumerate(each):
        lead = heights[k] - best
        for slope, other, width in zip(slopes, steepness, half, strict=True):
            lead.addcmul_((slope - other).abs_(), width[..., None, None])
        second = torch.maximum(second, numbered(lead, k, room))
    return which, second.view(torch.int64) & (room - 1)


def numbered(values: Tensor, k: int, room: int) -> Tensor:
    """Values whose last bits are the number k < room."""
    return (values.view(torch.int64) & -room).bitwise_or_(k).view(values.dtype)
