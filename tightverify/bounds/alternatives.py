"""Rows tried with several planes of closed form, each in a back-substitution of its own: the best bound of each row counts.

A bounding pass makes do with one pair of planes for each operation, as it substitutes the rows of all its neurons back. Those
of a property are few, and one more back-substitution of them takes a small part of the pass: so each is tried with all
operations' first alternatives, then with their second ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import moved_apart, operand_boxes, operand_sizes
from tightverify.graph import Apply
from tightverify.ops import Operation
from tightverify.values import FrozenMapping, Interval


def with_alternatives(bounds: LinearBounds) -> LinearBounds:
    """The same with the alternatives of operations that have any in the place of their planes.

    All nodes of one operation are asked at once, neurons side by side.
    """
    alike: dict[Operation, dict[int, Apply]] = {}
    for number in bounds.planes:
        node = bounds.graph.nodes[number]
        if isinstance(node, Apply):
            alike.setdefault(node.op, {})[number] = node
    planes = dict(bounds.planes)
    for op, nodes in alike.items():
        boxes = zip(*(operand_boxes(bounds, node) for node in nodes.values()), strict=True)
        found = op.alternatives(*(Interval(joined(b.lower for b in k), joined(b.upper for b in k)) for k in boxes))
        if found:
            sizes = zip(*(operand_sizes(bounds, node) for node in nodes.values()), strict=True)
            found = moved_apart(bounds, [joined(k) for k in sizes], found)
            place = 0
            for number, node in nodes.items():
                planes[number] = tuple(pair.map(part(place, node.size)) for pair in found)
                bounds.recorder.planes(number, planes[number])
                place += node.size
    return replace(bounds, planes=FrozenMapping(planes))


def part(start: int, size: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value[:, start : start + size]


def joined(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(parts), dim=1)
