"""Bounding passes over parts with an output constraint (`bounds.contradiction`), one after the other as long as they gain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.memory import most_together, pass_rows
from tightverify.bounds.mixtures import PrimalPoint
from tightverify.bounds.rebound import rebound
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.scores import branching_scores, what_matters
from tightverify.branch.leaf import together
from tightverify.budget import Budget
from tightverify.values import below

CONSTRAINED = Effort(Fitting(("tightest",), directions=4), steps=2, last_steps=30, part=0.6)
"""How such parts are bounded: the row alone is cheap beside a bounding pass, and over many frames takes many steps."""
WORTH_ANOTHER = 0.03
"""Another pass is worth it after one that gained so much of what is wanting."""


def bounded_again(bounds: LinearBounds, budget: Budget) -> LinearBounds:
    """The parts bounded over again; of each, what matters most for its row is bounded anew. Not all take as many passes.

    As many are bounded together as keep the largest temporary to about the memory allowed.
    """
    parts = [bounds[k : k + 1] for k in range(len(bounds.region))]
    going, before = list(range(len(parts))), [math.inf] * len(parts)
    most = most_together(bounds.graph, bounds.region, budget, pass_rows(bounds.graph, CONSTRAINED.fitting.directions))
    while going:
        chosen, going = going[:most], going[most:]
        some = together([parts[k] for k in chosen])
        missing, primal_point = wanting(some)
        worth = missing.new_tensor([before[k] for k in chosen]) - missing > WORTH_ANOTHER * missing
        (on,) = torch.nonzero(worth & (missing > 0) & ~some.nothing, as_tuple=True)
        if not len(on):
            continue
        scores = branching_scores(some, primal_point, torch.zeros(len(chosen), dtype=torch.long, device=on.device))
        matter, anew = what_matters(scores[on], CONSTRAINED.part)
        found = rebound(some[on], matter, anew, CONSTRAINED, budget)
        for place, which in enumerate(on.tolist()):
            parts[chosen[which]], before[chosen[which]] = found[place : place + 1], float(missing[which])
            going.append(chosen[which])
    return together(parts)


def wanting(bounds: LinearBounds) -> tuple[Tensor, PrimalPoint]:
    """(B,): how far the row of the output constraint is from being proved on each part, and what it depends on."""
    output_constraint = bounds.output_constraint
    assert output_constraint is not None
    target = (output_constraint.limit - output_constraint.offset)[:, None]
    lower, primal_point = bounds.at_primal_point(
        {bounds.graph.output: output_constraint.row[:, None]}, CONSTRAINED.last_steps, target=target
    )
    return output_constraint.limit - below(lower[:, 0] + output_constraint.offset, 0.0), primal_point
