"""Planes of an operation over cells of its operands' box, and by how much they fail elsewhere in it.

A cell is a box (N, 2 k) within the box. Its planes hold the function on the cell alone; the same slopes with the offset that is
proved over the whole box hold everywhere. The difference of the two offsets is what a mixed-integer program has to forgive
a plane whose cell is not chosen. Functions of straight pieces are their own planes on a cell without a breakpoint in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.traits import Cells, OperandSet, Search

SEARCH = Search("batched", 1e-3)
INSIDE = 0.9
"""How far from a cell's middle towards its border planes are made to be tight."""


@dataclass(frozen=True, eq=False)
class CellPlanes:
    """On either side one plane for each of N cells: slopes (N, k), its offset there, and the offset that holds everywhere."""

    lower: Tensor
    lower_offset: Tensor
    lower_everywhere: Tensor
    upper: Tensor
    upper_offset: Tensor
    upper_everywhere: Tensor


def cell_planes(own: Cells, cells: Tensor, boxes: Tensor, points: Tensor) -> CellPlanes:
    """An operation's own planes over cells (N, 2 k) of boxes (N, 2 k), as tight as can be at points (N, k) of the cells."""
    over = OperandSet.of_boxes(cells)
    inner = over.middle + INSIDE * (torch.minimum(torch.maximum(points, over.low), over.high) - over.middle)
    lower, upper = (planes[:, 0] for planes in own.at(over, inner[:, None], SEARCH))
    below, above = own.offsets(OperandSet.of_boxes(boxes), lower[:, :-1], upper[:, :-1], SEARCH)
    return CellPlanes(lower[:, :-1], lower[:, -1], below, upper[:, :-1], upper[:, -1], above)
