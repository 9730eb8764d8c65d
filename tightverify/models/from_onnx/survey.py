"""All that keeps a file from being imported, at once: options that are missing, and every operator that is refused.

Nodes are walked one after the other. What a refused one makes is not known, so that of those which read it only the operator is
looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from tightverify.errors import ModelError
from tightverify.models.blocks import Shapes
from tightverify.models.builder import Builder
from tightverify.models.fixed import RATE, RATES
from tightverify.models.frames import LAST, picked
from tightverify.models.from_onnx.control import CONTROL
from tightverify.models.from_onnx.entries import (
    Port,
    chosen_batch_axis,
    entries_of,
    fixed_inputs,
    input_axes,
    is_whole,
    likely_shape,
    perturbed,
)
from tightverify.models.from_onnx.folding import constants_of
from tightverify.models.from_onnx.guesses import likely_shapes
from tightverify.models.from_onnx.last import last_softmax, without
from tightverify.models.from_onnx.node import Activations, Tokens, describe
from tightverify.models.from_onnx.reading import read, standard_opset
from tightverify.models.from_onnx.results import Output, chosen_output, only, read_by
from tightverify.models.from_onnx.sequences import MAKING, Held
from tightverify.models.from_onnx.tokens import LookUp, takes_tokens
from tightverify.models.from_onnx.walk import refuse, refuse_unknown, walk
from tightverify.models.progress import Progress
from tightverify.models.streaming import State

MOST_SHOWN = 12
TRYING = 20.0
"""Seconds for which shapes are tried."""
Known = dict[str, Held]


@dataclass
class Survey:
    """Options that the file needs, and what refuses each kind of node: how many there are, and the first one's sentence.

    `doubtful` is a guess of the input's shape with which something does not fit, as with all others that were tried. `together`
    are options in place of the first ones where several inputs may be perturbed at once.
    """

    options: list[str] = field(default_factory=list)
    together: list[str] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    doubtful: bool = False

    def add(self, node: NodeProto, words: str) -> None:
        count, first = self.refused.get(node.op_type, (0, words))
        self.refused[node.op_type] = count + 1, first

    @property
    def words(self) -> list[str]:
        """A sentence for each kind of node, those of which there are most first."""
        ordered = sorted(self.refused.items(), key=lambda item: -item[1][0])
        found = [f"{kind}, {count} node{'s' * (count > 1)}: {first}" for kind, (count, first) in ordered[:MOST_SHOWN]]
        return [*found, f"and {len(ordered) - MOST_SHOWN} more operators"] if len(ordered) > MOST_SHOWN else found


def survey(
    path: str | Path,
    shape: tuple[int, ...] | Shapes | None = None,
    batch_axis: int | None = None,
    fix: Mapping[str, Any] | None = None,
    output: Output | None = None,
    frame: int | str | None = None,
    unroll: int | None = None,
    state: State | None = None,
    progress: bool = False,
) -> Survey:
    """What stands in the way of an import with these options, with others where they are missing."""
    path, found, fixed = Path(path), Survey(), dict(fix or {})
    model = read(path)
    opset, result = standard_opset(model, path), chosen_output(model.graph, output, path)
    model = only(model, result)
    entries = [entry for entry in entries_of(model.graph) if entry.name not in fixed]
    if not entries:
        return found
    named = dict(shape) if isinstance(shape, Mapping) else {perturbed(entries).name: shape}
    moving = [entry for entry in entries if entry.name in named]
    if not moving:
        return found
    floats = [entry for entry in entries if not is_whole(entry) and entry.name.lower() not in RATES]
    together = [entry for entry in floats if len(floats) > 1 and not isinstance(shape, Mapping) and unroll is None]
    wanted = fixing(fixed, [entry for entry in entries if entry not in moving])
    other = fixing(fixed, [entry for entry in entries if entry not in floats])
    last = last_softmax(model, opset)
    if last is not None:
        model, result = without(model, last[0]), str(last[0].input[0])
    ports, guessed = ports_of(moving, named, batch_axis, path)
    begun = Begun(path, model, opset, moving, isinstance(shape, Mapping), guessed, wanted[0], progress)
    known = begun.walked(ports, found)
    if found.doubtful:
        ports, known = begun.fitting(ports, known, found, batch_axis)
    found.options = [*shape_words(ports, begun.named, guessed or shape is not None), *wanted[1]]
    if together:
        with suppress(ModelError):  # one of them has no shape of its own
            shapes = {port.name: port.shape for port in ports}
            found.together = [*shape_words(ports_of(together, shapes, batch_axis, path)[0], True, True), *other[1]]
    behind = output_options(known.get(result), frame, unroll, state)
    found.options += behind
    found.together += behind if found.together else []
    return found


@dataclass(frozen=True, eq=False)
class Begun:
    """A file to be walked with its inputs `moving`, of given shapes or of guessed ones, and the others fixed."""

    path: Path
    model: ModelProto
    opset: int
    moving: Sequence[ValueInfoProto]
    named: bool
    guessed: bool
    fixed: Mapping[str, Any]
    progress: bool

    def walked(self, ports: Sequence[Port], found: Survey, to_doubt: bool = False) -> Known:
        """Every tensor that becomes known with the inputs' shapes, as far as nothing misfits if it is `to_doubt`."""
        graph, first, entry = self.model.graph, ports[0], self.moving[0]
        builder = Builder(Progress(str(self.path) if self.progress and not to_doubt else ""))
        others = fixed_inputs(graph, self.fixed, ports, self.path)
        look_up = LookUp(builder, first.shape[0], helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
        begun: Known = {name: one.value for name, one in others.items()}
        if is_whole(entry) or (len(ports) == 1 and takes_tokens(graph, entry.name)):
            begun[first.name] = Tokens(np.expand_dims(np.arange(first.shape[0]), first.axis))
        else:
            starts = builder.inputs([port.shape for port in ports]) if self.named else [builder.input(first.shape)]
            pairs = zip(ports, starts, strict=True)
            begun |= {port.name: Activations(np.expand_dims(start, port.axis)) for port, start in pairs}
        return walked(Walk(graph, self.opset, builder, look_up, self.guessed), begun, found, to_doubt)

    def fitting(self, ports: list[Port], known: Known, found: Survey, batch_axis: int | None) -> tuple[list[Port], Known]:
        """The first of other shapes with which nothing misfits, and what becomes known then; the same if there is none."""
        port, until = ports[0], time.monotonic() + TRYING
        rest = (0, 0) if port.axes is None else (*port.axes[: port.axis], *port.axes[port.axis + 1 :])
        for shape in likely_shapes(rest, self.model.graph):
            if time.monotonic() > until:
                break
            others, tried = [Port.of(self.moving[0], shape, batch_axis, self.path)], Survey()
            made = self.walked(others, tried, to_doubt=True)
            if not tried.doubtful:
                found.doubtful = False
                return others, made
        return ports, known


def fixing(fixed: Mapping[str, Any], others: Sequence[ValueInfoProto]) -> tuple[dict[str, Any], list[str]]:
    """What inputs are fixed at, those that nobody speaks of at what a message takes as an example, and the option."""
    found = {**fixed, **{each.name: RATE if each.name.lower() in RATES else 0 for each in others}}
    return found, [f"--fix {','.join(f'{name}={shown(value)}' for name, value in found.items())}"] if found else []


def ports_of(
    moving: Sequence[ValueInfoProto], shapes: Mapping[str, tuple[int, ...] | None], batch_axis: int | None, path: Path
) -> tuple[list[Port], bool]:
    """The inputs that are perturbed, and whether a shape of one is a guess, as the file leaves it open."""
    ports, guessed = [], False
    for entry in moving:
        axes, shape = input_axes(entry, path), shapes.get(entry.name)
        axis = chosen_batch_axis(axes, len(axes) if axes is not None else 1 + len(shape or ()), batch_axis, path)
        rest = () if axes is None else (*axes[:axis], *axes[axis + 1 :])
        if shape is None and (axes is None or any(isinstance(length, str) for length in rest)):
            shape, guessed = likely_shape(rest or (0, 0)), True
        ports.append(Port.of(entry, shape, batch_axis, path))
    return ports, guessed


def shape_words(ports: Sequence[Port], named: bool, needed: bool) -> list[str]:
    """The options for the shapes of inputs, if they are needed."""
    found = [f"--shape {f'{port.name}=' if named else ''}{','.join(map(str, port.shape))}" for port in ports]
    return found if needed else []


def output_options(made: Held | None, frame: int | str | None, unroll: int | None, state: State | None) -> list[str]:
    """The options about a stream, and the frame of its output."""
    found = [] if unroll is None else [f"--unroll {unroll}"]
    if state:
        found.append(f"--state {','.join(f'{output}={name}' for output, name in state.items())}")
    if frame is not None:
        found.append(f"--frame {frame}")
    elif unroll is not None or (isinstance(made, Activations) and needs_frame(made.numbers.shape)):
        found.append(f"--frame {LAST}")
    return found


def shown(value: Any) -> str:
    """What an input is fixed at, as the command line has it."""
    return f"{value:g}" if np.ndim(value) == 0 else "FILE.npz"


def needs_frame(shape: tuple[int, ...]) -> bool:
    """Whether an output is of several frames, of which one is to be chosen."""
    try:
        picked(shape, None, "")
    except ModelError:
        return True
    return False


@dataclass(frozen=True, eq=False)
class Walk:
    """What is walked; where the input's shape was guessed, nodes are refused for their operators only."""

    graph: GraphProto
    opset: int
    builder: Builder
    look_up: LookUp
    guessed: bool

    def of(self, node: NodeProto, known: Mapping[str, Held]) -> dict[str, Held]:
        """What a node makes."""
        alone = GraphProto(node=[node], output=self.graph.output)
        return walk(alone, self.opset, self.builder, known, self.look_up)

    def refuse(self, node: NodeProto) -> None:
        """An operator that is not supported, whatever it reads."""
        if node.op_type not in CONTROL and node.op_type not in MAKING:
            refuse(node, any(output.name in node.output for output in self.graph.output))
            refuse_unknown(node, self.opset)


def walked(walk: Walk, begun: Known, found: Survey, to_doubt: bool) -> Known:
    """Every tensor that becomes known; what is refused on the way is noted."""
    known = {**begun, **constants_of(walk.graph)}
    lost: set[str] = set()
    for node in walk.graph.node:
        if to_doubt and found.doubtful:
            break
        try:
            if lost.isdisjoint(read_by(node)):
                made = walk.of(node, known)
                known.update({name: made[name] for name in node.output if name in made})
            else:
                walk.refuse(node)
        except ModelError as error:
            refused = error if not walk.guessed else refusal(walk, node)
            found.doubtful = found.doubtful or refused is None
            if refused is not None:
                found.add(node, shortened(refused, describe(node)))
        lost.update(name for name in node.output if name and name not in known)
    return known


def refusal(walk: Walk, node: NodeProto) -> ModelError | None:
    """Why a node's operator is refused, if it is."""
    try:
        walk.refuse(node)
    except ModelError as error:
        return error
    return None


def shortened(error: ModelError, place: str) -> str:
    """What is wrong, without what to do about it; the node that it was found at behind."""
    words = str(error).partition("; ")[0].removeprefix(place).lstrip(": ")
    return f"{words} (the first is {place.removeprefix('the operator ')})"
