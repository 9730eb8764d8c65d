"""ONNX files: imported, and compared with what onnxruntime makes of them.

Nothing in a file is executed but by onnx's reference (constants) and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightverify.embedding import Embedding
from tightverify.errors import BatchError, DifferenceError, ModelError, RunError, UnsupportedError
from tightverify.graph import Graph
from tightverify.models.blocks import Shapes
from tightverify.models.builder import Symbols
from tightverify.models.frames import Frame, along, as_frame, of_calls, picked
from tightverify.models.from_onnx.asked import Asked, Walking
from tightverify.models.from_onnx.reading import read
from tightverify.models.from_onnx.results import Output
from tightverify.models.from_onnx.runtime import Runtime, Unrolled, session
from tightverify.models.from_onnx.tokens import on_table, with_table_given
from tightverify.models.from_onnx.widened import widened
from tightverify.models.model import Model, checked
from tightverify.models.streaming import Streaming
from tightverify.models.tokens import OnVectors

NONE_FIXED: Mapping[str, Any] = MappingProxyType({})
ONE_CALL = Streaming()
ONE_BY_ONE = "the file does not run on a batch of several inputs: these are run one by one"


def from_onnx(
    path: str | Path,
    shape: tuple[int, ...] | Shapes | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    inputs: Tensor | None = None,
    fix: Mapping[str, Any] = NONE_FIXED,
    output: Output | None = None,
    frame: Frame | None = None,
    streaming: Streaming = ONE_CALL,
    progress: bool = False,
) -> Model:
    """The network in a file, ready to be bounded and compared with what onnxruntime makes of it.

    `shape` is the shape of one input without its batch axis, taken from the file if None. `batch_axis` says which axis of the
    file's input is the batch; if None, the axis that is named so or is the only dynamic one, else the first.
    `inputs` (N, *shape) are some of those that it is for (see `checked`). Of several inputs of the file, all but one are to be
    fixed by `fix`, or all but those whose shapes are given by their names, which lie side by side then; of several outputs the
    first is meant, or the one that `output` says; `frame` says of which frame. `streaming` unrolls a model with a state;
    `progress` says how far a long import is.
    """
    path = Path(path)
    told = {"shape": shape, "batch_axis": batch_axis, "fix": fix, "output": output, "frame": frame, "streaming": streaming}
    asked = Asked.of(path, shape, batch_axis, fix, output, streaming)
    walking = Walking(asked, progress)
    numbers, single = walking.numbers, walking.results[0].shape
    choose = of_calls if asked.calls else picked
    kept = choose(numbers.shape, as_frame(frame), f"{path}: its output '{asked.result}'")
    refuse_across(asked, numbers, kept, single)
    graph = finite(walking.builder.graph(numbers.ravel()[kept]), path)
    places = np.arange(walking.results[0].size) if asked.calls else kept
    call = Runtime(
        session(asked.model, path), str(path), asked.ports, asked.blocks, single, asked.one_by_one, asked.fixed, places
    )
    original = Unrolled(call, asked.states, kept) if asked.calls else call
    left_out = "" if asked.last is None else asked.last[0].op_type
    source = f"the ONNX model {path}"
    found = Model(graph, original, call.dtype, source, asked.notes, walking.narrows, left_out=left_out, blocks=asked.blocks)
    if asked.tokens:
        found = behind(found, walking, call)
        inputs = None if inputs is None or found.embedding is None else found.embedding(inputs)
    try:
        return checked(found, inputs)
    except DifferenceError as error:
        if call.dtype is torch.float32 and agrees_wide(path, **told):
            raise UnsupportedError(
                f"{path}: float32 rounding alone makes its outputs differ from those of its import, as it would not in float64 "
                "(long sums, many steps or large weights do that); convert it to float64"
            ) from error
        raise
    except BatchError as error:
        if asked.tokens or asked.calls or not isinstance(error.__cause__, RunError):
            raise
        return checked(replace(found, original=replace(call, one_by_one=True), notes=(*found.notes, ONE_BY_ONE)), inputs)


def agrees_wide(path: Path, **told: Any) -> bool:
    """Whether the same network in float64 agrees with its import, if onnxruntime knows its operators in that type."""
    with TemporaryDirectory() as folder:
        wide = Path(folder) / "model.onnx"
        try:
            wide.write_bytes(widened(read(path)).SerializeToString())
            found = from_onnx(wide, **told)
        except Exception:  # an operator that is not there in that type, or more than protobuf's 2 GiB: then nobody knows
            return False
        return found.dtype is torch.float64 and not found.narrow


def refuse_across(asked: Asked, numbers: Symbols, kept: Symbols, single: tuple[int, ...]) -> None:
    """A softmax at the end may be left out only where it is over the outputs that are asked about."""
    if asked.last is None:
        return
    op, axis = asked.last
    within = along(kept, numbers.shape, axis)
    if asked.calls:
        within = along(kept, numbers.shape, -1) and along(np.arange(numbers.shape[-1]), single, axis)
    if not within:
        raise ModelError(
            f"{asked.path}: its {op.op_type} at the end is along axis {axis}, not over the outputs that are asked about; "
            "choose one frame, or mend the model"
        )


def finite(graph: Graph, path: Path) -> Graph:
    """The graph, unless weights have overflowed."""
    if not all(bool(torch.isfinite(matrix).all()) for matrix in graph.matrices()):
        raise ModelError(f"{path}: some weights overflow when they are combined; wanted finite ones: mend the model")
    return graph


def behind(found: Model, walking: Walking, original: Runtime) -> Model:
    """The model of vectors, given the one of token numbers."""
    look_up = walking.look_up
    assert look_up.table is not None  # the output depends on the input
    embedding = Embedding(torch.from_numpy(np.array(look_up.table)))
    given = with_table_given(walking.asked.model, look_up.name, look_up.table.shape[1], look_up.table)
    rest = replace(original, session=session(given, Path(original.path)))
    both = OnVectors(embedding, original, on_table(rest))
    return replace(found, original=both, dtype=embedding.table.dtype, embedding=embedding)
