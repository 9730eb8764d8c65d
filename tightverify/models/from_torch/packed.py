"""Packed sequences whose lengths are all the number of frames, read as the plain tensors that they are then.

While a module is exported, packing gives the frames one after the other, which is how torch lays out sequences of equal length,
and recurrent layers take these as plain tensors. That the lengths are constants, and the number of frames, is checked as the
program is read: an operator of our own keeps them there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import CodeType, FrameType
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.nn.utils.rnn import PackedSequence, invert_permutation
from torch.overrides import TorchFunctionMode

from tightverify.errors import UnsupportedError
from tightverify.models.from_torch.call import Call, place_of

FULL_LENGTH = "tightverify.full_length.default"
INSTEAD = "only sequences of full length are supported: leave the packing out, or give the number of frames as every length"
PLAIN = nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward


def _equal(x: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """The frames as they are, where all lengths are their number."""
    check(lengths, frames)
    return x.clone()


_full_length = torch.library.custom_op(
    "tightverify::full_length", _equal, mutates_args=(), schema="(Tensor x, Tensor lengths, int frames) -> Tensor"
)
_full_length.register_fake(lambda x, *_: torch.empty_like(x))


def check(lengths: Tensor, frames: int) -> None:
    """Refuse lengths that are not the number of frames."""
    others = sorted({int(length) for length in lengths.flatten()} - {frames})
    if others:
        raise UnsupportedError(f"the module packs sequences of {frames} frames as of length {others[0]}; {INSTEAD}")


def read_packed(call: Call) -> object:
    """The packed frames of a program."""
    check(cast(Tensor, call["lengths"]), call.integer("frames"))
    return call.symbols("x")


class FullLength(TorchFunctionMode):
    """Packs and pads as if all sequences were of full length, and writes into the program that this is to be checked."""

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is torch.empty_like and _within(invert_permutation.__code__):
            return torch.zeros_like(*args)  # of which nothing is left: a permutation names every place
        instead: dict[str, Callable[..., Any]] = {"_pack_padded_sequence": _pack, "_pad_packed_sequence": _pad}
        return instead.get(getattr(function, "__name__", ""), function)(*args, **(kwargs or {}))


def _within(code: CodeType) -> bool:
    """Whether this is called from a function, or by what it calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def _pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """All sequences' first frames, then their second ones, and how many there are of each."""
    steps = x.transpose(0, 1) if batch_first else x
    frames, batch = steps.shape[:2]
    checked = _full_length(steps, lengths, frames)
    return checked.reshape(frames * batch, *steps.shape[2:]), torch.full((frames,), batch)


def _pad(data: Tensor, sizes: Tensor, batch_first: bool, value: float, total: int) -> tuple[Tensor, Tensor]:
    """The frames of each sequence, with others behind them up to `total`, and the lengths."""
    frames = len(sizes)
    steps = data.reshape(frames, -1, *data.shape[1:])
    lengths = torch.full((steps.shape[1],), frames)
    if total > frames:
        steps = F.pad(steps, (*(0, 0) * (steps.dim() - 1), 0, total - frames), value=value)
    return steps.transpose(0, 1) if batch_first else steps, lengths


def on_plain_tensors(module: nn.Module) -> nn.Module:
    """The module, which is a copy of the user's, with recurrent layers that read packed frames as plain tensors."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase) and type(part).forward in PLAIN:
            part.forward = partial(_unpacked, part, part.forward)
    return module


def _unpacked(layer: nn.RNNBase, plain: Callable[..., Any], given: Any, hx: Any = None) -> Any:
    """What a layer makes of packed frames."""
    if not isinstance(given, PackedSequence):
        return plain(given, hx)
    data, sizes, order, back = given
    steps = data.reshape(len(sizes), -1, data.shape[-1])
    start = None if hx is None else layer.permute_hidden(hx, order)
    made, last = plain(steps.transpose(0, 1) if layer.batch_first else steps, start)
    made = made.transpose(0, 1) if layer.batch_first else made
    return PackedSequence(made.reshape(len(data), -1), sizes, order, back), layer.permute_hidden(last, back)


class Packings(TorchFunctionMode):
    """Whether a function of torch packs sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.any = False

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.any = self.any or getattr(function, "__name__", "") == "_pack_padded_sequence"
        return function(*args, **(kwargs or {}))


def packs(module: nn.Module, x: Tensor) -> bool:
    """Whether a module, which is a copy of the user's, packs sequences for recurrent layers."""
    if not any(isinstance(part, nn.RNNBase) for part in module.modules()):
        return False
    with torch.no_grad(), Packings() as seen:
        module(x)
    return bool(seen.any)


def refuse_moving_lengths(program: Any) -> None:
    """Refuse a program whose lengths of packed sequences depend on the input."""
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    reached: set[fx.Node] = set()
    for node in program.graph.nodes:
        if str(node.target) == FULL_LENGTH and node.args[1] in reached:
            raise UnsupportedError(f"the lengths of packed sequences depend on the input ({place_of(node)}); {INSTEAD}")
        if node.name in inputs or not reached.isdisjoint(node.all_input_nodes):
            reached.add(node)
