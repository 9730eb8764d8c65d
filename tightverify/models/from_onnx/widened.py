"""The network of a float32 file as a float64 one: whether the two differ tells rounding from a fault of the import."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

FLOATS = ("value_float", "value_floats")
"""Attributes by which a constant is float32 without saying so."""


def widened(model: ModelProto) -> ModelProto:
    """The model with every float32 tensor in float64, as far as its operators know that type."""
    found = ModelProto()
    found.CopyFrom(model)
    widen_graph(found.graph)
    return found


def widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        widen_tensor(tensor)
    widen_values((*graph.input, *graph.output, *graph.value_info))
    for node in graph.node:
        widen_node(node)


def widen_values(values: Iterable[ValueInfoProto]) -> None:
    for value in values:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE


def widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def widen_node(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Constant" and attribute.name in FLOATS:
            given = helper.get_attribute_value(attribute)
            tensor = numpy_helper.from_array(np.asarray(given, dtype=np.float64))
            attribute.CopyFrom(helper.make_attribute("value", tensor))
        elif attribute.type == AttributeProto.TENSOR:
            widen_tensor(attribute.t)
        elif attribute.type == AttributeProto.GRAPH:
            widen_graph(attribute.g)
        elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
