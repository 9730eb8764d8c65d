"""Neurons of an operation taken two and two, by planes of their sums and differences (`relax.pair_planes`).

Of the coefficients c and d of two such neurons in a row, what both have in common goes to the sum of the neurons if c and d
have one sign, to their difference if they have not: min(|c|, |d|), with the sign of c. The rest of the larger one stays with
its neuron. All planes of sums and differences are chosen and mixed like those of operations of two operands.

At a primal point (`bounds.mixtures`) a neuron's value is what its coefficient would bring: that of its own plane for the larger
of both coefficients; for the smaller one what is left of the sum, or of the difference, without the other's.

Rounding. What is left of a coefficient is rounded once, and a neuron's operand gets three contributions more: no more than
half of what `graph.rounding` counts for every number, of which half is needed (`bounds.linear`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from tightverify.bounds.plane_choice import PlaneChoice
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of an operation's neurons for each of B inputs, no neuron in two of them."""

    members: Tensor
    """(B, 2 P): the first ones, then the second ones"""
    planes: tuple[Planes, ...]
    """(B, 2 P): of the sums, then of the differences"""
    boxes: tuple[Interval, Interval]
    """(B, 2 P): of the first operands and of the second ones, twice each"""
    polygons: Polygons
    """(B * P): what both operands can be together, as it was made first"""

    def map(self, change: Callable[[Tensor], Tensor]) -> Pairs:
        """The same change of the batch that is made to all its tensors."""
        vertices = self.polygons.vertices
        polygons = change(vertices.view(len(self.members), -1, *vertices.shape[1:])).flatten(0, 1)
        first, second = (box.map(change) for box in self.boxes)
        planes = tuple(pair.map(change) for pair in self.planes)
        return Pairs(change(self.members), planes, (first, second), Polygons(polygons))

    @cached_property
    def choice(self) -> PlaneChoice:
        return PlaneChoice(self.planes, self.boxes)

    def split(self, row: Tensor) -> Split:
        """Coefficients (B, R, n), in two: what stays with the neurons, and what goes to sums and differences."""
        row = row.expand(len(self.members), -1, -1)
        places = self.members[:, None].expand(-1, row.shape[1], -1)
        own = row.gather(2, places)
        one, other = own.abs().chunk(2, dim=-1)
        least = torch.minimum(one, other)
        common = torch.copysign(torch.cat([least, least], dim=-1), own)
        rest = torch.copysign(own - common, own)  # the sign says which of the neuron's planes is the one, also where it is 0
        first, second = common.chunk(2, dim=-1)
        shared = torch.cat([first + second, first - second], dim=-1).mul_(0.5)
        return Split(places, row.scatter(2, places, rest), shared, one >= other, torch.signbit(first) == torch.signbit(second))


NO_PAIRS: Mapping[int, Pairs] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Split:
    """Rows over an operation's neurons, as rows over these, over sums of pairs and over differences."""

    places: Tensor
    """(B, R, 2 P): the pairs' members"""
    rest: Tensor
    """(B, R, n)"""
    shared: Tensor
    """(B, R, 2 P)"""
    larger: Tensor
    """(B, R, P): whether the first one's coefficient is the larger one"""
    alike: Tensor
    """(B, R, P): whether both have one sign"""

    def operands(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, 2 P), twice: the operands of sums and differences, of the neurons' own (B, R, n)."""
        one, other = x.expand_as(self.rest).gather(2, self.places).chunk(2, dim=-1)
        return torch.cat([one, one], dim=-1), torch.cat([other, other], dim=-1)

    def onto_operands(self, first: Tensor, second: Tensor) -> Tensor:
        """(B, R, n): rows (B, R, 2 P) over the operands of sums and differences, as rows over the neurons' own."""
        (a, b), (c, d) = first.chunk(2, dim=-1), second.chunk(2, dim=-1)
        return torch.zeros_like(self.rest).scatter_(2, self.places, torch.cat([a + b, c + d], dim=-1))

    def values(self, alone: Tensor, together: Tensor) -> Tensor:
        """(B, R, n): the neurons' values, of those of their own planes and of those (B, R, 2 P) of sums and differences."""
        alone = alone.expand_as(self.rest)
        x, y = alone.gather(2, self.places).chunk(2, dim=-1)
        sums, differences = together.chunk(2, dim=-1)
        x, y = (
            torch.where(self.larger, x, torch.where(self.alike, sums - y, differences + y)),
            torch.where(self.larger, torch.where(self.alike, sums - x, x - differences), y),
        )
        return alone.scatter(2, self.places, torch.cat([x, y], dim=-1))


def matched(scores: Tensor, most: int) -> Tensor:
    """(B, 2 P): the members of pairs with high scores (B, n, n), the highest first, each neuron in one at most."""
    left = torch.where(torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device), -math.inf, scores)
    every, found = torch.arange(len(left), device=left.device), []
    for _ in range(min(most, left.shape[1] // 2)):
        best = left.flatten(1).argmax(1)
        pair = torch.stack([best // left.shape[1], best % left.shape[1]], dim=1)
        left[every[:, None], pair] = -math.inf
        left[every[:, None], :, pair] = -math.inf
        found.append(pair)
    return torch.stack(found, dim=2).flatten(1)
