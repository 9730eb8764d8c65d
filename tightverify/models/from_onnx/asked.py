"""What of an ONNX file is asked about: the inputs that are perturbed, the output, what is fixed, and the states of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from tightverify.errors import ModelError, UnsupportedError, UsageError
from tightverify.models.blocks import Block, Shapes, blocks_of
from tightverify.models.builder import Builder, Symbols
from tightverify.models.fixed import shown_fixed
from tightverify.models.from_onnx.entries import (
    Axes,
    Fixed,
    Port,
    axes_of,
    check_names,
    entries_of,
    fixed_inputs,
    input_axes,
    is_whole,
    several_inputs,
    single_input,
)
from tightverify.models.from_onnx.last import last_softmax, without
from tightverify.models.from_onnx.node import Activations, Tokens
from tightverify.models.from_onnx.reading import read, standard_opset
from tightverify.models.from_onnx.results import Output, chosen_output, only
from tightverify.models.from_onnx.sequences import Held, Listed
from tightverify.models.from_onnx.tokens import LookUp, takes_tokens
from tightverify.models.from_onnx.unbatched import has_no_batch, with_batch
from tightverify.models.from_onnx.walk import walk
from tightverify.models.progress import Progress
from tightverify.models.streaming import Streaming, note_of, paired

Known = Mapping[str, Held]


@dataclass(frozen=True, eq=False)
class Asked:
    """A file of one output (and of those that go back into inputs), its softmax at the end left out (`last`, and its axis).

    `states` are the inputs that are states of a stream, each with the output that goes back into it.
    """

    path: Path
    model: ModelProto
    opset: int
    result: str
    ports: tuple[Port, ...]
    blocks: tuple[Block, ...]
    fixed: Mapping[str, Fixed]
    calls: int
    states: Mapping[str, str]
    last: tuple[NodeProto, int] | None
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        path: Path,
        shape: tuple[int, ...] | Shapes | None,
        batch_axis: int | Mapping[str, int] | None,
        fix: Mapping[str, Any],
        output: Output | None,
        streaming: Streaming,
    ) -> Asked:
        whole = read(path)
        opset, result = standard_opset(whole, path), chosen_output(whole.graph, output, path)
        chosen = result
        check_names(whole.graph, fix, path)
        states = states_of(whole.graph, result, fix, streaming, path)
        model = only(whole, result, *states.values()) if states else trimmed(whole, result)
        whole_input = isinstance(shape, tuple) and batch_axis is None and not states and has_no_batch(model, fix, shape)
        if whole_input and isinstance(shape, tuple):
            model, result = with_batch(model, fix, shape, result, opset)
        ports = ports_of(model.graph, shape, batch_axis, fix, path)
        fix = {each.name: fix[each.name] for each in entries_of(model.graph) if each.name in fix}
        last = None if result in states.values() else last_softmax(model, opset)
        notes = [f"axis {port.axis} of the file's input '{port.name}' was taken to be the batch" for port in ports]
        notes = ["the file's input has no batch axis: inputs are run one by one"] if whole_input else notes
        notes += [f"of its {len(whole.graph.output)} outputs, '{chosen}' was taken"] if len(whole.graph.output) > 1 else []
        notes += [shown_fixed(fix)] if fix else []
        notes += [note_of(streaming.calls, states)] if states else []
        if last is not None:
            notes.append(f"the {last[0].op_type} at its end was left out: it does not change which output is the largest")
            model, result = without(model, last[0]), str(last[0].input[0])
        fixed = fixed_inputs(model.graph, fix, ports, path)
        blocks = blocks_of({port.name: port.shape for port in ports} if isinstance(shape, Mapping) else {})
        found = cls(path, model, opset, result, ports, blocks, fixed, streaming.calls, states, last, tuple(notes))
        if found.calls and (blocks or found.tokens):
            raise UnsupportedError(
                f"{path} was to be unrolled, which is for models of one perturbed input of floats; fix the others"
            )
        return found

    @property
    def tokens(self) -> bool:
        """Whether its input are numbers of words."""
        entry = entry_of(self.model.graph, self.ports[0].name)
        return is_whole(entry) or (len(self.ports) == 1 and takes_tokens(self.model.graph, entry.name))

    @property
    def one_by_one(self) -> bool:
        """Whether the file runs on a single input only."""
        alone = any(port.alone for port in self.ports)
        return alone or any(one.value.ndim and not one.batch for one in self.fixed.values())


class Walking:
    """The file's nodes, walked once, or once for each call of a stream; `known` is every tensor of the last time."""

    def __init__(self, asked: Asked, progress: bool = False) -> None:
        self.asked, self.builder = asked, Builder(Progress(str(asked.path) if progress else ""))
        first = asked.ports[0]
        kind = entry_of(asked.model.graph, first.name).type.tensor_type.elem_type
        self.look_up = LookUp(self.builder, first.shape[0], helper.tensor_dtype_to_np_dtype(kind))
        self.known: Known = {}

    @cached_property
    def results(self) -> list[Symbols]:
        """What every call gives, in the file's shape for one input."""
        asked, first = self.asked, self.asked.ports[0]
        if asked.tokens:
            return [self._walked({first.name: Tokens(np.expand_dims(places(first.shape, asked.path), first.axis))})]
        if not asked.calls:
            shapes = [port.shape for port in asked.ports]
            starts = self.builder.inputs(shapes) if asked.blocks else [self.builder.input(first.shape)]
            pairs = zip(asked.ports, starts, strict=True)
            return [self._walked({port.name: Activations(np.expand_dims(start, port.axis)) for port, start in pairs})]
        found, held = list[Symbols](), dict[str, Held]()
        for chunk in self.builder.input((asked.calls, *first.shape)):
            found.append(self._walked({first.name: Activations(np.expand_dims(chunk, first.axis)), **held}))
            held = {entry: self.known[made] for entry, made in asked.states.items()}
        return found

    def _walked(self, begun: Known) -> Symbols:
        asked = self.asked
        fixed = {name: one.value for name, one in asked.fixed.items()}
        self.known = walk(asked.model.graph, asked.opset, self.builder, {**fixed, **begun}, self.look_up)
        return output_of(self.known, asked.result, asked.path)

    @property
    def numbers(self) -> Symbols:
        """All that is given for one input: of a stream the calls' rows, (1, K, n)."""
        if not self.asked.calls:
            return self.results[0]
        single = self.results[0].shape
        if max(single) != self.results[0].size:
            raise UnsupportedError(
                f"{self.asked.path} is unrolled, and its output '{self.asked.result}' has shape {single} in each call; wanted "
                "one row of numbers"
            )
        return np.stack([each.ravel() for each in self.results])[None]

    @property
    def narrows(self) -> bool:
        """Whether activations are cast to float32 on their way, so that a float64 file is only as precise as that."""
        return narrows(self.asked.model.graph, self.known)


