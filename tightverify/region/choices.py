"""Sentences of which words are replaced: each word is one of some vectors, and at most so many are others than they were.

A region is a finite set over flat inputs (B, n), T words of d numbers each: word t is one of the vectors c_t0, c_t1, ..., of
which c_t0 is its own, and another for at most m words. A linear function a @ x is a sum over words, so that its least value is

    sum_t a_t @ c_t0  -  the m greatest of  max_j (a_t @ c_t0 - a_t @ c_tj),

exactly: without the limit m every word takes its best vector. Nothing is lost, as it would be on the box or the hull of
each word's vectors together, where a limit m means nothing.

A part of a region is what is in a smaller box: a word keeps those of its vectors that are inside. So a split of a coordinate
parts a word's vectors in two. Where a word's own vector is outside it has to be another, which is one of the m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from tightverify.evidence import UNGROUPED, RegionEntry
from tightverify.region.base import Finite
from tightverify.values import Interval, above

LARGEST = 2**24
"""Numbers that are worked out together, at most."""


@final
@dataclass(frozen=True, eq=False)
class Choices(Finite):
    """A batch of such sets: `vectors` (B, T, C, d), each word's own first, and `most` (B,) words that may be others.

    Words with fewer vectors repeat their own. `box` is a hull, or the smaller box that says which vectors are left.
    """

    vectors: Tensor
    most: Tensor

    @classmethod
    def of(cls, vectors: Tensor, most: Tensor) -> Choices:
        """All of the vectors' sets."""
        box = Interval(vectors.amin(2).flatten(1), vectors.amax(2).flatten(1))
        return cls(vectors[:, :, 0].flatten(1), box, vectors, most)

    @property
    def words(self) -> str:
        return "a choice of words"

    @property
    def finite(self) -> Choices:
        return self

    @property
    def written(self) -> RegionEntry:
        centre, lower, upper = (part[0].cpu().numpy() for part in (self.centre, self.box.lower, self.box.upper))
        nothing = np.zeros((0, len(centre))), np.zeros(0), UNGROUPED
        return RegionEntry("inf", math.inf, centre, lower, upper, *nothing, self.vectors[0].cpu().numpy(), int(self.most[0]))

    def joined(self, others: Sequence[Self]) -> Self:
        widest = max([self.vectors.shape[2], *(one.vectors.shape[2] for one in others)])
        return super(Choices, self._widened(widest)).joined([one._widened(widest) for one in others])

    def _widened(self, count: int) -> Self:
        more = count - self.vectors.shape[2]
        own = self.vectors[:, :, :1]
        return replace(self, vectors=torch.cat([self.vectors, *[own] * more], 2)) if more else self

    # What is left

    @cached_property
    def _left(self) -> Tensor:
        """(B, T, C): the vectors that are in the box."""
        lower, upper = (ends.view(*self.vectors.shape[:2], 1, -1) for ends in (self.box.lower, self.box.upper))
        return ((self.vectors >= lower) & (self.vectors <= upper)).all(-1)

    @cached_property
    def _other(self) -> Tensor:
        """(B, T, C): the vectors that are left and are not the word's own."""
        return self._left & (self.vectors != self.vectors[:, :, :1]).any(-1)

    @cached_property
    def _forced(self) -> Tensor:
        """(B, T): the words that have to be others."""
        return ~self._left[:, :, 0]

    @cached_property
    def _free(self) -> Tensor:
        """(B,): how many more may be others."""
        return (self.most - self._forced.sum(1)).clamp(min=0)

    @property
    def _empty(self) -> Tensor:
        """(B,): there is no such sentence."""
        return ~self._left.any(2).all(1) | (self._forced.sum(1) > self.most)

    def within(self, box: Interval) -> Self:
        return replace(self, box=box)

    @property
    def reach(self) -> Interval:
        """The hull of the vectors that a word can still have; of no sentence at all something beyond the box."""
        own = self.vectors[:, :, 0]
        may = self._left & (self._forced | (self._free > 0)[:, None])[..., None]
        may[:, :, 0] = self._left[:, :, 0]
        there, none = may[..., None], ~may.any(2)[..., None]
        lower = torch.where(none, own, torch.where(there, self.vectors, math.inf).amin(2)).flatten(1)
        upper = torch.where(none, own, torch.where(there, self.vectors, -math.inf).amax(2)).flatten(1)
        beyond = above(self.box.upper, 1 + self.box.upper.abs())
        empty = self._empty[:, None]
        return Interval(torch.where(empty, beyond, lower), torch.where(empty, beyond, upper))

    def furthest(self, places: Tensor, values: Interval) -> None:
        return None

    # Linear functions, and whatever else is a sum over words

    @property
    def rounding_scale(self) -> Tensor:
        """(B, n): a product of d numbers for each vector, twice where it is another word's, then a sum over the words."""
        return 4 * (self.vectors.abs().amax(2).flatten(1) + self.centre.abs())

    def minimise(self, rows: Tensor, block: slice = slice(None), scratch: bool = False) -> Tensor:
        return torch.cat([self._least(some) for some in self._some(rows)], 1)

    def minimiser(self, rows: Tensor) -> Tensor:
        return torch.cat([self.at(self._best(self._values(some))[0]) for some in self._some(rows)], 1)

    def _some(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows (B or 1, R, n), as many together as there is room for."""
        size = max(1, LARGEST // max(1, self.vectors[..., 0].numel()))
        return tuple(rows[:, start : start + size] for start in range(0, rows.shape[1], size))

    def _values(self, rows: Tensor) -> Tensor:
        """(B, T, C, R): what rows (B or 1, R, n) give for each vector."""
        each = rows.view(*rows.shape[:2], *self.vectors.shape[1::2]).permute(0, 2, 3, 1)
        return torch.matmul(self.vectors, each)

    def _least(self, rows: Tensor) -> Tensor:
        return self._best(self._values(rows))[1].sum(1)

    def _best(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, R): the vectors that make the sum of values (B, T, C, R) over words least, and their values."""
        own = values[:, :, 0]
        best, which = torch.where(self._left[..., None], values, math.inf).min(2)
        others = torch.isfinite(best)  # where nothing is left it may be anything: there is no such sentence
        best, which = torch.where(others, best, own), torch.where(others, which, 0)
        forced = self._forced[..., None]
        if bool((self._free < values.shape[1]).any()):
            gain = torch.where(forced, -math.inf, own - best)
            rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            taken = forced | (rank < self._free[:, None, None])
            best, which = torch.where(taken, best, own), torch.where(taken, which, 0)
        return which, best

    def at(self, which: Tensor) -> Tensor:
        """(B, R, n): the sentences of vectors (B, T, R)."""
        places = which[..., None].expand(*which.shape, self.vectors.shape[3])
        return self.vectors.gather(2, places).transpose(1, 2).flatten(2)

    # Search

    def steepest(self, gradient: Tensor) -> Tensor:
        """A step of half of it leads just as far as the vector that is best for each word, `project` being to the nearest."""
        steps = self.vectors - self.vectors[:, :, :1]
        each = gradient.view(len(self), -1, *self.vectors.shape[1::2]).permute(0, 2, 3, 1)
        slopes = torch.matmul(steps, each).abs().amax(2)
        far = steps.square().sum(-1).amax(2)[..., None] / slopes.clamp(min=1e-300)
        return (each * far.clamp(max=1e100)[:, :, None]).permute(0, 3, 1, 2).reshape(gradient.shape)

    def project(self, x: Tensor) -> Tensor:
        each = x.view(len(self), -1, *self.vectors.shape[1::2])
        away = torch.stack([(each - one[:, None]).square().sum(-1) for one in self.vectors.unbind(2)], 2)
        return self.at(self._best(away.permute(0, 3, 2, 1))[0]).view(x.shape)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Some words are others, the more the later the sample, as long as there are so many left."""
        shape = (*self.vectors.shape[:3], count)
        values = torch.rand(shape, generator=generator, dtype=torch.float64).to(self.centre.device)
        kept = torch.rand((*shape[:2], count), generator=generator, dtype=torch.float64).to(self.centre.device)
        values[:, :, 0] = torch.where(kept < torch.linspace(0.7, 0.0, count, dtype=torch.float64), -1.0, 1.0 + kept)
        return self.at(self._best(values)[0])

    def contains(self, x: Tensor) -> Tensor:
        """Whether each word is one of its vectors, to the last bit."""
        same = (self.vectors == x.view(*self.vectors.shape[:2], 1, -1)).all(-1)
        found: Tensor = (same & self._left).any(2).all(1) & ((~same[:, :, 0]).sum(1) <= self.most)
        return found

    def nearby(self, x: Tensor) -> Tensor:
        count, length = self.vectors.shape[2], self.vectors.shape[1]
        words = x.view(len(self), 1, length, -1).repeat(1, length * count, 1, 1)
        places = torch.arange(length, device=x.device).repeat_interleave(count)
        words[:, torch.arange(length * count, device=x.device), places] = self.vectors.flatten(1, 2)
        found = words.flatten(2)
        inside = torch.stack([self.contains(one) for one in found.unbind(1)], 1)
        return torch.where(inside[..., None], found, x[:, None])

    # All points

    @property
    def counts(self) -> list[int]:
        found = []
        for others, forced, most in zip(self._other.sum(2).tolist(), self._forced.tolist(), self.most.tolist(), strict=True):
            by_changes = [1]  # how many sentences have 0, 1, ... other words
            for count, must in zip(others, forced, strict=True):
                kept = [0] * (len(by_changes) + 1) if must else [*by_changes, 0]
                by_changes = [a + count * b for a, b in zip(kept, [0, *by_changes], strict=True)][: most + 1]
            found.append(sum(by_changes))
        return found

    def all_of(self, number: int) -> Tensor:
        others = [torch.nonzero(mine).flatten().tolist() for mine in self._other[number]]
        forced = set(torch.nonzero(self._forced[number]).flatten().tolist())
        found = []
        for changes in range(min(int(self.most[number]), len(others)) + 1):
            for places in combinations(range(len(others)), changes):
                if forced <= set(places):
                    for chosen in product(*(others[place] for place in places)):
                        found.append([dict(zip(places, chosen, strict=True)).get(t, 0) for t in range(len(others))])
        return torch.tensor(found, dtype=torch.long).view(-1, len(others))

    def sentences(self, number: int, which: Tensor) -> Tensor:
        return self[number : number + 1].at(which.T[None].to(self.centre.device))[0]
