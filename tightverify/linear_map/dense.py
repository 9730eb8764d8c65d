"""Maps that are matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from tightverify.linear_map.base import LinearMap
from tightverify.values import Index


@dataclass(frozen=True, eq=False)
class Dense(LinearMap):
    """A matrix (n, m)."""

    weights: Tensor
    name: ClassVar[str] = "dense"
    elementwise: ClassVar[bool] = False
    joins: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, int]:
        outputs, inputs = self.weights.shape
        return outputs, inputs

    def push(self, x: Tensor) -> Tensor:
        return x @ self.weights.to(x.dtype).T

    def pull(self, rows: Tensor) -> Tensor:
        return rows @ self.weights

    @property
    def fan_in(self) -> int:
        return self.shape[1]

    @property
    def fan_out(self) -> int:
        return self.shape[0]

    def select(self, index: Index) -> tuple[Index, LinearMap]:
        return slice(None), Dense(self.weights[index])

    def numbers_of(self, values: int) -> int:
        return values * self.shape[1]

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        outputs, inputs = (torch.arange(length, device=self.weights.device) for length in self.shape)
        return outputs.repeat_interleave(len(inputs)), inputs.repeat(len(outputs)), self.weights.flatten()

    def of_weights(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, weights=change(self.weights))

    @property
    def matrix(self) -> Tensor:
        return self.weights


def side_by_side(maps: Sequence[LinearMap]) -> LinearMap:
    """The sum of several maps, each of numbers of its own, as one map of all of them."""
    return maps[0] if len(maps) == 1 else Dense(torch.cat([one.matrix for one in maps], dim=1))