def trimmed(model: ModelProto, result: str) -> ModelProto:
    """The model of one output."""
    several = len(model.graph.output) > 1 or len(entries_of(model.graph)) > 1
    return only(model, result) if several else model


def axes_asked_about(path: Path, fix: Mapping[str, Any], output: Output | None) -> Axes | None:
    """The axes of the input that is perturbed, as far as the file says."""
    model = read(path)
    check_names(model.graph, fix, path)
    model = trimmed(model, chosen_output(model.graph, output, path))
    return input_axes(single_input(model.graph, fix, path), path)


def states_of(graph: GraphProto, result: str, fix: Mapping[str, Any], streaming: Streaming, path: Path) -> dict[str, str]:
    """The inputs that are states, if the model is one of a stream, each with the output that goes back into it."""
    if not streaming.calls:
        return {}
    said = {named(graph, output, path): str(entry) for output, entry in streaming.state.items()}
    outputs = {value.name: axes_of(value) for value in graph.output if value.name != result or result in said}
    inputs = {each.name: axes_of(each) for each in entries_of(graph) if each.name in fix and not is_whole(each)}
    return paired(outputs, inputs, said, str(path))


def named(graph: GraphProto, output: Output, path: Path) -> str:
    """An output by its name, or its number."""
    return chosen_output(graph, output, path) if str(output).isdecimal() else str(output)


def ports_of(
    graph: GraphProto,
    shape: tuple[int, ...] | Shapes | None,
    batch_axis: int | Mapping[str, int] | None,
    fix: Mapping[str, Any],
    path: Path,
) -> tuple[Port, ...]:
    """The inputs that are perturbed: those whose shapes are given by name, or the only one that is not fixed."""
    if not isinstance(shape, Mapping):
        if isinstance(batch_axis, Mapping):
            raise UsageError(f"batch_axis has names, and {path} is read as a model of one perturbed input; give a number")
        return (Port.of(single_input(graph, fix, path), shape, batch_axis, path),)
    entries = several_inputs(graph, list(shape), fix, path)
    axes = batch_axis if isinstance(batch_axis, Mapping) else dict.fromkeys(shape, batch_axis)
    return tuple(Port.of(entry, shape[entry.name], axes.get(entry.name), path) for entry in entries)


def entry_of(graph: GraphProto, name: str) -> ValueInfoProto:
    """An input by its name."""
    found: ValueInfoProto = next(entry for entry in graph.input if entry.name == name)
    return found


def output_of(known: Known, result: str, path: Path) -> Symbols:
    """The neurons of an output."""
    output = known.get(result)
    if isinstance(output, Tokens):
        raise UnsupportedError(
            f"{path}: its output '{result}' is made of token numbers, which may only be looked up in a constant table (Gather)"
        )
    if isinstance(output, Listed):
        raise UnsupportedError(f"{path}: its output '{result}' is a sequence of tensors; join them, or choose another output")
    if not isinstance(output, Activations):
        raise ModelError(f"{path}: its output '{result}' does not depend on its input; choose an output that does")
    return output.numbers


def places(shape: tuple[int, ...], path: Path) -> NDArray[np.int64]:
    """Those of a sentence's words."""
    if len(shape) != 1:
        raise UnsupportedError(f"{path} takes token numbers of shape {shape} for one input; wanted one axis, that of words")
    return np.arange(shape[0])


def narrows(graph: GraphProto, known: Known) -> bool:
    """Whether activations are cast to float32 on their way, so that a float64 file is only as precise as that."""
    casts = [node for node in graph.node if node.op_type == "Cast" and isinstance(known[node.input[0]], Activations)]
    return any(a.i == TensorProto.FLOAT for node in casts for a in node.attribute if a.name == "to")
