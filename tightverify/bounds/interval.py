"""Interval propagation: every node's values enclosed from its operands' enclosures, forward.

An affine node's interval is taken in the centre and radius of its operands; the rounding of the sums involved is within
`gamma` of the sum of the absolute values of all their terms, so that much is added on either side. Where no weight is below
0 the least value is that of the operands' lower ends too, whose own terms are all that its rounding is measured by: a sum of
small numbers that may be large, such as a power under a logarithm, keeps its sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.bounds.quadratics import swings_over
from tightverify.graph import OTHER_ROUNDINGS, Affine, Apply, Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.quadratic import lowest_points, quadratic_range
from tightverify.values import TINY, Interval, above, below, gamma


def enclose(graph: Graph, number: int, known: Sequence[Interval], region: Region) -> Interval:
    """The interval of one node, given those of the nodes before it."""
    match graph.nodes[number]:
        case Input() as node:
            box, reach = region.box[node.block], region.reach[node.block]
            return Interval(torch.maximum(box.lower, reach.lower), torch.minimum(box.upper, reach.upper))
        case Apply() as node:
            return node.op.interval(*(known[operand.source][operand.index] for operand in node.operands))
        case Affine() as node:
            centre: Tensor = node.bias.expand(len(region), -1)
            radius = torch.zeros_like(centre)
            size = node.bias_size.expand(len(region), -1)
            for term in node.terms:
                box = known[term.operand.source][term.operand.index]
                middle = box.centre
                magnitude = term.map.magnitude
                centre = centre + term.map.push(middle)
                radius = radius + magnitude.push(torch.maximum(box.upper - middle, middle - box.lower))
                size = size + magnitude.push(box.magnitude)
            allowance = graph.rounding * size + TINY
            ends = Interval(below(centre - radius, allowance), above(centre + radius, allowance))
            return least_of_all(graph, node, known, ends) if all(term.map.monotone for term in node.terms) else ends
        case Quadratic() as node:
            box = node.box(known)
            return quadratic_range(node.forms, box, lowest_points(node.forms, box), swings_over(graph, region, node, box))


def least_of_all(graph: Graph, node: Affine, known: Sequence[Interval], ends: Interval) -> Interval:
    """The interval of a sum of monotone terms, its lower end raised to what the operands' lower ends give."""
    least, size = node.bias, node.bias_size
    positive = (node.bias >= gamma(OTHER_ROUNDINGS) * node.bias_size).all()
    for term in node.terms:
        lower = known[term.operand.source].lower[..., term.operand.index]
        least, size = least + term.map.push(lower), size + term.map.magnitude.push(lower.abs())
        positive = positive & (lower >= 0).all()
    found = below(least, graph.rounding * size + TINY)
    found = torch.where(positive, found.clamp(min=0), found)  # A sum of nothing negative is not negative.
    return Interval(torch.maximum(ends.lower, found), ends.upper)


def interval_bounds(graph: Graph, region: Region) -> list[Interval]:
    """An interval for every node."""
    known: list[Interval] = []
    for number in range(len(graph.nodes)):
        known.append(enclose(graph, number, known, region))
    return claim(graph, known)


def undefined(graph: Graph, known: Sequence[Interval]) -> Tensor | None:
    """(B,): the inputs for which some operation may have no value somewhere on the region; None if there is none.

    A logarithm of a negative number makes the network's answer anything at all, whatever a later sigmoid's range says,
    so that of such inputs nothing may be claimed.
    """
    found: Tensor | None = None
    for node in graph.nodes[: len(known)]:
        if isinstance(node, Apply) and node.op.partial:
            there = node.op.undefined(*(known[operand.source][operand.index] for operand in node.operands))
            if there is not None:
                found = there.any(1) if found is None else found | there.any(1)
    return found


def claim(graph: Graph, known: list[Interval]) -> list[Interval]:
    """The intervals that may be claimed: everything is possible for inputs on which the network may be undefined."""
    nowhere = undefined(graph, known)
    if nowhere is None or not bool(nowhere.any()):
        return known
    everything = torch.where(nowhere, torch.inf, 0.0)[:, None]
    return [Interval(interval.lower - everything, interval.upper + everything) for interval in known]


def rows_over(rows: Tensor, box: Interval) -> Tensor:
    """(B, R): sound lower bounds of `rows @ y` for y in the box, rows (B, R, n) or (1, R, n).

    A row of zeros is 0 only of what is surely finite: nothing may be said of a y that may have no value (`claim`).
    """
    ends = torch.where(rows > 0, box.lower[:, None, :], box.upper[:, None, :])
    unread = (rows == 0) & (rows != 0).any(-1, keepdim=True)
    terms = torch.where(unread, 0.0, rows * ends)
    return below(terms.sum(-1), gamma(rows.shape[-1] + 2) * terms.abs().sum(-1) + TINY)
