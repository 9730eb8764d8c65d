"""The planes of energies in a sweep: over the box of their operands, and over the ball that the region is.

Over a box around the input each sample of a frame moves as it likes; in a ball of radius r of the norm 1 or 2 they share it.
The rise of the upper plane, d' Q d, is then at most max_i s_i |d|^2 as well, with |d| <= r + |c - centre| for the box's
middle c.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.graph import Energy, Graph, Input
from tightverify.region import Region
from tightverify.relax.energy import energy_planes
from tightverify.relax.planes import Planes
from tightverify.values import TINY, Interval, above, gamma


def relaxed_energy(
    graph: Graph, region: Region, number: int, intervals: Sequence[Interval], scales: Sequence[Tensor]
) -> Planes:
    """The planes of node `number` with slopes (B, n, m), moved apart to pay for the rounding of the walks below."""
    node = graph.nodes[number]
    assert isinstance(node, Energy)
    box = node.box(intervals)
    pair = energy_planes(node.forms, box, radius=radius_around(graph, region, node, box))
    sources = {operand.source for operand in node.operands}
    sizes = node.gather({source: intervals[source].magnitude + scales[source] for source in sources})
    each = [(side.slopes[0].abs() @ sizes[..., None])[..., 0] + side.offset.abs() for side in (pair.lower, pair.upper)]
    return pair.widen(graph.rounding * (each[0] + each[1]) + TINY)


def radius_around(graph: Graph, region: Region, node: Energy, box: Interval) -> Tensor | None:
    """(B,): how far from the middle of their box the operands can be, in the norm 2; None where only the box says that."""
    blocks = {operand.source: graph.nodes[operand.source] for operand in node.operands}
    if region.norm not in (1, 2) or not all(isinstance(block, Input) for block in blocks.values()):
        return None
    centre = node.gather({k: region.centre[:, block.block] for k, block in blocks.items() if isinstance(block, Input)})
    away = torch.linalg.vector_norm(box.centre - centre, dim=1)
    size = torch.linalg.vector_norm(box.magnitude + centre.abs(), dim=1)
    return above(region.radius + away, gamma(centre.shape[1] + 8) * (region.radius + away + size))
