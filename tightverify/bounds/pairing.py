"""Which neurons of an operation are taken as pairs (`bounds.pairs`), and over which polygons.

Two neurons gain by each other if their operands hang together, and as much as the one loses alone that loses less. How they
hang together is told by lower bounds of the operands, linear in the input: the cosine of their coefficients, each times the
half width of its input. Sums and differences of both operands are bounded then like any other row; a polygon is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tightverify.bounds.back_substitution import linear_form
from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.mixtures import START
from tightverify.bounds.pairs import Pairs, matched
from tightverify.bounds.rows import moved_apart, operand_boxes, operand_sizes
from tightverify.graph import Apply
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval

MOST = 64
"""pairs of an operation"""
DIRECTIONS = (1.0, 1.0), (-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0)
"""The sums and differences of operands, in units of their half widths, that are bounded."""


def may_be_paired(bounds: BoundingPass, node: Apply) -> bool:
    """Whether there are planes for pairs of an operation's neurons, which evidence has no place for."""
    return bool(bounds.mixtures) and node.size > 1 and node.op.traits.pairs is not None and not bounds.recorder.listens


def pairs_for(bounds: BoundingPass, node: Apply, alone: Planes) -> Pairs:
    """The pairs of an operation's neurons, by what planes of theirs `alone` lose."""
    (box,) = operand_boxes(bounds, node)
    gap = (alone.upper.at(box.centre) - alone.lower.at(box.centre)).clamp(min=0)
    scores = alike(bounds, node) * torch.minimum(gap[:, :, None], gap[:, None])
    members = matched(torch.nan_to_num(scores, nan=0.0), MOST)
    return over_polygons(bounds, node, members, polygons_of(bounds, node, members))


def alike(bounds: BoundingPass, node: Apply) -> Tensor:
    """(B, n, n): how far operands hang together, from 0 to 1."""
    (operand,) = node.operands
    identity = torch.eye(bounds.graph.nodes[operand.source].size, dtype=torch.float64, device=bounds.region.centre.device)
    planes = {number: pairs[min(START, len(pairs) - 1)] for number, pairs in bounds.planes.items() if number <= operand.source}
    _, form = linear_form(
        bounds.graph, planes, {operand.source: identity[None, operand.index]}, edge=bounds.edge(operand.source)
    )
    reach = torch.nan_to_num(form * (bounds.region.reach.width / 2)[:, None], 0.0, 0.0, 0.0)
    unit = torch.nn.functional.normalize(reach, dim=-1)
    return (unit @ unit.mT).abs()


def polygons_of(bounds: BoundingPass, node: Apply, members: Tensor) -> Polygons:
    """What the operands of pairs (B, 2 P) can be together: (B * P)."""
    (operand,) = node.operands
    ends = ends_of(operand_boxes(bounds, node)[0], members)
    half = (ends[..., 1::2] - ends[..., 0::2]) / 2
    # One operand that does not move leaves nothing to be cut: any direction will do then.
    units = torch.where((half > 0).all(-1, keepdim=True), half.amax(-1, keepdim=True) / half, 1.0)
    normals = units[:, :, None] * units.new_tensor(DIRECTIONS)
    batch, count, several, _ = normals.shape
    own = normals.new_zeros((batch, count, several, node.size))
    for part, weights in zip(members.chunk(2, dim=1), normals.unbind(-1), strict=True):
        own.scatter_(3, part[:, :, None, None].expand(-1, -1, several, 1), weights[..., None])
    width = bounds.graph.nodes[operand.source].size
    places = torch.arange(width, device=own.device)[operand.index]
    rows = own.new_zeros((batch, count * several, width)).index_add_(2, places, own.flatten(1, 2))
    least = bounds.lower({operand.source: rows})
    return Polygons.within(ends.flatten(0, 1), normals.flatten(0, 1), least.view(batch * count, several))


def over_polygons(bounds: BoundingPass, node: Apply, members: Tensor, polygons: Polygons) -> Pairs:
    """Pairs (B, 2 P), with planes over what is left of polygons (B * P) in the operands' boxes."""
    own = node.op.traits.pairs
    assert own is not None
    (box,), (size,) = operand_boxes(bounds, node), operand_sizes(bounds, node)
    ends = ends_of(box, members)
    lower, upper = own.planes(polygons.cut_to(ends.flatten(0, 1)))

    def plane(side: Tensor) -> Plane:
        """(N, 2, 3), pair by pair, as (B, 2 P): of sums, then of differences."""
        first, second, offset = side.view(*ends.shape[:2], 2, 3).transpose(1, 2).flatten(1, 2).unbind(-1)
        return Plane((first, second), offset)

    planes = tuple(Planes(plane(low), plane(high)) for low, high in zip(lower.unbind(2), upper.unbind(2), strict=True))
    x1, x2, y1, y2 = (end.repeat(1, 2) for end in ends.unbind(-1))
    sizes = [size.gather(1, part).repeat(1, 2) for part in members.chunk(2, dim=1)]
    return Pairs(members, moved_apart(bounds, sizes, planes), (Interval(x1, x2), Interval(y1, y2)), polygons)


def ends_of(box: Interval, members: Tensor) -> Tensor:
    """(B, P, 4): the ends of the operands of pairs (B, 2 P)."""
    chosen = [end.gather(1, part) for part in members.chunk(2, dim=1) for end in (box.lower, box.upper)]
    return torch.stack(chosen, dim=-1)
