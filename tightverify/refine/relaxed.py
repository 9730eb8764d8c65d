"""A network relaxed over one input's region: its bounds, and the polygons over which its gates' planes may be made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.bounds.fitted import MOST, Effort, combined_bounds, flat_ends
from tightverify.bounds.recorder import NOBODY, Recorder
from tightverify.bounds.result import LinearBounds
from tightverify.budget import UNLIMITED, Budget
from tightverify.graph import Apply, Graph
from tightverify.region import Region
from tightverify.relax.polygons import Polygons
from tightverify.values import FrozenMapping, Interval


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Bounds of a single input, and for operations with fitted planes, by node, the neurons' polygons (n, V, 2); see `sane`."""

    bounds: LinearBounds
    polygons: dict[int, Polygons]

    @property
    def graph(self) -> Graph:
        return self.bounds.graph

    def boxes(self, number: int) -> list[Interval]:
        """The boxes (n,) of an operation's operands."""
        node = self.graph.nodes[number]
        return [self.bounds.intervals[o.source].map(lambda ends: ends[0])[o.index] for o in node.operands]

    def sane(self, number: int) -> Tensor:
        """(n,): whose operands are small enough for fitted planes; of the others, polygons say nothing."""
        return torch.stack([box.magnitude < MOST for box in self.boxes(number)]).all(0)

    def with_first_planes(self, count: int) -> Relaxed:
        """The same with the first planes alone of every operation: the closed form is the first."""
        planes = FrozenMapping({number: pairs[:count] for number, pairs in self.bounds.planes.items()})
        return replace(self, bounds=replace(self.bounds, planes=planes))


def relaxed(
    graph: Graph,
    region: Region,
    effort: Effort,
    known: Sequence[Interval],
    budget: Budget = UNLIMITED,
    recorder: Recorder = NOBODY,
    window: int | None = None,
) -> list[Relaxed]:
    """A bounding pass of best mixtures over a batch, as `combined_bounds` takes it, and what is relaxed of each input."""
    bounds = combined_bounds(graph, region, effort, known, budget, recorder, window)
    return [Relaxed(one, polygons_of(one)) for one in (bounds[k : k + 1] for k in range(len(region)))]


def polygons_of(bounds: LinearBounds) -> dict[int, Polygons]:
    """What one input's planes of each operation were fitted over."""
    found: dict[int, Polygons] = {}
    for number in bounds.planes:
        node = bounds.graph.nodes[number]
        if isinstance(node, Apply) and node.op.traits.fitted is not None and node.op.traits.envelope is not None:
            polygons = bounds.polygons.get(number) or Polygons.of_operands(flat_ends(bounds, node)[0])
            if polygons is not None:
                found[number] = polygons
    return found
