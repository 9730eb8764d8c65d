"""The refuted end of a radius: counterexamples, moved as near to their inputs as they break the property.

A counterexample is looked for in a region of some size. Where one is found, it is moved along the straight line to its input,
by bisection, as long as the user's own model still breaks the property there. The radius refuted is the least size whose region
surely holds that very point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.attack import Search, attack, breaks, random_starts
from tightverify.budget import Budget
from tightverify.radius.questions import Questions

LINE, SIZES = 14, 30
"""Bisections along a line to the input, and of sizes. The first are few: next to a tie, rounding decides."""
LEAST = 1e-9
"""Sizes below this part of the region that was searched are not told apart."""


@dataclass(frozen=True, eq=False)
class Found:
    """A counterexample (n,) and the least size whose region surely holds it."""

    point: Tensor
    size: float


def look(
    questions: Questions,
    places: Sequence[int],
    sizes: Sequence[float],
    points: Sequence[Tensor | None],
    search: Search,
    budget: Budget,
) -> list[Found | None]:
    """For each question a counterexample in the region of its size; `points` are some that are known of larger ones."""
    chosen, region = torch.tensor(places, dtype=torch.long), questions.regions(places, sizes)
    starts = random_starts(region, search)
    for k, point in enumerate(points):
        if point is not None:
            starts[k, -1] = region[k : k + 1].project(point.to(torch.float64).view(1, -1))[0]
    graph, spec = questions.model.graph, questions.spec[chosen]
    broken, found = attack(questions.model, graph, region, spec, search, budget, starts)
    at = torch.nonzero(broken).flatten().tolist()
    near = iter(nearest(questions, [places[k] for k in at], [sizes[k] for k in at], found[broken]))
    return [next(near) if hit else None for hit in broken.tolist()]


def nearest(questions: Questions, places: Sequence[int], sizes: Sequence[float], points: Tensor) -> list[Found]:
    """Counterexamples (Q, n), each in the region of its size, moved to their inputs, and the least sizes that hold them."""
    if not len(points):
        return []
    chosen = torch.tensor(places, dtype=torch.long)
    centre, spec = questions.x[questions.inputs[chosen]].to(torch.float64).flatten(1), questions.spec[chosen]
    region, best = questions.regions(places, sizes), points.clone()
    low, high = torch.zeros(len(points), dtype=torch.float64), torch.ones(len(points), dtype=torch.float64)
    for _ in range(LINE):
        middle = (low + high) / 2
        moved = (centre + middle[:, None] * (points - centre)).to(questions.model.dtype).to(torch.float64)
        fits = region.contains(moved) & breaks(questions.model, spec, moved)
        best = torch.where(fits[:, None], moved, best)
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    return [Found(point, size) for point, size in zip(best, least_sizes(questions, places, sizes, best), strict=True)]


def least_sizes(questions: Questions, places: Sequence[int], sizes: Sequence[float], points: Tensor) -> list[float]:
    """For each point (Q, n), in the region of its size, nearly the least size whose region surely holds it."""
    high = torch.tensor(sizes, dtype=torch.float64)
    low = high * LEAST
    for k in range(SIZES):
        middle = (low * high).sqrt() if k < SIZES // 3 else (low + high) / 2
        inside = questions.regions(places, middle.tolist()).contains(points)
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return high.tolist()


def holds(questions: Questions, place: int, size: float, point: Tensor) -> bool:
    """Whether the region of a size surely holds a point."""
    return bool(questions.regions([place], [size]).contains(point.view(1, -1))[0])
