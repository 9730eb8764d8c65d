"""Each ONNX operator is imported for what onnxruntime computes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto

from tests.helpers.onnx_models import DOUBLE, SINGLE, Arrays, agree, build, node, normal, save
from tightverify.errors import ModelError
from tightverify.graph import Affine
from tightverify.models.from_onnx.file import from_onnx

# Operators one by one: each on x of (N, 4, 6), in float64; what is left is flattened and gives the outputs

LEFT = {"W": normal(5, 4), "w": normal(4), "one": np.array([[[2.0]]])}
CASES: dict[str, tuple[list[NodeProto], dict[str, Any]]] = {
    "reshape": ([node("Reshape", "x s", "y")], {"s": np.array([0, -1, 3])}),
    "transpose": ([node("Transpose", "x", "y", perm=[0, 2, 1])], {}),
    "slices": ([node("Slice", "x a b c d", "y")], {"a": [-1, 1], "b": [-99, 99], "c": [2, 1], "d": [-2, 1]}),
    "gather": ([node("Gather", "x k", "y", axis=2)], {"k": np.array([[0, -1], [2, 2]])}),
    "squeeze": ([node("Slice", "x a b c", "s"), node("Squeeze", "s c", "y")], {"a": [1], "b": [2], "c": [1]}),
    "unsqueeze": ([node("Unsqueeze", "x a", "y")], {"a": np.array([1, 3])}),
    "concat with a constant": ([node("Concat", "x k x", "y", axis=0)], {"k": normal(1, 4, 6)}),
    "split": ([node("Split", "x n", "a b", axis=2), node("Concat", "b a", "y", axis=2)], {"n": np.array([2, 4])}),
    "expand": ([node("Expand", "x s", "y")], {"s": np.array([2, 1, 1, 1])}),
    "tile": ([node("Tile", "x s", "y")], {"s": np.array([1, 2, 1])}),
    "pad": ([node("Pad", "x p v", "y")], {"p": np.array([0, 1, 2, 0, 0, 1]), "v": np.array(0.5)}),
    "cut": ([node("Pad", "x p", "y")], {"p": np.array([0, -1, 0, 0, 0, -2])}),
    "reflect": ([node("Pad", "x p", "y", mode="reflect")], {"p": np.array([0, 0, 2, 0, 0, 1])}),
    "where": ([node("Where", "k x f", "y")], {"k": normal(4, 6) > 0, "f": np.array(2.0)}),
    "identities": ([node("Identity", "x", "a"), node("Dropout", "a", "b"), node("Cast", "b", "y", to=11)], {}),
    "shape of activations": (
        [node("Shape", "x", "s"), node("Slice", "s a b", "n"), node("Concat", "n r", "t", axis=0), node("Reshape", "x t", "y")],
        {"a": [0], "b": [1], "r": np.array([24])},
    ),
    "matrix on the right": ([node("MatMul", "x W", "y")], {"W": normal(6, 5)}),
    "matrix on the left": ([node("MatMul", "W x", "y")], LEFT),
    "one matrix of a stack": ([node("MatMul", "x W", "y")], {"W": normal(1, 1, 6, 5)}),
    "vector on the right": ([node("MatMul", "x w", "y")], {"w": normal(6)}),
    "vector on the left": ([node("MatMul", "w x", "y")], LEFT),
    "gemm": (
        [node("Flatten", "x", "f"), node("Gemm", "f W b", "y", alpha=0.5, beta=2.0)],
        {"W": normal(24, 5), "b": normal(1, 5)},
    ),
    "gemm, left, transposed": (
        [
            node("Flatten", "x", "f"),
            node("Gemm", "V f", "b", transB=1),
            node("Gemm", "W f b", "y", transA=1, transB=1, beta=0.25),
        ],
        {"W": normal(24, 5), "V": normal(5, 24, seed=4)},
    ),
    "running sums": (
        [
            node("CumSum", "x k", "a"),
            node("CumSum", "x l", "b", exclusive=1),
            node("CumSum", "x l", "c", reverse=1),
            node("CumSum", "x k", "d", exclusive=1, reverse=1),
            node("Concat", "a b c d", "y", axis=2),
        ],
        {"k": np.array(1), "l": np.array(-1)},
    ),
    "sums": (
        [node("Add", "x k", "a"), node("Sub", "k a", "b"), node("Neg", "b", "c"), node("Sum", "c x k k", "y")],
        {"k": normal(4, 1)},
    ),
    "products": ([node("Mul", "x k", "a"), node("Mul", "a x", "b"), node("Div", "b k", "y")], {"k": normal(6) + 3}),
    "powers": ([node("Pow", "x two", "a"), node("Pow", "a one", "y")], {"two": np.array(2.0), "one": np.array(1.0)}),
    "powers of all kinds": (
        [
            node("Pow", "x cubes", "a"),
            node("Exp", "x", "p"),
            node("Pow", "p halves", "b"),
            node("Pow", "bases x", "c"),
            node("Sum", "a b c", "y"),
        ],
        {
            "cubes": np.array([3.0, 0.0, 5.0, 4.0, 2.0, 1.0]),
            "halves": np.array([1.5, -0.5, -2.0, 0.3, -1.7, 2.5]),
            "bases": np.array([2.0, 1.0, 0.5, 0.1, 3.0, 1.0]),
        },
    ),
    "whole numbers": (
        [node("Mul", "x four", "a"), node("Floor", "a", "b"), node("Ceil", "a", "c"), node("Mul", "b c", "y")],
        {"four": np.array(4.0)},
    ),
    "norms": (
        [
            node("ReduceL1", "x", "a", axes=[1]),
            node("ReduceL2", "x", "b", axes=[2]),
            node("ReduceSumSquare", "x", "c"),
            node("ReduceLogSumExp", "x", "d", axes=[1, 2]),
            node("Exp", "x", "p"),
            node("ReduceLogSum", "p", "e", axes=[1]),
            node("Sum", "a b c d e", "y"),
        ],
        {},
    ),
    "roots": (
        [
            node("Mul", "x x", "a"),
            node("Add", "a k", "b"),
            node("Sqrt", "b", "c"),
            node("Pow", "b half", "d"),
            node("Div", "c b", "e"),
            node("Add", "d e", "y"),
        ],
        {"k": np.array(0.5), "half": np.array(0.5)},
    ),
    "inverses": (
        [node("Sigmoid", "x", "a"), node("Reciprocal", "a", "b"), node("Pow", "a k", "c"), node("Add", "b c", "y")],
        {"k": np.array(-1.0)},
    ),
    "log": ([node("Mul", "x x", "a"), node("Add", "a k", "b"), node("Log", "b", "y")], {"k": np.array(0.5)}),
    "sigmoid of tanh": ([node("Tanh", "x", "a"), node("Sigmoid", "a", "y")], {}),
    "relu": ([node("Relu", "x", "y")], {}),
    "clip": ([node("Clip", "x a b", "c"), node("Clip", "c - b", "y")], {"a": np.array(-0.5), "b": np.array(0.75)}),
    "max and min": (
        [node("Max", "x k r x", "a"), node("Min", "two a h", "y")],
        {"k": np.array(0.1), "two": np.array(2.0), "r": normal(6), "h": normal(4, 1) + 1},
    ),
    "max of two": ([node("Tanh", "x", "a"), node("Max", "a x", "b"), node("Min", "b x a", "y")], {}),
    "means": ([node("ReduceMean", "x", "a", axes=[-1]), node("Sub", "x a", "y")], {}),
    "sums over axes": ([node("ReduceSum", "x k", "y", keepdims=0)], {"k": np.array([2])}),
    "sums over nothing": ([node("ReduceSum", "x k", "y", noop_with_empty_axes=1)], {"k": np.array([], dtype=np.int64)}),
    "maxima": ([node("ReduceMax", "x", "a", axes=[2, 1]), node("ReduceMin", "x", "b", axes=[1]), node("Add", "a b", "y")], {}),
    "constants of constants": (
        [
            node("Constant", "", "two", value_float=2.0),
            node("Cast", "two", "wide", to=11),
            node("Sqrt", "wide", "root"),
            node("Mul", "x root", "y"),
        ],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_in_float64(name: str, tmp_path: Path) -> None:
    nodes, constants = CASES[name]
    arrays = {key: np.asarray(value) for key, value in constants.items()}
    flat = node("Reshape", "y row", "out")
    path = save(tmp_path, build([*nodes, flat], [1, 4, 6], arrays | {"row": np.array([1, -1])}, DOUBLE, output="out"))
    assert agree(path).dtype == torch.float64


SINGLE_CASES: dict[str, tuple[NodeProto, Arrays]] = {
    "leaky relu": (node("LeakyRelu", "x", "y", alpha=0.3), {}),
    "leaky relu, default": (node("LeakyRelu", "x", "y"), {}),
    "hard sigmoid": (node("HardSigmoid", "x", "y", alpha=0.4, beta=0.3), {}),
    "hard sigmoid, default": (node("HardSigmoid", "x", "y"), {}),
    "convolution": (
        node("Conv", "x W b", "y", pads=[1, 2], strides=[2], dilations=[2]),
        {"W": normal(5, 4, 3), "b": normal(5)},
    ),
    "grouped convolution": (node("Conv", "x W", "y", group=2, kernel_shape=[2]), {"W": normal(6, 2, 2)}),
    "convolution, same upper": (node("Conv", "x W", "y", auto_pad="SAME_UPPER", strides=[2]), {"W": normal(2, 4, 4)}),
    "convolution, same lower": (node("Conv", "x W", "y", auto_pad="SAME_LOWER"), {"W": normal(2, 4, 4)}),
    "convolution, valid": (node("Conv", "x W", "y", auto_pad="VALID"), {"W": normal(2, 4, 3)}),
    "convolution transposed": (
        node("ConvTranspose", "x W b", "y", pads=[1, 2], strides=[2], dilations=[2], output_padding=[1]),
        {"W": normal(4, 5, 3), "b": normal(5)},
    ),
    "transposed, groups": (node("ConvTranspose", "x W", "y", group=2, kernel_shape=[2]), {"W": normal(4, 3, 2)}),
    "transposed, shape": (node("ConvTranspose", "x W", "y", output_shape=[19], strides=[3]), {"W": normal(4, 3, 3)}),
    "transposed, same": (node("ConvTranspose", "x W", "y", auto_pad="SAME_UPPER", strides=[2]), {"W": normal(4, 3, 3)}),
    "max pool, rounded up": (node("MaxPool", "x", "y", kernel_shape=[4], strides=[4], ceil_mode=1), {}),
    "max pool": (node("MaxPool", "x", "y", kernel_shape=[3], strides=[2], pads=[1, 1]), {}),
    "max pool, dilated": (node("MaxPool", "x", "y", kernel_shape=[2], dilations=[3]), {}),
    "average pool": (node("AveragePool", "x", "y", kernel_shape=[3], strides=[2], pads=[1, 1]), {}),
    "average pool, padding counted": (node("AveragePool", "x", "y", kernel_shape=[3], pads=[1, 1], count_include_pad=1), {}),
    "global average": (node("GlobalAveragePool", "x", "y"), {}),
    "global max": (node("GlobalMaxPool", "x", "y"), {}),
    "batch norm": (
        node("BatchNormalization", "x g b m v", "y", epsilon=0.01),
        {"g": normal(4), "b": normal(4, seed=1), "m": normal(4, seed=2), "v": normal(4, seed=3) ** 2 + 0.1},
    ),
    "reduced over all": (node("ReduceMean", "x", "y"), {}),
}


@pytest.mark.parametrize("name", SINGLE_CASES)
def test_operators_in_float32(name: str, tmp_path: Path) -> None:
    operator, constants = SINGLE_CASES[name]
    path = save(tmp_path, build([operator, node("Flatten", "y", "out")], ["N", 4, 6], constants, SINGLE, output="out"))
    if name == "reduced over all":
        with pytest.raises(ModelError, match=r"outputs|batch"):
            from_onnx(path)
    else:
        agree(path)


def test_older_opsets_say_the_same_by_attributes(tmp_path: Path) -> None:
    nodes = [
        node("Unsqueeze", "x", "a", axes=[1]),
        node("Squeeze", "a", "b", axes=[1]),
        node("Slice", "b", "c", axes=[2], starts=[1], ends=[-1]),
        node("Pad", "c", "d", pads=[0, 0, 1, 0, 0, 0], value=0.5),
        node("Split", "d", "e f", axis=1, split=[1, 3]),
        node("ReduceSum", "f", "g", axes=[1]),
        node("Clip", "g", "h", min=-0.5),
        node("Dropout", "h", "i", ratio=0.5),
        node("Flatten", "i", "y"),
    ]
    agree(save(tmp_path, build(nodes, ["N", 4, 6], {}, SINGLE, opset=9)))


def test_a_two_dimensional_convolution(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x W", "a", strides=[1, 2], pads=[1, 0, 0, 1]),
        node("MaxPool", "a", "b", kernel_shape=[2, 2]),
        node("Flatten", "b", "y"),
    ]
    agree(save(tmp_path, build(nodes, ["N", 2, 5, 6], {"W": normal(3, 2, 2, 3)}, SINGLE)))


@pytest.mark.parametrize("kind", ["BatchNormalization", "Sum"])
def test_a_shift_that_was_worked_out_keeps_the_size_of_what_it_came_from(kind: str, tmp_path: Path) -> None:
    """Numbers that cancel leave a rounding error of their own size, not of the size of what is left."""
    constants = {"g": np.ones(4), "b": np.full(4, 8.0), "m": np.full(4, 8.0), "v": np.ones(4)}
    constants |= {"plus": np.array(8.0), "minus": np.array(-8.0)}
    inputs = {"BatchNormalization": "x g b m v", "Sum": "x plus minus"}
    nodes = [node(kind, inputs[kind], "a"), node("Flatten", "a", "y")]
    graph = from_onnx(save(tmp_path, build(nodes, ["N", 4, 2], constants, SINGLE))).graph
    assert max(float(n.bias_size.max()) for n in graph.nodes if isinstance(n, Affine)) >= 15.9


def test_newer_opsets_say_axes_by_inputs(tmp_path: Path) -> None:
    nodes = [
        node("Split", "x", "a b c d", axis=2, num_outputs=4),
        node("Concat", "d a b c", "e", axis=2),
        node("ReduceMean", "e two", "f"),
        node("ReduceMax", "e one", "g", keepdims=0),
        node("Pad", "g p - two", "h"),
        node("Squeeze", "f two", "i"),
        node("Concat", "i h", "y", axis=1),
    ]
    constants = {"one": np.array([1]), "two": np.array([-1]), "p": np.array([1, 0])}
    agree(save(tmp_path, build(nodes, ["N", 4, 7], constants, SINGLE, opset=18)))
