"""Inputs that satisfy a case exactly: points that were found, and some that are worth a try."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

from tightverify.graph import Graph
from tightverify.inputs.vnnlib.query import Query, below, box_of, holds
from tightverify.models.model import Model

CORNERS = 6
"""All corners of boxes of so few inputs are tried."""
STEPS = 33
"""Points on the way from the least corner to the greatest."""
DESCENTS = 3
"""How often the corner is taken to which the constraints fall."""
MOST_ROWS = 16
REPLAYED = 16
"""Of all points, those that are nearest to satisfying the case are run through the model."""


def satisfying(model: Model, query: Query, number: int, found: Tensor) -> tuple[Tensor, Tensor] | None:
    """An input of the model's own type within the case's bounds, at which the case holds exactly, and the outputs there."""
    case = query.cases[number]
    bounds = box_of(case, query.lower.shape[1])
    assert bounds is not None
    ends = [(-below(-low), below(high)) for low, high in bounds]  # inside; where no float is, the nearest
    low, high = torch.tensor(ends, dtype=torch.float64).view(-1, 2).unbind(1)
    x = torch.minimum(torch.maximum(found.flatten().to(torch.float64), torch.minimum(low, high)), high).to(model.dtype)
    if model.dtype is torch.float32:
        x = torch.where(x.double() < low, torch.nextafter(x, x.new_tensor(torch.inf)), x)
        x = torch.where(x.double() > high, torch.nextafter(x, x.new_tensor(-torch.inf)), x)
    with torch.no_grad():
        y = model.original(x.view(1, *model.graph.input_shape))[0]
    if not bool(torch.isfinite(y).all()):
        return None
    values = {f"Y_{k}": Fraction(value) for k, value in enumerate(y.flatten().tolist())}
    values.update({f"X_{k}": Fraction(value) for k, value in enumerate(x.flatten().tolist())})
    return (x, y) if all(holds(c, values) for c in case if not c.bounds_one) else None


@torch.enable_grad()
def tried(model: Model, graph: Graph, query: Query, number: int) -> tuple[Tensor, Tensor] | None:
    """The same of points that are worth a try: ties, which hold at a single corner often, are found there only."""
    lower, upper = query.lower[number], query.upper[number]
    asked = query.refuted[torch.tensor([number])]
    points = [lower + share * (upper - lower) for share in torch.linspace(0, 1, STEPS, dtype=torch.float64)]
    if len(lower) <= CORNERS:
        points += [torch.where(torch.tensor(which), upper, lower) for which in product((False, True), repeat=len(lower))]
    for row in (None, *range(min(asked.rows.shape[1], MOST_ROWS))):
        point = lower + (upper - lower) / 2
        for _ in range(DESCENTS):
            point = point.detach().requires_grad_()
            margins = asked.margins(graph.forward(point[None]))[0]
            if not margins.requires_grad:
                break
            (slope,) = torch.autograd.grad(margins.sum() if row is None else margins[row], point)
            point = torch.where(slope > 0, lower, torch.where(slope < 0, upper, point.detach()))
            points.append(point)
    every = torch.unique(torch.stack(points), dim=0)
    with torch.no_grad():
        worst = asked.margins(graph.forward(every)[None])[0].amax(-1).nan_to_num(nan=torch.inf)
    for place in worst.argsort()[:REPLAYED].tolist():
        found = satisfying(model, query, number, every[place])
        if found is not None:
            return found
    return None
