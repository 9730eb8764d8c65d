"""What is asked gives the same answer whatever torch has been told around the call.

A caller may be inside `torch.no_grad()`, `torch.inference_mode()` or autocast, or have set a default device; tensors that he
hands over may require grad, or have been made in inference mode. Autocast would run float32 models in bfloat16, no gradient can
be asked of tensors of inference mode, and new tensors would lie on another device than the inputs. So every public function is
`plainly` run: outside all of that, and without gradients but where a search asks for them.

His `callback` and `progress` are called there too. The default dtype stays his own, of which his module may make tensors:
nothing of ours depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def plain() -> Iterator[None]:
    """Neither inference mode, gradients, autocast nor a default device."""
    with ExitStack() as left:
        left.enter_context(torch.inference_mode(False))
        left.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                left.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            left.enter_context(torch.device("cpu"))
        yield


def plainly(function: Callable[P, T]) -> Callable[P, T]:
    """The function, run as in `plain`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with plain():
            return function(*args, **kwargs)

    return run


def each_plainly(values: Iterator[T]) -> Iterator[T]:
    """The same values, each made as in `plain`: between them the caller is where he was."""
    while True:
        with plain():
            try:
                value = next(values)
            except StopIteration:
                return
        yield value


def own(values: Tensor) -> Tensor:
    """A caller's tensor as plain numbers, of which gradients may be asked: not of inference mode, and part of no graph."""
    return values.detach().clone() if values.is_inference() else values.detach()
