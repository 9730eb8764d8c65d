"""A softmax at the end of a module, left out: it does not change which output is the largest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SOFTMAXES = (
    torch.softmax,
    torch.log_softmax,
    functional.softmax,
    functional.log_softmax,
    Tensor.softmax,
    Tensor.log_softmax,
)
OPERATORS = ("aten.softmax.int", "aten._softmax.default", "aten.log_softmax.int", "aten._log_softmax.default")


def before_softmax(node: fx.Node) -> fx.Node | None:
    """Of a softmax over the last axis, what it is made of; None of any other node."""
    if str(node.target) not in OPERATORS or len(node.users) > 1:
        return None
    first, axis = node.args[0], cast(int, node.args[1])
    return first if isinstance(first, fx.Node) and axis in (-1, cast(Tensor, node.meta["val"]).dim() - 1) else None


class Calls(TorchFunctionMode):
    """Counts calls of a softmax; the one whose number is to be skipped gives what it was given."""

    def __init__(self, skipped: int = 0) -> None:
        super().__init__()
        self.skipped, self.count = skipped, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in SOFTMAXES:
            return func(*args, **(kwargs or {}))
        self.count += 1
        if self.count == self.skipped:
            return args[0] if args else (kwargs or {})["input"]
        with torch._C.DisableTorchFunction():  # one calls another
            return func(*args, **(kwargs or {}))


@dataclass(frozen=True, eq=False)
class WithoutLast:
    """A module whose last call of a softmax gives what it was given."""

    module: nn.Module
    calls: int

    @classmethod
    def of(cls, module: nn.Module, x: Tensor) -> WithoutLast:
        """By how many there are on an input."""
        with torch.no_grad(), Calls() as seen:
            module(x)
        return cls(module, seen.count)

    def __call__(self, x: Tensor) -> Tensor:
        with Calls(self.calls):
            return torch.as_tensor(self.module(x))
