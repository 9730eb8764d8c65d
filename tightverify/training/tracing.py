"""Runs a user's module on bounds in place of numbers: as it is, whatever its `forward` is written in.

A `Bounded` looks like the tensor that the module would compute, and hands every call of torch on it to `operators`, which makes
a node of it (`nodes`). What is not known there is refused. So loops over frames, residual sums and cells written by hand need
nothing of their own; what asks for the numbers themselves (`if x.sum() > 0`) is refused, for there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tightverify.errors import UnsupportedError, UsageError
from tightverify.training.nodes import Bounding, Input, Node
from tightverify.training.regions import TrainingRegion

FACTS = {"shape", "dtype", "device", "ndim", "is_cuda", "is_nested", "is_sparse", "requires_grad", "layout", "is_mps", "is_cpu"}
ASKED = {"size", "dim", "ndimension", "numel", "is_floating_point", "is_complex", "__len__", "nelement", "get_device"}
"""Properties and methods that say what kind of tensor it is, not what it holds."""

Operator: TypeAlias = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
"""What each function of torch is made of, by its name: see `operators`."""


class Bounded(Tensor):
    """What stands in a tensor's place while a module is bounded."""

    node: Node

    @staticmethod
    def of(node: Node) -> Bounded:
        like = node.interval.lower
        made: Bounded = Tensor._make_wrapper_subclass(Bounded, like.shape, dtype=like.dtype, device=like.device)
        made.node = node
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Bounded({' x '.join(map(str, self.node.shape))})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = name_of(func)
        if name in FACTS or name in ASKED:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if name not in OPERATORS:
            raise UnsupportedError(
                f"training cannot bound {name}; build that part of the module from {', '.join(sorted(SUGGESTED))} and sums"
            )
        return OPERATORS[name](*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise UnsupportedError(f"training cannot bound {func}, which asks for the numbers themselves; write the module without")


SUGGESTED = ("linear", "conv", "relu", "tanh", "sigmoid", "lstm", "gru", "pooling", "batch norm", "products")


def name_of(func: Any) -> str:
    """A function's name; a property's, where its value is asked for."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        name = str(func.__self__.__name__)
    return name.removeprefix("_") if name.startswith("_") and not name.startswith("__") else name


def traced(module: nn.Module, region: TrainingRegion, forward: bool, through: bool, lines: str = "default") -> Node:
    """The module's output (B, ...) over the regions; `through`: rows may go through operations."""
    by_batch = any(isinstance(part, nn.modules.batchnorm._NormBase) and part.training for part in module.modules())
    bounding = Bounding(region, forward, not (forward or through or by_batch), lines)
    with counters_kept(module):
        output = module(Bounded.of(Input(bounding)))
    if not isinstance(output, Bounded):
        raise UsageError(f"the module gives a {type(output).__name__}; wanted one tensor that depends on the input")
    return output.node


@contextmanager
def counters_kept(module: nn.Module) -> Iterator[None]:
    """Whole numbers among the module's buffers, such as how many batches a batch norm has seen, stay what they are."""
    counters = [(buffer, buffer.clone()) for buffer in module.buffers() if not buffer.is_floating_point()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in counters:
                buffer.copy_(before)
