"""ONNX files: imported, and compared with what onnxruntime makes of them.

Nothing in a file is executed but by onnx's reference (constants) and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from tightverify.embedding import Embedding
from tightverify.errors import ModelError, UnsupportedError
from tightverify.graph import Graph
from tightverify.models.builder import Builder, Symbols
from tightverify.models.fixed import shown_fixed
from tightverify.models.frames import Frame, along, as_frame, picked
from tightverify.models.from_onnx.entries import (
    Axes,
    check_names,
    chosen_batch_axis,
    entries_of,
    fixed_inputs,
    input_axes,
    input_shape,
    is_whole,
    single_input,
)
from tightverify.models.from_onnx.last import last_softmax, without
from tightverify.models.from_onnx.node import Activations, Tokens, Value
from tightverify.models.from_onnx.reading import read, standard_opset
from tightverify.models.from_onnx.results import Output, chosen_output, only
from tightverify.models.from_onnx.runtime import Runtime, session
from tightverify.models.from_onnx.tokens import LookUp, on_table, takes_tokens, with_table_given
from tightverify.models.from_onnx.walk import walk
from tightverify.models.model import Model, checked
from tightverify.models.tokens import OnVectors

NONE_FIXED: Mapping[str, Any] = MappingProxyType({})


def from_onnx(
    path: str | Path,
    shape: tuple[int, ...] | None = None,
    batch_axis: int | None = None,
    inputs: Tensor | None = None,
    fix: Mapping[str, Any] = NONE_FIXED,
    output: Output | None = None,
    frame: Frame | None = None,
) -> Model:
    """The network in a file, ready to be bounded and compared with what onnxruntime makes of it.

    `shape` is the shape of one input without its batch axis, taken from the file if None. `batch_axis` says which axis of the
    file's input is the batch; if None, the axis that is named so or is the only dynamic one, else the first.
    `inputs` (N, *shape) are some of those that it is for (see `checked`). Of several inputs of the file, all but one are to be
    fixed by `fix`; of several outputs the first is meant, or the one that `output` says; `frame` says of which frame.
    """
    path = Path(path)
    model = read(path)
    opset, count = standard_opset(model, path), len(model.graph.output)
    model, entry, result = asked_about(model, fix, output, path)
    fix = {each.name: fix[each.name] for each in entries_of(model.graph) if each.name in fix}
    notes = (f"of its {count} outputs, '{result}' was taken",) if count > 1 else ()
    last = last_softmax(model, opset)
    if last is not None:
        model, result = without(model, last[0]), str(last[0].input[0])
    axes = input_axes(entry, path)
    axis = chosen_batch_axis(axes, len(axes) if axes is not None else 1 + len(shape or ()), batch_axis, path)
    shape = input_shape(axes, shape, axis, path)
    fixed = fixed_inputs(model.graph, fix, axes, axis, shape, path)

    builder, tokens = Builder(), is_whole(entry) or takes_tokens(model.graph, entry.name)
    look_up = LookUp(builder, shape[0], helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
    start = np.expand_dims(places(shape, path) if tokens else builder.input(shape), axis)
    begun = {entry.name: Tokens(start) if tokens else Activations(start), **{name: one.value for name, one in fixed.items()}}
    known = walk(model.graph, opset, builder, begun, look_up)
    numbers = output_of(known, result, path)
    kept = picked(numbers.shape, as_frame(frame), f"{path}: its output '{result}'")
    if last is not None and not along(kept, numbers.shape, last[1]):
        raise ModelError(
            f"{path}: its {last[0].op_type} at the end is along axis {last[1]}, not over the outputs that are asked about; "
            "choose one frame, or mend the model"
        )
    graph = finite(builder.graph(numbers.ravel()[kept]), path)
    one_by_one = (axes is not None and axes[axis] == 1) or any(one.value.ndim and not one.batch for one in fixed.values())
    original = Runtime(session(model, path), str(path), entry.name, axis, numbers.shape, one_by_one, fixed, kept)
    notes = (f"axis {axis} of the file's input '{entry.name}' was taken to be the batch", *notes, *said(fix, last))
    left_out = "" if last is None else last[0].op_type
    narrow = narrows(model.graph, known)
    found = Model(graph, original, original.dtype, f"the ONNX model {path}", notes, narrow, left_out=left_out)
    if tokens:
        found = behind(found, model, look_up, original)
        inputs = None if inputs is None or found.embedding is None else found.embedding(inputs)
    return checked(found, inputs)


def asked_about(
    model: ModelProto, fix: Mapping[str, Any], output: Output | None, path: Path
) -> tuple[ModelProto, ValueInfoProto, str]:
    """The model of one output, the input that is perturbed, and the output's name."""
    result = chosen_output(model.graph, output, path)
    check_names(model.graph, fix, path)
    if len(model.graph.output) > 1 or len(entries_of(model.graph)) > 1:
        model = only(model, result)
    return model, single_input(model.graph, fix, path), result


def axes_asked_about(path: Path, fix: Mapping[str, Any], output: Output | None) -> Axes | None:
    """The axes of the input that is perturbed, as far as the file says."""
    return input_axes(asked_about(read(path), fix, output, path)[1], path)


def output_of(known: Mapping[str, Value | Tokens], result: str, path: Path) -> Symbols:
    """The neurons of an output."""
    output = known.get(result)
    if isinstance(output, Tokens):
        raise UnsupportedError(
            f"{path}: its output '{result}' is made of token numbers, which may only be looked up in a constant table (Gather)"
        )
    if not isinstance(output, Activations):
        raise ModelError(f"{path}: its output '{result}' does not depend on its input; choose an output that does")
    return output.numbers


def finite(graph: Graph, path: Path) -> Graph:
    """The graph, unless weights have overflowed."""
    if not all(bool(torch.isfinite(matrix).all()) for matrix in graph.matrices()):
        raise ModelError(f"{path}: some weights overflow when they are combined; wanted finite ones: mend the model")
    return graph


def said(fix: Mapping[str, Any], last: tuple[NodeProto, int] | None) -> tuple[str, ...]:
    """Notes of what was fixed, and of what was left out."""
    notes = (shown_fixed(fix),) if fix else ()
    if last is None:
        return notes
    return (*notes, f"the {last[0].op_type} at its end was left out: it does not change which output is the largest")


def places(shape: tuple[int, ...], path: Path) -> NDArray[np.int64]:
    """Those of a sentence's words."""
    if len(shape) != 1:
        raise UnsupportedError(f"{path} takes token numbers of shape {shape} for one input; wanted one axis, that of words")
    return np.arange(shape[0])


def behind(found: Model, model: ModelProto, look_up: LookUp, original: Runtime) -> Model:
    """The model of vectors, given the one of token numbers."""
    assert look_up.table is not None  # the output depends on the input
    embedding = Embedding(torch.from_numpy(np.array(look_up.table)))
    given = with_table_given(model, look_up.name, look_up.table.shape[1], look_up.table)
    rest = replace(original, session=session(given, Path(original.path)))
    both = OnVectors(embedding, original, on_table(rest))
    return replace(found, original=both, dtype=embedding.table.dtype, embedding=embedding)


def narrows(graph: GraphProto, known: Mapping[str, Value | Tokens]) -> bool:
    """Whether activations are cast to float32 on their way, so that a float64 file is only as precise as that."""
    casts = [node for node in graph.node if node.op_type == "Cast" and isinstance(known[node.input[0]], Activations)]
    return any(a.i == TensorProto.FLOAT for node in casts for a in node.attribute if a.name == "to")
