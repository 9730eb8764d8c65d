"""A module of several inputs or outputs as one of a single input and a single output: what else it takes is fixed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tightverify.errors import ModelError, UnsupportedError, UsageError
from tightverify.models.fixed import as_numbers

Output = int | str
"""The number of an output, or its key in a dictionary."""


class Wrapped(nn.Module):
    """The module on its one input `entry`, the others being fixed, and of its outputs one."""

    def __init__(self, module: nn.Module, entry: str | None, numbers: Mapping[str, Any], output: Output | None) -> None:
        super().__init__()
        self.module, self.entry, self.output = module, entry, output
        self.numbers = {name: value for name, value in numbers.items() if not isinstance(value, Tensor)}
        self.tensors = {name: f"fixed_{name}" for name, value in numbers.items() if isinstance(value, Tensor)}
        for name, buffer in self.tensors.items():
            self.register_buffer(buffer, numbers[name])

    def forward(self, x: Tensor) -> Tensor:
        if self.entry is None:
            return one_of(self.module(x), self.output)
        fixed = {name: getattr(self, buffer) for name, buffer in self.tensors.items()}
        return one_of(self.module(**{self.entry: x}, **fixed, **self.numbers), self.output)


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


def entry_of(module: nn.Module, fix: Mapping[str, Any]) -> str | None:
    """The name of the input that is perturbed: the first one that is not fixed; None if there is nothing to fix."""
    parameters = inspect.signature(module.forward).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [each.name for each in parameters if each.kind in plain]
    unknown = sorted(fix.keys() - set(names))
    kind = type(module).__name__
    if unknown:
        raise ModelError(f"the module {kind} has no input '{unknown[0]}' to be fixed; it has {', '.join(names) or 'none'}")
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
