"""The search for counterexamples: projected gradient descent on the margin that decides, from several starts.

The search runs on the graph in float64. What it finds is only a suspicion: each point is moved into the user's own dtype,
checked to lie inside the region surely, and replayed through the user's own model, alone, as other inputs beside it may change
the last digits; where its outputs break the property in exact arithmetic it is a counterexample.

Finite regions are searched greedily as well: of all points next to one (a word replaced) the worst, over and over.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.budget import Budget
from tightverify.errors import OutOfTimeError
from tightverify.graph import Graph
from tightverify.models.model import Model
from tightverify.region import Finite, Region
from tightverify.spec import Property

SHRINKS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""How far towards the centre a point is moved, at most, to stay inside the region after rounding to the user's dtype."""
GREEDY = 4
"""From so many of the points that are met, and from the input, a finite region is searched point by point."""


@dataclass(frozen=True, eq=False)
class Search:
    """How hard to look: starts per input, gradient steps, and the seed of the random starts."""

    restarts: int
    steps: int
    seed: int


def attack(
    model: Model,
    graph: Graph,
    region: Region,
    spec: Property,
    search: Search,
    budget: Budget,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(B,) whether a counterexample was found, and (B, n) the points, in the model's dtype (as float64 values).

    From `starts` (B, S, n), or from the centre and random points. Where the time runs out, what was met until then is tried.
    """
    found = torch.zeros(len(region), dtype=torch.bool, device=region.centre.device)
    points = region.centre.clone()
    met = descend(graph, region, spec, search, budget, starts)
    if region.finite is not None:
        met = [*met, *(improved(graph, region.finite, spec, x, budget) for x in (region.centre, *met[:GREEDY]))]
    for candidate in met:
        moved, inside = into_dtype(region, candidate, model.dtype)
        (left,) = torch.nonzero(inside & ~found, as_tuple=True)
        fresh = left[breaks(model, spec[left], moved[left])]
        points[fresh] = moved[fresh]
        found[fresh] = True
        if bool(found.all()):
            break
    return found.cpu(), points


def descend(
    graph: Graph,
    region: Region,
    spec: Property,
    search: Search,
    budget: Budget,
    starts: Tensor | None = None,
) -> list[Tensor]:
    """For every start the worst point (B, n) on its way, all starts at once.

    The first half of the starts go down the margin that decides; the others one row of the property each, in turn.
    """
    if starts is None:
        starts = random_starts(region, search)
    count = starts.shape[1]
    x = starts
    best, lowest = x.clone(), torch.full(x.shape[:2], torch.inf, dtype=torch.float64, device=x.device)
    rows = torch.arange(count, device=x.device) % spec.rows.shape[1]
    single = torch.arange(count, device=x.device) >= (count + 1) // 2
    for step in range(search.steps + 1):
        try:
            budget.check()
        except OutOfTimeError:
            break
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            margins = spec.margins(graph.forward(x))
            decides = spec.worst(margins)
            chosen = torch.gather(margins, -1, rows.expand(len(x), -1)[..., None])[..., 0]
            goal = torch.where(single, chosen, decides).sum() + 0 * x.sum()  # outputs may be constant
        better = decides.detach() < lowest
        lowest = torch.where(better, decides.detach(), lowest)
        best = torch.where(better[..., None], x.detach(), best)
        if step == search.steps:
            break
        (gradient,) = torch.autograd.grad(goal, x)
        length = 0.5 * (1 - step / max(1, search.steps)) + 0.02
        x = region.project(x.detach() - length * region.steepest(gradient.nan_to_num()))
    return list(best.unbind(1))


def improved(graph: Graph, region: Finite, spec: Property, x: Tensor, budget: Budget) -> Tensor:
    """(B, n): points of finite regions, from x (B, n) on always the best of those next to it, as long as that is better."""
    lowest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    better = torch.ones_like(lowest, dtype=torch.bool)
    while bool(better.any()) and budget.left > 0:
        some = torch.nonzero(better).flatten()
        near = region[some].nearby(x[some])
        worst, which = spec[some].worst(spec[some].margins(graph.forward(near))).min(1)
        better[some] = worst < lowest[some]
        fresh = better[some]
        lowest[some[fresh]] = worst[fresh]
        x = x.index_copy(0, some[fresh], near[torch.nonzero(fresh).flatten(), which[fresh]])
    return x


def random_starts(region: Region, search: Search) -> Tensor:
    """(B, S, n): the centre and random points, of each input the same whichever others are beside it."""
    alone = (region[k : k + 1] for k in range(len(region)))
    starts = [one.sample(max(1, search.restarts), torch.Generator().manual_seed(search.seed)) for one in alone]
    together = torch.cat(starts)
    together[:, 0] = region.centre
    return together


def into_dtype(region: Region, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Points (B, n) whose values the dtype holds, as close to x as it takes to be surely inside; and whether they are."""
    result, inside = x, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for shrink in SHRINKS:
        moved = (region.centre + (x - region.centre) * (1 - shrink) if shrink else x).to(dtype).to(torch.float64)
        fits = region.contains(moved) & ~inside
        result = torch.where(fits[:, None], moved, result)
        inside = inside | fits
    return result, inside


def breaks(model: Model, spec: Property, x: Tensor) -> Tensor:
    """(B,): whether the user's own model breaks the property at flat points (B, n)."""
    inputs = x.to(model.dtype).cpu().view(len(x), *model.graph.input_shape)

    def replayed(some: Tensor) -> Tensor:
        with torch.no_grad():
            return model.original(some).to(torch.float64)

    broken = torch.zeros(len(x), dtype=torch.bool)
    if len(x):
        broken = spec.broken(spec.margins(replayed(inputs).to(x.device))).cpu()
    for k in torch.nonzero(broken).flatten().tolist():
        broken[k] = spec[k : k + 1].surely_broken(replayed(inputs[k : k + 1])[0])
    return broken.to(x.device)
