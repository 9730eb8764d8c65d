"""Planes of an operation over cells of its operands' box, and by how much they fail elsewhere in it.

A cell is a box (N, 2 k) within the box. Its planes hold the function on the cell alone; the same slopes with the offset that is
proved over the whole box hold everywhere. The difference of the two offsets is what a mixed-integer program has to forgive
a plane whose cell is not chosen. Functions of straight pieces are their own planes on a cell without a kink in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.ops import GruUpdate, Operation
from tightverify.relax.fitted.family import Domain, fitted, offered
from tightverify.relax.fitted.gru_update import fitted_update, negated, update_offset
from tightverify.relax.lines import upper_offset
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval

SOLVER, TOLERANCE = "batched", 1e-3


@dataclass(frozen=True, eq=False)
class CellPlanes:
    """On either side one plane for each of N cells: slopes (N, k), its offset there, and the offset that holds everywhere."""

    lower: Tensor
    lower_offset: Tensor
    lower_everywhere: Tensor
    upper: Tensor
    upper_offset: Tensor
    upper_everywhere: Tensor


def has_cells(op: Operation) -> bool:
    """Whether an operation has planes over cells; the others stay relaxed as they are."""
    return op.curves is not None or op.curve is not None or isinstance(op, GruUpdate)


def cell_planes(op: Operation, cells: Tensor, boxes: Tensor, points: Tensor) -> CellPlanes:
    """Planes over cells (N, 2 k) of boxes (N, 2 k), as tight as can be at points (N, k) of the cells."""
    if op.curves is not None or isinstance(op, GruUpdate):
        lower, upper = smooth_planes(op, cells, points)
    elif op.curve is not None:
        pair = op.relax(Interval(cells[:, 0], cells[:, 1]))
        lower, upper = (torch.stack([*side.slopes, side.offset], dim=1) for side in (pair.lower, pair.upper))
    else:
        raise UsageError(f"{op.name} has no planes over cells")
    on_lower, on_upper = lower[:, :-1], upper[:, :-1]
    below, above = everywhere(op, on_lower, on_upper, boxes)
    return CellPlanes(on_lower, lower[:, -1], below, on_upper, upper[:, -1], above)


def smooth_planes(op: Operation, cells: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """(N, k + 1) below and above."""
    low, high = cells[:, 0::2], cells[:, 1::2]
    inner = (low + high) / 2 + 0.9 * (torch.minimum(torch.maximum(points, low), high) - (low + high) / 2)
    if isinstance(op, GruUpdate):
        found = fitted_update(cells, inner[:, None], SOLVER, TOLERANCE)
        return found.lower[:, 0], found.upper[:, 0]
    assert op.curves is not None
    places = inner if op.arity == 2 else torch.cat([inner, torch.zeros_like(inner)], dim=1)
    plane_set = fitted(Domain(*op.curves, over(cells), SOLVER, TOLERANCE), places[:, None])
    columns = [*range(op.arity), 2]
    return plane_set.lower[:, 0, columns], plane_set.upper[:, 0, columns]


def everywhere(op: Operation, lower: Tensor, upper: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) and (N,): the offsets with which slopes hold below and above on the whole boxes."""
    if isinstance(op, GruUpdate):
        turned = lower * lower.new_tensor([-1.0, 1.0, 1.0])
        return -update_offset(turned, negated(boxes)), update_offset(upper, boxes)
    if op.curves is not None:
        wide = [torch.cat([slopes, torch.zeros_like(slopes)], 1) if op.arity == 1 else slopes for slopes in (lower, upper)]
        found = offered(Domain(*op.curves, over(boxes), SOLVER, TOLERANCE), wide[0][:, None], wide[1][:, None])
        return found.lower[:, 0, 2], found.upper[:, 0, 2]
    assert op.curve is not None
    box = Interval(boxes[:, 0], boxes[:, 1])
    return -upper_offset(op.curve.mirror, lower[:, 0], box.mirror()), upper_offset(op.curve, upper[:, 0], box)


def over(boxes: Tensor) -> Polygons:
    return Polygons.of_boxes(boxes) if boxes.shape[1] == 4 else Polygons.of_intervals(boxes)
