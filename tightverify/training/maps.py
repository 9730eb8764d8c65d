"""Linear maps of tensors with a batch axis, as training's bounds need them: forward, with absolute weights, and backward.

`push` maps x (B, ...), `push_each` several such tensors that lie along a first axis, `pull` rows (R, B, ...) over the map's
values to rows over its operand. Weights stay what they are in the user's module, so that all three are differentiable in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Function = Callable[..., Tensor]


class Map(ABC):
    """A linear map, with weights of either sign."""

    @abstractmethod
    def push(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def spread(self, x: Tensor) -> Tensor:
        """The same with the absolute values of the weights: what radii become."""

    @abstractmethod
    def pull(self, rows: Tensor) -> Tensor: ...

    def push_each(self, x: Tensor) -> Tensor:
        found: Tensor = torch.func.vmap(self.push)(x)
        return found

    def spread_each(self, x: Tensor) -> Tensor:
        found: Tensor = torch.func.vmap(self.spread)(x)
        return found


@dataclass(frozen=True, eq=False)
class Dense(Map):
    """A matrix (outputs, inputs) along the last axis."""

    weight: Tensor

    def push(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    @cached_property
    def size(self) -> Tensor:
        return self.weight.abs()

    def spread(self, x: Tensor) -> Tensor:
        return F.linear(x, self.size)

    def pull(self, rows: Tensor) -> Tensor:
        return rows @ self.weight

    push_each = push
    spread_each = spread


@dataclass(frozen=True, eq=False)
class Weighted(Map):
    """Any other function of a tensor and a weight that is linear in both, such as a convolution; `shape` is an operand's."""

    function: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    shape: torch.Size

    def push(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)

    def spread(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight.abs())

    def pull(self, rows: Tensor) -> Tensor:
        return pulled(self.push, (rows.new_zeros(self.shape),), rows)[0]


def pulled(function: Function, operands: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    """Rows (R, B, ...) over the values of a linear function as rows over each of its operands."""
    back = torch.func.vjp(function, *operands)[1]
    found: tuple[Tensor, ...] = torch.func.vmap(back)(rows)
    return found
