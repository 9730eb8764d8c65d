"""What a module may do with token numbers before they are vectors: move them about, and look them up in one table.

In place of token numbers go their places in the sentence, in place of the looked up vectors the neurons of the input. Whatever
else a module would make of the numbers, such as a mask of padding, is refused: it would not be seen behind the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder, Symbols
from tightverify.models.from_torch.call import Call, bind, operator_name, place_of
from tightverify.models.from_torch.moves import MOVES, PLAIN

LOOK_UP = "aten.embedding.default"
SAME = {"aten.alias.default", "aten.clone.default", "aten.detach.default", "aten.lift_fresh_copy.default"}
MOVED = {*PLAIN, *SAME, "aten.view.default", "aten._unsafe_view.default"}
CONVERTED = "aten._to_copy.default"
WHOLE = (torch.int64, torch.int32)
"""The types of token numbers."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Token numbers of some places in the sentence."""

    places: Symbols


@dataclass(eq=False)
class LookUp:
    """The tables in which a module looks its words up: there has to be one."""

    builder: Builder
    length: int
    table: fx.Node | None = None
    vectors: Symbols = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def value(self, node: fx.Node, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """What an operator makes of token numbers."""
        name, operator = str(node.target), node.target
        if not isinstance(operator, torch._ops.OpOverload):
            raise refused(node)
        arguments, defaults = bind(operator, args, kwargs)
        if name == LOOK_UP and isinstance(arguments["indices"], Tokens) and isinstance(arguments["weight"], Tensor):
            return self._vectors(node, arguments["weight"])[arguments["indices"].places]
        if name == CONVERTED and cast(Tensor, node.meta["val"]).dtype in WHOLE:
            return arguments["self"]
        if name not in MOVED or any(isinstance(each, Tensor) for value in arguments.values() for each in flat(value)):
            raise refused(node)
        call = Call(self.builder, node, {key: replaced(value) for key, value in arguments.items()}, defaults)
        moved = MOVES[name](call)
        call.finish()
        return tuple(map(Tokens, moved)) if isinstance(moved, tuple) else Tokens(cast(Symbols, moved))

    def _vectors(self, node: fx.Node, table: Tensor) -> Symbols:
        source = node.args[0] if node.args else node.kwargs["weight"]
        if not isinstance(source, fx.Node) or source.op != "placeholder":
            raise UnsupportedError(
                f"words are looked up in a table that the module computes ({place_of(node)}): use an nn.Embedding"
            )
        if self.table is None:
            self.table, self.vectors = source, self.builder.input((self.length, table.shape[1]))
        elif self.table is not source:
            raise UnsupportedError(
                f"words are looked up in two tables ({place_of(node)}): use one nn.Embedding, as wide as both together"
            )
        return self.vectors


def flat(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def replaced(value: object) -> object:
    """Places in place of token numbers."""
    if isinstance(value, list | tuple):
        return [replaced(each) for each in value]
    return value.places if isinstance(value, Tokens) else value


def refused(node: fx.Node) -> UnsupportedError:
    return UnsupportedError(
        f"{operator_name(node)} reads token numbers, which may only be looked up in an nn.Embedding ({place_of(node)}): leave "
        "masks of padding out, and give each sentence at its own length"
    )


def refuse_others(module: nn.Module, shape: tuple[int, ...], source: str) -> None:
    """Say what is wrong with a module that is to take token numbers, and with the shape of a sentence."""
    if len(shape) != 1:
        raise ModelError(f"{source} shall take token numbers, of shape {shape} for one input; wanted (words,)")
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding) and part.max_norm is not None:
            raise UnsupportedError(
                f"{source}: the embedding '{name}' has max_norm = {part.max_norm}, and changes its table when it is called; "
                "scale its rows once, and leave max_norm out"
            )


def with_table(module: nn.Module, name: str) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    """A module (a copy of its own) as a function of the table of this name, which gives one of token numbers."""
    owner = module.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.Embedding):
        owner.padding_idx = None  # it counts in training alone, and the table at hand may be shorter
    return lambda table: lambda tokens: cast(Tensor, functional_call(module, {name: table}, (tokens,), tie_weights=False))
