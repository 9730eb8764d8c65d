"""Nodes on constants alone, worked out by onnx's own reference in the file's own precision: onnxruntime folds them as well."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.from_onnx.node import Constant, describe
from tightverify.models.sizes import TooLarge, fits, in_short

SMALL = 64
"""A constant of so few numbers may be a shape, or a length, that says how large what is made of it gets."""

SINCE = {"QuantizeLinear": 19, "DequantizeLinear": 19}
"""Operators that the reference knows from an opset on; what they meant before they mean there, too."""


def fold(node: NodeProto, opset: int, values: list[Constant | None]) -> list[Constant]:
    """A node on constants alone, by onnx's reference, unless its shape says that it is too large to be made.

    A tensor that the file writes down, as most nodes of an unrolled network are, is read without a model made for it.
    """
    if node.op_type == "Constant" and [attribute.name for attribute in node.attribute] == ["value"]:
        return [read_constant(node.attribute[0].t, describe(node))]
    feeds = {name: np.asarray(value) for name, value in zip(node.input, values, strict=True) if value is not None}
    try:
        model = alone(node, max(opset, SINCE.get(node.op_type, opset)), feeds)
        for shape in inferred(model, feeds):
            fits(*shape)
        made = ReferenceEvaluator(model).run(None, feeds)
    except TooLarge as error:
        raise UnsupportedError(f"{describe(node)} is too large: {error}") from error
    except Exception as error:
        first = (
            error.__cause__ if isinstance(error.__cause__, Exception) else error
        )  # the reference has words of its own for what numpy says
        raise UnsupportedError(
            f"{describe(node)} cannot be worked out on its constant inputs ({type(first).__name__}: {in_short(first)}); "
            "export the model with its constants folded"
        ) from first
    found = iter(made)
    return [np.asarray(next(found)) if name else np.empty(0) for name in node.output]


def read_constant(tensor: TensorProto, place: str) -> Constant:
    """A tensor of the file."""
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise ModelError(f"{place} cannot be read ({error}); export the model again") from error


def constants_of(graph: GraphProto) -> dict[str, Constant]:
    """The tensors that a graph holds beside its nodes."""
    return {tensor.name: read_constant(tensor, f"the constant '{tensor.name}'") for tensor in graph.initializer}


def alone(node: NodeProto, opset: int, feeds: dict[str, Constant]) -> ModelProto:
    """A model of one node, with the inputs that it is fed."""
    graph = helper.make_graph(
        [node],
        "constants",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output if name],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def inferred(model: ModelProto, feeds: dict[str, Constant]) -> list[tuple[int, ...]]:
    """The shapes of a model's outputs, as far as onnx knows them without working these out."""
    known = ModelProto()
    known.CopyFrom(model)
    small = [numpy_helper.from_array(value, name) for name, value in feeds.items() if value.size <= SMALL]
    known.graph.initializer.extend(small)
    outputs = shape_inference.infer_shapes(known, data_prop=True).graph.output
    lengths = [output.type.tensor_type.shape.dim for output in outputs]
    return [tuple(one.dim_value for one in each) for each in lengths if all(one.HasField("dim_value") for one in each)]
