"""Back-substitution: rows over nodes become the least value of a linear function of the input.

It is DeepPoly's back-substitution (Singh et al. 2019) and CROWN's backward pass (Zhang et al. 2018).

From the last node to the first: an affine node's rows are replaced by rows over its operands; an operation's by its lower
planes where a coefficient is positive and by its upper planes where it is negative; rows over the input are minimised over
the region. By the order of the nodes, all contributions to a node have arrived when its turn comes, so that its rows can
be let go. Rounding is paid for in `bounds.linear`, whose docstring has the argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tightverify.bounds.forms import Form
from tightverify.bounds.pairs import Pairs, Split
from tightverify.bounds.stops import NOWHERE, Edge
from tightverify.graph import Affine, Apply, Graph, Input, Operand, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.values import by_sign, times


class RowPlanes(Protocol):
    """Planes of an operation that each row takes for itself."""

    def take(self, row: Tensor) -> Plane:
        """The plane (B, R, n) for each coefficient: one below the operation where its sign is +, one above where it is -."""


@dataclass(eq=False)
class Paired:
    """Planes of an operation's neurons `alone`, and of the sums and differences of its pairs `together`."""

    pairs: Pairs
    alone: Planes | RowPlanes
    together: Planes | RowPlanes
    split: Split | None = None
    """of the last rows that went through"""


Selection = Planes | RowPlanes | Paired
"""What rows over an operation go on with."""


def back_substitute(
    graph: Graph,
    region: Region,
    planes: Mapping[int, Selection],
    rows: dict[int, Tensor],
    trail: dict[int, Tensor] | None = None,
    edge: Edge = NOWHERE,
) -> Tensor:
    """(B, R): lower bounds of the sum over nodes of `rows @ node`, before their rounding is paid for.

    Pairs of planes are (B, n), the same for all rows, or (B, R, n). `trail` is filled with the rows over operations and inputs.
    """
    if not region.separable:
        constant, row = linear_form(graph, planes, rows, trail, edge)
        return constant + region.minimise(row)
    total = torch.zeros(1, dtype=torch.float64, device=region.centre.device)

    def at_input(node: Input, row: Tensor, owned: bool) -> None:
        nonlocal total
        total = total + region.minimise(row, node.block, scratch=trail is None and owned)

    return backward_pass(graph, planes, rows, at_input, trail, edge) + total


def linear_form(
    graph: Graph,
    planes: Mapping[int, Selection],
    rows: dict[int, Tensor],
    trail: dict[int, Tensor] | None = None,
    edge: Edge = NOWHERE,
) -> tuple[Tensor, Tensor]:
    """(B or 1, R) constants and (B or 1, R, n) coefficients of a function of the input below the sum of `rows @ node`."""
    inputs: list[tuple[Input, Tensor]] = []
    constant = backward_pass(graph, planes, rows, lambda node, row, _owned: inputs.append((node, row)), trail, edge)
    row = next(iter(rows.values()))
    return constant, side_by_side(graph, inputs) if inputs else row.new_zeros((1, row.shape[1], graph.input_size))


def backward_pass(
    graph: Graph,
    planes: Mapping[int, Selection],
    rows: dict[int, Tensor],
    at_input: Callable[[Input, Tensor, bool], None],
    trail: dict[int, Tensor] | None,
    edge: Edge = NOWHERE,
) -> Tensor:
    """(B or 1, R): the constants gathered on the way; rows over inputs are handed over, and whether nobody else holds them.

    Rows over nodes at the `edge` go on to the inputs at once, by the forms of these.
    """
    pending = Pending(graph, rows)
    first = next(iter(rows.values()))
    total = first.new_zeros(first.shape[:2])
    for number in range(max(rows), -1, -1):
        row = pending.take(number)
        if row is None:
            continue
        if trail is not None and not isinstance(graph.nodes[number], Affine):
            trail[number] = row
        form = edge.at(number)
        if form is not None:
            total = total + through_form(form, row, pending)
            continue
        match graph.nodes[number]:
            case Input() as node:
                at_input(node, row, pending.owns(number))
            case Affine() as node:
                total = total + row @ node.bias
                for product in graph.products[number]:
                    for operand, part in product.pull(row):
                        pending.add(operand, part, fresh=part is not row)
            case Apply() as node:
                total = total + through_planes(node, planes[number], row, pending)
            case Quadratic() as node:
                pair = planes[number]
                assert isinstance(pair, Planes)
                total = total + through_quadratic(node, pair, row, pending)
    return total


def through_planes(node: Apply, planes: Selection, row: Tensor, pending: Pending) -> Tensor:
    """Hand rows over an operation on to its operands; what is left is the planes' offsets.

    Of a pair, the plane of a coefficient c is c upper + max(c, 0) (lower - upper).
    """
    if isinstance(planes, Paired):
        return through_pairs(node, planes, row, pending)
    if not isinstance(planes, Planes):
        plane = planes.take(row)
        for operand, slope in zip(node.operands, plane.slopes, strict=True):
            pending.add(operand, row * slope, fresh=True)
        return (row * plane.offset).sum(-1)
    positive = row.clamp(min=0)
    lower, upper = planes.lower, planes.upper
    for operand, low, high in zip(node.operands, lower.slopes, upper.slopes, strict=True):
        passed = row * by_row(high)
        if low is not high and not torch.equal(low, high):
            passed = passed.addcmul_(positive, by_row(low - high))
        pending.add(operand, passed, fresh=True)
    return offsets(planes, row, positive)


