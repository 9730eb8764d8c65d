"""`tightverify.bounds`: intervals of every output, or of every neuron, over a region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch

from tightverify.api.checks import as_inputs, at_least_one, fitting, usable
from tightverify.api.load import AnyModel, load
from tightverify.bounds.fitted import Fitting, combined_bounds, fitted_bounds
from tightverify.bounds.interval import claim, interval_bounds
from tightverify.bounds.linear import LinearBounds, linear_bounds
from tightverify.bounds.memory import largest_temporary, parts
from tightverify.calling import plainly
from tightverify.errors import UsageError
from tightverify.graph import Graph
from tightverify.region import Perturbation, Region
from tightverify.settings import Settings
from tightverify.stages.combine import MIXTURE_SHARE, efforts
from tightverify.threads import threads_for
from tightverify.values import Interval


@overload
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    method: str = ...,
    *,
    every_node: Literal[False] = ...,
    batch: int = ...,
    batch_axis: int | None = ...,
    device: str = ...,
) -> Interval: ...


@overload
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    method: str = ...,
    *,
    every_node: Literal[True],
    batch: int = ...,
    batch_axis: int | None = ...,
    device: str = ...,
) -> list[Interval]: ...


@plainly
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation,
    method: str = "linear",
    *,
    every_node: bool = False,
    batch: int = 100,
    batch_axis: int | None = None,
    device: str = "cpu",
) -> Interval | list[Interval]:
    """Intervals that surely hold the outputs (N, K) on the region; on request those of every node of the graph."""
    x = as_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    if method not in PASSES:
        raise UsageError(f"the method {method!r} does not exist for bounds; choose one of {', '.join(PASSES)}")
    graph, regions = loaded.graph.to(usable(device)), region.around(x).to(device)
    directions, share = MEMORY_OF.get(method, (Fitting().directions, 1))
    found: list[list[Interval]] = []
    for start in range(0, len(x), at_least_one(batch)):
        some = regions[start : start + batch]
        pieces = [slice(None)] if method == "interval" else parts(graph, some, Settings().memory // share, directions)
        for piece in pieces:
            with threads_for(largest_temporary(graph, some[piece], Settings().memory), device):
                intervals = PASSES[method](graph, some[piece])
            found.append(intervals if every_node else [intervals[graph.output]])
    joined = [
        Interval(torch.cat([interval.lower for interval in same]), torch.cat([interval.upper for interval in same]))
        for same in zip(*found, strict=True)
    ]
    return joined if every_node else joined[0]


def swept(bounds: LinearBounds) -> list[Interval]:
    """Every node's interval by linear bounds, the output's own back-substitution included."""
    graph = bounds.graph
    intervals = claim(graph, bounds.intervals)
    intervals[graph.output] = intervals[graph.output].intersect(bounds.tighten(graph.output))
    return intervals


FIRST = efforts(Settings())[0]
"""What `bounds` takes of `combine`: its first round."""


def combined(graph: Graph, region: Region) -> list[Interval]:
    return swept(combined_bounds(graph, region, FIRST, linear_bounds(graph, region).intervals))


MEMORY_OF = {"combine": (FIRST.fitting.directions, MIXTURE_SHARE)}
"""The directions that a method bounds too, and how many times the memory of a row it takes, where that is more than usual."""


PASSES: dict[str, Callable[[Graph, Region], list[Interval]]] = {
    "interval": interval_bounds,
    "linear": lambda graph, region: swept(linear_bounds(graph, region)),
    "planes": lambda graph, region: swept(fitted_bounds(graph, region, Fitting())),
    "combine": combined,
}
"""How `bounds` finds every node's interval, by method."""
