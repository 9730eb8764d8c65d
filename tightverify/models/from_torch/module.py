"""Torch modules: exported by `torch.export`, then read operator by operator.

What is verified is the module in evaluation mode in real arithmetic: its parameters, and the constants that it makes of them
in its own precision, are taken exactly as they are. The user's module is never changed; all work is done on copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import getitem
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from tightverify.embedding import Embedding
from tightverify.errors import ModelError, TightVerifyError, UnsupportedError
from tightverify.models.blocks import Block, Shapes, blocks_of
from tightverify.models.builder import Builder, Symbols
from tightverify.models.composed import SPECTRA
from tightverify.models.fixed import shown_fixed
from tightverify.models.frames import Frame, along, as_frame, of_calls, picked
from tightverify.models.from_torch.call import Call, Missing, bind, operator_name, place_of
from tightverify.models.from_torch.comparisons import TRUTHS
from tightverify.models.from_torch.export import KEPT, Program, all_read, export, refused_behind, silence
from tightverify.models.from_torch.last import WithoutLast, before_softmax
from tightverify.models.from_torch.lookups import LIMITS, PLACES
from tightverify.models.from_torch.moves import MOVES
from tightverify.models.from_torch.operators import OPERATORS, Handler
from tightverify.models.from_torch.original import Asked, BatchFirst, on_table
from tightverify.models.from_torch.packed import FullLength, on_plain_tensors, packs, refuse_moving_lengths
from tightverify.models.from_torch.quantised import refuse_rounded_activations, with_rounded_weights
from tightverify.models.from_torch.tokens import LookUp, Tokens, refuse_others, with_table
from tightverify.models.from_torch.traced import traced
from tightverify.models.from_torch.wrapped import Output, Way
from tightverify.models.model import Model, checked
from tightverify.models.progress import Progress
from tightverify.models.sizes import MISFITS, TooLarge, fits, in_short
from tightverify.models.streaming import Streaming, note_of
from tightverify.models.tokens import OnVectors

LEAVE_OUT = "leave it out of the module: it does not change which class comes first"
ROUNDING = (
    *(f"quantized_decomposed.{name}_{kind}" for name in ("quantize", "dequantize") for kind in ("per_tensor", "per_channel")),
    *(f"aten.fake_quantize_per_{kind}_affine{end}" for kind in ("tensor", "channel") for end in ("", "_cachemask")),
)
"""What rounds activations, where it does not round weights."""
ADVICE = {
    "aten.argmax": LEAVE_OUT,
    "aten.native_dropout": "drop out only in training: `torch.nn.Dropout`, or `training=self.training`",
    "aten._native_batch_norm_legit": "normalise by running statistics, not by those of the input",
    **dict.fromkeys(("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu"), "give it plain tensors, not packed sequences"),
    **dict.fromkeys(("aten.stft", "aten._fft_r2c", "aten._fft_c2c", "aten._fft_c2r"), SPECTRA),
    "aten.reciprocal": "only division by constants is",
    **dict.fromkeys(ROUNDING, "quantise weights alone: rounded activations are not modelled"),
}
"""What to do instead, where there is more to say than `INSTEAD`."""
OF_TRUTHS = {*TRUTHS, *MOVES, "aten.where.self"}
"""Operators whose results may be truths; sums of these, to torch, are truths again."""
NONE_FIXED: Mapping[str, Any] = MappingProxyType({})
ONE_CALL = Streaming()
MOST_SHOWN = 12
INSTEAD = "write the module with supported operators, listed in tightverify.models.from_torch.operators.OPERATORS"


def from_torch(
    module: nn.Module,
    shape: tuple[int, ...] | Shapes,
    batch_axis: int | Mapping[str, int] = 0,
    inputs: Tensor | None = None,
    tokens: bool = False,
    fix: Mapping[str, Any] = NONE_FIXED,
    output: Output | None = None,
    frame: Frame | None = None,
    streaming: Streaming = ONE_CALL,
    progress: bool = False,
) -> Model:
    """The module as a graph, for inputs of `shape` (one input, without batch); `batch_axis` says where it wants its batch.

    `inputs` (N, *shape) are some of those that it is for (see `checked`). Of one that takes `tokens`, numbers of words, the
    graph begins behind its embedding. Of several inputs, all but one are to be fixed by `fix`, or all but those whose shapes
    are given by their names, which lie side by side then; of several outputs the first is meant, or the one that `output`
    says; `frame` says of which frame. `streaming` unrolls a module with a state; `progress` says how far a long import is.
    """
    source = f"the module {type(module).__name__}"
    way, shape, batch_axis = way_of(shape, batch_axis, source)
    if tokens and (way.blocks or streaming.calls):
        raise UnsupportedError(f"{source} takes tokens, which is supported of one perturbed input and one call only")
    refuse_rounded_activations(module, source)
    dtype, notes = precision(module, source), _notes(module)
    x = torch.rand((*shape[:batch_axis], 1, *shape[batch_axis:]), generator=torch.Generator().manual_seed(0), dtype=dtype)
    if tokens:
        refuse_others(module, shape, source)
        x = torch.zeros_like(x, dtype=torch.long)
    asked = Asked.of(module, source, fix, output, dtype, way)
    if streaming.calls:
        asked = asked.unrolled(x, streaming)
        x, shape, batch_axis = torch.rand((1, streaming.calls, *shape), dtype=dtype), (streaming.calls, *shape), 0
    plain = asked.entry is None and not (tokens or batch_axis or frame is not None)
    asked, made = asked.with_or_without_batch(x, inputs) if plain else asked.tried(x, inputs)
    kept = (of_calls if streaming.calls else picked)(tuple(made.shape), as_frame(frame), source)

    def walked(program: Program) -> Walk:
        return Walk(program, shape, batch_axis, tokens, way.blocks, Builder(Progress(source if progress else "")))

    walk = read_by(walked, lambda: with_rounded_weights(asked.copy()), x, source)
    numbers, last = walk.output(), walk.left_out
    if last and not along(kept, numbers.shape, -1):
        raise ModelError(f"{source}: its {last} at the end is not over the outputs that are asked about; choose one frame")
    graph = walk.builder.graph(numbers.ravel()[kept])
    ending = WithoutLast.of(asked.copy(), x) if last else asked.copy()
    original = BatchFirst(ending, batch_axis, tuple(made.shape), kept, asked.one_by_one, source)
    original.check_repeats(x.movedim(batch_axis, 0))
    model = Model(graph, original, dtype, source, (*notes, *said(asked, fix, last)), left_out=last, blocks=way.blocks)
    if tokens:
        name, table = walk.table(source)
        embedding = Embedding(table.to(dtype))
        behind = OnVectors(embedding, original, on_table(original, with_table(asked.copy(), name)))
        model = replace(model, original=behind, embedding=embedding)
        inputs = None if inputs is None else embedding(inputs)
    return checked(model, inputs)


def read_by(walked: Callable[[Program], Walk], fresh: Callable[[], nn.Module], x: Tensor, source: str) -> Walk:
    """The module, read without `torch.export` where that would take long, else with it, which says where it is refused."""
    with silence():
        quick = traced(fresh, x, KEPT) if x.is_floating_point() else None
    if quick is not None and all_read(quick):
        with suppress(TightVerifyError):
            return walked(quick)
    with silence():
        packed = packs(fresh(), x)
    if not packed:
        return walked(export(fresh(), x, source))
    with FullLength():
        program = export(on_plain_tensors(fresh()), x, source)
    refuse_moving_lengths(program)
    return walked(program)


def way_of(
    shape: tuple[int, ...] | Shapes, batch_axis: int | Mapping[str, int], source: str
) -> tuple[Way, tuple[int, ...], int]:
    """How inputs reach the module, the shape of one, and the axis of the batch, of several inputs that of a flat one."""
    every = dict(shape) if isinstance(shape, Mapping) else {"": shape}
    axes = batch_axis if isinstance(batch_axis, Mapping) else dict.fromkeys(every, batch_axis)
    unknown = sorted(axes.keys() - every.keys())
    if unknown:
        raise ModelError(f"batch_axis names '{unknown[0]}', which is no perturbed input of {source}; leave it out")
    for name, one in every.items():
        if not one or min(one) < 1 or not 0 <= axes.get(name, 0) <= len(one):
            raise ModelError(
                f"shape {one} and batch axis {axes.get(name, 0)} do not fit; wanted a shape of positive numbers, "
                f"such as (time, features), without the batch, and an axis from 0 to {len(one)}"
            )
    own = tuple(axes.get(name, 0) for name in every)
    if not isinstance(shape, Mapping):
        return Way(batch_axes=own), shape, own[0]
    blocks = blocks_of(every)
    return Way(blocks, own), (sum(block.size for block in blocks),), 0


def said(asked: Asked, fix: Mapping[str, Any], last: str) -> Iterator[str]:
    """Notes of what was chosen, fixed and left out."""
    if asked.way.alone:
        yield "the module's input has no batch axis: inputs are run one by one"
    if asked.output is not None:
        yield f"of its outputs, {asked.output} was taken"
    if fix:
        yield shown_fixed(fix)
    if asked.way.calls:
        yield note_of(asked.way.calls, {entry: f"output {output}" for entry, output in asked.way.states.items()})
    if last:
        yield f"The {last} at the module's end was left out: it does not change which output is the largest."


def precision(module: nn.Module, source: str) -> torch.dtype:
    """The one floating type of a module's parameters, or of its buffers if it has none, or torch's default."""
    for tensors in (dict(module.named_parameters()), dict(module.named_buffers())):
        kinds: dict[torch.dtype, str] = {}
        for name, tensor in tensors.items():
            if tensor.is_floating_point() or tensor.is_complex():
                kinds.setdefault(tensor.dtype, name)
        if len(kinds) > 1:
            mixed = " and ".join(f"{kind} ({name})" for kind, name in kinds.items())
            raise ModelError(f"{source} mixes {mixed}; wanted one type: convert it with `.double()` or `.float()`")
        if kinds:
            found = next(iter(kinds))
            break
    else:
        found = torch.get_default_dtype()
    if found not in (torch.float32, torch.float64):
        raise ModelError(f"{source} computes in {found}; wanted float32 or float64: convert it with `.float()`")
    return found


def _notes(module: nn.Module) -> tuple[str, ...]:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.RNNBase)
    changes = [part for part in module.modules() if part.training and isinstance(part, kinds)]
    names = sorted({type(part).__name__ for part in changes if not isinstance(part, nn.RNNBase) or part.dropout > 0})
    if not names:
        return ()
    return (f"The module was in training mode; it is verified in evaluation mode, which changes {', '.join(names)}.",)


class Walk:
    """An exported program, node by node: `values` maps nodes to what they hold (see `aten_call`)."""

    def __init__(
        self,
        program: Program,
        shape: tuple[int, ...],
        batch_axis: int,
        tokens: bool = False,
        blocks: Sequence[Block] = (),
        builder: Builder | None = None,
    ) -> None:
        self.program = program
        self.builder = builder or Builder()
        self.values: dict[fx.Node, object] = {}
        self.names: dict[fx.Node, str] = {}
        """of parameters"""
        self.look_up = LookUp(self.builder, shape[0])
        if blocks:
            places = np.concatenate([each.ravel() for each in self.builder.inputs([block.shape for block in blocks])])
        else:
            places = np.arange(shape[0]) if tokens else self.builder.input(shape)
        x = np.expand_dims(places, batch_axis)
        self._inputs(Tokens(x) if tokens else x)
        self.end = cast(Sequence[fx.Node], program.graph.output_node().args[0])[-1]
        before = None if tokens else before_softmax(self.end)
        self.left_out = "" if before is None else operator_name(self.end).removeprefix("aten.").strip("_")
        passed, self.end = (None, self.end) if before is None else (self.end, before)
        for node in program.graph.nodes:
            if node.op not in ("placeholder", "output") and node.users and node is not passed:
                self.values[node] = self._tried(node)

    def _inputs(self, x: Symbols | Tokens) -> None:
        signature = self.program.graph_signature
        placeholders = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        for entry in signature.input_specs:
            node = placeholders[entry.arg.name]
            if entry.kind is InputKind.USER_INPUT:
                self.values[node] = x
            elif entry.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
                target = self.names[node] = cast(str, entry.target)
                held = self.program.state_dict.get(target, self.program.constants.get(target))
                self.values[node] = _finite(target, cast(Tensor, held).detach(), bool(node.users))
            elif node.users:
                raise UnsupportedError(f"the module reads {entry.target}, of kind {entry.kind.name}: use plain tensors only")

    def table(self, source: str) -> tuple[str, Tensor]:
        """The table in which words are looked up, and its name."""
        if self.look_up.table is None:
            raise ModelError(f"{source} takes token numbers and looks none up: give a module that begins with nn.Embedding")
        return self.names[self.look_up.table], cast(Tensor, self.values[self.look_up.table])

    def output(self) -> Symbols:
        """The one output's neurons."""
        for entry in self.program.graph_signature.output_specs:
            if entry.kind is not OutputKind.USER_OUTPUT:
                raise UnsupportedError(
                    f"the module changes {entry.target or 'its input'} when it is called ({entry.kind.name}): "
                    "verify a module that only computes, and make new tensors in place of changing kept ones"
                )
        call = Call(self.builder, self.end, {}, {})
        return call.neurons(self.values[self.end])

    def _tried(self, node: fx.Node) -> object:
        """What a node makes; where it is refused, so are others behind it, which are named at once."""
        try:
            return self._value(node)
        except UnsupportedError as error:
            others = Counter(map(operator_name, refused_behind(self.program, node)))
            shown = [f"{name}{f', {count} times' if count > 1 else ''}" for name, count in others.most_common(MOST_SHOWN)]
            if not shown:
                raise
            raise UnsupportedError(f"{error}. Not supported either are: {'; '.join(shown)}") from error

    def _value(self, node: fx.Node) -> object:
        if node.op != "call_function":
            return Missing(f"the module's attribute {node.target}", "use plain tensors only")
        arguments = self._filled((node.args, node.kwargs))
        args, kwargs = cast(tuple[tuple[object, ...], dict[str, object]], arguments)
        if node.target is getitem:
            return cast(tuple[object, ...], args[0])[cast(int, args[1])]
        if _any(arguments, lambda value: isinstance(value, Tokens)):
            return self.look_up.value(node, args, kwargs)
        if not isinstance(node.target, torch._ops.OpOverload):
            if getattr(node.target, "__module__", "") == "_operator" and not _any(
                arguments, lambda value: not isinstance(value, int)
            ):
                return cast(Callable[..., object], node.target)(*args)
            raise _unsupported(node)
        if not _any(arguments, lambda value: isinstance(value, np.ndarray | Missing)):
            return self._constant(node, args, kwargs)
        handler = OPERATORS.get(str(node.target))
        if handler is None:
            raise _unsupported(node)
        call = Call(self.builder, node, *bind(node.target, args, kwargs))
        result = _handled(call, handler)
        call.finish()
        return _checked_shape(call, result)

    def _filled(self, arguments: object) -> object:
        """Values in place of nodes."""
        if isinstance(arguments, fx.Node):
            return self.values[arguments]
        if isinstance(arguments, dict):
            return {name: self._filled(argument) for name, argument in arguments.items()}
        if isinstance(arguments, list):
            return [self._filled(argument) for argument in arguments]
        return tuple(self._filled(argument) for argument in arguments) if isinstance(arguments, tuple) else arguments

    def _constant(self, node: fx.Node, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """What torch makes of constants."""
        operator = cast(torch._ops.OpOverload, node.target)
        if torch.Tag.nondeterministic_seeded in operator.tags or "empty" in operator_name(node) or operator._schema.is_mutable:
            raise _unsupported(node)
        with torch.no_grad(), silence():
            return operator(*args, **kwargs)


def _finite(name: str, values: Tensor, used: bool) -> Tensor:
    if used and values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise ModelError(f"{name} holds NaN or infinite numbers; wanted finite ones: train or load the module anew")
    return values


def _any(values: object, test: Callable[[object], bool]) -> bool:
    if isinstance(values, list | tuple):
        return any(_any(value, test) for value in values)
    if isinstance(values, dict):
        return any(_any(value, test) for value in values.values())
    return test(values)


def _handled(call: Call, handler: Handler) -> object:
    """What a handler makes of a call: refused before it takes more memory than there is."""
    try:
        for shape in _shapes(call):
            fits(*shape)
        return handler(call)
    except TooLarge as error:
        raise UnsupportedError(f"{call.name} is too large ({call.place}): {error}") from error
    except TightVerifyError:
        raise
    except MISFITS as error:
        raise ModelError(
            f"{call.name} cannot be read ({type(error).__name__}: {in_short(error)}; {call.place}); "
            "write it another way, and please report the model"
        ) from error


def _shapes(call: Call) -> list[tuple[int, ...]]:
    """Those of a call's results, as far as torch's export knows them."""
    made = call.node.meta["val"]
    shapes = (tuple(one.shape) for one in (made if isinstance(made, list | tuple) else (made,)) if isinstance(one, Tensor))
    return [shape for shape in shapes if all(isinstance(length, int) for length in shape)]


def _checked_shape(call: Call, result: object) -> object:
    """The result, if its shapes are those that torch gives it: a bug of ours is caught where it happens."""
    expected = call.node.meta["val"]
    for made, wanted in zip(
        result if isinstance(result, tuple) else (result,),
        expected if isinstance(expected, list | tuple) else (expected,),
        strict=True,
    ):
        name = str(call.node.target)
        kinds = (
            torch.float32,
            torch.float64,
            *((torch.bool,) if name in OF_TRUTHS else ()),
            *(LIMITS if name in PLACES else ()),
        )
        if isinstance(made, np.ndarray) and wanted.dtype not in kinds:
            raise call.refuse(f"gives {wanted.dtype}, which is not supported", "compute in float32 or float64 throughout")
        if not isinstance(made, np.ndarray | Tensor) or not all(isinstance(length, int) for length in wanted.shape):
            continue  # Shapes that hang on constants' numbers are not known to export.
        if tuple(made.shape) != tuple(wanted.shape):
            raise ModelError(
                f"{call.name} was read as giving shape {tuple(made.shape)}, and torch gives {tuple(wanted.shape)} "
                f"({call.place}); please report the model as a bug"
            )
    return result


def _unsupported(node: fx.Node) -> UnsupportedError:
    name = operator_name(node)
    return UnsupportedError(f"{name} is not supported ({place_of(node)}): {ADVICE.get(name, INSTEAD)}")
