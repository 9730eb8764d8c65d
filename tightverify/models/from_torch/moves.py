"""Operators that only move numbers about: torch itself runs them, on the neurons' numbers in place of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor

from tightverify.models.builder import ZERO, Symbols
from tightverify.models.from_torch.call import Call


def move(*positions: str) -> Callable[[Call], object]:
    """Torch's own operator; arguments named in `positions` say where, and must be constant; all other tensors hold values."""

    def build(call: Call) -> object:
        arguments = {}
        for name in call.arguments:
            value = call[name]
            arguments[name] = _constant_positions(call, name, value) if name in positions else _numbers(call, value)
        return _symbols(cast(Callable[..., object], call.node.target)(**arguments))

    return build


def _numbers(call: Call, value: object) -> object:
    """Neuron numbers in place of values, also inside lists."""
    if isinstance(value, np.ndarray | Tensor):
        return torch.from_numpy(np.ascontiguousarray(call.neurons(value))).reshape(value.shape)
    if isinstance(value, list | tuple) and any(isinstance(item, np.ndarray | Tensor) for item in value):
        return [_numbers(call, item) for item in value]
    return value


def _constant_positions(call: Call, name: str, value: object) -> object:
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, np.ndarray):
            raise call.refuse(f"with a {name} that depends on the input is not supported", f"make `{name}` a constant")
    return value


def _symbols(result: object) -> object:
    if isinstance(result, Tensor):
        return result.numpy()
    return tuple(_symbols(item) for item in cast(list[object], result))


def reshape(call: Call) -> Symbols:
    call.read.update(("size", "shape", "start_dim", "end_dim"))
    return call.symbols("self").reshape(tuple(cast(Tensor, call.node.meta["val"]).shape))


def same(call: Call) -> Symbols:
    return call.symbols("self")


def pad(call: Call) -> Symbols:
    """Constants around; negative widths cut."""
    numbers = torch.from_numpy(np.ascontiguousarray(call.symbols("self")))
    value = call.number("value")
    fill = ZERO if value == 0 else int(call.neurons(value))
    return torch.constant_pad_nd(numbers, list(call.integers("pad")), fill).numpy()


def put(call: Call) -> object:
    if call.flag("accumulate"):
        raise call.refuse("with accumulate = True is not supported", "add the tensors instead")
    return move("indices")(call)


def copied(call: Call) -> object:
    """Values in the place of others, of whose type they are then."""
    source = call.node.all_input_nodes[-1].meta["val"]
    if call.symbolic("src") and call.dtype() is not source.dtype and source.dtype is torch.float64:
        raise call.refuse(f"from float64 to {call.dtype()} is not supported", "compute in one precision throughout")
    return move()(call)


PLAIN = (
    "aten.permute.default",
    "aten.transpose.int",
    "aten.t.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.unsqueeze.default",
    "aten.expand.default",
    "aten.select.int",
    "aten.slice.Tensor",
    "aten.cat.default",
    "aten.stack.default",
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
    "aten.unbind.int",
    "aten.unfold.default",
    "aten.flip.default",
    "aten.roll.default",
    "aten.repeat.default",
    "aten.narrow.default",
    "aten.diagonal.default",
    "aten.select_scatter.default",
    "aten.slice_scatter.default",
)
"""All of their tensors hold values."""

MOVES: dict[str, Callable[[Call], object]] = {
    **dict.fromkeys(
        ("aten.view.default", "aten._unsafe_view.default", "aten.reshape.default", "aten.flatten.using_ints"), reshape
    ),
    **dict.fromkeys(("aten.alias.default", "aten.clone.default", "aten.detach.default", "aten.lift_fresh_copy.default"), same),
    **dict.fromkeys(PLAIN, move()),
    "aten.copy.default": copied,
    "aten.index.Tensor": move("indices"),
    "aten._unsafe_index.Tensor": move("indices"),
    "aten.index_put.default": put,
    "aten.index_select.default": move("index"),
    "aten.gather.default": move("index"),
    "aten.scatter.src": move("index"),
    "aten.where.self": move("condition"),
    "aten.constant_pad_nd.default": pad,
}
"""Operators by name."""
