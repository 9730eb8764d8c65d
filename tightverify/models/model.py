"""A network both as the user has it and as a graph, and the check that the two compute the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.embedding import Embedding
from tightverify.errors import BatchError, DifferenceError, ModelError, UnsupportedError
from tightverify.graph import Apply, Graph
from tightverify.models.blocks import Block
from tightverify.models.tokens import random_sentences

AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-5}
"""How far import and original may differ, relative to 1 + |output|, by the original's own precision."""

NEAR = 0.01
"""How far inputs near a given one are from it, each number relative to itself: its sign stays."""
FARTHER = (1.0, -1.0, 10.0, -10.0, 100.0, -100.0, 1e3, -1e3, 1e4, -1e4)
"""How far random inputs are moved, one after the other, where those around 0 are all outside the model's domain."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """`original` maps a batch (N, *input_shape) of `dtype` to outputs (N, K); `graph` is what is bounded.

    Where the model is `narrow`, some numbers on its way are float32 though its inputs are float64: it is as precise as that.
    Where its last step was `left_out`, a softmax, outputs are what that is made of.
    Where the user's model takes numbers of words, inputs are the vectors of its `embedding` (time, d).
    Where several of its inputs are perturbed, they lie one after the other in a flat one, each a block of `blocks`.
    `source` says where it came from ("LSTM classifier in models/digits.onnx"), `notes` what the import did that a user may want
    to know, a sentence each.
    """

    graph: Graph
    original: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    source: str
    notes: tuple[str, ...] = ()
    narrow: bool = False
    embedding: Embedding | None = None
    left_out: str = ""
    blocks: tuple[Block, ...] = ()

    def __repr__(self) -> str:
        shape = self.shape_words
        kind = str(self.dtype).removeprefix("torch.")
        return f"Model({self.source}: inputs {shape}, {self.graph.output_size} outputs, {len(self.graph.nodes)} nodes, {kind})"

    @property
    def shape_words(self) -> str:
        """The shape of an input, or those of several, in a few words."""
        if self.blocks:
            return ", ".join(f"{block.name} {' x '.join(map(str, block.shape))}" for block in self.blocks)
        return " x ".join(map(str, self.graph.input_shape))

    def apart(self, x: Tensor) -> dict[str, Tensor]:
        """By the names of several perturbed inputs (N, *shape): what flat inputs x (N, n), or one x (n,), are made of."""
        return {block.name: block.of(x) if x.dim() > 1 else block.of(x[None])[0] for block in self.blocks}

    @property
    def name(self) -> str:
        """Its file, without folders, or where else it came from."""
        return self.source.removeprefix("the ONNX model ").rsplit("/", 1)[-1]

    def refuse_left_out(self, what: str) -> None:
        """Say that something cannot be asked of outputs that are not those of the user's model."""
        if self.left_out:
            raise UnsupportedError(
                f"{what}, and the {self.left_out} at the end of {self.name} was left out: ask about labels, or give a model "
                "without it and say what the numbers before it have to be"
            )

    @property
    def agreement(self) -> float:
        """How far its outputs may be from those of the graph, absolutely and relatively."""
        return AGREEMENT[torch.float32 if self.narrow else self.dtype]


class UncomparedError(ModelError):
    """There was no input at which the `model` has a value: its import could not be compared with it, and is not to be used."""

    def __init__(self, words: str, model: Model) -> None:
        super().__init__(words)
        self.model = model


