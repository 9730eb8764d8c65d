"""Sweeps over parts on which a row is supposed to fail (`bounds.supposed`), one after the other as long as they gain."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tightverify.bounds.again import again
from tightverify.bounds.blame import blame, what_matters
from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.linear import LinearBounds, most_together, sweep_rows
from tightverify.bounds.mixtures import Pull
from tightverify.branch.leaf import together
from tightverify.values import below

SWEEP = Effort(Fitting(("tightest",), directions=4), steps=2, last_steps=30, part=0.6)
"""How such parts are swept over: the row alone is cheap beside a sweep, and over many frames takes many steps."""
WORTH_ANOTHER = 0.03
"""Another sweep is worth it after one that gained so much of what is wanting."""


def swept(bounds: LinearBounds, memory: int, check: Callable[[], None]) -> LinearBounds:
    """The parts swept over; of each, what matters most for its row is bounded anew. Not all parts take as many sweeps.

    As many are swept over together as keep the largest temporary to about so many bytes of memory.
    """
    parts = [bounds[k : k + 1] for k in range(len(bounds.region))]
    going, before = list(range(len(parts))), [math.inf] * len(parts)
    most = most_together(bounds.graph, bounds.region, memory, sweep_rows(bounds.graph, SWEEP.fitting.directions))
    while going:
        chosen, going = going[:most], going[most:]
        some = together([parts[k] for k in chosen])
        missing, pull = wanting(some)
        worth = missing.new_tensor([before[k] for k in chosen]) - missing > WORTH_ANOTHER * missing
        (on,) = torch.nonzero(worth & (missing > 0) & ~some.nothing, as_tuple=True)
        if not len(on):
            continue
        blamed = blame(some, pull, torch.zeros(len(chosen), dtype=torch.long, device=on.device))
        matter, anew = what_matters(blamed[on], SWEEP.part)
        found = again(some[on], matter, anew, SWEEP, check)
        for place, which in enumerate(on.tolist()):
            parts[chosen[which]], before[chosen[which]] = found[place : place + 1], float(missing[which])
            going.append(chosen[which])
    return together(parts)


def wanting(bounds: LinearBounds) -> tuple[Tensor, Pull]:
    """(B,): how far the row that is supposed to fail is from being proved on each part, and what it depends on."""
    supposed = bounds.supposed
    assert supposed is not None
    enough = (supposed.limit - supposed.offset)[:, None]
    lower, pull = bounds.pulled({bounds.graph.output: supposed.row[:, None]}, SWEEP.last_steps, enough=enough)
    return supposed.limit - below(lower[:, 0] + supposed.offset, 0.0), pull
