"""What every kind of linear map answers, and what follows from that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from tightverify.values import TINY, Index


class LinearMap(ABC):
    """A linear function of m numbers with n values; `shape` is (n, m), like its matrix's."""

    name: ClassVar[str]
    """the kind's name in files: it stays when the class is renamed"""
    elementwise: ClassVar[bool]
    """whether each value is one of the numbers, scaled: then n = m"""
    joins: ClassVar[bool]
    """whether it is worked out together with others as one matrix (`side_by_side`)"""
    weights: Tensor
    """the numbers that it is made of, which with its kind, shape and parameters say which map it is"""

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

    @abstractmethod
    def numbers_of(self, values: int) -> int:
        """How many numbers the map that `select` gives is made of, of so many values, at most."""

    # What follows from these

    @property
    def parameters(self) -> dict[str, Any]:
        """What there is to say of it beside its shape and weights, in plain values."""
        return {}

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
        """Whether surely no value ever falls when a number grows."""
        return not bool((self.weights < 0).any())

    @cached_property
    def sign(self) -> int:
        """1 where the values are the numbers themselves, -1 where they are their negations, else 0."""
        if not self.elementwise:
            return 0
        return next((sign for sign in (1, -1) if bool((self.weights == sign).all())), 0)

    def alike(self, other: LinearMap) -> bool:
        """Whether nothing but the weights tells the two apart."""
        same = type(self) is type(other) and self.shape == other.shape and self.parameters == other.parameters
        return same and self.weights.shape == other.weights.shape

    def equals(self, other: LinearMap) -> bool:
        """Whether the two are of one kind, shape, parameters and weights."""
        return self is other or (self.alike(other) and torch.equal(self.weights, other.weights))

    def to(self, device: str) -> LinearMap:
        return self.of_weights(lambda weights: weights.to(device))
