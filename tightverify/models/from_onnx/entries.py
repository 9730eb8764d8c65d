"""The inputs of an ONNX file: the one that is perturbed, its axes, and the others, which a user fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.fixed import as_numbers, suggested
from tightverify.models.from_onnx.node import type_name
from tightverify.models.from_onnx.tokens import WHOLE

TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, *WHOLE)
TIME_NAMES = ("time", "seq", "length", "frame", "step")
BATCH_NAMES = ("batch", "unk_")
"""How files name a dynamic axis; tf2onnx's batch is unk__123."""
WAVEFORM, FRAMES = 8000, (20, 28)
"""Lengths that a message takes as examples: samples of a waveform; frames, and features of each."""

Axes = tuple[int | str, ...]
"""A length, or the name of a dynamic one ('' if it has none), for each axis of an input."""


@dataclass(frozen=True)
class Port:
    """An input that is perturbed: its axes as the file says them, that of the batch, and the shape of one without it."""

    name: str
    axes: Axes | None
    axis: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, entry: onnx.ValueInfoProto, shape: tuple[int, ...] | None, batch_axis: int | None, path: Path) -> Port:
        """By what the user says of it, and the file."""
        axes = input_axes(entry, path)
        axis = chosen_batch_axis(axes, len(axes) if axes is not None else 1 + len(shape or ()), batch_axis, path)
        return cls(entry.name, axes, axis, input_shape(axes, shape, axis, path))

    @property
    def alone(self) -> bool:
        """Whether it takes a batch of one input only."""
        return self.axes is not None and self.axes[self.axis] == 1


@dataclass(frozen=True, eq=False)
class Fixed:
    """What an input is fixed at, for one input of the batch, and along which axes the file has its batch there."""

    value: NDArray[Any]
    batch: tuple[int, ...]

    def times(self, count: int) -> NDArray[Any]:
        """The same for each of so many inputs."""
        found = self.value
        for axis in self.batch:
            found = np.repeat(found, count, axis)
        return found


