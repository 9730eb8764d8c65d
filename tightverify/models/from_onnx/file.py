"""ONNX files: read, imported, and run by onnxruntime for comparison.

Nothing in a file is executed but by onnx's reference (constants) and onnxruntime; a pickle is recognised and left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import load_external_data_for_model
from onnx.inliner import inline_local_functions
from torch import Tensor

from tightverify.embedding import Embedding
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder
from tightverify.models.from_onnx.last import last_softmax, without
from tightverify.models.from_onnx.node import Activations, Tokens, Value, type_name
from tightverify.models.from_onnx.tokens import WHOLE, LookUp, on_table, with_table_given
from tightverify.models.from_onnx.walk import walk
from tightverify.models.model import Model, checked
from tightverify.models.tokens import OnVectors

OLDEST = 7
"""The first opset whose operators broadcast as all later ones do."""

FOREIGN = (
    (b"PK\x03\x04", "a pickled PyTorch model; export it with torch.onnx.export"),
    (b"\x80", "a pickled PyTorch model; export it with torch.onnx.export"),
    (b"\x89HDF", "a Keras model; convert it with tf2onnx"),
)
"""What files that are not ONNX begin with, and what to do about them."""

TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, *WHOLE)
DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
}
"""By the names that onnxruntime has for them."""
NOTHING: Mapping[str, NDArray[Any]] = MappingProxyType({})
TIME_NAMES = ("time", "seq", "length", "frame", "step")
BATCH_NAMES = ("batch", "unk_")
WAVEFORM, FRAMES = 8000, (20, 28)
"""Lengths that a message takes as examples: samples of a waveform; frames, and features of each."""
"""How files name a dynamic axis; tf2onnx's batch is unk__123."""


def from_onnx(
    path: str | Path,
    shape: tuple[int, ...] | None = None,
    batch_axis: int | None = None,
    inputs: Tensor | None = None,
) -> Model:
    """The network in a file, ready to be bounded and compared with what onnxruntime makes of it.

    `shape` is the shape of one input without its batch axis, taken from the file if None. `batch_axis` says which axis of the
    file's input is the batch; if None, the axis that is named so or is the only dynamic one, else the first.
    `inputs` (N, *shape) are some of those that it is for (see `checked`).
    """
    path = Path(path)
    model = read(path)
    opset = standard_opset(model, path)
    entry, result = single_input(model.graph, path), single_output(model.graph, path)
    last = last_softmax(model, opset)
    if last is not None:
        model, result = without(model, last[0]), str(last[0].input[0])
    axes = input_axes(entry, path)
    axis = chosen_batch_axis(axes, len(axes) if axes is not None else 1 + len(shape or ()), batch_axis, path)
    shape = input_shape(axes, shape, axis, path)

    builder, tokens = Builder(), entry.type.tensor_type.elem_type in WHOLE
    look_up = LookUp(builder, shape[0])
    start = np.expand_dims(places(shape, path) if tokens else builder.input(shape), axis)
    known = walk(model.graph, opset, builder, {entry.name: Tokens(start) if tokens else Activations(start)}, look_up)
    output = known.get(result)
    if not isinstance(output, Activations):
        raise ModelError(f"{path}: its output '{result}' does not depend on its input; choose an output that does")
    if not output.numbers.size or max(output.numbers.shape, default=1) != output.numbers.size:
        raise ModelError(
            f"{path}: its output '{result}' has shape {output.numbers.shape} for one input; wanted one row of numbers: end the "
            "model with one row of outputs per input"
        )
    if last is not None and output.numbers.shape[last[1]] != output.numbers.size:
        raise ModelError(
            f"{path}: its {last[0].op_type} at the end is along axis {last[1]}, not over its outputs; mend the model"
        )
    graph = builder.graph(output.numbers)
    if not all(bool(torch.isfinite(matrix).all()) for matrix in graph.matrices()):
        raise ModelError(f"{path}: some weights overflow when they are combined; wanted finite ones: mend the model")
    fixed = axes is not None and axes[axis] == 1
    original = Runtime(session(model, path), str(path), entry.name, axis, output.numbers.shape, fixed)
    notes: tuple[str, ...] = (f"axis {axis} of the file's input '{entry.name}' was taken to be the batch",)
    left_out = "" if last is None else last[0].op_type
    if left_out:
        notes += (f"the {left_out} at its end was left out: it does not change which output is the largest",)
    narrow = narrows(model.graph, known)
    found = Model(graph, original, original.dtype, f"the ONNX model {path}", notes, narrow, left_out=left_out)
    if tokens:
        found = behind(found, model, look_up, original)
        inputs = None if inputs is None or found.embedding is None else found.embedding(inputs)
    return checked(found, inputs)


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


