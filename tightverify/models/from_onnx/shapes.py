"""ONNX operators that only move numbers about: numpy's own indexing of the neurons' numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from onnx import TensorProto

from tightverify.models.builder import ZERO, Symbols
from tightverify.models.from_onnx.node import Activations, Call, Constant, is_float, type_name
from tightverify.models.lookups import look_up
from tightverify.models.sizes import fits
from tightverify.ops import NonZero, Truncation

LIMITS: dict[int, float] = {TensorProto.INT32: 2.0**31, TensorProto.INT64: 2.0**53}
"""Below which numbers casts to whole numbers are: above, a type has no more, or a float not all."""


def identity(call: Call) -> Symbols:
    return call.numbers(0)


def cast(call: Call) -> Symbols:
    """To float32 and float64 nothing, for the neurons are real numbers; to truths and to whole numbers what they come to."""
    kind = call.integer("to", TensorProto.FLOAT)
    if call.integer("saturate", 1) != 1 or not (is_float(kind) or kind in (*LIMITS, TensorProto.BOOL)):
        raise call.unsupported(f"a cast of activations to {type_name(kind)}", "keep them in float32 or float64")
    if kind == TensorProto.BOOL:
        return call.builder.apply(NonZero(), call.numbers(0))
    return call.numbers(0) if is_float(kind) else call.builder.apply(Truncation(LIMITS[kind]), call.numbers(0))


def dropout(call: Call) -> Symbols:
    """Nothing, at inference."""
    call.number("ratio", 0.5)
    call.integer("seed", 0)
    if call.given(1):
        call.scalar(1)
    if call.given(2) and bool(call.constant(2).any()):
        raise call.unsupported("training_mode", "export the model after `model.eval()`")
    return call.numbers(0)


def reshape(call: Call) -> Symbols:
    x, wanted = call.numbers(0), list(lengths(call))
    if not call.integer("allowzero", 0):
        wanted = [x.shape[axis] if length == 0 else length for axis, length in enumerate(wanted)]
    return x.reshape(wanted)


def lengths(call: Call) -> tuple[int, ...]:
    """Input 1, a constant list of whole numbers."""
    return tuple(int(length) for length in call.constant(1).ravel())


def flatten(call: Call) -> Symbols:
    x, axis = call.numbers(0), call.integer("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))


def transpose(call: Call) -> Symbols:
    return call.numbers(0).transpose(call.integers("perm"))


def take_slice(call: Call) -> Symbols:
    x = call.numbers(0)
    starts, ends = call.integers("starts", 1) or (), call.integers("ends", 2) or ()
    axes = call.integers("axes", 3) or tuple(range(len(starts)))
    steps = call.integers("steps", 4) or (1,) * len(starts)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Python's slices, like ONNX's, count a negative place once from the back and clamp what lies outside.
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def gather(call: Call) -> Symbols:
    axis = call.integer("axis", 0)
    given = call.value(1)
    if isinstance(given, Activations):
        return looked_up(call, axis, given.numbers)
    x, places = call.numbers(0), call.constant(1)
    fits(*(length for k, length in enumerate(x.shape) if k != axis % x.ndim), *places.shape)
    return np.take(x, places, axis=axis)


def looked_up(call: Call, axis: int, places: Symbols) -> Symbols:
    """A constant table's values at places that depend on the input."""
    table = call.weights(0)
    found = look_up(call.builder, table, places) if table.dim() == 1 and axis in (0, -1) else None
    if found is None:
        raise call.unsupported(
            f"an input '{call.name(1)}' that depends on the network's input and may lie outside of a table of one axis",
            "find the place by Floor, Clip and Cast, so that it surely lies in the table, or make it a constant",
        )
    return found


def squeeze(call: Call) -> Symbols:
    return np.squeeze(call.numbers(0), axis=call.integers("axes", 1))


def unsqueeze(call: Call) -> Symbols:
    return np.expand_dims(call.numbers(0), call.integers("axes", 1) or ())


def concat(call: Call) -> Symbols:
    axis = call.integer("axis", 0)
    return np.concatenate([call.numbers(k) for k in range(call.count)], axis=axis)


def split(call: Call) -> list[Symbols]:
    x, axis = call.numbers(0), call.integer("axis", 0)
    lengths = call.integers("split", 1)
    parts = call.integer("num_outputs", call.outputs)
    if lengths is None:
        each = -(-x.shape[axis] // parts)
        lengths = tuple(max(0, min(each, x.shape[axis] - k * each)) for k in range(parts))
    if sum(lengths) != x.shape[axis]:
        raise ValueError(f"parts of {lengths} do not make up an axis of {x.shape[axis]}")
    return np.split(x, np.cumsum(lengths)[:-1], axis=axis)


def expand(call: Call) -> Symbols:
    x = call.numbers(0)
    return np.broadcast_to(x, fits(*np.broadcast_shapes(x.shape, lengths(call))))


def tile(call: Call) -> Symbols:
    x, times = call.numbers(0), lengths(call)
    fits(*x.shape, *times)
    return np.tile(x, times)


def pad(call: Call) -> Symbols:
    """Constant, or by neurons of the tensor itself; a negative length cuts off."""
    x, mode = call.numbers(0), call.text("mode", "constant")
    widths = call.integers("pads", 1) or ()
    value = call.number("value", 0.0)
    if call.given(2):
        value = float(call.weights(2))
    axes = call.integers("axes", 3) or tuple(range(x.ndim))
    around = np.zeros((x.ndim, 2), dtype=np.int64)
    around[list(axes)] = np.array(widths).reshape(2, len(axes)).T
    fits(*np.maximum(around.sum(1) + x.shape, 0).tolist())
    if mode != "constant":
        if mode not in ("reflect", "edge", "wrap") or (around < 0).any():
            raise call.unsupported(f"the mode {mode} with lengths {widths}", "pad by a constant")
        return np.pad(x, around, mode=mode)  # type: ignore[call-overload, no-any-return]
    kept = tuple(slice(max(0, -int(a)), n - max(0, -int(b))) for (a, b), n in zip(around, x.shape, strict=True))
    filling = ZERO
    if value != 0:
        filling = int(call.builder.constant(torch.tensor([value], dtype=torch.float64))[0])
    return np.pad(x[kept], np.maximum(around, 0), constant_values=filling)


def reverse_sequence(call: Call) -> Symbols:
    """Of each input of the batch the first so many steps turned round, the others as they are."""
    batch, time = call.integer("batch_axis", 1), call.integer("time_axis", 0)
    x = np.moveaxis(call.numbers(0), (batch, time), (0, 1)).copy()
    for one, length in zip(x, np.ravel(call.constant(1)).tolist(), strict=True):
        one[:length] = one[:length][::-1].copy()
    return np.moveaxis(x, (0, 1), (batch, time))


def shape(call: Call) -> Constant:
    """The shape of activations is a constant."""
    value = call.value(0)
    found = value.numbers.shape if isinstance(value, Activations) else value.shape
    start, end = call.integer("start", 0), call.integer("end", len(found))
    return np.array(found[start:end], dtype=np.int64)


def size(call: Call) -> Constant:
    value = call.value(0)
    return np.array(value.numbers.size if isinstance(value, Activations) else value.size, dtype=np.int64)


FACTS: dict[str, Callable[[Call], Constant]] = {"Shape": shape, "Size": size}
"""Operators whose result is constant even where their input is not."""

SHAPES: dict[str, Callable[[Call], Symbols | list[Symbols]]] = {
    "Cast": cast,
    "Concat": concat,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "ReverseSequence": reverse_sequence,
    "Slice": take_slice,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
