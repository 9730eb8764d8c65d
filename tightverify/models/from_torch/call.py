"""One call of an ATen operator in an exported module: its arguments by name, and a refusal that says where it stands.

Nothing is ignored. An argument that the operator's import did not read must have its default value, else `finish` refuses
the call; only where and how torch stores its tensors is of no interest.

A value is a symbolic tensor (a numpy array of neuron numbers, see `builder`), a constant torch tensor or number, a tuple of
values, or `Missing`: an output that cannot be had.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, fx

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.builder import Builder, Symbols

STORAGE = {"layout", "device", "pin_memory", "memory_format", "non_blocking"}
"""Arguments that say how a tensor is stored, never what it holds."""


@dataclass(frozen=True)
class Missing:
    """An output of an operator that the import does not make, such as the positions of a maximum."""

    what: str
    advice: str


POSITIONS = Missing("the positions of a maximum or minimum", "use its values only")


@dataclass(eq=False)
class Call:
    """An operator's arguments, values in place of nodes; `read` collects the names that the import looked at."""

    builder: Builder
    node: fx.Node
    arguments: dict[str, object]
    defaults: dict[str, object]
    read: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> object:
        self.read.add(name)
        return self.arguments[name]

    def finish(self) -> None:
        """Refuses arguments that were given and not honoured."""
        for name in self.arguments.keys() - self.read - STORAGE:
            given = self.arguments[name]
            plain = given is None or isinstance(given, bool | int | float | str | list | tuple)
            if not plain or given != self.defaults.get(name):
                raise self.refuse(f"with {name} = {given} is not supported", f"write the model without `{name}`")

    def symbolic(self, name: str) -> bool:
        return isinstance(self[name], np.ndarray)

    def symbols(self, name: str) -> Symbols:
        """The argument as neurons, constants too."""
        return self.neurons(self[name])

    def neurons(self, value: object) -> Symbols:
        if isinstance(value, np.ndarray):
            return value
        return self.builder.constant(self.exact(value))

    def constant(self, name: str) -> Tensor:
        """The argument's numbers in float64; refused if they depend on the input."""
        value = self[name]
        if isinstance(value, np.ndarray):
            raise self.refuse(f"with a {name} that depends on the input is not supported", f"make `{name}` a constant")
        return self.exact(value)

    def exact(self, value: object) -> Tensor:
        """A constant in float64, all of whose numbers are finite."""
        if isinstance(value, Missing):
            raise self.refuse(f"reads {value.what}, which is not supported", value.advice)
        if isinstance(value, bool | int | float):
            value = torch.tensor(float(value), dtype=torch.float64)
        if not isinstance(value, Tensor) or value.is_complex():
            raise self.refuse(f"on a {type(value).__name__} is not supported", "use real tensors only")
        numbers = self.builder.exact(value)
        if not bool(torch.isfinite(numbers).all()):
            raise ModelError(
                f"{self.name} reads a constant with NaN or infinite entries ({self.place}); "
                "wanted finite numbers: leave masking with infinity to after the network's last output"
            )
        return numbers

    def number(self, name: str) -> float:
        value = self[name]
        if isinstance(value, np.ndarray | Tensor):
            value = self.constant(name)
            if value.numel() != 1:
                raise self.refuse(f"with several values of {name} is not supported", "use one number")
            return float(value)
        return float(cast(float, value))

    def flag(self, name: str) -> bool:
        return bool(self[name])

    def integer(self, name: str) -> int:
        return int(cast(int, self[name]))

    def integers(self, name: str) -> tuple[int, ...]:
        value = self[name]
        return tuple(int(k) for k in cast(Iterable[int], value)) if isinstance(value, list | tuple) else (self.integer(name),)

    def values(self, name: str) -> list[object]:
        return list(cast(Iterable[object], self[name]))

    def dtype(self) -> torch.dtype:
        """What torch makes of this call."""
        return cast(Tensor, self.node.meta["val"]).dtype

    @property
    def name(self) -> str:
        return operator_name(self.node)

    @property
    def place(self) -> str:
        return place_of(self.node)

    def refuse(self, fault: str, advice: str) -> UnsupportedError:
        return UnsupportedError(f"{self.name} {fault} ({self.place}): {advice}")


def operator_name(node: fx.Node) -> str:
    """`aten.sin` for the operator's overload `aten.sin.default`."""
    return re.sub(r"^(\w+\.\w+)\.\w+$", r"\1", str(node.target))


def place_of(node: fx.Node) -> str:
    """Where the user's model calls a node: the module's path, and the source line nearest to it outside torch."""
    modules = [entry for entry in node.meta.get("nn_module_stack", {}).values() if isinstance(entry, tuple)]
    places = []
    if modules:
        path, kind = modules[-1][0], modules[-1][1]
        kind = kind if isinstance(kind, str) else kind.__name__
        places.append(
            f"in module '{path}', a {kind.split('.')[-1]}" if path else f"in the outermost module, a {kind.split('.')[-1]}"
        )
    frames = re.findall(r'File "([^"]+)", line (\d+), in .*\n\s*(.*)', node.meta.get("stack_trace") or "")
    libraries = os.path.dirname(torch.__file__), os.path.dirname(__file__)
    for file, line, source in reversed(frames):
        if not file.startswith(libraries):
            places.append(f"{os.path.basename(file)} line {line}: `{source.strip()}`")
            break
    return ", ".join(places) or "place unknown"


def bind(
    operator: torch._ops.OpOverload, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """An operator's arguments by name, and its defaults."""
    schema = operator._schema.arguments
    defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    positional = [argument.name for argument in schema if not argument.kwarg_only]
    return {**defaults, **dict(zip(positional, args, strict=False)), **kwargs}, defaults
