"""Bounding passes over parts with an output constraint (`bounds.contradiction`), one after the other as long as they gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.fitted import Effort, Fitting
from tightverify.bounds.memory import most_together, pass_rows
from tightverify.bounds.mixtures import PrimalPoint
from tightverify.bounds.rebound import rebound
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.scores import BranchingScores, branching_scores, what_matters
from tightverify.branch.leaf import together, under
from tightverify.budget import Budget
from tightverify.spec import Property
from tightverify.values import below

CONSTRAINED = Effort(Fitting(("tightest",), directions=4), steps=2, last_steps=30, part=0.6)
"""How such parts are bounded: the row alone is cheap beside a bounding pass, and over many frames takes many steps."""
PAIRED = replace(CONSTRAINED, fitting=replace(CONSTRAINED.fitting, pairs=True))
"""How they are bounded when that gains nothing more, where there are pairs of neurons: twice as slowly."""
WORTH_ANOTHER = 0.03
"""Another pass is worth it after one that gained so much of what is wanting."""


def bounded_again(
    bounds: LinearBounds, budget: Budget, efforts: Sequence[Effort] = (CONSTRAINED,)
) -> tuple[LinearBounds, Tensor]:
    """The parts bounded over again, and (B,) the highest bound that any pass found of each one's own row.

    Of each part what matters most for its row is bounded anew. Not all take as many passes, and the last may find less than the
    one before, as it has other planes. Where a pass is not worth another one, the next of the `efforts` is taken; one with
    pairs of neurons where there are any. As many parts are bounded together as keep the largest temporary to about the memory
    allowed.
    """
    parts = [bounds[k : k + 1] for k in range(len(bounds.region))]
    going, before, level = list(range(len(parts))), [math.inf] * len(parts), [0] * len(parts)
    efforts = [effort for effort in efforts if bounds.pairs or not effort.fitting.pairs]
    highest = bounds.region.centre.new_full((len(parts),), -math.inf)
    most = most_together(bounds.graph, bounds.region, budget, pass_rows(bounds.graph, CONSTRAINED.fitting.directions))
    while going:
        chosen, going = going[:most], going[most:]
        some = together([parts[k] for k in chosen])
        lower, primal_point = bounded_row(some)
        highest[chosen] = torch.fmax(highest[chosen], lower)
        missing = limit_of(some) - lower
        scores: BranchingScores | None = None
        worth = missing.new_tensor([before[k] for k in chosen]) - missing > WORTH_ANOTHER * missing
        next_level = torch.tensor([level[k] for k in chosen], device=missing.device) + ~worth
        for number, effort in enumerate(efforts):
            (on,) = torch.nonzero((next_level == number) & (missing > 0) & ~some.nothing, as_tuple=True)
            if not len(on):
                continue
            scores = scores or branching_scores(some, primal_point, torch.zeros_like(next_level))
            found = rebound(some[on], *what_matters(scores[on], effort.part), effort, budget)
            for place, which in enumerate(on.tolist()):
                part = chosen[which]
                parts[part], before[part], level[part] = found[place : place + 1], float(missing[which]), number
                going.append(part)
    return together(parts), highest


def bounded_row(bounds: LinearBounds) -> tuple[Tensor, PrimalPoint]:
    """(B,): the lower bound of the output constraint's own row on each part, and what it depends on."""
    output_constraint = bounds.output_constraint
    assert output_constraint is not None
    target = (output_constraint.limit - output_constraint.offset)[:, None]
    lower, primal_point = bounds.at_primal_point(
        {bounds.graph.output: output_constraint.row[:, None]}, CONSTRAINED.last_steps, target=target
    )
    return below(lower[:, 0] + output_constraint.offset, 0.0), primal_point


def limit_of(bounds: LinearBounds) -> Tensor:
    """(B,): what the output constraint's row is at most."""
    assert bounds.output_constraint is not None
    return bounds.output_constraint.limit


def proved_above(bounds: LinearBounds, spec: Property, margins: Tensor, limits: Tensor, budget: Budget) -> Tensor:
    """The margins (B, R) again, those below their input's limit (B,) bettered up to it by contradiction.

    Outside of the part on which a row is at most the limit, it is above; on the part it has the bound that is found there. So
    the less of the two is proved on the whole region, whatever becomes of the other rows.
    """
    parents, rows = torch.nonzero(torch.isfinite(margins) & (margins < limits[:, None]), as_tuple=True)
    if not len(parents):
        return margins
    found, recorders = margins.clone(), []
    most = most_together(bounds.graph, bounds.region, budget, pass_rows(bounds.graph, CONSTRAINED.fitting.directions))
    for some, which in zip(parents.split(most), rows.split(most), strict=True):
        whole = bounds.map(lambda value, some=some: value[some], bounds.region[some])  # type: ignore[misc]
        before = margins[some, which]
        parts, highest = bounded_again(under(whole, which, limits[some], before, spec[some]), budget, (CONSTRAINED, PAIRED))
        lower = torch.where(parts.nothing, torch.inf, highest).minimum(limit_of(parts))
        found[some, which] = torch.where(lower > before, lower, before)  # the old one also where the new is no number
        recorders.append(parts.recorder)
    # Only now, as time may run out before: a tree without some of its parts proves nothing.
    numbers = torch.ones_like(limits, dtype=torch.long)
    for recorder, some in zip(recorders, parents.split(most), strict=True):
        for k, parent in enumerate(some.tolist()):
            if numbers[parent] == 1:
                bounds.recorder.branch(parent, 0, 0, "", margins[parent])
            recorder.branch(k, int(numbers[parent]), 0, "", found[parent])
            numbers[parent] += 1
    return found
