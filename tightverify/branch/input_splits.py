"""What splits of the input's coordinates promise: what operations lose, handed down to where their operands' widths come from.

What a plane loses (`bounds.scores`) goes with the square of the interval's width. Halving a coordinate that makes up a share s
of all that is in it leaves (1 - s / 2)^2 of the loss: the gain is about s times the loss. Shares follow the network backward:
each node hands on to its operands, in proportion to what their widths, times weights or slopes, add to its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tightverify.bounds.result import LinearBounds
from tightverify.graph import Affine, Apply, Input, Quadratic


def coordinate_gains(bounds: LinearBounds, losses: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """(B, n) for each block of the input, from the losses (B, n) of operations."""
    graph = bounds.graph
    left, found = dict(losses), {}
    for number in reversed(range(max(left, default=-1) + 1)):
        if number not in left:
            continue
        node, loss = graph.nodes[number], left.pop(number)
        if isinstance(node, Input):
            found[number] = loss
            continue
        if not node.operands:
            continue  # a constant: no coordinate makes up any of it
        for operand, share in zip(node.operands, handed_down(bounds, number, loss), strict=True):
            source = operand.source
            places = torch.arange(graph.nodes[source].size, device=loss.device)[operand.index]
            before = left.get(source, torch.zeros_like(bounds.intervals[source].lower))
            left[source] = before.index_add(1, places, share.nan_to_num(0.0, 0.0, 0.0))
    return found


def handed_down(bounds: LinearBounds, number: int, loss: Tensor) -> list[Tensor]:
    """What a node's loss (B, n) is worth for each of its operands' neurons."""
    node = bounds.graph.nodes[number]
    widths = [bounds.intervals[operand.source].width[:, operand.index] for operand in node.operands]
    widths = [torch.where(torch.isfinite(width), width, 0.0) for width in widths]
    if isinstance(node, Affine):
        weights = [term.map.absolute for term in node.terms]
        each = per_unit(loss, [weight.push(width) for weight, width in zip(weights, widths, strict=True)])
        return [weight.pull(each) * width for weight, width in zip(weights, widths, strict=True)]
    pair = bounds.planes[number][0]
    slopes = [(a.abs() + b.abs()) / 2 for a, b in zip(pair.lower.slopes, pair.upper.slopes, strict=True)]
    if isinstance(node, Quadratic):
        side_by_side = torch.cat(widths, dim=1)
        each = per_unit(loss, [(slopes[0] @ side_by_side[..., None])[..., 0]])
        shares = (each[:, None] @ slopes[0])[:, 0] * side_by_side
        return list(torch.split(shares, [width.shape[1] for width in widths], dim=1))
    assert isinstance(node, Apply)
    each = per_unit(loss, [slope * width for slope, width in zip(slopes, widths, strict=True)])
    return [each * slope * width for slope, width in zip(slopes, widths, strict=True)]


def per_unit(loss: Tensor, parts: list[Tensor]) -> Tensor:
    """The loss for each unit of width, of which there are these parts."""
    total = torch.stack(parts).sum(0)
    return torch.where(total > 0, loss / total, 0.0)
