"""Files whose input has no batch axis: it gets one of length 1 in front, and the output too, so that inputs run one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from tightverify.models.from_onnx.entries import axes_of, entries_of, is_batch, is_whole

AXES_AS_INPUT = 13
"""The first opset whose Unsqueeze takes its axes as an input."""


def has_no_batch(model: ModelProto, fix: Mapping[str, Any], shape: Sequence[int]) -> bool:
    """Whether the shape of one input is all that the file's only input that is not fixed has."""
    moving = [entry for entry in entries_of(model.graph) if entry.name not in fix]
    axes = axes_of(moving[0]) if len(moving) == 1 and not is_whole(moving[0]) else None
    if axes is None or len(axes) != len(shape) or any(isinstance(n, str) and is_batch(n) for n in axes):
        return False
    return all(isinstance(n, str) or n == m for n, m in zip(axes, shape, strict=True))


def with_batch(
    model: ModelProto, fix: Mapping[str, Any], shape: Sequence[int], result: str, opset: int
) -> tuple[ModelProto, str]:
    """The same with a batch of one input, and the name of its output."""
    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    entry = next(each for each in graph.input if each.name in {e.name for e in entries_of(graph)} and each.name not in fix)
    inner, outer, made = entry.name, f"{entry.name}.batch", f"{result}.batch"
    entry.CopyFrom(helper.make_tensor_value_info(outer, entry.type.tensor_type.elem_type, [1, *shape]))
    constants = {f"{outer}.shape": np.array(shape, np.int64), f"{made}.axes": np.array([0], np.int64)}
    nodes = [helper.make_node("Reshape", [outer, f"{outer}.shape"], [inner], name=f"{inner} without batch"), *graph.node]
    axes: dict[str, Any] = {} if opset >= AXES_AS_INPUT else {"axes": [0]}
    given = [result] if axes else [result, f"{made}.axes"]
    nodes.append(helper.make_node("Unsqueeze", given, [made], name=f"{result} with batch", **axes))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    output = next(value for value in graph.output if value.name == result)
    output.CopyFrom(helper.make_tensor_value_info(made, output.type.tensor_type.elem_type, None))
    return found, made
