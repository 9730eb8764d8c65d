"""What an operation's record of traits claims (`relax.traits`), checked at samples: each part that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from tightverify.ops import Operation
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import ChoiceRow, OperandSet, Search

NEURONS = 6
SEARCHES = (Search("batched", 1e-2, once=True), Search("batched", 1e-4))


def operands_of(op: Operation, seed: int, polygons: bool = False) -> OperandSet:
    """Boxes of the operands, those of two cut at their corners if `polygons` are wanted."""
    generator = torch.Generator().manual_seed(seed)
    middle = 1.5 * torch.randn((NEURONS, op.arity), generator=generator, dtype=torch.float64)
    half = 1.2 * torch.rand((NEURONS, op.arity), generator=generator, dtype=torch.float64) + 0.05
    if op.partial:
        middle = middle.abs() + half + 0.1
    boxes = OperandSet.of_boxes(torch.stack([middle - half, middle + half], dim=2).flatten(1))
    if not polygons or op.arity != 2:
        return boxes
    normals = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64) / half[:, None]
    return OperandSet(boxes.ends, Polygons.within(boxes.ends, normals, (normals * middle[:, None]).sum(-1) - 1.4))


def drawn(operands: OperandSet, seed: int, count: int = 4000) -> Tensor:
    """(N, count, k): points of what the operands can be, many at its corners."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(operands.ends), count)
    if operands.polygons is not None and operands.ends.shape[1] == 4:
        vertices = operands.polygons.vertices
        weights = torch.rand((*shape, vertices.shape[1]), generator=generator, dtype=torch.float64) ** 8
        weights[:, : vertices.shape[1]] = torch.eye(vertices.shape[1], dtype=torch.float64)[:count]
        return (weights / weights.sum(2, keepdim=True)) @ vertices
    share = torch.rand((*shape, operands.low.shape[1]), generator=generator, dtype=torch.float64)
    share = torch.where(torch.rand(share.shape, generator=generator) < 0.3, share.round(), share)
    return operands.low[:, None] + share * (operands.high - operands.low)[:, None]


def hold(op: Operation, operands: OperandSet, lower: Tensor, upper: Tensor, seed: int = 0) -> None:
    """Planes (N, K, k + 1) on either side hold the function at samples."""
    points = drawn(operands, seed)
    values = op.forward(*points.unbind(2))[:, None]
    noise = 1e-12 * (1 + values.abs())
    for side, planes in ((1, upper), (-1, lower)):
        assert planes.shape == (len(points), planes.shape[1], op.arity + 1)
        heights = torch.einsum("nkd,npd->nkp", planes[..., :-1], points) + planes[..., -1:]
        assert (side * (heights - values) >= -noise).all()


def fitted_planes_hold(op: Operation) -> None:
    own = op.traits.fitted
    for seed, search in enumerate(SEARCHES if own else ()):
        operands = operands_of(op, seed, polygons=True)
        hold(op, operands, *own.planes(operands, ("tightest", "corners"), search))


def planes_at_points_hold(op: Operation) -> None:
    """Those of column generation over what the operands can be, those of cells over boxes."""
    for own, polygons in ((op.traits.columns, True), (op.traits.cells, False)):
        if own is not None:
            operands = operands_of(op, 2, polygons)
            middle = operands.middle[:, None]
            shares = torch.tensor([[0.0], [0.3]], dtype=torch.float64)
            hold(op, operands, *own.at(operands, middle + shares * (drawn(operands, 1, 1) - middle), SEARCHES[0]))


def slopes_hold_with_the_offsets_of_larger_boxes(op: Operation) -> None:
    cells = op.traits.cells
    if cells is None:
        return
    inner = operands_of(op, 3)
    lower, upper = (planes[:, 0, :-1] for planes in cells.at(inner, inner.middle[:, None], SEARCHES[1]))
    reach = 0.5 * inner.low.amin() if op.partial else 1.0
    outer = OperandSet.of_boxes(torch.stack([inner.low - reach, inner.high + 1], dim=2).flatten(1))
    offsets = cells.offsets(outer, lower, upper, SEARCHES[1])
    hold(op, outer, *(torch.cat([part, end[:, None]], 1)[:, None] for part, end in zip((lower, upper), offsets, strict=True)))  # type: ignore[arg-type]


def supports_hold_and_touch(op: Operation) -> None:
    """Planes of the envelope hold; at their point none is nearer than `best`, and they are not far from it."""
    own = op.traits.envelope
    for seed, search in enumerate(SEARCHES if own else ()):
        operands = operands_of(op, 5 + seed, polygons=op.traits.fitted is not None)
        points = drawn(operands, seed, 40)[:, -1]
        for side in (True, False):
            upper = torch.full((NEURONS,), side)
            found = own.support(operands, points, upper, search)
            heights = (found.planes[:, :-1] * points).sum(1) + found.planes[:, -1]
            sign = 1 if side else -1
            far = torch.full_like(found.planes, torch.inf)
            far[:, :-1] = 0
            pair = (-far, found.planes) if side else (found.planes, far)
            hold(op, operands, *(planes[:, None] for planes in pair))  # type: ignore[arg-type]
            assert (sign * (heights - found.best) >= -1e-12).all()
            assert (sign * (heights - op.forward(*points.unbind(1))) >= -1e-12).all()


def it_is_straight_between_breakpoints(op: Operation) -> None:
    ends = [-9.0, *sorted(op.traits.breakpoints), 9.0] if op.traits.breakpoints is not None else []
    for low, high in pairwise(ends):
        assert (op.forward(torch.linspace(low, high, 9, dtype=torch.float64)).diff().diff().abs() <= 1e-12).all()


def rows_with_a_binary_hold_its_value_alone(op: Operation) -> None:
    choice = op.traits.choice
    operands = operands_of(op, 8)
    for box, points in zip(operands.ends.tolist(), drawn(operands, 0, 50), strict=True) if choice else ():
        rows = choice.rows(list(zip(box[0::2], box[1::2], strict=True)))
        for x, y in zip(points.tolist(), op.forward(*points.unbind(1)).tolist(), strict=True):
            assert satisfied(rows, x, y), (x, y)
            assert not satisfied(rows, x, y - 1e-3), (x, y)
            assert not satisfied(rows, x, y + 1e-3), (x, y)


def satisfied(rows: Sequence[ChoiceRow], x: Sequence[float], y: float) -> bool:
    """Whether all rows hold for one of the binary's values."""

    def holds(row: ChoiceRow, binary: int) -> bool:
        total = y + sum(a * b for a, b in zip(row.operands, x, strict=True)) + binary * (row.binary or 0.0)
        return row.low - 1e-12 <= total <= row.high + 1e-12

    return any(all(holds(row, binary) for row in rows) for binary in (0, 1))


TRAITS: tuple[Callable[[Operation], None], ...] = (
    fitted_planes_hold,
    planes_at_points_hold,
    slopes_hold_with_the_offsets_of_larger_boxes,
    supports_hold_and_touch,
    it_is_straight_between_breakpoints,
    rows_with_a_binary_hold_its_value_alone,
)
