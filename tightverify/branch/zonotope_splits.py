"""Regions that a few generator coefficients move, cut into pieces: bounds over all of a zonotope from bounds over parts of it.

A coefficient runs over [-1, 1]; each half of that is a zonotope again, with the centre moved by half the generator and the
generator halved. Planes over a half are tighter, by about a quarter of their distance where the network is smooth, so that a
few rounds of halving decide what one bounding pass leaves open. What holds on all pieces holds on their union, row by row. A
row's bound over a piece is also that over the piece it was cut from, and the better one counts.

Only pieces on which the property is not proved yet are cut, along the generator that moves the input most, and only while
that helps: an input whose worst piece gains too little twice in a row, or that has as many pieces as allowed, is left as it is.
Once is not enough: where intervals are as wide as they get, the first cut may bring little and the second nearly all. What
counts there are the bounds over pieces themselves: what is known of the whole region may be better than the first for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.bounds.recorder import NOBODY, PassRecorder, Recorder
from tightverify.branch.node import Branch, Split
from tightverify.errors import OutOfTimeError
from tightverify.evidence import SHARE
from tightverify.region import Generated

LEAST_GAIN = 0.1
"""An input is cut further only if one of the last two cuts closed so much of what its worst piece lacked."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Some pieces of inputs' regions: whose they are (P,), and their numbers in that one's tree (P,).

    `margins` (P, R) are their rows' bounds, `own` those that were found over the pieces themselves, `ends` (P, 2, K) the least
    and the most that each coefficient is on them.
    """

    region: Generated
    owners: Tensor
    numbers: Tensor
    margins: Tensor
    own: Tensor
    ends: Tensor
    recorder: PassRecorder

    @classmethod
    def whole(cls, region: Generated, margins: Tensor, recorder: Recorder) -> Pieces:
        owners, ones = torch.arange(len(region), device=margins.device), torch.ones_like(region.generators[..., 0])
        ends = torch.stack([-ones, ones], 1)
        return cls(region, owners, torch.zeros_like(owners), margins, margins, ends, recorder.begin(region))

    def __getitem__(self, some: Tensor) -> Pieces:
        return Pieces(
            self.region[some],
            self.owners[some],
            self.numbers[some],
            self.margins[some],
            self.own[some],
            self.ends[some],
            self.recorder.map(lambda numbers: numbers[some]),
        )

    def bounded(self, own: Tensor) -> Pieces:
        """With new bounds of the rows."""
        return replace(self, margins=torch.maximum(self.margins, own), own=own)

    def halves(self) -> tuple[Pieces, list[Split]]:
        """Both halves of each, one after the other, with what is known of the whole piece; and what each half is."""
        longest = self.region.longest
        each = torch.arange(len(longest), device=longest.device)
        middle = self.ends[each, :, longest].mean(1)
        cuts = [(SHARE, *cut) for cut in zip(longest.tolist(), middle.tolist(), strict=True)]
        ends = self.ends.repeat_interleave(2, 0)
        ends[2 * each, 1, longest] = ends[2 * each + 1, 0, longest] = middle
        twice = self[each.repeat_interleave(2)]
        halves = replace(twice, region=self.region.halves(longest), ends=ends, recorder=self.recorder.halves(cuts))
        return halves, [Split(*cut, above) for cut in cuts for above in (False, True)]


@dataclass(eq=False)
class Trees:
    """Of each input the pieces that its region was cut into, and what is proved of the rows (B, R) on those cut no further."""

    done: Tensor
    branches: list[list[Branch]]
    late: bool = False
    """whether the time ran out before all was cut that was worth it"""

    def enter(self, pieces: Pieces, splits: list[Split] | None, proved: Tensor) -> Pieces:
        """New pieces, with their numbers."""
        numbers = []
        for k, owner in enumerate(pieces.owners.tolist()):
            mine = self.branches[owner]
            numbers.append(len(mine))
            parent, split = int(pieces.numbers[k]), None if splits is None else splits[k]
            closed = "proved" if proved[k] else ""
            mine.append(Branch(numbers[-1], parent, split, tuple(pieces.margins[k].tolist()), closed))
            pieces.recorder.branch(k, numbers[-1], parent, closed, pieces.margins[k])
        return replace(pieces, numbers=torch.tensor(numbers, device=pieces.owners.device))

    def leave(self, pieces: Pieces, some: Tensor) -> Pieces:
        """Those of the pieces that are cut no further are let go."""
        left = pieces[torch.nonzero(some).flatten()]
        owners = left.owners[:, None].expand(-1, self.done.shape[1])
        self.done = self.done.scatter_reduce(0, owners, left.margins, "amin", include_self=True)
        return pieces[torch.nonzero(~some).flatten()]


def over_pieces(
    region: Generated,
    margins: Tensor,
    bound: Callable[[Pieces], Tensor],
    worst: Callable[[Tensor, Tensor], Tensor],
    rounds: int,
    recorder: Recorder = NOBODY,
) -> Trees:
    """Lower bounds of rows over the regions, at least `margins` (B, R), from at most 2^rounds pieces of each.

    `bound(pieces)` gives the rows' lower bounds (P, R) over pieces, and
    `worst(margins, owners)` the value that decides of inputs `owners`, positive where the property is proved.
    """
    trees = Trees(margins.new_full(margins.shape, torch.inf), [[] for _ in range(len(region))])

    def entered(pieces: Pieces, splits: list[Split] | None = None) -> Pieces:
        """Those that are not proved; the others are let go."""
        proved = worst(pieces.margins, pieces.owners) > 0
        return trees.leave(trees.enter(pieces, splits, proved), proved)

    whole = Pieces.whole(region, margins, recorder)
    pieces = entered(whole.bounded(bound(whole)))
    slow = torch.zeros(len(region), dtype=torch.bool, device=margins.device)
    for _ in range(rounds):
        if not len(pieces.owners):
            break
        before = worst_of(worst(pieces.own, pieces.owners), pieces.owners, len(region))
        halves, splits = pieces.halves()
        try:
            own = bound(halves)
        except OutOfTimeError:
            trees.late = True
            break  # pieces that were not cut after all count as they are
        pieces = entered(halves.bounded(own), splits)
        # Of inputs whose worst piece has hardly gained twice, nothing is cut any more.
        after = worst_of(worst(pieces.own, pieces.owners), pieces.owners, len(region))
        slow, slow_before = ~(after > (1 - LEAST_GAIN) * before), slow
        pieces = trees.leave(pieces, (slow & slow_before)[pieces.owners])
    trees.leave(pieces, torch.ones_like(pieces.owners, dtype=torch.bool))
    return trees


def worst_of(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """(B,): the least value of each input's pieces, infinite where it has none."""
    return values.new_full((count,), torch.inf).scatter_reduce(0, owners, values, "amin", include_self=True)
