"""Look-ups in a constant table by a place that is worked out from a neuron, as one operation of that neuron (`ops.table`).

The place is how many of some edges lie below the neuron (`bucketize`), or a neuron cut to whole numbers and kept between two
ends by clamps, floors and casts, in any order. It then changes at whole numbers alone, and is constant beyond the ends.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tightverify.errors import UnsupportedError
from tightverify.models.builder import Builder, Symbols
from tightverify.ops import Clamp, Floor, Operation, Straight, Table, Truncation

MOST = 65_536
"""Entries of the largest table: every value of 16 bits."""


def count_below(builder: Builder, x: Symbols, edges: Tensor) -> Symbols:
    """How many edges lie below x, elementwise; at an edge either number."""
    if edges.dim() != 1 or len(edges) < 1 or not bool((edges.diff() > 0).all()):
        raise UnsupportedError("edges of a table that do not ascend are not supported: give each edge once, in order")
    counts = np.arange(len(edges) + 1, dtype=np.float64).tolist()
    return builder.apply(Table(Straight(tuple(edges.tolist()), tuple(counts[:-1]), tuple(counts[1:]))), x)


def look_up(builder: Builder, table: Tensor, places: Symbols) -> Symbols | None:
    """`table[places]` for a table of one axis, elementwise; None where places are made in other ways, or may lie outside."""
    flat = places.ravel()
    found = np.empty(len(flat), dtype=np.int64)
    for source in np.unique(builder.source_of(flat)).tolist():
        there = builder.source_of(flat) == source
        root, steps = flat[there], list[Operation]()
        while (made := operation_of(builder, root)) is not None:
            steps.insert(0, made[0])
            root = made[1]
        pieces = pieces_of(steps)
        if pieces is None:
            return None
        breaks, numbers = pieces
        if not all(0 <= number < len(table) and number == int(number) for number in numbers):
            return None
        values = [float(table[int(number)]) for number in numbers]
        left, right = zip(*pairwise(values), strict=True)
        found[there] = builder.apply(Table(Straight(tuple(breaks), tuple(left), tuple(right))), root)
    return found.reshape(places.shape)


def operation_of(builder: Builder, x: Symbols) -> tuple[Operation, Symbols] | None:
    """The step that neurons of one node come from, and what it reads, where it is one of those that make places."""
    sources = np.unique(builder.source_of(x)).tolist()
    made = builder.made_by(x, sources[0]) if len(sources) == 1 and sources[0] >= 0 else None
    return made if made is not None and isinstance(made[0], Clamp | Floor | Truncation | Table) else None


def pieces_of(steps: list[Operation]) -> tuple[list[float], list[float]] | None:
    """Where the steps, one after the other, jump, and what they come to between; None where that is not known."""
    if not steps:
        return None
    first, rest = steps[0], steps
    if isinstance(first, Table):
        breaks, values, rest = list(first.straight.breaks), [first.straight.left[0], *first.straight.right], steps[1:]
        if first.straight.left[1:] != first.straight.right[:-1] or first.straight.before or first.straight.after:
            return None
    else:
        clamps = [step for step in steps if isinstance(step, Clamp)]
        low, high = max((c.low for c in clamps), default=-math.inf), min((c.high for c in clamps), default=math.inf)
        whole = any(isinstance(step, Floor | Truncation) for step in steps)
        if not whole or not 0 <= high - low < MOST or any(isinstance(step, Table) for step in steps):
            return None
        breaks = [float(k) for k in range(math.floor(low), math.ceil(high) + 2)]
        values = [breaks[0] - 0.5, *(start + 0.5 for start in breaks)]
    numbers = torch.tensor(values, dtype=torch.float64)
    for step in rest:
        numbers = step.forward(numbers)
    return joined(breaks, numbers.tolist())


def joined(breaks: list[float], values: list[float]) -> tuple[list[float], list[float]] | None:
    """The same without breaks at which nothing changes; None where nothing changes anywhere."""
    kept = [k for k in range(len(breaks)) if values[k] != values[k + 1]]
    return ([breaks[k] for k in kept], [values[0], *(values[k + 1] for k in kept)]) if kept else None
