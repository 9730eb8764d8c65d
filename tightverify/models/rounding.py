"""An ONNX model with rounded weights: what a compression leaves of it, so that both can be compared (`tightverify differ`).

* `float16`, `bfloat16`: every floating constant, rounded to that type;
* `int8`, `int4`: every matrix, and every filter, as whole numbers times a step, symmetric about 0: the largest weight of the
  tensor, or of each of its rows of outputs (`per_channel`), is 127 or 7 steps;
* `pruned:0.2`: of every matrix and filter that share of the weights set to 0, those nearest to it.

The file keeps its own types: it holds the numbers that the compressed one computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from tightverify.errors import UsageError

Weights = NDArray[np.floating]
Round = Callable[[Weights, tuple[int, ...]], Weights]
"""Rounds a tensor, whose outputs lie along some axes: of each place there a scale of its own, of none one for all."""
PRUNED = "pruned:"
KINDS = "float16", "bfloat16", "int8", "int4", f"{PRUNED}SHARE"


def rounded(path: str | Path, how: str, per_channel: bool = False) -> ModelProto:
    """The model of a file with its weights rounded; the file stays as it is."""
    change, everything = rounding_of(how)
    model = onnx.load(str(path))
    outputs = {name: axes for node in model.graph.node for name, axes in weights_of(node)}
    count = 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        matrix = tensor.name in outputs and values.ndim > 1
        if values.dtype not in (np.float32, np.float64) or not (everything or matrix):
            continue
        axes = outputs.get(tensor.name, ()) if per_channel else ()
        tensor.CopyFrom(numpy_helper.from_array(change(values, axes).astype(values.dtype), tensor.name))
        count += 1
    if not count:
        raise UsageError(f"{path} has no weights to round among its initializers; round the model where it is made")
    return model


def weights_of(node: NodeProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The weights that a node reads by name, and the axes along which its outputs lie."""
    inputs = list(node.input)
    match node.op_type:
        case "MatMul" if len(inputs) == 2:
            yield from ((inputs[1], (-1,)), (inputs[0], (-2,)))
        case "Gemm":
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            yield inputs[1], (0,) if turned else (1,)
        case "Conv":
            yield inputs[1], (0,)
        case "ConvTranspose":
            yield inputs[1], (1,)
        case "LSTM" | "GRU" | "RNN":
            yield from ((name, (0, 1)) for name in inputs[1:3])


def rounding_of(how: str) -> tuple[Round, bool]:
    """The rounding of a name, and whether it is of all constants, not only of matrices and filters."""
    match how:
        case "float16" | "bfloat16":
            return to_type(torch.float16 if how == "float16" else torch.bfloat16), True
        case "int8" | "int4":
            return to_steps(127 if how == "int8" else 7), False
    share = how.removeprefix(PRUNED)
    try:
        if how.startswith(PRUNED) and 0 < float(share) < 1:
            return to_zeros(float(share)), False
    except ValueError:
        pass
    raise UsageError(
        f"{how!r} is no rounding of weights; choose one of {', '.join(KINDS)}, the share between 0 and 1, or table:N for tables"
    )


def to_type(dtype: torch.dtype) -> Round:
    def change(values: Weights, _axes: tuple[int, ...]) -> Weights:
        return torch.from_numpy(values.copy()).to(dtype).to(torch.float64).numpy()

    return change


def to_steps(most: int) -> Round:
    def change(values: Weights, axes: tuple[int, ...]) -> Weights:
        step = largest_along(values, axes) / most
        return np.where(step > 0, np.round(values / np.where(step > 0, step, 1)) * step, 0.0)

    return change


def to_zeros(share: float) -> Round:
    def change(values: Weights, _axes: tuple[int, ...]) -> Weights:
        sizes = np.abs(values)
        return np.where(sizes < np.quantile(sizes, share), 0.0, values)

    return change


def largest_along(values: Weights, axes: tuple[int, ...]) -> Weights:
    """The largest size of each place along some axes, to be broadcast; of none, of all."""
    own = {axis % values.ndim for axis in axes}
    return np.asarray(np.abs(values).max(axis=tuple(k for k in range(values.ndim) if k not in own), keepdims=True))
