"""What `offsets` asks, and what it has found of the pieces of a polygon so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Symmetric
from tightverify.relax.polygons import Polygons
from tightverify.relax.ranges import JetRange

MOST_ROUNDS = 48
MOST_PIECES = 100
"""open ones for each plane, on average"""
SHARE = 0.02
NEWTON_STEPS = 3


@dataclass(frozen=True, eq=False)
class Question:
    """N planes whose offsets are wanted: sign and slopes, and the point (x0, y0) of each, over the polygons."""

    first: Symmetric
    second: Symmetric
    sign: Tensor
    """(N,): 1 for planes above the product, -1 for planes above its negation"""
    slopes: Tensor
    """(N, 2)"""
    anchors: Tensor
    """(N, 2)"""
    polygons: Polygons

    def __getitem__(self, chosen: Tensor) -> Question:
        return Question(
            self.first, self.second, self.sign[chosen], self.slopes[chosen], self.anchors[chosen], self.polygons[chosen]
        )


@dataclass(frozen=True, eq=False)
class OpenPieces:
    """Where the pieces write down what they found; changed in place."""

    bounds: Tensor
    """(N,): the largest bound of a piece that is done"""
    values: Tensor
    """(N, W): the best value by edge"""
    places: Tensor
    """(N, W, 2): where it is"""
    slack: Tensor
    level: Tensor | None

    @classmethod
    def empty(cls, count: int, width: int, like: Tensor, slack: Tensor, level: Tensor | None) -> OpenPieces:
        bounds, values = like.new_full((count,), -torch.inf), like.new_full((count, width), -torch.inf)
        return cls(bounds, values, like.new_full((count, width, 2), torch.nan), slack, level)

    @property
    def enough(self) -> Tensor:
        """(N,): what a bound need not fall below."""
        best = self.values.amax(1)
        return best + (self.slack if self.level is None else torch.maximum(self.slack, SHARE * (best - self.level)))

    def offer(self, slot: Tensor, values: Tensor, places: Tensor) -> None:
        """Better points, by the places (flat) where they belong."""
        flat = self.values.view(-1)
        flat.scatter_reduce_(0, slot, values, "amax")
        winners = torch.nonzero(values >= flat[slot]).flatten()
        self.places.view(-1, 2)[slot[winners]] = places[winners]

    def settle(self, owner: Tensor, bounds: Tensor) -> None:
        self.bounds.scatter_reduce_(0, owner, torch.nan_to_num(bounds, nan=torch.inf, neginf=-torch.inf), "amax")


def exhausted(bound: Tensor, rounds: int, count: int) -> Tensor:
    """Pieces that are not worth halving: without a finite bound, in the last round, or when there are far too many."""
    return ~torch.isfinite(bound) | (rounds == MOST_ROUNDS) | (len(bound) > MOST_PIECES * (count + 1000))


def halfway(low: Tensor, high: Tensor) -> Tensor:
    """A point between, in the middle of short pieces, nearer to 0 in long ones: there is where the curves bend."""
    found = torch.sinh((torch.asinh(low) + torch.asinh(high)) / 2)
    return torch.where((found > torch.minimum(low, high)) & (found < torch.maximum(low, high)), found, (low + high) / 2)


def sizes(f: JetRange, g: JetRange, a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """More than the absolute values that enter E, its derivatives times the operands' sizes among them."""
    by_x = (f.first.size * g.value.size + a.abs()) * x
    by_y = (f.value.size * g.first.size + b.abs()) * y
    return (1 + f.value.size) * (1 + g.value.size) + 2 * (by_x + by_y)
