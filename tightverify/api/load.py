"""`tightverify.load`: a torch module or an ONNX file as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch

from tightverify.api.checks import as_inputs
from tightverify.calling import plainly
from tightverify.embedding import Embedding
from tightverify.errors import InputError, UsageError
from tightverify.models.model import Model

AnyModel = torch.nn.Module | str | Path | Model


class LoadOptions(TypedDict, total=False):
    """What `load` may be told of how a model is read."""

    batch_axis: int | None
    fix: Mapping[str, Any] | None
    output: int | str | None
    frame: int | str | None


@plainly
def load(
    model: AnyModel,
    shape: tuple[int, ...] | None = None,
    batch_axis: int | None = None,
    inputs: Any = None,
    *,
    tokens: bool = False,
    vocabulary: Sequence[str] = (),
    fix: Mapping[str, Any] | None = None,
    output: int | str | None = None,
    frame: int | str | None = None,
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
    """
    how: dict[str, Any] = {"fix": fix or {}, "output": output, "frame": frame}
    if isinstance(model, Model):
        if any(value not in (None, {}) for value in how.values()):
            raise UsageError("a model that is loaded already was given with fix, output or frame; give them when it is loaded")
        return named(model, vocabulary)
    if inputs is not None:
        inputs = as_inputs(inputs)
        if shape is not None and tuple(shape) != tuple(inputs.shape[1:]):
            raise InputError(
                f"the inputs have shape {tuple(inputs.shape)}; wanted (N, {', '.join(map(str, shape))}) by `shape`"
            )
        shape = tuple(inputs.shape[1:])
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

        return named(
            from_torch(model, tuple(shape), 0 if batch_axis is None else batch_axis, inputs, tokens, **how), vocabulary
        )
    if isinstance(model, (str, Path)):
        from tightverify.models.from_onnx.file import from_onnx

        return named(from_onnx(model, None if shape is None else tuple(shape), batch_axis, inputs, **how), vocabulary)
    what = (
        f"the class {model.__name__}, not a module made of it,"
        if isinstance(model, type)
        else f"an object of type {type(model).__name__}"
    )
    raise UsageError(f"{what} was given for the model; wanted a torch module, or the path of an ONNX file")


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
