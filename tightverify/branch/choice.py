"""Which neuron to split: the one whose halves promise the greatest gain for the row that decides.

At its primal point a row's bound is the row's value in a network in which every operation is replaced by a plane. So it is
below the true value there by the sum, over the operations' neurons, of |coefficient| times the distance of function and plane:
each neuron's share of the blame is known. Were an operand's interval halved, the closed-form planes of the half that holds the
point would be nearer by so much: this is the estimated gain of splitting the operand, summed over all that read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.bounds.linear import LinearBounds, operand_boxes
from tightverify.bounds.mixtures import Pull
from tightverify.graph import Apply
from tightverify.relax.planes import Planes
from tightverify.values import Interval

LEAST_WIDTH = 1e-9
LEAST_GAIN = 1e-9
MATTER = 16
"""neurons of a node whose intervals are bounded anew in each half"""


@dataclass(frozen=True)
class Candidate:
    """A neuron that may be split, and the estimated gain."""

    node: int
    neuron: int
    gain: float


def estimates(bounds: LinearBounds, pull: Pull, rows: Tensor) -> dict[int, Tensor]:
    """(B, n) for each node that may be split: the estimated gains of its neurons for one row of each region, (B,)."""
    graph = bounds.graph
    which = torch.arange(len(rows), device=rows.device)
    found: dict[int, Tensor] = {}
    for number, trail in pull.trail.items():
        node = graph.nodes[number]
        if not isinstance(node, Apply):
            continue
        coefficient = trail.expand(len(rows), -1, -1)[which, rows]
        point = [operand.expand(len(rows), -1, -1)[which, rows] for operand in pull.operands[number]]
        boxes = operand_boxes(bounds, node)
        point = [torch.minimum(torch.maximum(p, box.lower), box.upper) for p, box in zip(point, boxes, strict=True)]
        value = node.op.forward(*point)
        now = torch.minimum(
            distance(taken(pull.suit[number], which, rows), coefficient, point, value),
            distance(node.op.relax(*boxes), coefficient, point, value),
        )
        for k, operand in enumerate(node.operands):
            if operand.source not in graph.bounded:
                continue
            box, middle = boxes[k], boxes[k].centre
            low = point[k] <= middle
            half = Interval(torch.where(low, box.lower, middle), torch.where(low, middle, box.upper))
            then = distance(node.op.relax(*boxes[:k], half, *boxes[k + 1 :]), coefficient, point, value)
            gain = torch.where(box.width > LEAST_WIDTH, (now - then).clamp(min=0), 0.0).nan_to_num(0.0, 0.0, 0.0)
            size = graph.nodes[operand.source].size
            places = torch.arange(size, device=rows.device)[operand.index]
            found.setdefault(operand.source, gain.new_zeros((len(rows), size))).index_add_(1, places, gain)
    return found


def taken(planes: Planes, which: Tensor, rows: Tensor) -> Planes:
    """The planes (B, n) that one row of each region took, of (B, n) or (B, R, n)."""
    return planes.map(lambda part: part.expand(len(rows), -1, -1)[which, rows] if part.dim() == 3 else part)


def distance(planes: Planes, coefficient: Tensor, point: list[Tensor], value: Tensor) -> Tensor:
    """(B, n): what the plane on the side that a coefficient pulls to costs at a point."""
    gap = torch.where(coefficient > 0, value - planes.lower.at(*point), planes.upper.at(*point) - value)
    return coefficient.abs() * gap.clamp(min=0)


def best(gains: dict[int, Tensor]) -> list[tuple[Candidate, ...]]:
    """For each region the neuron of each node that promises most, if it promises some."""
    found: list[list[Candidate]] = [[] for _ in range(len(next(iter(gains.values()))))] if gains else []
    for node, values in sorted(gains.items()):
        for mine, value, neuron in zip(found, *(part.tolist() for part in values.max(1)), strict=True):
            if value > LEAST_GAIN:
                mine.append(Candidate(node, neuron, value))
    return [tuple(mine) for mine in found]


def most_blamed(gains: dict[int, Tensor]) -> dict[int, Tensor]:
    """(B, k) for each node: the neurons that promise most."""
    return {node: values.topk(min(MATTER, values.shape[1]), 1).indices for node, values in gains.items()}


def split_values(bounds: LinearBounds, node: int, neurons: Tensor) -> Tensor:
    """(B,): where to split: in the middle, or where all that reads the neuron bends."""
    which = torch.arange(len(neurons), device=neurons.device)
    box = bounds.intervals[node].map(lambda ends: ends[which, neurons])
    values = box.centre
    readers = [apply.op.curve for apply in bounds.graph.nodes if isinstance(apply, Apply) and node in sources(apply)]
    if readers and all(curve is not None and curve.kinks for curve in readers):
        for kink in {kink for curve in readers if curve is not None for kink in curve.kinks or ()}:
            values = torch.where((box.lower < kink) & (kink < box.upper), kink, values)
    return values


def sources(node: Apply) -> set[int]:
    return {operand.source for operand in node.operands}
