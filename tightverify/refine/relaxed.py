"""A network relaxed over one input's region: its bounds, and the polygons over which its gates' planes may be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.bounds.fitted import MOST, Effort, Seen, fitted_planes
from tightverify.bounds.linear import LinearBounds, linear_bounds
from tightverify.graph import Apply, Graph
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval


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
        planes = {number: pairs[:count] for number, pairs in self.bounds.planes.items()}
        return replace(self, bounds=replace(self.bounds, planes=planes))


def relaxed(
    graph: Graph, region: Region, effort: Effort, known: Sequence[Interval], check: Callable[[], None] = lambda: None
) -> list[Relaxed]:
    """A sweep of best mixtures over a batch, as `combined_bounds` takes it, and what is relaxed of each input."""
    seen: Seen = {}

    def relax(bounds: LinearBounds, node: Apply) -> tuple[Planes, ...]:
        return fitted_planes(bounds, node, effort.fitting, seen)

    bounds = linear_bounds(graph, region, check, relax, known, effort.steps)
    return [Relaxed(of_input(bounds, k), polygons_of_input(bounds, seen, k)) for k in range(len(region))]


def of_input(bounds: LinearBounds, k: int) -> LinearBounds:
    """The bounds of one input of a batch, as a batch of one."""

    def chosen(values: Tensor) -> Tensor:
        return values[k : k + 1]

    return LinearBounds(
        bounds.graph,
        bounds.region[k : k + 1],
        [interval.map(chosen) for interval in bounds.intervals],
        [chosen(scale) for scale in bounds.scales],
        {number: tuple(pair.map(chosen) for pair in pairs) for number, pairs in bounds.planes.items()},
        bounds.mixtures,
    )


def polygons_of_input(bounds: LinearBounds, seen: Seen, k: int) -> dict[int, Polygons]:
    found: dict[int, Polygons] = {}
    for number, polygons in seen.items():
        size = bounds.graph.nodes[number].size
        found[number] = polygons[k * size : (k + 1) * size]
    return found
