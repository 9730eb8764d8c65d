"""Products of balls: every group of coordinates may change by at most the radius in the norm, all groups at once.

A region is `{x : |x_g - centre_g|_p <= radius for every group g, lower <= x <= upper}`, the groups being a partition of the
coordinates: the frames of a sequence, its features, or any other. So it is a product of sets, one for each group, each of them
a ball cut to a box (`region.ball`). A linear function is a sum over groups, and its least value over a product is the sum of
the least values over the factors: it is as exact as that over a ball. All else is taken factor by factor, too.

Groups are held as numbers (B, n), and worked on side by side: as a batch of B G balls over as many coordinates as the largest
group has. What is missing in smaller groups are coordinates whose box is the point 0, which add nothing to any sum.

Rounding. A factor's least value is off by what `Ball.rounding_scale` says for its coordinates; sums over up to m coordinates
and then over G groups round m + G - 2 times, which is no more than the n - 1 times of a sum over all, as no group is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from tightverify.evidence import RegionEntry
from tightverify.region.ball import Ball, length
from tightverify.region.base import Region
from tightverify.values import Interval, above, gamma


@final
@dataclass(frozen=True, eq=False)
class BallProduct(Region):
    """A batch of products of balls, cut to boxes; `radius` is (B,), `norm` 1 or 2, `groups` (B, n) are numbers from 0 on."""

    radius: Tensor
    norm: float
    groups: Tensor

    @classmethod
    def of(cls, ball: Ball, groups: Tensor) -> BallProduct:
        """The centre, the box and the radius of balls, for each of the groups (n,) by itself."""
        return cls(ball.centre, ball.box, ball.radius, ball.norm, groups.to(ball.centre.device).expand_as(ball.centre))

    @property
    def words(self) -> str:
        return f"a product of balls of norm {self.norm:g}"

    @property
    def balls(self) -> list[tuple[float, float]]:
        return [(radius, self.norm) for radius in self.radius.tolist()]

    @property
    def written(self) -> RegionEntry:
        return replace(self._whole.written, groups=self.groups[0].cpu().numpy().astype(np.int32))

    @property
    def rounding_scale(self) -> Tensor:
        return self._whole.rounding_scale

    @property
    def _whole(self) -> Ball:
        """The same centre, box and radius, for all coordinates together."""
        return Ball(self.centre, self.box, self.radius, self.norm)

    @cached_property
    def _layout(self) -> tuple[Tensor, Tensor]:
        """(B or 1, G, m): the coordinates of each group, n where it has fewer; and (B or 1, n): where each one stands there."""
        groups = self.groups[:1] if bool((self.groups == self.groups[:1]).all()) else self.groups
        batch, n = groups.shape
        count = int(groups.max()) + 1
        order = torch.argsort(groups, dim=1, stable=True)
        ordered = torch.gather(groups, 1, order)
        sizes = groups.new_zeros((batch, count)).scatter_add_(1, groups, torch.ones_like(groups))
        first = torch.gather(torch.cumsum(sizes, 1) - sizes, 1, ordered)
        most = int(sizes.max())
        spots = ordered * most + torch.arange(n, device=groups.device) - first
        places = torch.full((batch, count * most), n, device=groups.device).scatter_(1, spots, order)
        return places.view(batch, count, most), torch.empty_like(groups).scatter_(1, order, spots)

    @cached_property
    def _factors(self) -> Ball:
        """The B G balls."""
        radius = self.radius.repeat_interleave(self._layout[0].shape[1])
        return Ball(self._apart(self.centre), self.box.map(self._apart), radius, self.norm)

    def _apart(self, values: Tensor) -> Tensor:
        """(B G, ..., m) of values (B or 1, ..., n)."""
        places = self._layout[0]
        _, count, most = places.shape
        padded = torch.nn.functional.pad(values, (0, 1))
        index = places.view(len(places), *(1,) * (values.dim() - 2), count * most)
        found = torch.take_along_dim(padded, index, -1).unflatten(-1, (count, most)).movedim(-2, 1)
        apart: Tensor = found.expand(len(self), *found.shape[1:]).flatten(0, 1)
        return apart

    def _together(self, values: Tensor) -> Tensor:
        """(B, ..., n) of values (B G, ..., m)."""
        places, spots = self._layout
        found = values.unflatten(0, (len(self), places.shape[1])).movedim(1, -2).flatten(-2)
        return torch.take_along_dim(found, spots.view(len(spots), *(1,) * (found.dim() - 2), -1), -1)

    def within(self, box: Interval) -> BallProduct:
        return replace(self, box=box)

    @property
    def reach(self) -> Interval:
        return self._factors.reach.map(self._together)

    def minimise(self, rows: Tensor, block: slice = slice(None), scratch: bool = False) -> Tensor:
        least: Tensor = self._factors.minimise(self._apart(rows)).unflatten(0, (len(self), -1))
        return least.sum(1)

    def furthest(self, places: Tensor, values: Interval) -> Tensor:
        """Their radius, times the root of how many groups these are of, and how far their centre is from there."""
        centre = self.centre[:, places]
        away, size = length(values.centre - centre), length(values.magnitude + centre.abs())
        ordered = self.groups[:, places].sort(1).values
        groups = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)
        together = self.radius * groups.to(torch.float64).sqrt()
        return above(together + away, gamma(centre.shape[1] + 8) * (together + away + size))

    def minimiser(self, rows: Tensor) -> Tensor:
        return self._together(self._factors.minimiser(self._apart(rows)))

    def steepest(self, gradient: Tensor) -> Tensor:
        return self._together(self._factors.steepest(self._apart(gradient)))

    def contains(self, x: Tensor) -> Tensor:
        inside: Tensor = self._factors.contains(self._apart(x)).unflatten(0, (len(self), -1))
        return inside.all(1)

    def project(self, x: Tensor) -> Tensor:
        return self._together(self._factors.project(self._apart(x)))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self._together(self._factors.sample(count, generator))
