"""Linear maps, of which affine nodes are sums: by what their numbers are, not always a matrix.

A map A takes m numbers to n. Bounds ask for two products: `push`, values A x forward (interval arithmetic), and `pull`, rows
r A backward (CROWN's and DeepPoly's back-substitution). Both sums have a longest length, `fan_in` and `fan_out`, from which
the rounding allowance is counted (`Graph.rounding`).

A kind of map is a final class here: the kinds answer the same questions, so that whoever reads a map need not know which one
it is. Maps are frozen and may be shared by nodes, as time steps share their weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from tightverify.values import TINY, Index

NOTHING = torch.zeros(0, dtype=torch.float64)


class LinearMap(ABC):
    """A linear function of m numbers with n values; `shape` is (n, m), like its matrix's."""

    name: ClassVar[str]
    """the kind's name in files: it stays when the class is renamed"""
    elementwise: ClassVar[bool]
    """whether each value is one of the numbers, scaled: then n = m"""
    weights: Tensor
    """the numbers that it is made of, which with its kind and shape say which map it is"""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]: ...

    @abstractmethod
    def push(self, x: Tensor) -> Tensor:
        """A x: values (..., n), in x's dtype, of numbers (..., m)."""

    @abstractmethod
    def pull(self, rows: Tensor) -> Tensor:
        """r A: rows (..., n) over the values as rows (..., m) over the numbers."""

    @property
    @abstractmethod
    def fan_in(self) -> int:
        """The most products that meet in one sum of `push`."""

    @property
    @abstractmethod
    def fan_out(self) -> int:
        """The most products that meet in one sum of `pull`."""

    @abstractmethod
    def select(self, index: Index) -> tuple[Index, LinearMap]:
        """Some of the values: which of the numbers they need, and the map from those."""

    @abstractmethod
    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and value of all that the matrix has but zeros outside the map's pattern; on the map's device."""

    @abstractmethod
    def of_weights(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same kind of map, of other weights."""

    # What follows from these

    @property
    def matrix(self) -> Tensor:
        """(n, m), whole."""
        rows, columns, values = self.entries()
        whole = torch.zeros(self.shape, dtype=values.dtype, device=values.device)
        return whole.index_put((rows, columns), values)

    @property
    def absolute(self) -> LinearMap:
        """|A|."""
        return self.of_weights(torch.abs)

    @property
    def magnitude(self) -> LinearMap:
        """The map of sizes: an importer's weights may have underflowed, and so have size even where they are 0."""
        return self.of_weights(lambda weights: weights.abs().add_(TINY))

    @cached_property
    def monotone(self) -> bool:
        """Whether no value ever falls when a number grows."""
        return not bool((self.weights < 0).any())

    @cached_property
    def sign(self) -> int:
        """1 where the values are the numbers themselves, -1 where they are their negations, else 0."""
        if not self.elementwise:
            return 0
        return next((sign for sign in (1, -1) if bool((self.weights == sign).all())), 0)

    def equals(self, other: LinearMap) -> bool:
        """Whether the two are of one kind, shape and weights."""
        return self is other or (
            type(self) is type(other) and self.shape == other.shape and torch.equal(self.weights, other.weights)
        )

    def to(self, device: str) -> LinearMap:
        return self.of_weights(lambda weights: weights.to(device))


@dataclass(frozen=True, eq=False)
class Identity(LinearMap):
    """The numbers as they are: `push` and `pull` give their argument itself, no copy."""

    size: int
    weights: Tensor = field(default=NOTHING, init=False, repr=False)
    name: ClassVar[str] = "identity"
    elementwise: ClassVar[bool] = True

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

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        every = torch.arange(len(self.weights), device=self.weights.device)
        return every, every, self.weights

    def of_weights(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, weights=change(self.weights))


@dataclass(frozen=True, eq=False)
class Dense(LinearMap):
    """A matrix (n, m)."""

    weights: Tensor
    name: ClassVar[str] = "dense"
    elementwise: ClassVar[bool] = False

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