def through_pairs(node: Apply, planes: Paired, row: Tensor, pending: Pending) -> Tensor:
    """The same where neurons are taken two and two."""
    split = planes.split = planes.pairs.split(row)
    constant = through_planes(node, planes.alone, split.rest, pending)
    together, shared = planes.together, split.shared
    plane = pulled(together, shared) if isinstance(together, Planes) else together.take(shared)
    first, second = (shared * slope for slope in plane.slopes)
    pending.add(node.operands[0], split.onto_operands(first, second), fresh=True)
    return constant + (shared * plane.offset).sum(-1)


def pulled(pair: Planes, row: Tensor) -> Plane:
    """The planes (B, R, n) that coefficients take of a pair (B, n), by their signs."""
    lower, upper = ((*side.slopes, side.offset) for side in (pair.lower, pair.upper))
    *slopes, offset = (by_sign(row, low[:, None], high[:, None]) for low, high in zip(lower, upper, strict=True))
    return Plane(tuple(slopes), offset)


def through_form(form: Form, row: Tensor, pending: Pending) -> Tensor:
    """The same for a node's form: rows over it become rows over input nodes."""
    positive = row.clamp(min=0)
    negative = row - positive
    for source, low in form.lower.slopes.items():
        pending.add(Operand(source), positive @ low + negative @ form.upper.slopes[source], fresh=True)
    return times(positive, form.lower.offset) + times(negative, form.upper.offset)


def through_quadratic(node: Quadratic, planes: Planes, row: Tensor, pending: Pending) -> Tensor:
    """The same for planes with a slope for each pair of a neuron and an operand's neuron (B, n, m)."""
    positive = row.clamp(min=0)
    low, high = planes.lower.slopes[0], planes.upper.slopes[0]
    passed = row @ high
    if low is not high:
        passed = passed + positive @ (low - high)
    widths = [pending.graph.width(operand) for operand in node.operands]
    for operand, part in zip(node.operands, torch.split(passed, widths, dim=-1), strict=True):
        pending.add(operand, part, fresh=True)
    return offsets(planes, row, positive)


def offsets(planes: Planes, row: Tensor, positive: Tensor) -> Tensor:
    """What is left of rows when their operands have been handed theirs."""
    upper, difference = planes.upper, planes.lower.offset - planes.upper.offset
    if upper.offset.dim() == 3:
        return torch.addcmul(row * upper.offset, positive, difference).sum(-1)
    return times(row, upper.offset) + times(positive, difference)


def by_row(values: Tensor) -> Tensor:
    """Neurons' values (B, n) for all rows alike; (B, R, n) as they are."""
    return values if values.dim() == 3 else values[:, None]


class Pending:
    """The rows that each node has gathered so far; a tensor is added to in place only if it was made here."""

    def __init__(self, graph: Graph, rows: dict[int, Tensor]) -> None:
        self.graph = graph
        self._rows = dict(rows)
        self._own: set[int] = set()

    def take(self, number: int) -> Tensor | None:
        return self._rows.pop(number, None)

    def owns(self, number: int) -> bool:
        """Whether nobody else holds the memory of the rows that the node has gathered."""
        return number in self._own

    def add(self, operand: Operand, rows: Tensor, fresh: bool) -> None:
        """Gather rows over an operand; `fresh` says that nobody else holds their memory."""
        source, index = operand.source, operand.index
        size = self.graph.nodes[source].size
        gathered = self._rows.get(source)
        if gathered is None and isinstance(index, slice) and rows.shape[-1] == size:
            self._rows[source] = rows
            if fresh:
                self._own.add(source)
            return
        batch = rows.shape[0] if gathered is None else max(rows.shape[0], gathered.shape[0])
        if source not in self._own or gathered is None or gathered.shape[0] < batch:
            shape = (batch, rows.shape[1], size)
            gathered = rows.new_zeros(shape) if gathered is None else gathered.expand(shape).clone()
            self._own.add(source)
            self._rows[source] = gathered
        if isinstance(index, slice):
            gathered[..., index] += rows
        else:
            gathered.index_add_(-1, index, rows.expand(batch, -1, -1))


def side_by_side(graph: Graph, inputs: list[tuple[Input, Tensor]]) -> Tensor:
    """The coefficients of all input blocks next to one another, zero where a block was not reached."""
    batch = max(len(row) for _, row in inputs)
    joined = inputs[0][1].new_zeros((batch, inputs[0][1].shape[1], graph.input_size))
    for node, row in inputs:
        joined[..., node.block] = row
    return joined