def checked(model: Model, inputs: Tensor | None = None, seed: int = 0, count: int = 6) -> Model:
    """The model, if both sides agree on random inputs, one at a time and in a batch; else a `ModelError`.

    Random inputs at which the graph has no value, as a logarithm has none of numbers below 0, show nothing: `inputs`
    (N, *input_shape), those that the user wants to know of, and others near them, take their places. Where nobody said what
    inputs these are, random ones farther from 0 do.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = model.graph.input_shape
    x = torch.randn((count, *shape), generator=generator, dtype=torch.float64)
    x[count // 2 :] = torch.rand((count - count // 2, *shape), generator=generator, dtype=torch.float64)
    x = x.to(model.dtype)
    x, notes = inside(model, x, inputs, generator)
    model = replace(model, notes=(*model.notes, *notes))
    _agree_at(model, x)
    if model.embedding is not None:
        tokens = random_sentences(model.embedding, count, shape[0], generator)
        words = model.embedding(tokens)
        words = words[~anywhere(lost_at(model.graph, words), words)]
        if len(words):
            _agree_at(model, words)
    return model


def _agree_at(model: Model, x: Tensor) -> None:
    """A `ModelError` where import and model differ at inputs, or where inputs in a batch depend on one another."""
    count = len(x)
    with torch.no_grad():
        single = torch.cat([model.original(x[k : k + 1]) for k in range(count)]).to(torch.float64)
        values = model.graph.evaluate(x.to(torch.float64).flatten(1))
    ours = values[model.graph.output]
    if single.shape != ours.shape:
        raise ModelError(
            f"{model.source} gives outputs of shape {tuple(single.shape)} for {count} inputs; wanted ({count}, classes): "
            "end the model with one row of outputs per input"
        )
    unsaid = anywhere(valueless(model.graph, values), ours)[:, None] & (single.isnan() | ours.isnan())
    ours = torch.where(unsaid, single, ours)
    fault = "the import does not compute what the model computes; please report the model as a bug"
    if model.agreement == AGREEMENT[torch.float32]:
        fault += ", unless float32 rounding alone does that to it (many steps, large weights): a float64 model would tell"
    _compare(model, single, ours, fault, DifferenceError)
    try:
        with torch.no_grad():
            together = model.original(x).to(torch.float64)
    except Exception as error:
        raise BatchError(
            f"{model.source} runs on one input but fails on a batch of {count} ({type(error).__name__}: {error}); "
            "let it take any batch size, or say along which axis its batch goes"
        ) from error
    fault = "its outputs depend on what else is in the batch; let it treat each input by itself"
    _compare(model, together, single, fault)


def inside(model: Model, x: Tensor, inputs: Tensor | None, generator: torch.Generator) -> tuple[Tensor, tuple[str, ...]]:
    """The inputs among x at which the model has a value, others in place of the rest, and what there is to say of that."""
    outside = lost_at(model.graph, x)
    lost, names = anywhere(outside, x), sorted(name for name, there in outside.items() if bool(there.any()))
    if not bool(lost.any()):
        return x, ()
    given = x[:0] if inputs is None else inputs[: len(x)].to(model.dtype)
    base = torch.cat([x[~lost], given])
    copies = base.repeat(len(x), *(1 for _ in model.graph.input_shape))[: len(x)]
    near = copies * (1 + NEAR * torch.randn(copies.shape, generator=generator, dtype=torch.float64)).to(model.dtype)
    candidates = torch.cat([base, near])
    if not len(candidates) and inputs is None:
        candidates = torch.cat([x + shift for shift in FARTHER])
    found = candidates[~anywhere(lost_at(model.graph, candidates), candidates)][: len(x)]
    what = f"at {int(lost.sum())} of {len(x)} random inputs, the model has no value: {' and '.join(names)} may have none there"
    if len(found) == 0:
        asked = "" if inputs is None else ", nor has it one at the first of the inputs given"
        raise UncomparedError(
            f"{model.source} cannot be compared with its import: {what}{asked}; give inputs at which it has one, to "
            "`tightverify.load` as `inputs`, or together with the model",
            model,
        )
    return found, (f"the import was checked inside the model's domain only: {what}",)


def lost_at(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """By kind of operation (N,): at which inputs some output is no number, and one of them has no value there."""
    values = graph.evaluate(x.to(torch.float64).flatten(1))
    lost = ~torch.isfinite(values[graph.output]).all(1)
    return {name: lost & there for name, there in valueless(graph, values).items()}


def valueless(graph: Graph, values: list[Tensor]) -> dict[str, Tensor]:
    """By kind of operation (N,): at which inputs, given all nodes' values there, one of them has no value, whatever reads it.

    It then makes of finite operands what is not finite; what becomes of operands that overflowed is another matter. Where one
    has no value the graph claims nothing, and 0 * NaN may be 0 on one side alone: the graph leaves out what a weight of 0
    reads, and gathers outputs by a matrix.
    """
    found: dict[str, Tensor] = {}
    for node, value in zip(graph.nodes, values, strict=True):
        if isinstance(node, Apply) and node.op.partial:
            read = torch.stack([torch.isfinite(operand.read(values)) for operand in node.operands]).all(0)
            there, name = (read & ~torch.isfinite(value)).any(1), type(node.op).__name__
            found[name] = there | found.get(name, torch.zeros_like(there))
    return found


def anywhere(places: dict[str, Tensor], values: Tensor) -> Tensor:
    """(N,): the inputs that are in one of the places, of as many as there are values (N, ...)."""
    return torch.stack([torch.zeros(len(values), dtype=torch.bool), *places.values()]).any(0)


def _compare(model: Model, left: Tensor, right: Tensor, fault: str, kind: type[ModelError] = ModelError) -> None:
    if left.shape != right.shape:
        raise kind(f"{model.source}: outputs of shapes {tuple(left.shape)} and {tuple(right.shape)}: {fault}")
    same = torch.isclose(left, right, rtol=model.agreement, atol=model.agreement, equal_nan=True)
    if not bool(same.all()):
        gap = float((left - right).abs().nan_to_num(nan=torch.inf).max())
        raise kind(f"{model.source}: outputs differ by {gap:.3g}: {fault}")
