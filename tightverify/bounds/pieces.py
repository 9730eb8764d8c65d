"""Regions that a few unknown shares move, cut into pieces: bounds over all of a zonotope from bounds over parts of it.

A share runs over [-1, 1]; each half of that is a zonotope again, with the centre moved by half the generator and the generator
halved. Planes over a half are tighter, by about a quarter of their distance where the network is smooth, so that a few rounds
of halving decide what one walk leaves open. What holds on all pieces holds on their union, row by row. A row's bound
over a piece is also that over the piece it was cut from, and the better one counts.

Only pieces on which the property is not proved yet are cut, along the generator that moves the input most, and only while
that helps: an input whose worst piece gains too little, or that has as many pieces as allowed, is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tightverify.region import Zonotope

LEAST_GAIN = 0.1
"""An input is cut further only if the last cut closed so much of what its worst piece lacked."""


def over_pieces(
    region: Zonotope,
    margins: Tensor,
    bound: Callable[[Zonotope, Tensor], Tensor],
    worst: Callable[[Tensor, Tensor], Tensor],
    rounds: int,
) -> Tensor:
    """(B, R): lower bounds of rows over the regions, at least `margins` (B, R), from at most 2^rounds pieces of each.

    `bound(pieces, owners)` gives the rows' lower bounds (P, R) over pieces of the inputs `owners` (P,), and
    `worst(margins, owners)` the value that decides, positive where the property is proved.
    """
    owners = torch.arange(len(region), device=margins.device)
    pieces, found, done = region, margins, margins.new_full(margins.shape, torch.inf)
    for _ in range(rounds):
        lacking = worst(found, owners)
        going = ~(lacking > 0)
        done = least_of(done, found[~going], owners[~going])
        pieces, found, owners, lacking = pieces[going], found[going], owners[going], lacking[going]
        if not len(owners):
            return done
        pieces, owners = pieces.halves(), owners.repeat_interleave(2)
        found = torch.maximum(found.repeat_interleave(2, 0), bound(pieces, owners))
        # Of inputs whose worst piece has hardly gained, nothing is cut any more.
        before = worst_of(lacking.repeat_interleave(2), owners, len(region))
        after = worst_of(worst(found, owners), owners, len(region))
        idle = ~(after > (1 - LEAST_GAIN) * before)[owners]
        done = least_of(done, found[idle], owners[idle])
        pieces, found, owners = pieces[~idle], found[~idle], owners[~idle]
    return least_of(done, found, owners)


def least_of(done: Tensor, found: Tensor, owners: Tensor) -> Tensor:
    """The least bounds (B, R) of those known (B, R) and those of more pieces (P, R)."""
    return done.scatter_reduce(0, owners[:, None].expand(-1, done.shape[1]), found, "amin", include_self=True)


def worst_of(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """(B,): the least value of each input's pieces, infinite where it has none."""
    return values.new_full((count,), torch.inf).scatter_reduce(0, owners, values, "amin", include_self=True)