@dataclass(frozen=True, eq=False)
class Runtime:
    """The file run by onnxruntime, on a batch of inputs (N, *shape); `single` is its output's shape for one input."""

    session: onnxruntime.InferenceSession
    path: str
    entry: str
    axis: int
    single: tuple[int, ...]
    one_by_one: bool

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.session.get_inputs()[0].type]

    def __call__(self, x: Tensor, others: Mapping[str, NDArray[Any]] = NOTHING) -> Tensor:
        """The outputs (N, K), `others` of the file's inputs being the same for all."""
        several = [x[k : k + 1] for k in range(len(x))] if self.one_by_one else [x]
        return torch.cat([self.run(some, others) for some in several])

    def run(self, x: Tensor, others: Mapping[str, NDArray[Any]]) -> Tensor:
        """One call of onnxruntime."""
        inputs = np.ascontiguousarray(np.moveaxis(torch.as_tensor(x).detach().to("cpu", self.dtype).numpy(), 0, self.axis))
        try:
            found = np.asarray(self.session.run(None, {self.entry: inputs, **others})[0])
        except Exception as error:
            raise ModelError(
                f"{self.path}: onnxruntime cannot run it on inputs of shape {inputs.shape} ({brief(error)}); "
                "check `shape` and `batch_axis`, and export recurrent layers in float32"
            ) from error
        return torch.from_numpy(self.rows(found, len(x))).to(x.device)

    def rows(self, found: NDArray[Any], count: int) -> NDArray[Any]:
        """The outputs with the batch, wherever it lies in them, brought to the front."""
        if found.shape == self.single and count == 1:
            return found.reshape(1, -1)
        batch = [k for k, (one, many) in enumerate(zip(self.single, found.shape, strict=False)) if one == 1 and many == count]
        if found.ndim == len(self.single) and len(batch) == 1:
            rows = np.moveaxis(found, batch[0], 0).reshape(count, -1)
            if rows.shape[1] == math.prod(self.single):
                return rows
        raise ModelError(
            f"{self.path}: {count} input(s) give outputs of shape {found.shape} where one gives {self.single}; wanted one row "
            "of outputs per input: check `batch_axis`, or export the model with a batch of 1 or a dynamic one"
        )


