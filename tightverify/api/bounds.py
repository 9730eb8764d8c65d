"""`tightverify.bounds`: intervals of every output, or of every neuron, over a region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack, overload

import torch

from tightverify.api.checks import fitting, given_inputs, region_for, usable
from tightverify.api.load import AnyModel, load
from tightverify.api.passes import PASSES, all_intervals
from tightverify.bounds.memory import largest_temporary, parts
from tightverify.budget import Budget
from tightverify.calling import plainly
from tightverify.errors import UsageError
from tightverify.graph import Graph
from tightverify.region import Perturbation, Region
from tightverify.relax.fitted.programs import check_solver
from tightverify.settings import BoundsOptions, Settings, merged, refuse_others
from tightverify.stages.bounding import planes_fitting
from tightverify.stages.combine import MIXTURE_SHARE, efforts
from tightverify.threads import threads_for
from tightverify.values import Interval


@overload
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation | Mapping[str, Perturbation],
    method: str | None = ...,
    *,
    every_node: Literal[False] = ...,
    settings: Settings | None = ...,
    batch_axis: int | Mapping[str, int] | None = ...,
    **options: Unpack[BoundsOptions],
) -> Interval: ...


@overload
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation | Mapping[str, Perturbation],
    method: str | None = ...,
    *,
    every_node: Literal[True],
    settings: Settings | None = ...,
    batch_axis: int | Mapping[str, int] | None = ...,
    **options: Unpack[BoundsOptions],
) -> list[Interval]: ...


@plainly
def bounds(
    model: AnyModel,
    x: Any,
    region: Perturbation | Mapping[str, Perturbation],
    method: str | None = None,
    *,
    every_node: bool = False,
    settings: Settings | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    **options: Unpack[BoundsOptions],
) -> Interval | list[Interval]:
    """Intervals that surely hold the outputs (N, K) on the region; on request those of every node of the graph.

    Settings are as in `certify`: `method`, `device`, `memory`, `batch`, `directions`, `solver`, `window` and `lines` count.
    """
    refuse_others(options, BoundsOptions.__annotations__, "bounds")
    settings = merged(settings, options if method is None else {**options, "method": method})
    if settings.method not in PASSES:
        raise UsageError(f"the method {settings.method!r} does not exist for bounds; choose one of {', '.join(PASSES)}")
    check_solver(settings.solver)
    x = given_inputs(x)
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    region = region_for(loaded, region)
    if not every_node:
        loaded.refuse_left_out("it is asked what outputs there are")
    x = fitting(loaded, x)
    graph, regions = loaded.graph.to(usable(settings.device)), region.around(x).to(settings.device)
    found: list[list[Interval]] = []
    for start in range(0, len(x), settings.batch):
        some = regions[start : start + settings.batch]
        for piece in pieces(graph, some, settings):
            with threads_for(largest_temporary(graph, some[piece], Budget(memory=settings.memory)), settings.device):
                intervals = all_intervals(graph, PASSES[settings.method](graph, some[piece], settings))
            found.append(intervals if every_node else [intervals[graph.output]])
    joined = [
        Interval(torch.cat([interval.lower for interval in same]), torch.cat([interval.upper for interval in same]))
        for same in zip(*found, strict=True)
    ]
    return joined if every_node else joined[0]


def pieces(graph: Graph, regions: Region, settings: Settings) -> Iterable[slice]:
    """Parts of a batch whose bounds keep to the memory."""
    if settings.method == "interval":
        return (slice(None),)
    budget = Budget(memory=settings.memory)
    if settings.method == "combine":
        directions = efforts(settings)[0].fitting.directions
        return parts(graph, regions, budget, directions, MIXTURE_SHARE, settings.stopping)
    return parts(graph, regions, budget, planes_fitting(settings).directions, window=settings.stopping)
