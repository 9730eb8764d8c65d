"""Maps of each number by itself: the numbers as they are, or each times a weight of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from tightverify.linear_map.base import LinearMap
from tightverify.values import Index

NOTHING = torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Identity(LinearMap):
    """The numbers as they are: `push` and `pull` give their argument itself, no copy."""

    size: int
    weights: Tensor = field(default=NOTHING, init=False, repr=False)
    name: ClassVar[str] = "identity"
    elementwise: ClassVar[bool] = True
    joins: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def push(self, x: Tensor) -> Tensor:
        return x

    def pull(self, rows: Tensor) -> Tensor:
        return rows

    @property
    def fan_in(self) -> int:
        return 1

    @property
    def fan_out(self) -> int:
        return 1

    def select(self, index: Index) -> tuple[Index, LinearMap]:
        return index, Identity(len(torch.arange(self.size)[index]))

    def numbers_of(self, values: int) -> int:
        return values

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        every = torch.arange(self.size)
        return every, every, torch.ones(self.size, dtype=torch.float64)

    def of_weights(self, change: Callable[[Tensor], Tensor]) -> Self:
        return self


@dataclass(frozen=True, eq=False)
class Diagonal(LinearMap):
    """Each number times its own weight (n,)."""

    weights: Tensor
    name: ClassVar[str] = "diagonal"
    elementwise: ClassVar[bool] = True
    joins: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.weights), len(self.weights)

    def push(self, x: Tensor) -> Tensor:
        return x * self.weights.to(x.dtype)

    def pull(self, rows: Tensor) -> Tensor:
        return rows * self.weights

    @property
    def fan_in(self) -> int:
        return 1

    @property
    def fan_out(self) -> int:
        return 1

    def select(self, index: Index) -> tuple[Index, LinearMap]:
        return index, Diagonal(self.weights[index])

    def numbers_of(self, values: int) -> int:
        return values

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        every = torch.arange(len(self.weights), device=self.weights.device)
        return every, every, self.weights

    def of_weights(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, weights=change(self.weights))