def read(path: Path) -> ModelProto:
    """The model in a file, with its external data, functions inlined, found well-formed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror}); give the path of an ONNX file") from error
    if not content:
        raise ModelError(f"{path} is empty; give an ONNX file")
    for start, what in FOREIGN:
        if content.startswith(start):
            raise ModelError(f"{path} is not an ONNX file: this looks like {what}")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ModelError(f"{path} is cut off or is not an ONNX file ({brief(error)}); export the model again") from error
    if not model.HasField("graph"):
        raise ModelError(f"{path} is cut off or is not an ONNX file: it holds no graph; export the model again")
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(
            f"{path} keeps its weights in another file that cannot be read ({brief(error)}); put that file beside it"
        ) from error
    try:
        if model.functions:
            model = inline_local_functions(model)
        check(model)
    except Exception as error:
        raise ModelError(f"{path} is not a valid ONNX model ({brief(error)}); export the model again") from error
    return model


def check(model: ModelProto) -> None:
    """onnx's own check, but that an input or output may leave its shape unsaid, as some converters do."""
    shaped = ModelProto()
    shaped.CopyFrom(model)
    for value in (*shaped.graph.input, *shaped.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(shaped)


def brief(error: Exception) -> str:
    """The first line of somebody else's message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def standard_opset(model: ModelProto, path: Path) -> int:
    """The version of the standard operators."""
    version = max((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if version < OLDEST:
        raise UnsupportedError(
            f"{path} uses opset {version}; wanted {OLDEST} or later: convert it with onnx.version_converter.convert_version"
        )
    if model.graph.sparse_initializer:
        raise UnsupportedError(f"{path} holds sparse weights; export them as dense tensors")
    return version


def single_input(graph: GraphProto, path: Path) -> onnx.ValueInfoProto:
    """The only input that has no value in the file."""
    given = {tensor.name for tensor in graph.initializer}
    entries = [entry for entry in graph.input if entry.name not in given]
    if len(entries) != 1:
        raise UnsupportedError(
            f"{path} has the inputs {[entry.name for entry in entries]}; wanted exactly one: make the others constants"
        )
    entry: onnx.ValueInfoProto = entries[0]
    if entry.type.tensor_type.elem_type not in TYPES:
        kind = type_name(entry.type.tensor_type.elem_type)
        raise UnsupportedError(
            f"{path}: its input '{entry.name}' is of type {kind}; wanted FLOAT or DOUBLE, or INT64 or INT32 for token numbers: "
            "export it in float32 or float64"
        )
    return entry


def single_output(graph: GraphProto, path: Path) -> str:
    names = [output.name for output in graph.output]
    if len(names) != 1:
        raise UnsupportedError(
            f"{path} has the outputs {names}; wanted exactly one: keep one with "
            "onnx.utils.extract_model(path, new_path, [input name], [output name])"
        )
    return str(names[0])


Axes = tuple[int | str, ...]
"""A length, or the name of a dynamic one ('' if it has none), for each axis of the file's input."""


def input_axes(entry: onnx.ValueInfoProto, path: Path) -> Axes | None:
    """The axes of the file's input, None if the file does not say."""
    kind = entry.type.tensor_type
    if not kind.HasField("shape"):
        return None
    if not kind.shape.dim:
        raise ModelError(f"{path}: its input '{entry.name}' is a single number; wanted a batch of inputs")
    return tuple(int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else str(d.dim_param) for d in kind.shape.dim)


def chosen_batch_axis(axes: Axes | None, count: int, batch_axis: int | None, path: Path) -> int:
    """The axis that the user says, or that the file's names suggest."""
    if batch_axis is not None:
        if not -count <= batch_axis < count:
            raise ModelError(
                f"{path}: batch_axis = {batch_axis}, but its input has {count} axes; give a number from 0 to {count - 1}"
            )
        return batch_axis % count
    if axes is None:
        return 0
    dynamic = [(k, name.lower()) for k, name in enumerate(axes) if isinstance(name, str)]
    named = [k for k, name in dynamic if name in ("n", "b", "bs") or name.startswith(BATCH_NAMES)]
    others = [k for k, name in dynamic if not any(word in name for word in TIME_NAMES)]
    if len(named) == 1:
        return named[0]
    return others[0] if len(others) == 1 and axes[0] != 1 else 0


def input_shape(axes: Axes | None, shape: tuple[int, ...] | None, batch: int, path: Path) -> tuple[int, ...]:
    """The shape of one input, from the user and the file, which have to agree."""
    shown = "unknown" if axes is None else f"({', '.join(str(n) if n else '?' for n in axes)})"
    if axes is not None and isinstance(axes[batch], int) and axes[batch] != 1:
        raise ModelError(
            f"{path}: its input of shape {shown} has the fixed length {axes[batch]} along axis {batch}, taken for the batch; "
            "export it with a dynamic batch or a batch of 1, or say with `batch_axis` along which axis the batch goes"
        )
    rest = None if axes is None else (*axes[:batch], *axes[batch + 1 :])
    if shape is None:
        if rest is None or any(isinstance(n, str) for n in rest):
            likely = likely_shape(rest or (0, 0))
            raise ModelError(
                f"{path}: its input of shape {shown} (batch along axis {batch}) has other dynamic axes; give the shape of one "
                f"input, without the batch: --shape {','.join(map(str, likely))} on the command line, shape={likely} from "
                "Python, with your own lengths"
            )
        shape = tuple(n for n in rest if isinstance(n, int))
    if not shape or any(n < 1 for n in shape):
        raise ModelError(
            f"{path}: shape = {shape} of one input, without the batch; wanted one axis or more, of lengths of 1 or more: let a "
            "model of single numbers take inputs of shape (batch, 1)"
        )
    fits = rest is None or (
        len(rest) == len(shape) and all(n == m or isinstance(n, str) for n, m in zip(rest, shape, strict=True))
    )
    if not fits:
        raise ModelError(
            f"{path}: shape = {shape} does not fit its input of shape {shown} with the batch along axis {batch}; give the "
            "shape of one input without the batch, and `batch_axis` if another axis is the batch"
        )
    return shape


def likely_shape(axes: Axes) -> tuple[int, ...]:
    """A shape of one input that its axes allow: a second of a waveform, or frames of features."""
    if len(axes) == 1:
        return tuple(n if isinstance(n, int) and n else WAVEFORM for n in axes)
    return tuple(n if isinstance(n, int) and n else usual for n, usual in zip_longest(axes, FRAMES, fillvalue=FRAMES[-1]))


def session(model: ModelProto, path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread of the CPU, silent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"{path}: onnxruntime cannot load it ({brief(error)}); export it for an older opset, or in float32"
        ) from error


def narrows(graph: GraphProto, known: Mapping[str, Value | Tokens]) -> bool:
    """Whether activations are cast to float32 on their way, so that a float64 file is only as precise as that."""
    casts = [node for node in graph.node if node.op_type == "Cast" and isinstance(known[node.input[0]], Activations)]
    return any(a.i == TensorProto.FLOAT for node in casts for a in node.attribute if a.name == "to")
