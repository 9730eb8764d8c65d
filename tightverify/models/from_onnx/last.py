"""A softmax at the end of a file, left out: it does not change which output is the largest."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

FIRST_OF_ONE_AXIS = 13
"""The opset from which a softmax is along one axis: before, it was along that and all after it."""


def last_softmax(model: ModelProto, opset: int) -> tuple[NodeProto, int] | None:
    """The softmax that makes the first output, and its axis; None if anything else does, or reads it."""
    graph = model.graph
    result = graph.output[0].name
    maker = next((node for node in graph.node if result in node.output), None)
    if maker is None or maker.op_type not in ("Softmax", "LogSoftmax") or any(result in node.input for node in graph.node):
        return None
    if maker.input[0] in {entry.name for entry in graph.input}:
        return None
    usual = -1 if opset >= FIRST_OF_ONE_AXIS else 1
    return maker, next((int(attribute.i) for attribute in maker.attribute if attribute.name == "axis"), usual)


def without(model: ModelProto, last: NodeProto) -> ModelProto:
    """The model that ends before its last node."""
    found = ModelProto()
    found.CopyFrom(model)
    found.graph.node.remove(last)
    kind = found.graph.output[0].type.tensor_type.elem_type
    found.graph.output[0].CopyFrom(helper.make_tensor_value_info(last.input[0], kind, None))
    return found
