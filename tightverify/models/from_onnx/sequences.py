"""Sequences of tensors, as TensorArrays become in ONNX: lists, taken apart and put together at positions that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, helper

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder
from tightverify.models.from_onnx.node import Activations, Tokens, Value, describe


@dataclass(frozen=True, eq=False)
class Listed:
    """A sequence of tensors."""

    items: tuple[Value, ...] = ()


Held = Value | Tokens | Listed
"""Whatever a name of a graph stands for."""


@dataclass(frozen=True, eq=False)
class Step:
    """A node that reads or makes a sequence, and what it reads."""

    node: NodeProto
    read: Sequence[Held | None]
    builder: Builder

    def attribute(self, name: str, usual: Any) -> Any:
        return next((helper.get_attribute_value(a) for a in self.node.attribute if a.name == name), usual)

    def sequence(self) -> tuple[Value, ...]:
        found = self.read[0]
        if not isinstance(found, Listed):
            raise ModelError(f"{describe(self.node)} reads no sequence; export the model again")
        return found.items

    def tensor(self, k: int) -> Value:
        found = self.read[k]
        if found is None or isinstance(found, (Listed, Tokens)):
            raise UnsupportedError(f"{describe(self.node)}: its input {k} is no tensor of numbers; export the model without it")
        return found

    def position(self, k: int, count: int, usual: int) -> int:
        """A place among so many, counted from the end where it is negative."""
        given = self.read[k] if k < len(self.read) else None
        if given is None:
            return usual
        if not isinstance(given, np.ndarray) or given.size != 1:
            raise UnsupportedError(f"{describe(self.node)} reads a position that depends on the input; make it a constant")
        place = int(given.reshape(()))
        if not -count <= place < count:
            raise ModelError(f"{describe(self.node)} reads position {place} of {count}; check `shape` and `batch_axis`")
        return place % count


def at(step: Step) -> Value | Listed:
    items = step.sequence()
    return items[step.position(1, len(items), 0)]


def insert(step: Step) -> Value | Listed:
    items = step.sequence()
    place = step.position(2, len(items) + 1, len(items)) if not negative(step) else step.position(2, len(items), 0)
    return Listed((*items[:place], step.tensor(1), *items[place:]))


def negative(step: Step) -> bool:
    """Whether an insertion's position is counted from the end, of the sequence as it was."""
    given = step.read[2] if len(step.read) > 2 else None
    return isinstance(given, np.ndarray) and given.size == 1 and bool(given.reshape(()) < 0)


def erase(step: Step) -> Value | Listed:
    items = step.sequence()
    place = step.position(1, len(items), len(items) - 1)
    return Listed((*items[:place], *items[place + 1 :]))


def split(step: Step) -> Value | Listed:
    """Along an axis: one by one, or in pieces of given lengths, of which the last may be shorter where one length is given.

    The standard drops the axis of pieces of length 1 only where no length is given, onnxruntime where one of 1 is, too.
    """
    value = step.tensor(0)
    numbers = value.numbers if isinstance(value, Activations) else value
    axis = int(step.attribute("axis", 0))
    whole, lengths = numbers.shape[axis], step.read[1] if len(step.read) > 1 else None
    if lengths is None:
        edges = np.arange(whole + 1)
    elif not isinstance(lengths, np.ndarray):
        raise UnsupportedError(f"{describe(step.node)} reads lengths that depend on the input; make them constants")
    elif lengths.ndim == 0:
        edges = np.append(np.arange(0, whole, int(lengths)), whole)
    else:
        edges = np.cumsum([0, *lengths])
    if int(edges[-1]) != whole:
        raise ModelError(f"{describe(step.node)} splits {whole} places into {edges[-1]}; check `shape` and `batch_axis`")
    alone = lengths is None or (lengths.ndim == 0 and int(lengths) == 1)
    dropped = alone and not int(step.attribute("keepdims", 1))
    parts = [np.take(numbers, np.arange(start, stop), axis) for start, stop in pairwise(edges.tolist())]
    parts = [np.squeeze(part, axis) for part in parts] if dropped else parts
    return Listed(tuple(replace(value, numbers=part) if isinstance(value, Activations) else part for part in parts))


def concatenated(step: Step) -> Value | Listed:
    items, axis = step.sequence(), int(step.attribute("axis", 0))
    join = np.stack if int(step.attribute("new_axis", 0)) else np.concatenate
    if not items:
        raise UnsupportedError(f"{describe(step.node)} puts no tensors together; export the model for an input of one or more")
    if all(isinstance(item, np.ndarray) for item in items):
        return np.asarray(join([np.asarray(item) for item in items], axis))
    kinds = {item.whole for item in items if isinstance(item, Activations)}
    if kinds != {0}:
        raise UnsupportedError(f"{describe(step.node)} puts whole numbers together that depend on the input; make them floats")
    symbols = [
        item.numbers if isinstance(item, Activations) else step.builder.constant(torch.from_numpy(np.array(item)))
        for item in items
    ]
    return Activations(join(symbols, axis))


SEQUENCES: dict[str, Callable[[Step], Value | Listed]] = {
    "ConcatFromSequence": concatenated,
    "Identity": lambda step: Listed(step.sequence()),
    "SequenceAt": at,
    "SequenceConstruct": lambda step: Listed(tuple(step.tensor(k) for k in range(len(step.read)))),
    "SequenceEmpty": lambda _step: Listed(),
    "SequenceErase": erase,
    "SequenceInsert": insert,
    "SequenceLength": lambda step: np.array(len(step.sequence()), dtype=np.int64),
    "SplitToSequence": split,
}
MAKING = SEQUENCES.keys() - {"Identity"}
"""Those of which no other operator has the name."""


def handled(node: NodeProto, read: Sequence[Held | None], builder: Builder) -> list[Value | Listed] | None:
    """What a node makes that reads or makes a sequence; None if it is another."""
    listed = any(isinstance(value, Listed) for value in read)
    if node.op_type in MAKING or (listed and node.op_type in SEQUENCES):
        return [SEQUENCES[node.op_type](Step(node, read, builder))]
    if listed:
        raise UnsupportedError(
            f"{describe(node)} reads a sequence of tensors, which is not supported; take its tensors one by one"
        )
    return None
