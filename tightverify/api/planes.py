"""The tightest planes of a gate, asked for directly: `planes("sigmoid_tanh", boxes)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightverify.calling import own, plainly
from tightverify.errors import UsageError
from tightverify.ops import OPS, Operation
from tightverify.relax.curves import One, Symmetric
from tightverify.relax.fitted.family import Domain, PlaneSet, fitted, tightest
from tightverify.relax.fitted.programs import check_solver
from tightverify.relax.polygons import Polygons, cross

CONVEX = 1e-13
"""Rounding that is forgiven to the vertices of a convex polygon, relative to its size."""
INSIDE = 0.98
"""Points nearer to the border than this share of the way are moved in: on the border itself a plane may stand upright."""


@dataclass(frozen=True, eq=False)
class PlaneFit:
    """For each of N boxes a plane on either side: `a x + b y + c`, one column less for a function of one operand.

    `gap[:, 0]` bounds how much higher the lower plane's mean over the box could be (its height over the point asked for, with
    `at`), `gap[:, 1]` how much lower the upper one's. With several points per box, (N, K, ...).
    """

    lower: Tensor
    upper: Tensor
    gap: Tensor


@plainly
def planes(
    function: str | Operation,
    boxes: Any,
    *,
    at: Any = None,
    over: Any = None,
    solver: str = "highs",
    tolerance: float = 1e-6,
) -> PlaneFit:
    """The tightest planes below and above a function on each box, proved valid on all of it.

    `boxes` is N x 4, (x_lower, x_upper, y_lower, y_upper), or N x 2 for a function of one operand. `at` asks for the planes
    that are tightest at a point of each box, N x 2 (or N x K x 2 for K points), instead of in the mean; points on the
    border are moved in a little, and the gap is about where they are then. `over` gives convex polygons inside the boxes,
    N x V x 2 vertices counter-clockwise (or `Polygons`): then all is about these. The planes' heights are within `tolerance` of
    the least possible, relative to the mean distance from the function, as far as rounding allows.
    """
    arity, (first, second) = curves_of(function)
    ends = as_boxes(boxes, arity)
    if not tolerance > 0:
        raise UsageError(f"the tolerance is {tolerance}; it must be above 0")
    check_solver(solver)
    polygons = as_polygons(over, ends, arity)
    domain = Domain(first, second, polygons, solver, tolerance)
    if at is None:
        found, several = tightest(domain), False
    else:
        points, several = as_points(at, polygons, arity)
        found = fitted(domain, points)
    columns = [0, 2] if isinstance(second, One) else [0, 1, 2]
    shaped = PlaneSet(found.lower[..., columns], found.upper[..., columns], found.gap)
    if several:
        return PlaneFit(shaped.lower, shaped.upper, shaped.gap)
    return PlaneFit(shaped.lower[:, 0], shaped.upper[:, 0], shaped.gap[:, 0])


def functions() -> dict[str, Operation]:
    """What planes can be fitted to, by name."""
    return {op.name: op for op in OPS if op.traits.factors is not None}


def curves_of(function: str | Operation) -> tuple[int, tuple[Symmetric, Symmetric]]:
    """The number of operands, and F and G."""
    operation = functions().get(function) if isinstance(function, str) else function
    factors = operation.traits.factors if isinstance(operation, Operation) else None
    if operation is None or factors is None:
        raise UsageError(f"planes cannot be fitted to {function!r}; choose one of {', '.join(functions())}")
    return operation.arity, factors


def as_numbers(what: str, values: Any, wanted: str) -> Tensor:
    """A float64 tensor of finite numbers."""
    try:
        tensor = torch.as_tensor(values)
        tensor = tensor.to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"the {what} cannot be made a tensor ({error}); wanted {wanted}") from error
    if not bool(torch.isfinite(tensor).all()):
        raise UsageError(f"the {what} hold a NaN or an infinite number; wanted {wanted}, all finite")
    return own(tensor)


def as_boxes(boxes: Any, arity: int) -> Tensor:
    wanted = "N x 4 numbers (x_lower, x_upper, y_lower, y_upper)" if arity == 2 else "N x 2 numbers (x_lower, x_upper)"
    tensor = as_numbers("boxes", boxes, wanted)
    if tensor.dim() != 2 or tensor.shape[1] != 2 * arity:
        raise UsageError(f"the boxes have shape {tuple(tensor.shape)}; wanted {wanted}")
    crossed = (tensor[:, 0::2] > tensor[:, 1::2]).any(1)
    if bool(crossed.any()):
        raise UsageError(f"the bounds of box {int(crossed.nonzero()[0])} are crossed; the lower one comes first")
    return tensor


def as_polygons(over: Any, boxes: Tensor, arity: int) -> Polygons:
    if arity == 1:
        if over is not None:
            raise UsageError("a function of one operand has no polygons; leave `over` out")
        return Polygons.of_intervals(boxes)
    if over is None:
        return Polygons.of_boxes(boxes)
    wanted = "N x V x 2 vertices, counter-clockwise"
    vertices = as_numbers("polygons", over.vertices if isinstance(over, Polygons) else over, wanted).to(boxes.device)
    if vertices.dim() != 3 or vertices.shape[0] != len(boxes) or vertices.shape[1] < 3 or vertices.shape[2] != 2:
        raise UsageError(f"the polygons have shape {tuple(vertices.shape)} for {len(boxes)} boxes; wanted {wanted}")
    edges = vertices.roll(-1, 1) - vertices
    relative = vertices[:, None] - vertices[:, :, None]
    size = vertices.abs().flatten(1).amax(1)[:, None, None]
    length = edges.abs().amax(2)[:, :, None] + relative.abs().amax(3)
    outside = (cross(edges[:, :, None], relative) < -CONVEX * size * length).flatten(1).any(1)
    if bool(outside.any()):
        raise UsageError(f"polygon {int(outside.nonzero()[0])} is not convex, or runs clockwise; wanted {wanted}")
    low, high = vertices.amin(1), vertices.amax(1)
    reach = 1e-9 * size[:, 0]
    beyond = (low < boxes[:, 0::2] - reach) | (high > boxes[:, 1::2] + reach)
    if bool(beyond.any()):
        raise UsageError(f"polygon {int(beyond.any(1).nonzero()[0])} goes beyond its box")
    missing = max(0, 5 - vertices.shape[1])  # four vertices would be taken for the corners of a box
    return Polygons(torch.cat([vertices, vertices[:, -1:].expand(-1, missing, -1)], dim=1))


def as_points(at: Any, polygons: Polygons, arity: int) -> tuple[Tensor, bool]:
    """The points (N, K, 2), a little inside, and whether several per box were asked for."""
    count = len(polygons)
    points = as_numbers("points", at, f"a point of {arity} numbers for each box").to(polygons.vertices.device)
    if arity == 1:
        if points.dim() == 1:
            points = points[:, None]
        points = torch.stack([points, torch.zeros_like(points)], dim=-1)
        several = points.shape[1:2] != (1,)
    else:
        several = points.dim() == 3
        points = points if several else points[:, None]
    if points.dim() != 3 or len(points) != count or points.shape[2] != 2:
        raise UsageError(f"the points have shape {tuple(torch.as_tensor(at).shape)} for {count} boxes; wanted one for each box")
    centre = polygons.centroids
    steps = points - centre[:, None]
    share = polygons.reach(centre, steps)
    outside = (share < 1 - 1e-9) & (steps.abs().amax(-1) > 1e-9 * polygons.vertices.abs().flatten(1).amax(1)[:, None])
    if bool(outside.any()):
        raise UsageError(f"a point of box {int(outside.any(1).nonzero()[0])} is outside of it")
    factor = torch.where(share > 0, (INSIDE * share).clamp(max=1), 0.0)
    return centre[:, None] + factor[..., None] * steps, several
