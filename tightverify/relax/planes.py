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

    def mirror(self) -> Plane:
        """The plane of the negated function: an upper plane becomes a lower one."""
        return Plane(tuple(-slope for slope in self.slopes), -self.offset)

    def map(self, change: Callable[[Tensor], Tensor]) -> Plane:
        return Plane(tuple(change(slope) for slope in self.slopes), change(self.offset))

    def where(self, condition: Tensor, other: Plane) -> Plane:
        """This plane for the neurons where the condition holds, the other one elsewhere."""
        slopes = tuple(torch.where(condition, a, b) for a, b in zip(self.slopes, other.slopes, strict=True))
        return Plane(slopes, torch.where(condition, self.offset, other.offset))


@dataclass(frozen=True, eq=False)
class Planes:
    """`lower.at(x) <= function(x) <= upper.at(x)` for every x of the box that they were made for."""

    lower: Plane
    upper: Plane

    def mirror(self) -> Planes:
        """The planes of the negated function."""
        return Planes(self.upper.mirror(), self.lower.mirror())

    def widen(self, amount: Tensor) -> Planes:
        """Both planes moved apart, each by `amount`, (B, n)."""
        lower = Plane(self.lower.slopes, self.lower.offset - amount)
        return Planes(lower, Plane(self.upper.slopes, self.upper.offset + amount))

    def map(self, change: Callable[[Tensor], Tensor]) -> Planes:
        return Planes(self.lower.map(change), self.upper.map(change))


def lowest(planes: list[Plane], centre: tuple[Tensor, ...]) -> Plane:
    """Of several upper planes, neuron by neuron the one that is lowest at the box's centre: the least volume."""
    best = planes[0]
    height = best.at(*centre)
    for plane in planes[1:]:
        other = plane.at(*centre)
        better = other < height  # a NaN never wins
        best = plane.where(better, best)
        height = torch.where(better, other, height)
    return best


def closest(candidates: list[Planes], centre: tuple[Tensor, ...]) -> Planes:
    """On either side, neuron by neuron, the candidate of least volume."""
    lower = lowest([planes.lower.mirror() for planes in candidates], centre).mirror()
    return Planes(lower, lowest([planes.upper for planes in candidates], centre))
