"""A model with look-up tables in place of sigmoid and tanh, as microcontrollers have them (`differ --round table:256`).

A table of N entries has the function's values at N even places: of N steps at their middles, or of N knots with straight lines
between them (`linear`), each value as float32 holds it. Beyond its range it keeps its first or its last value. Sigmoid's range
is [-8, 8], tanh's [-4, 4]: at their ends these are within 0.0007 of their limits.

Which side of a step a number falls on, rounding decides: a bound holds for both (`ops.table`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tightverify.errors import UnsupportedError, UsageError
from tightverify.graph import Apply, Graph, Node
from tightverify.models.model import Model
from tightverify.models.plain_form import plain_form
from tightverify.ops import Operation, Sigmoid, Straight, Table, Tanh

PREFIX, LINEAR = "table:", ":linear"
MOST = 4096
"""Entries of the largest table; int8 has 256 values."""
RANGES: dict[type[Operation], float] = {Sigmoid: 8.0, Tanh: 4.0}


@dataclass(frozen=True)
class TableKind:
    """How many entries a table has, and whether lines join them."""

    entries: int
    linear: bool = False

    @classmethod
    def of(cls, how: str) -> TableKind:
        """`table:256` or `table:64:linear`."""
        count = how.removeprefix(PREFIX).removesuffix(LINEAR)
        if not count.isdigit() or not 2 <= int(count) <= MOST:
            raise UsageError(f"{how!r} is no table; give {PREFIX}N or {PREFIX}N{LINEAR}, N from 2 to {MOST}")
        return cls(int(count), how.endswith(LINEAR))

    def made_of(self, model: Model) -> Model:
        """The model with such tables."""
        return with_tables(model, self)

    def straight(self, op: Operation) -> Straight:
        """The table of an operation of `RANGES`."""
        reach = RANGES[type(op)]
        if self.linear:
            places = np.linspace(-reach, reach, self.entries)
            values = values_at(op, places)
            return Straight(tuple(places.tolist()), values, values)
        ends = np.linspace(-reach, reach, self.entries + 1)
        values = values_at(op, (ends[1:] + ends[:-1]) / 2)
        left, right = zip(*pairwise(values), strict=True)
        return Straight(tuple(ends[1:-1].tolist()), tuple(left), tuple(right))


def values_at(op: Operation, places: np.ndarray) -> tuple[float, ...]:
    return tuple(op.forward(torch.from_numpy(places)).to(torch.float32).tolist())


def with_tables(model: Model, kind: TableKind) -> Model:
    """The model with tables for its sigmoids and tanhs; its own answers are worked out from its nodes, in its own type."""
    graph = plain_form(model.graph)
    if graph is None:
        raise UnsupportedError(f"{model.source} has sums of squares, of which no form with tables is made")
    tables: dict[Operation, Operation] = {op: Table(kind.straight(op)) for op in (Sigmoid(), Tanh())}
    nodes: list[Node] = [
        replace(node, op=tables.get(node.op, node.op)) if isinstance(node, Apply) else node for node in graph.nodes
    ]
    if not any(isinstance(node, Apply) and isinstance(node.op, Table) for node in nodes):
        raise UsageError(f"{model.source} has neither a sigmoid nor a tanh that a table could stand for")
    made = Graph(tuple(nodes), graph.output, graph.input_shape)

    def original(x: Tensor) -> Tensor:
        return made.forward(x.flatten(1))

    return replace(model, graph=made, original=original, source=f"{model.source} with tables", notes=(), left_out="")
