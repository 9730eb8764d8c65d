"""The pair of planes that holds a function of k operands over a box, the answer to every relaxation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Plane:
    """`sum_k slopes[k] * operand_k + offset`; each slope and the offset are (B, n), one plane per neuron."""

    slopes: tuple[Tensor, ...]
    offset: Tensor

    def at(self, *operands: Tensor) -> Tensor:
        """Its value at a point of the operands (for choosing and testing; not rounded outward)."""
        value = self.offset
        for slope, operand in zip(self.slopes, operands, strict=True):
            value = value + slope * operand
        return value

    def map(self, change: Callable[[Tensor], Tensor]) -> Plane:
        return Plane(tuple(change(slope) for slope in self.slopes), change(self.offset))

    def maximum(self, other: Plane) -> Plane:
        """Each coefficient the larger one of both."""
        slopes = tuple(torch.maximum(a, b) for a, b in zip(self.slopes, other.slopes, strict=True))
        return Plane(slopes, torch.maximum(self.offset, other.offset))

    def where(self, condition: Tensor, other: Plane) -> Plane:
        """This plane for the neurons where the condition holds, the other one elsewhere."""
        slopes = tuple(torch.where(condition, a, b) for a, b in zip(self.slopes, other.slopes, strict=True))
        return Plane(slopes, torch.where(condition, self.offset, other.offset))


@dataclass(frozen=True, eq=False)
class Planes:
    """`lower.at(x) <= function(x) <= upper.at(x)` for every x of the box that they were made for."""

    lower: Plane
    upper: Plane

    def widen(self, amount: Tensor) -> Planes:
        """Both planes moved apart, each by `amount`, (B, n)."""
        lower = Plane(self.lower.slopes, self.lower.offset - amount)
        return Planes(lower, Plane(self.upper.slopes, self.upper.offset + amount))

    def maximum(self, other: Planes) -> Planes:
        """Each coefficient the larger one of both pairs."""
        return Planes(self.lower.maximum(other.lower), self.upper.maximum(other.upper))

    def map(self, change: Callable[[Tensor], Tensor]) -> Planes:
        return Planes(self.lower.map(change), self.upper.map(change))
