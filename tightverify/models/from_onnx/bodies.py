"""Operators that the standard defines by others: a node becomes the nodes of that definition, attributes and types put in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, defs, helper
from onnx.inliner import inline_selected_functions

from tightverify.models.from_onnx.node import Activations, Value

EXPANDED = (
    "Attention",
    "CenterCropPad",
    "MeanVarianceNormalization",
    "RotaryEmbedding",
    "Shrink",
    "Swish",
    "ThresholdedRelu",
)
"""Those that are known to be made of what is supported, beside what has a table of its own; others are tried."""


def versions(node: NodeProto, opset: int) -> list[int]:
    """Opsets in which the operator means what it means here and is defined by others, this one first."""
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return []
    written: Any = schema  # of which the package's types say less than it has
    bodies = sorted({*written.function_opset_versions, *written.context_dependent_function_opset_versions})
    later = [number for number in bodies if number > opset]
    same = [number for number in later if defs.get_schema(node.op_type, number, "").since_version == schema.since_version]
    return [opset, *same] if bodies else []


def body(node: NodeProto, opset: int, values: Sequence[Value | None]) -> ModelProto | None:
    """The nodes that a node is defined by, as a model of its inputs and outputs; None if it is defined by none."""
    found = versions(node, opset)
    for number in found:
        given = {name: value for name, value in zip(node.input, values, strict=True) if name and value is not None}
        graph = helper.make_graph(
            [with_defaults(node, number)],
            "body",
            [helper.make_tensor_value_info(name, *described(value)) for name, value in given.items()],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", number)])
        try:
            made = inline_selected_functions(model, [("", node.op_type)], inline_schema_functions=True)
        except RuntimeError:  # types that a definition asks for and the package does not work out
            continue
        if all(each.op_type != node.op_type for each in made.graph.node):
            return made
    return None


def with_defaults(node: NodeProto, opset: int) -> NodeProto:
    """The node with all attributes that it leaves at what the standard says: definitions refer to them."""
    found = NodeProto()
    found.CopyFrom(node)
    there = {attribute.name for attribute in node.attribute}
    for name, attribute in defs.get_schema(node.op_type, opset, "").attributes.items():
        if name not in there and attribute.default_value.name:
            found.attribute.append(attribute.default_value)
    return found


def described(value: Value) -> tuple[int, Sequence[int]]:
    """A tensor's type and shape; activations are taken to be FLOAT, as no body makes a difference between types of floats."""
    if isinstance(value, Activations):
        return value.whole or TensorProto.FLOAT, value.numbers.shape
    return helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), np.shape(value)