def entries_of(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have no value in the file."""
    given = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name not in given]


def check_names(graph: GraphProto, fix: Mapping[str, Any], path: Path) -> None:
    """Speak up where an input is to be fixed that is not there."""
    entries = entries_of(graph)
    unknown = sorted(fix.keys() - {entry.name for entry in entries})
    if unknown:
        raise ModelError(f"{path} has no input '{unknown[0]}' to be fixed; it has {listed(entries)}")


def single_input(graph: GraphProto, fix: Mapping[str, Any], path: Path) -> onnx.ValueInfoProto:
    """The only input that has no value in the file, nor one by the user."""
    entries = entries_of(graph)
    if not entries:
        raise ModelError(f"{path}: its output depends on no input; choose an output that does")
    left = [entry for entry in entries if entry.name not in fix]
    if not left:
        raise ModelError(f"{path}: all of its inputs, {listed(entries)}, are fixed; leave the one that is perturbed out")
    entry = perturbed(left)
    if len(left) > 1:
        others = [each for each in left if each is not entry]
        raise UnsupportedError(
            f"{path} takes {listed(entries)}; one of them is perturbed, and values are wanted for the others: "
            + suggested({each.name: is_whole(each) for each in others})
        )
    if entry.type.tensor_type.elem_type not in TYPES:
        kind = type_name(entry.type.tensor_type.elem_type)
        raise UnsupportedError(
            f"{path}: its input '{entry.name}' is of type {kind}; wanted FLOAT or DOUBLE, or INT64 or INT32 for token numbers: "
            "export it in float32 or float64"
        )
    return entry


def several_inputs(graph: GraphProto, names: Sequence[str], fix: Mapping[str, Any], path: Path) -> list[onnx.ValueInfoProto]:
    """The inputs of these names, if all others are fixed and they hold floats."""
    entries = {entry.name: entry for entry in entries_of(graph)}
    unknown = next((name for name in names if name not in entries), None)
    if unknown is not None:
        raise ModelError(f"{path} has no input '{unknown}' that its output depends on; it has {listed([*entries.values()])}")
    both = sorted(set(names) & fix.keys())
    if both:
        raise ModelError(f"{path}: its input '{both[0]}' is fixed and perturbed; give one of both")
    left = {name: is_whole(entry) for name, entry in entries.items() if name not in fix and name not in names}
    if left:
        raise UnsupportedError(
            f"{path} takes {listed([*entries.values()])}; values are wanted for the others: {suggested(left)}"
        )
    for name in names:
        if is_whole(entries[name]):
            kind = type_name(entries[name].type.tensor_type.elem_type)
            raise UnsupportedError(
                f"{path}: its input '{name}' is of type {kind}; of several perturbed inputs all are FLOAT or DOUBLE: fix it"
            )
    if len({entries[name].type.tensor_type.elem_type for name in names}) > 1:
        raise UnsupportedError(
            f"{path}: of its inputs {', '.join(names)} some are FLOAT, some DOUBLE; export it in one of both"
        )
    return [entries[name] for name in names]


def perturbed(entries: list[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """That of several which is likely to be meant: the first one of floating type, else the first."""
    return next((entry for entry in entries if not is_whole(entry)), entries[0])


def is_whole(entry: onnx.ValueInfoProto) -> bool:
    """Whether it takes whole numbers only."""
    return entry.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE)


def listed(values: list[onnx.ValueInfoProto]) -> str:
    """Names and shapes, for messages."""
    words = [f"'{value.name}' {shown(axes_of(value))}" for value in values]
    return f"the inputs {', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else f"the input {words[0]}"


def shown(axes: Axes | None) -> str:
    return "of unknown shape" if axes is None else f"({', '.join(str(n) if n else '?' for n in axes)})"


def axes_of(value: onnx.ValueInfoProto) -> Axes | None:
    """The axes of an input or output, None if the file does not say."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else str(d.dim_param) for d in kind.shape.dim)


def input_axes(entry: onnx.ValueInfoProto, path: Path) -> Axes | None:
    """The axes of the input that is perturbed."""
    axes = axes_of(entry)
    if axes == ():
        raise ModelError(f"{path}: its input '{entry.name}' is a single number; wanted a batch of inputs")
    return axes


def fixed_inputs(graph: GraphProto, fix: Mapping[str, Any], ports: Sequence[Port], path: Path) -> dict[str, Fixed]:
    """What the other inputs are fixed at, given those that are perturbed."""
    lengths: dict[str, int] = {}
    of_batch = {""}
    for port in ports:
        if port.axes is not None:
            whole = (*port.shape[: port.axis], 1, *port.shape[port.axis :])
            open_ones = {name: n for name, n in zip(port.axes, whole, strict=True) if isinstance(name, str) and name}
            lengths = {**lengths, **open_ones}
            of_batch |= {str(port.axes[port.axis])}
    found = {}
    for entry in entries_of(graph):
        if entry.name in fix:
            dims = axes_of(entry)
            value = fixed_at(entry, dims, fix[entry.name], lengths, path)
            found[entry.name] = Fixed(value, tuple(k for k, name in enumerate(dims or ()) if name and name in of_batch))
    return found


def fixed_at(entry: onnx.ValueInfoProto, axes: Axes | None, given: Any, lengths: Mapping[str, int], path: Path) -> NDArray[Any]:
    """The numbers of a fixed input, in its type and its shape; a single number stands for all of them."""
    kind = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    value = as_numbers(given, f"the input '{entry.name}' of {path}", kind)
    if axes is None:
        return value
    wanted = [lengths.get(length, length) if isinstance(length, str) else length for length in axes]
    if value.ndim == 0:
        if any(isinstance(length, str) for length in wanted):
            raise ModelError(
                f"{path}: its input '{entry.name}' {shown(axes)} leaves lengths open; give an array of its shape: "
                f"--fix {entry.name}=FILE.npz on the command line, fix={{{entry.name!r}: array}} from Python"
            )
        return np.full([int(length) for length in wanted], value, dtype=kind)
    fits = value.ndim == len(wanted) and all(isinstance(n, str) or n == m for n, m in zip(wanted, value.shape, strict=True))
    if not fits:
        raise ModelError(
            f"{path}: its input '{entry.name}' is fixed at an array of shape {value.shape}; wanted {shown(tuple(wanted))}, for "
            "one input, the batch an axis of length 1"
        )
    return value


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
    named = [k for k, name in dynamic if is_batch(name)]
    others = [k for k, name in dynamic if not any(word in name for word in TIME_NAMES)]
    if len(named) == 1:
        return named[0]
    return others[0] if len(others) == 1 and axes[0] != 1 else 0


def is_batch(name: str) -> bool:
    """Whether a dynamic axis is named as files name the batch's."""
    return name.lower() in ("n", "b", "bs") or name.lower().startswith(BATCH_NAMES)


def input_shape(axes: Axes | None, shape: tuple[int, ...] | None, batch: int, path: Path) -> tuple[int, ...]:
    """The shape of one input, from the user and the file, which have to agree."""
    whole = "unknown" if axes is None else shown(axes)
    if axes is not None and isinstance(axes[batch], int) and axes[batch] != 1:
        raise ModelError(
            f"{path}: its input of shape {whole} has the fixed length {axes[batch]} along axis {batch}, taken for the batch; "
            "export it with a dynamic batch or a batch of 1, or say with `batch_axis` along which axis the batch goes; "
            f"if it has none, give its whole shape as that of one input: {whole_shape(axes)}"
        )
    rest = None if axes is None else (*axes[:batch], *axes[batch + 1 :])
    if shape is None:
        if rest is None or any(isinstance(n, str) for n in rest):
            likely = likely_shape(rest or (0, 0))
            raise ModelError(
                f"{path}: its input of shape {whole} (batch along axis {batch}) has other dynamic axes; give the shape of one "
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
            f"{path}: shape = {shape} does not fit its input of shape {whole} with the batch along axis {batch}; give the "
            "shape of one input without the batch, and `batch_axis` if another axis is the batch"
        )
    return shape


def whole_shape(axes: Axes) -> str:
    """The option for an input that has no batch axis."""
    likely = likely_shape(axes)
    return f"--shape {','.join(map(str, likely))} on the command line, shape={likely} from Python"


def likely_shape(axes: Axes) -> tuple[int, ...]:
    """A shape of one input that its axes allow: a second of a waveform, or frames of features."""
    if len(axes) == 1:
        return tuple(n if isinstance(n, int) and n else WAVEFORM for n in axes)
    return tuple(n if isinstance(n, int) and n else usual for n, usual in zip_longest(axes, FRAMES, fillvalue=FRAMES[-1]))
