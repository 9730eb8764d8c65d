"""Supporting planes of an operation's envelopes at given points: what cuts a point of a program off.

A program's point gives each neuron y and its operands p. Over the box or polygon D that p surely lies in, the convex hull of
the operation's graph lies between its lower convex and its upper concave envelope. As the function f itself lies between the
two, only one side can be violated: the upper one where y > f(p), the lower one where y < f(p). The plane that supports that
envelope at p is, of all that hold f over D, the one nearest to y: if it does not cut y off, nothing does.

The planes are the operation's own (`Traits.envelope`). Whatever the slopes, the offsets are proved over all of D; a bad point
or slope gives a plane that cuts nothing off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.graph import Apply
from tightverify.refine.relaxed import Relaxed
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import Envelope, OperandSet, Search, Support

TOLERANCE = 1e-4
"""How near to the tightest a fitted plane is, relative to its mean distance."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Some neurons `which` (m,) of an operation, their operands' points (m, k), and on which side a plane is wanted (m,)."""

    number: int
    which: Tensor
    points: Tensor
    upper: Tensor
    values: Tensor
    """(m,): what the planes are to cut off"""

    @property
    def sign(self) -> Tensor:
        return torch.where(self.upper, 1.0, -1.0).to(self.points)

    def excess(self, support: Support) -> Tensor:
        """(m,): by how much the planes cut the values off."""
        return self.sign * (self.values - (support.planes[:, :-1] * self.points).sum(1) - support.planes[:, -1])

    def beyond(self, support: Support) -> Tensor:
        """(m,): by how much the values lie outside the envelopes, at the most."""
        return (self.sign * (self.values - support.best)).clamp(min=0)

    def supported(self, envelope: Envelope, operands: OperandSet, search: Search) -> Support:
        return envelope.support(operands, self.points, self.upper, search)


def supporting(relaxed: Relaxed, every: Sequence[Asked], least_cut: float, solver: str = "batched") -> list[Support | None]:
    """The planes for each that is asked; None where nothing is known to support the operation.

    Gates of the same function over polygons are fitted together: first quickly; then, where that cuts less than `least_cut` off
    and the tightest plane might cut more, as tightly as can be.
    """
    found: list[Support | None] = [None] * len(every)
    alike: dict[tuple[Envelope, int], list[int]] = {}
    for place, asked in enumerate(every):
        node = relaxed.graph.nodes[asked.number]
        assert isinstance(node, Apply)
        envelope = node.op.traits.envelope
        if envelope is None:
            continue
        if asked.number in relaxed.polygons:
            width = relaxed.polygons[asked.number].vertices.shape[1]
            alike.setdefault((envelope, width), []).append(place)
        else:
            found[place] = asked.supported(envelope, operands_of(relaxed, asked), Search(solver, TOLERANCE))
    for (envelope, _), places in alike.items():
        together = supported_together(relaxed, envelope, [every[k] for k in places], least_cut, solver)
        for place, support in zip(places, together, strict=True):
            found[place] = support
    return found


def operands_of(relaxed: Relaxed, asked: Asked) -> OperandSet:
    boxes = [box[asked.which] for box in relaxed.boxes(asked.number)]
    ends = torch.stack([end for box in boxes for end in (box.lower, box.upper)], dim=1)
    polygons = relaxed.polygons.get(asked.number)
    return OperandSet(ends, None if polygons is None else polygons[asked.which])


def supported_together(
    relaxed: Relaxed, envelope: Envelope, every: Sequence[Asked], least_cut: float, solver: str
) -> list[Support]:
    """Supports of several operations that have the same envelopes, over polygons of as many vertices."""
    each = [operands_of(relaxed, asked) for asked in every]
    operands = OperandSet(torch.cat([one.ends for one in each]), Polygons(torch.cat([one.planar.vertices for one in each])))
    parts = ("which", "points", "upper", "values")
    joined = Asked(-1, *(torch.cat([getattr(asked, name) for asked in every]) for name in parts))
    support = joined.supported(envelope, operands, Search(solver, TOLERANCE, once=True))
    planes, best = support.planes, support.best
    doubtful = torch.nonzero((joined.excess(support) <= least_cut) & (joined.beyond(support) > least_cut)).flatten()
    if len(doubtful):
        left = Asked(-1, *(getattr(joined, name)[doubtful] for name in parts))
        finer = left.supported(envelope, operands[doubtful], Search(solver, TOLERANCE))
        planes, best = planes.index_copy(0, doubtful, finer.planes), best.index_copy(0, doubtful, finer.best)
    sizes = [len(asked.which) for asked in every]
    return [Support(*pair) for pair in zip(torch.split(planes, sizes), torch.split(best, sizes), strict=True)]
