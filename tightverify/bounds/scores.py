"""Branching scores: where a row's bound loses how much, and what narrower intervals would bring.

They serve as those of BaBSR (Bunel et al. 2020) and GenBaB (Shi et al. 2025) do: to choose what is split.

At its primal point a row's bound is the row's value in a network in which every operation is replaced by a plane. So it is
below the true value there by the sum, over the operations' neurons, of |coefficient| times the distance of function and plane:
each neuron's part of the loss is known. Were an operand's interval halved, the closed-form planes of the half that holds the
point would be nearer by so much: this is the estimated gain of splitting the operand, summed over all that read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.bounds.mixtures import PrimalPoint
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import operand_boxes
from tightverify.graph import Apply
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval

LEAST_WIDTH = 1e-9


@dataclass(frozen=True, eq=False)
class BranchingScores:
    """What one row of each region loses where, and would gain: (B, n) each.

    `losses` are the operations' parts of the loss, `gains` the estimated gains of splitting neurons of the nodes that they
    read.
    """

    losses: dict[int, Tensor]
    gains: dict[int, Tensor]

    def __getitem__(self, regions: Tensor) -> BranchingScores:
        """Of some of the regions."""
        losses, gains = ({n: values[regions] for n, values in every.items()} for every in (self.losses, self.gains))
        return BranchingScores(losses, gains)


def branching_scores(bounds: LinearBounds, primal_point: PrimalPoint, rows: Tensor) -> BranchingScores:
    """For the rows (B,), one of each region."""
    graph = bounds.graph
    which = torch.arange(len(rows), device=rows.device)
    found: dict[int, Tensor] = {}
    losses: dict[int, Tensor] = {}
    for number, trail in primal_point.trail.items():
        node = graph.nodes[number]
        if not isinstance(node, Apply):
            continue
        coefficient = trail.expand(len(rows), -1, -1)[which, rows]
        point = [operand.expand(len(rows), -1, -1)[which, rows] for operand in primal_point.operands[number]]
        boxes = operand_boxes(bounds, node)
        point = [torch.minimum(torch.maximum(p, box.lower), box.upper) for p, box in zip(point, boxes, strict=True)]
        value = node.op.forward(*point)
        now = torch.minimum(
            distance(taken(primal_point.planes[number], which, rows, coefficient), coefficient, point, value),
            distance(pulled(node.op.relax(*boxes), coefficient), coefficient, point, value),
        )
        losses[number] = now.nan_to_num(0.0, 0.0, 0.0)
        for k, operand in enumerate(node.operands):
            if operand.source not in graph.bounded:
                continue
            box, middle = boxes[k], boxes[k].centre
            low = point[k] <= middle
            half = Interval(torch.where(low, box.lower, middle), torch.where(low, middle, box.upper))
            closed = node.op.relax(*boxes[:k], half, *boxes[k + 1 :])
            then = distance(pulled(closed, coefficient), coefficient, point, value)
            gain = torch.where(box.width > LEAST_WIDTH, (now - then).clamp(min=0), 0.0).nan_to_num(0.0, 0.0, 0.0)
            size = graph.nodes[operand.source].size
            places = torch.arange(size, device=rows.device)[operand.index]
            found.setdefault(operand.source, gain.new_zeros((len(rows), size))).index_add_(1, places, gain)
    return BranchingScores(losses, found)


def taken(planes: Planes | Plane, which: Tensor, rows: Tensor, coefficient: Tensor) -> Plane:
    """The planes (B, n) that one row of each region took, of (B, n) or (B, R, n), for its coefficients (B, n)."""
    one = planes.map(lambda part: part.expand(len(rows), -1, -1)[which, rows] if part.dim() == 3 else part)
    return pulled(one, coefficient) if isinstance(one, Planes) else one


def pulled(pair: Planes, coefficient: Tensor) -> Plane:
    """The plane on the side that a coefficient pulls to."""
    return pair.lower.where(coefficient > 0, pair.upper)


def distance(plane: Plane, coefficient: Tensor, point: list[Tensor], value: Tensor) -> Tensor:
    """(B, n): what such a plane costs at a point."""
    return (coefficient * (value - plane.at(*point))).clamp(min=0)


def summed_scores(bounds: LinearBounds, primal_point: PrimalPoint, count: Tensor) -> BranchingScores:
    """The sums over those rows (B, R) that `count`."""
    losses: dict[int, Tensor] = {}
    gains: dict[int, Tensor] = {}
    for k in torch.nonzero(count.any(0)).flatten().tolist():
        one = branching_scores(bounds, primal_point, torch.full((len(count),), k, device=count.device))
        for total, mine in ((losses, one.losses), (gains, one.gains)):
            for number, values in mine.items():
                total[number] = total.get(number, torch.zeros_like(values)) + values * count[:, k, None]
    return BranchingScores(losses, gains)


def what_matters(scores: BranchingScores, part: float) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The part of all neurons that promises most, (B, k) of each node, and (B, n) of operations which neurons lose most."""
    losing = weightiest(scores.losses, part)
    return weightiest(scores.gains, part), {
        number: torch.zeros_like(scores.losses[number], dtype=torch.bool).scatter(1, chosen, True)
        for number, chosen in losing.items()
    }


def weightiest(scores: Mapping[int, Tensor], part: float) -> dict[int, Tensor]:
    """The neurons (B, k) of each node that are among the part of all nodes' neurons with the largest scores (B, n).

    Nodes of which there are none are left out; inputs of which there are fewer than of others get their next ones too.
    """
    if not scores:
        return {}
    together = torch.cat(list(scores.values()), dim=1)
    least = together.topk(math.ceil(part * together.shape[1]), 1).values[:, -1:]
    counts = {number: int(((values >= least) & (values > 0)).sum(1).amax()) for number, values in scores.items()}
    return {number: scores[number].topk(count, 1).indices for number, count in counts.items() if count}
