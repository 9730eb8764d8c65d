"""`tightverify.load`: a torch module or an ONNX file as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from tightverify.api.checks import as_inputs, as_several
from tightverify.calling import plainly
from tightverify.embedding import Embedding
from tightverify.errors import InputError, UsageError
from tightverify.models.blocks import Shapes, blocks_of, joined
from tightverify.models.model import Model
from tightverify.models.streaming import State, Streaming

AnyModel = torch.nn.Module | str | Path | Model


class LoadOptions(TypedDict, total=False):
    """What `load` may be told of how a model is read."""

    batch_axis: int | None
    fix: Mapping[str, Any] | None
    output: int | str | None
    frame: int | str | None
    unroll: int | None
    state: State | None
    progress: bool


@plainly
def load(
    model: AnyModel,
    shape: tuple[int, ...] | Shapes | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    inputs: Any = None,
    *,
    tokens: bool = False,
    vocabulary: Sequence[str] = (),
    fix: Mapping[str, Any] | None = None,
    output: int | str | None = None,
    frame: int | str | None = None,
    unroll: int | None = None,
    state: State | None = None,
    progress: bool = False,
) -> Model:
    """Import a torch module or an ONNX file once, to use it in many calls.

    `shape` is the shape of one input, without the batch axis; an ONNX file may state it itself. `batch_axis` is the axis
    of the model's input along which a batch goes: 0 if not given, or what an ONNX file says. `inputs` (N, *shape) are some
    that the model is for: they say the shape, and where the import is compared with the model should that have no value at
    random inputs (a logarithm).

    `tokens` says that a torch module takes numbers of words (N, words), which it looks up in an `nn.Embedding`: regions are
    about the vectors behind it (of an ONNX file its input's type says so). `shape` is (words,) then.
    `vocabulary` has the names of the words, in the order of their numbers.

    A model of several inputs is one of the input that is not in `fix`, by names a number, which stands for all numbers of
    an ONNX file's input, or an array for one input, with the batch as an axis of length 1: `fix={"state": 0.0}`. Of several
    outputs the first is meant if `output`, its name or its number, does not say another; of an output of several frames,
    `frame` chooses one, `"last"` or its number, or `"all"`.

    Where several inputs are perturbed, `shape`, `inputs` and `batch_axis`, if it is given, have an entry for each by its name:
    `shape={"x": (8, 28), "noise": (4,)}`. They lie one after the other in a flat input (n,).

    `unroll=K` calls a model with a state K times, as a stream does, and is about the K chunks together, (K, *shape):
    `shape` is that of a chunk, inputs are (N, K, *shape). What its state is fixed at is that of the first call;
    `state={"stateN": "state"}` says by names (of a module's outputs, by numbers) which outputs go back into which inputs, where
    names and shapes leave a choice. Its frames are the calls.

    `progress` says on stderr how far an import is that takes more than two seconds.
    """
    how: dict[str, Any] = {"fix": fix or {}, "output": output, "frame": frame}
    if isinstance(model, Model):
        if any(value not in (None, {}) for value in (*how.values(), unroll, state)):
            raise UsageError("a model that is loaded already was given with fix, output or frame; give them when it is loaded")
        return named(model, vocabulary)
    how |= {"streaming": Streaming.of(unroll, state), "progress": progress}
    shape, inputs = about(shape, inputs, unroll)
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            "a TorchScript module was given, of which torch.export makes nothing; give the module that it was scripted or "
            "traced from, or an ONNX file that was exported from that"
        )
    if isinstance(model, torch.nn.Module):
        if shape is None:
            raise UsageError(
                "a torch module does not say what inputs it takes; give shape=(time, features) of one input, or "
                "(words,) of one that takes tokens"
            )
        from tightverify.models.from_torch.module import from_torch  # only what is used: onnxruntime and export start slowly

        return named(from_torch(model, shape, 0 if batch_axis is None else batch_axis, inputs, tokens, **how), vocabulary)
    if isinstance(model, (str, Path)):
        from tightverify.models.from_onnx.file import from_onnx

        return named(from_onnx(model, shape, batch_axis, inputs, **how), vocabulary)
    what = (
        f"the class {model.__name__}, not a module made of it,"
        if isinstance(model, type)
        else f"an object of type {type(model).__name__}"
    )
    raise UsageError(f"{what} was given for the model; wanted a torch module, or the path of an ONNX file")


def about(
    shape: tuple[int, ...] | Shapes | None, inputs: Any, unroll: int | None
) -> tuple[tuple[int, ...] | Shapes | None, Tensor | None]:
    """The shape of one input, or those of several, and the inputs, which have to agree where both are given."""
    if isinstance(shape, Mapping):
        shape = {str(name): lengths_of(lengths) for name, lengths in shape.items()}
        if not shape or any(not lengths or min(lengths) < 1 for lengths in shape.values()):
            raise UsageError(f"shape = {shape}; wanted a shape of positive lengths for each perturbed input, without the batch")
    elif shape is not None:
        shape = tuple(shape)
    if inputs is None:
        return shape, None
    if isinstance(inputs, Mapping):
        given = as_several(inputs)
        own = {name: tuple(values.shape[1:]) for name, values in given.items()}
        if shape is not None and shape != own:
            raise InputError(f"the inputs have the shapes {own}, without the batch; wanted {shape} by `shape`")
        return own, joined(given, blocks_of(own), "the model")
    inputs = as_inputs(inputs)
    rest = tuple(inputs.shape[1:])
    if unroll is not None and (len(rest) < 2 or rest[0] != unroll):
        raise InputError(
            f"the inputs have shape {tuple(inputs.shape)}; wanted (N, {unroll}, ...) of a model unrolled over {unroll} calls, "
            "a chunk for each"
        )
    rest = rest if unroll is None else rest[1:]
    if shape is not None and shape != rest:
        wanted = ", ".join(map(str, shape)) if isinstance(shape, tuple) else str(shape)
        raise InputError(f"the inputs have shape {tuple(inputs.shape)}; wanted (N, {wanted}) by `shape`")
    return rest, inputs


def lengths_of(given: Any) -> tuple[int, ...]:
    """The shape of one of several inputs; none of what is no shape."""
    try:
        return tuple(int(length) for length in given)
    except (TypeError, ValueError):
        return ()


def named(model: Model, vocabulary: Sequence[str]) -> Model:
    """The model, its words with names, if there are any."""
    if not len(vocabulary):
        return model
    if model.embedding is None:
        raise UsageError(f"a vocabulary was given, and {model.source} takes no token numbers; leave it out")
    if len(vocabulary) != len(model.embedding.table):
        raise InputError(
            f"the vocabulary has {len(vocabulary)} words, and {model.source} knows {len(model.embedding.table)}; wanted as "
            "many, in the order of their numbers"
        )
    return replace(model, embedding=Embedding(model.embedding.table, tuple(vocabulary)))


def name_of(model: AnyModel, loaded: Model) -> str:
    """What records call a model: its file as it was given, or where else it came from."""
    return str(model) if isinstance(model, (str, Path)) else loaded.name
