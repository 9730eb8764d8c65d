"""The planes of sums of squares in a bounding pass: over the box of their operands, and over the ball that the region is.

Over a box around the input each sample of a frame moves as it likes; in a ball, or on a line, they have what they may move in
common. Two more bounds of d' Q d, by which the upper plane rises above the tangent at the middle c of the box, are then worth
having:

* for each form how far it can get from its value at c, which the region answers exactly: the squares of that, weighted;
* in a ball of radius r of the norm 1 or 2, max_i s_i |d|^2 with |d| <= r + |c - centre|.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.graph import Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.quadratic import quadratic_planes
from tightverify.values import TINY, Interval, above


def relaxed_quadratic(
    graph: Graph, region: Region, number: int, intervals: Sequence[Interval], scales: Sequence[Tensor]
) -> Planes:
    """The planes of node `number` with slopes (B, n, m), moved apart to pay for the rounding of back-substitution below."""
    node = graph.nodes[number]
    assert isinstance(node, Quadratic)
    box = node.box(intervals)
    swings = swings_over(graph, region, node, box)
    pair = quadratic_planes(node.forms, box, radius=radius_around(graph, region, node, box), swings=swings)
    sources = {operand.source for operand in node.operands}
    sizes = node.gather({source: intervals[source].magnitude + scales[source] for source in sources})
    each = [(side.slopes[0].abs() @ sizes[..., None])[..., 0] + side.offset.abs() for side in (pair.lower, pair.upper)]
    return pair.widen(graph.rounding * (each[0] + each[1]) + TINY * (1 + sizes.sum(1, keepdim=True)))


def coordinates_of(graph: Graph, node: Quadratic, device: torch.device) -> Tensor | None:
    """The coordinates of the input that a node reads, None if it reads anything else."""
    found = {operand.source: graph.nodes[operand.source] for operand in node.operands}
    blocks = {number: source.block for number, source in found.items() if isinstance(source, Input)}
    place = torch.arange(graph.input_size, device=device)
    return node.gather({number: place[block] for number, block in blocks.items()}) if len(blocks) == len(found) else None


def radius_around(graph: Graph, region: Region, node: Quadratic, box: Interval) -> Tensor | None:
    """(B,): how far from the middle of their box the operands can be, in the norm 2; None where only the box says that."""
    places = coordinates_of(graph, node, box.lower.device)
    return None if places is None else region.furthest(places, box)


def swings_over(graph: Graph, region: Region, node: Quadratic, box: Interval) -> Tensor | None:
    """(B, K): how far each form can get from its value in the middle of the box; None where only the box says that."""
    places = None if region.separable else coordinates_of(graph, node, box.lower.device)
    if places is None:
        return None
    forms = node.forms
    rows = forms.matrix.new_zeros((1, 2 * len(forms.matrix), graph.input_size))
    rows[0][:, places] = torch.cat([forms.matrix, -forms.matrix])
    down, up = region.minimise(rows).chunk(2, dim=1)
    middle = box.centre @ forms.matrix.T
    size = (region.rounding_scale[:, places] + 2 * box.magnitude) @ forms.size.T
    return above(torch.maximum(middle - down, -up - middle), (graph.rounding + forms.noise) * size + TINY).clamp(min=0)
