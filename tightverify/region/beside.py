"""A region beside another of further coordinates, both free of one another: where a second input may differ from a first.

A product of two sets: the least value of a linear function is the sum of those over each, and all else is taken part by part.
Boxes stay boxes. Sums over one part and then over the other round no more often than sums over all coordinates, for which
`rounding_scale` is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from tightverify.errors import RegionError
from tightverify.evidence import RegionEntry
from tightverify.region.ball import Ball
from tightverify.region.base import Region
from tightverify.region.perturbation import Perturbation
from tightverify.values import Interval


@final
@dataclass(frozen=True, eq=False)
class Beside(Region):
    """A batch of regions `first` over (B, n), and regions `second` over the m coordinates that come after them."""

    first: Region
    second: Region

    @classmethod
    def of(cls, first: Region, second: Region) -> Beside:
        return cls(torch.cat([first.centre, second.centre], 1), side_by_side(first.box, second.box), first, second)

    def map(self, change: Callable[..., Tensor], *others: Self) -> Self:
        first = self.first.map(change, *(other.first for other in others))
        second = self.second.map(change, *(other.second for other in others))
        return type(self).of(first, second)

    def _parts(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (..., n + m) of both."""
        return torch.split(values, [self.first.centre.shape[1], self.second.centre.shape[1]], -1)

    def _boxes(self, box: Interval) -> list[Interval]:
        return [Interval(lower, upper) for lower, upper in zip(*map(self._parts, (box.lower, box.upper)), strict=True)]

    @property
    def words(self) -> str:
        return f"{self.first.words} beside {self.second.words}"

    @property
    def rounding_scale(self) -> Tensor:
        return torch.cat([self.first.rounding_scale, self.second.rounding_scale], 1)

    @property
    def reach(self) -> Interval:
        return side_by_side(self.first.reach, self.second.reach)

    @property
    def balls(self) -> list[tuple[float, float]]:
        return self.first.balls if self.second.separable else super().balls

    @property
    def written(self) -> RegionEntry:
        raise RegionError(f"evidence has no words for {self.words}; leave evidence out, or give regions that are boxes")

    def minimise(self, rows: Tensor, block: slice = slice(None), scratch: bool = False) -> Tensor:
        one, other = self._parts(rows)
        return self.first.minimise(one.contiguous()) + self.second.minimise(other.contiguous())

    def furthest(self, places: Tensor, values: Interval) -> None:
        return None

    def within(self, box: Interval) -> Beside:
        one, other = self._boxes(box)
        return Beside.of(self.first.within(one), self.second.within(other))

    def minimiser(self, rows: Tensor) -> Tensor:
        one, other = self._parts(rows)
        return torch.cat([self.first.minimiser(one), self.second.minimiser(other)], -1)

    def steepest(self, gradient: Tensor) -> Tensor:
        one, other = self._parts(gradient)
        return torch.cat([self.first.steepest(one), self.second.steepest(other)], -1)

    def project(self, x: Tensor) -> Tensor:
        one, other = self._parts(x)
        return torch.cat([self.first.project(one), self.second.project(other)], -1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.cat([self.first.sample(count, generator), self.second.sample(count, generator)], -1)

    def contains(self, x: Tensor) -> Tensor:
        one, other = self._parts(x)
        return self.first.contains(one) & self.second.contains(other)


def side_by_side(one: Interval, other: Interval) -> Interval:
    return Interval(torch.cat([one.lower, other.lower], 1), torch.cat([one.upper, other.upper], 1))


def beside(region: Region, limits: Tensor) -> Region:
    """The regions beside the boxes about 0 of limits (B, m)."""
    zero = torch.zeros_like(limits)
    box = Interval(-limits, limits)
    if region.separable:
        return Ball.boxes(torch.cat([region.centre, zero], 1), side_by_side(region.box, box))
    if region.finite is not None:
        raise RegionError(f"a second input cannot differ from {region.words}; give a ball or a box")
    return Beside.of(region, Ball.boxes(zero, box))


@dataclass(frozen=True, eq=False)
class TwoInputs(Perturbation):
    """Inputs (x, e), stacked (2, *shape): x in the region around it, e within limits (N, *shape) or (1, *shape) about 0."""

    around_first: Perturbation
    limits_of_gap: Tensor

    def around(self, x: Tensor) -> Region:
        limits = self.limits_of_gap.to(x.device).expand_as(x[:, 0]).flatten(1)
        return beside(self.around_first.around(x[:, 0]), limits)

    def chosen(self, places: Tensor, dims: int) -> TwoInputs:
        limits = self.limits_of_gap[places] if len(self.limits_of_gap) > 1 else self.limits_of_gap
        return replace(self, around_first=self.around_first.chosen(places, dims - 1), limits_of_gap=limits)

    def count(self, dims: int) -> int | None:
        return self.around_first.count(dims - 1)

    @property
    def words(self) -> str:
        return f"{self.around_first.words}, second inputs apart"

    @property
    def boxes(self) -> bool:
        return self.around_first.boxes

    @property
    def limits(self) -> dict[str, list[float] | list[int]]:
        return self.around_first.limits
