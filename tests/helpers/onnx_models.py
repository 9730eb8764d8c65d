"""ONNX models made for the tests, and the comparison of their import with onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.model import Model

DOUBLE, SINGLE = np.float64, np.float32
KINDS: dict[Any, int] = {DOUBLE: TensorProto.DOUBLE, SINGLE: TensorProto.FLOAT}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Arrays = dict[str, NDArray[Any]]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> NodeProto:
    """Names are given as words; '-' is an input or output that is left away."""
    names = [[("" if name == "-" else name) for name in words.split()] for words in (inputs, outputs)]
    return helper.make_node(kind, names[0], names[1], name=f"my_{kind.lower()}", **attributes)


def build(
    nodes: list[NodeProto],
    axes: list[Any],
    constants: Arrays | None = None,
    dtype: Any = DOUBLE,
    opset: int = 17,
    output: str = "y",
) -> ModelProto:
    """A model of one input x; constants that are floats get the model's type."""
    weights = {
        name: np.asarray(value, dtype=dtype if np.asarray(value).dtype == DOUBLE else None)
        for name, value in (constants or {}).items()
    }
    graph = helper.make_graph(
        [apart(operator, nodes[:k]) for k, operator in enumerate(nodes)],
        "test",
        [helper.make_tensor_value_info("x", KINDS[dtype], axes)],
        [helper.make_tensor_value_info(name, KINDS[dtype], None) for name in output.split()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def apart(operator: NodeProto, earlier: list[NodeProto]) -> NodeProto:
    """The node under a name of its own."""
    copy = NodeProto()
    copy.CopyFrom(operator)
    if operator.name in [other.name for other in earlier]:
        copy.name += f"_{len(earlier)}"
    return copy


def save(folder: Path, model: ModelProto) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def agree(path: Path, batch: int = 0, **options: Any) -> Model:
    """The import, found equal to onnxruntime on three inputs one by one; `batch` is the axis where the file has its batch."""
    model = from_onnx(path, **options)
    shape = model.graph.input_shape
    x = normal(3, *shape, seed=5)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    kind = DOUBLE if entry.type == "tensor(double)" else SINGLE
    x = x.astype(kind)
    singles = [session.run(None, {entry.name: np.moveaxis(x[k : k + 1], 0, batch)})[0].reshape(1, -1) for k in range(3)]
    theirs = torch.from_numpy(np.concatenate(singles)).to(torch.float64)
    ours = model.graph.forward(torch.from_numpy(x).to(torch.float64).flatten(1))
    torch.testing.assert_close(ours, theirs, rtol=model.agreement, atol=model.agreement)
    assert float((theirs[0] - theirs[1]).abs().max()) > 1e-3, "a model that ignores its input would show nothing"
    torch.testing.assert_close(model.original(torch.from_numpy(x)).to(torch.float64), theirs, rtol=1e-5, atol=1e-5)
    return model


HEAD = node("Gemm", "features W_head b_head", "y", transB=1)


def head(features: int, classes: int = 3) -> Arrays:
    return {"W_head": normal(classes, features, seed=11), "b_head": normal(classes, seed=12)}


def layer(
    kind: str, direction: str = "forward", features: int = 3, size: int = 4, bias: bool = True, scale: float = 0.8
) -> tuple[str, Arrays, dict[str, Any]]:
    """The inputs, weights and attributes of a recurrent operator."""
    directions, rows = 1 + (direction == "bidirectional"), GATES[kind] * size
    weights = {
        "W": normal(directions, rows, features, seed=1) * scale,
        "R": normal(directions, rows, size, seed=2) * scale,
        "B": normal(directions, 2 * rows, seed=3),
    }
    if not bias:
        del weights["B"]
    return ("x W R B" if bias else "x W R -"), weights, {"hidden_size": size, "direction": direction}


def from_state(operator: NodeProto) -> list[NodeProto]:
    """The operator, and a linear layer on its last state (directions, batch, 4)."""
    return [
        operator,
        node("Transpose", "h", "by_input", perm=[1, 0, 2]),
        node("Flatten", "by_input", "features"),
        HEAD,
    ]


def dense(axes: list[Any], **options: Any) -> ModelProto:
    nodes = [node("ReduceMean", "x", "features", axes=[1], keepdims=0), HEAD]
    return build(nodes, axes, head(6), **options)
