"""A module of several inputs or outputs as one of a single input and a single output.

What else it takes is fixed, or lies beside the input in a flat one; a module with a state is called chunk by chunk.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tightverify.errors import ModelError, UnsupportedError, UsageError
from tightverify.models.blocks import Block
from tightverify.models.fixed import as_numbers

Output = int | str
"""The number of an output, or its key in a dictionary."""


@dataclass(frozen=True)
class Way:
    """How the input of a wrapped module becomes those of the module: blocks of it, each with the axis of its batch there, or
    chunks for so many calls, with the states that the outputs of these numbers or keys go back into; a module that knows no
    batch is given one input `alone`.
    """

    blocks: tuple[Block, ...] = ()
    batch_axes: tuple[int, ...] = (0,)
    calls: int = 0
    states: Mapping[str, Output] = field(default_factory=dict)
    alone: bool = False


PLAINLY = Way()


class Wrapped(nn.Module):
    """The module on its one input `entry`, the others being fixed, and of its outputs one."""

    def __init__(
        self, module: nn.Module, entry: str | None, numbers: Mapping[str, Any], output: Output | None, way: Way
    ) -> None:
        super().__init__()
        self.module, self.entry, self.output, self.way = module, entry, output, way
        self.numbers = {name: value for name, value in numbers.items() if not isinstance(value, Tensor)}
        self.tensors = {name: f"fixed_{name}" for name, value in numbers.items() if isinstance(value, Tensor)}
        for name, buffer in self.tensors.items():
            self.register_buffer(buffer, numbers[name])

    def forward(self, x: Tensor) -> Tensor:
        if self.way.alone:
            return one_of(self.module(x[0]), self.output)[None]
        if self.entry is None:
            return one_of(self.module(x), self.output)
        if self.way.calls:
            return self._streamed(x)
        given = {self.entry: x}
        if self.way.blocks:
            pairs = zip(self.way.blocks, self.way.batch_axes, strict=True)
            given = {block.name: block.of(x).movedim(0, axis) for block, axis in pairs}
        return one_of(self.module(**{**self._fixed, **given}), self.output)

    @property
    def _fixed(self) -> dict[str, Any]:
        return {**{name: getattr(self, buffer) for name, buffer in self.tensors.items()}, **self.numbers}

    def _streamed(self, x: Tensor) -> Tensor:
        """(1, K, n): the rows of K calls, for one input (1, K, *shape)."""
        held, found = self._fixed, []
        for chunk in x.unbind(1):
            made = self.module(**{**held, str(self.entry): chunk.movedim(0, self.way.batch_axes[0])})
            found.append(one_of(made, self.output).reshape(1, -1))
            held = {**held, **{entry: one_of(made, output) for entry, output in self.way.states.items()}}
        return torch.stack(found, 1)


def one_of(made: Any, output: Output | None) -> Tensor:
    """The output that is asked about, the first if nothing is said; tuples in tuples are counted as one list."""
    if isinstance(output, str) and isinstance(made, Mapping) and output in made:
        return cast(Tensor, made[output])
    leaves = pytree.tree_leaves(made)
    number = 0 if output is None else int(output) if isinstance(output, int) or output.isdecimal() else -1
    if not 0 <= number < len(leaves):
        names = f"one of {', '.join(map(repr, made))}, or " if isinstance(made, Mapping) else ""
        raise UsageError(
            f"the module has no output {output!r}; wanted {names}its number, of 0 to {len(leaves) - 1}, tuples taken apart"
        )
    return cast(Tensor, leaves[number])


def leaves_of(made: Any) -> dict[str, Tensor]:
    """All outputs by their keys in a dictionary, or by their numbers, tuples taken apart."""
    if isinstance(made, Mapping):
        return {str(name): value for name, value in made.items() if isinstance(value, Tensor)}
    return {str(k): leaf for k, leaf in enumerate(pytree.tree_leaves(made)) if isinstance(leaf, Tensor)}


def entry_of(module: nn.Module, fix: Mapping[str, Any], several: Sequence[str] = ()) -> str | None:
    """The name of the input that is perturbed: the first one that is not fixed; None if there is nothing to fix.

    Or the first of `several`, if all others that are needed are fixed.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [each.name for each in parameters if each.kind in plain]
    unknown = sorted(fix.keys() - set(names))
    kind = type(module).__name__
    if unknown:
        raise ModelError(f"the module {kind} has no input '{unknown[0]}' to be fixed; it has {', '.join(names) or 'none'}")
    if several:
        return first_of(several, fix, names, kind, [each.name for each in parameters if each.default is each.empty])
    left = [each for each in parameters if each.name not in fix]
    needed = [each.name for each in left if each.default is inspect.Parameter.empty and each.kind in plain]
    if not left:
        raise ModelError(f"all inputs of the module {kind} are fixed; leave the one that is perturbed out")
    if len(needed) > 1:
        raise UnsupportedError(
            f"the module {kind} takes {', '.join(names)}; one of them is perturbed, and values are wanted for the others: "
            f"fix={{{needed[1]!r}: array}}, of the shape that the module wants for one input"
        )
    return left[0].name if fix else None


def first_of(several: Sequence[str], fix: Mapping[str, Any], names: Sequence[str], kind: str, needed: Sequence[str]) -> str:
    """The first of several inputs that are perturbed, which the module has, while all others that it needs are fixed."""
    unknown = next((name for name in several if name not in names), None)
    if unknown is not None:
        raise ModelError(f"the module {kind} has no input '{unknown}'; it has {', '.join(names) or 'none'}")
    both = sorted(fix.keys() & set(several))
    if both:
        raise ModelError(f"the input '{both[0]}' of the module {kind} is fixed and perturbed; give one of both")
    left = [name for name in needed if name in names and name not in several and name not in fix]
    if left:
        raise UnsupportedError(
            f"the module {kind} takes {', '.join(names)}; values are wanted for the others: fix={{{left[0]!r}: array}}, of the "
            "shape that the module wants for one input"
        )
    return several[0]


def numbers_of(fix: Mapping[str, Any], kind: torch.dtype) -> dict[str, Any]:
    """What inputs are fixed at; floats become `kind`."""
    return {name: _numbers(name, value, kind) for name, value in fix.items()}


def _numbers(name: str, value: Any, kind: torch.dtype) -> Any:
    """What an input is fixed at: plain numbers as they are, arrays as tensors."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    whole = np.asarray(value).dtype.kind in "biu"
    type_ = np.asarray(value).dtype if whole else torch.empty(0, dtype=kind).numpy().dtype
    return torch.from_numpy(np.ascontiguousarray(as_numbers(value, f"the input '{name}'", type_)))
