"""Rows over parts of a tensor, put together once all of them are there: frames of a sequence, gates of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Slot:
    """Rows over what lies from `start` on along an axis, which is `size` long; those over all else are 0."""

    rows: Tensor
    axis: int
    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.rows.shape[self.axis]


def gathered(parts: Sequence[Tensor | Slot]) -> Tensor:
    """The sum of rows, of which some lie in slots; those that do not overlap are laid side by side."""
    whole = [part for part in parts if isinstance(part, Tensor)]
    slots = sorted((part for part in parts if isinstance(part, Slot)), key=lambda slot: (slot.axis, slot.start))
    while slots:
        line: list[Slot] = []
        rest: list[Slot] = []
        for slot in slots:
            fits = not line or (line[0].axis == slot.axis and line[-1].stop <= slot.start)
            (line if fits else rest).append(slot)
        whole.append(side_by_side(line))
        slots = rest
    return sum(whole[1:], whole[0])


def side_by_side(line: Sequence[Slot]) -> Tensor:
    """Slots in their order along one axis, zeros between them."""
    axis, size, like = line[0].axis, line[0].size, line[0].rows
    pieces, end = [], 0
    for start, stop, rows in [*((slot.start, slot.stop, slot.rows) for slot in line), (size, size, None)]:
        if start > end:
            shape = list(like.shape)
            shape[axis] = start - end
            pieces.append(like.new_zeros(shape))
        if rows is not None:
            pieces.append(rows)
        end = stop
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
