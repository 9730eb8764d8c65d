"""Column generation: new planes at the primal point of the present optimum.

A row's best mixture has a primal point: where its bound is attained, each gate has its operands somewhere in its polygon. The
plane that supports the gate's envelope there is the one that would bring most (its operation's `columns`). It is added to
the gate's planes, and the row is bounded again: as in column generation for a linear program, whose limit is the optimum over
all gates' convex hulls. The first such round brings nearly all, about a hundredth where margins are near 0: what is left is due
to the polygons.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tightverify.bounds.fitted import Fitting, flat_ends, pairs
from tightverify.bounds.mixtures import PrimalPoint
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import padded
from tightverify.graph import Apply
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import OperandSet
from tightverify.values import FrozenMapping

INSIDE = 0.97
"""Points are moved so far inside the polygon: a plane that supports the envelope on the border may be as steep as it likes."""


def generated(
    bounds: LinearBounds, rows: dict[int, Tensor], steps: int, times: int, fitting: Fitting
) -> tuple[Tensor, LinearBounds]:
    """Lower bounds (B, R) of rows, by mixtures of ever more planes; and the bounds with those planes."""
    lower, primal_point = bounds.at_primal_point(rows, steps)
    for _ in range(times):
        bounds = with_planes_at(bounds, primal_point, fitting)
        better, primal_point = bounds.at_primal_point(rows, steps)
        lower = torch.maximum(lower, better)
    return lower, bounds


def with_planes_at(bounds: LinearBounds, primal_point: PrimalPoint, fitting: Fitting) -> LinearBounds:
    """One more pair of planes for each row, that supports the gates' envelopes at its primal point."""
    planes = dict(bounds.planes)
    for number, operands in primal_point.operands.items():
        node = bounds.graph.nodes[number]
        if not isinstance(node, Apply) or node.op.traits.columns is None:
            continue
        ends, sane = flat_ends(bounds, node)
        if not bool(sane.all()):
            continue
        polygons = bounds.polygons.get(number) or Polygons.of_operands(ends)
        assert polygons is not None
        places = torch.stack([operand.expand(len(bounds.region), -1, -1).transpose(1, 2) for operand in operands], dim=-1)
        points = inside(polygons, places.flatten(0, 1))
        found = node.op.traits.columns.at(OperandSet(ends, polygons), points, fitting.search)
        more = tuple(pairs(*found, planes[number][0].upper.offset.shape))
        planes[number] = padded(bounds, node, (*planes[number], *more))  # old ones pay for mixtures with the new ones too
        bounds.recorder.planes(number, planes[number])
    return replace(bounds, planes=FrozenMapping(planes))


def inside(polygons: Polygons, points: Tensor) -> Tensor:
    """Points (N, K, 1 or 2), moved towards the centroid until they lie in the polygon."""
    if points.shape[-1] == 1:
        low, high = polygons.vertices[..., 0].amin(1)[:, None], polygons.vertices[..., 0].amax(1)[:, None]
        middle, half = (low + high) / 2, INSIDE * (high - low) / 2
        moved = torch.minimum(torch.maximum(points[..., 0], middle - half), middle + half)
        return moved[..., None]
    return polygons.drawn_in(points, INSIDE)
