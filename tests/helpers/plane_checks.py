"""Functions that planes are fitted to, boxes and polygons for them, and whether planes hold there: in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from flint import arb, fmpq
from numpy.typing import NDArray
from torch import Tensor

from tests.helpers import exact
from tightverify.api.planes import PlaneFit, functions
from tightverify.relax import ranges
from tightverify.relax.fitted import family, offsets
from tightverify.relax.fitted.family import Domain
from tightverify.relax.fitted.offsets import proved_offset
from tightverify.relax.fitted.pieces import Question
from tightverify.relax.polygons import Polygons
from tightverify.values import FUNCTION_ERROR

Wide = NDArray[np.longdouble]


Curve = Callable[[Wide], Wide]


Point = tuple[fmpq, fmpq]


def one(x: Wide) -> Wide:
    return np.ones_like(x)


def identity(x: Wide) -> Wide:
    return x


def sigmoid(x: Wide) -> Wide:
    return (1 / (1 + np.exp(-x))).astype(np.longdouble)


FACTORS: dict[str, tuple[Curve, Curve]] = {
    "sigmoid_tanh": (sigmoid, np.tanh),
    "sigmoid_times": (sigmoid, identity),
    "multiply": (identity, identity),
    "tanh_times": (np.tanh, identity),
    "sigmoid": (sigmoid, one),
    "tanh": (np.tanh, one),
}


PAIRS = tuple(FACTORS)[:4]


SPANS = {"ordinary": (-6, 6), "thin": (-12, 12), "saturated": (4, 30), "huge": (-200, 200), "zero": (-5, 5)}


R2_FAILS = (8.1988, 31.2190, 3.7455, 5.5686)


ZOOMS, MANY_ZOOMS = 6, 13


every_function = pytest.mark.parametrize("name", FACTORS)


every_pair = pytest.mark.parametrize("name", PAIRS)


every_span = pytest.mark.parametrize("span", SPANS)


def intervals(span: str, count: int, rng: np.random.Generator) -> Tensor:
    """(N, 2): the ends of one operand."""
    low, high = SPANS[span]
    ends = np.sort(rng.uniform(low, high, (count, 2)), axis=1)
    match span:
        case "ordinary":
            ends[:, 1] = ends[:, 0] + rng.uniform(0.05, 4, count)
        case "thin":
            ends[:, 1] = ends[:, 0] + rng.choice([0, 1e-12, 1e-9, 1e-6, 1e-3, 0.5], count)
        case "saturated":
            ends *= rng.choice([-1, 1], (count, 1))
            ends = np.sort(ends, axis=1)
        case "zero":
            reach = np.abs(ends) * np.stack([rng.choice([0, 1e-9, 1], count), np.ones(count)], axis=1)
            ends = np.sort(reach * [-1, 1] * rng.choice([-1, 1], (count, 1)), axis=1)
    return torch.from_numpy(ends)


def boxes_of(name: str, span: str, count: int = 40, seed: int = 0) -> Tensor:
    """(N, 4), or (N, 2) for a function of one operand."""
    rng = np.random.default_rng(seed)
    if name not in PAIRS:
        return intervals(span, count, rng)
    found = torch.cat([intervals(span, count, rng), intervals(span, count, rng)], dim=1)
    if span == "saturated":
        found[0] = torch.tensor(R2_FAILS)
    return found


def full(planes: Tensor) -> Tensor:
    """(..., 3): lines as planes."""
    return planes if planes.shape[-1] == 3 else torch.stack([planes[..., 0], 0 * planes[..., 0], planes[..., 1]], dim=-1)


@dataclass(frozen=True)
class Star:
    """Polygons (N, V, 2) seen from the mean of their vertices: places by how far along the border, and how near to it."""

    vertices: NDArray[np.float64]

    def places(self, along: NDArray[np.float64], share: NDArray[np.float64]) -> Wide:
        """(N, P, 2), for (N, P) in [0, V] and [0, 1]."""
        corners = self.vertices.astype(np.longdouble)
        edge = np.minimum(along.astype(int), corners.shape[1] - 1)
        start = np.take_along_axis(corners, edge[..., None], 1)
        stop = np.take_along_axis(np.roll(corners, -1, 1), edge[..., None], 1)
        border = start + (along - edge)[..., None] * (stop - start)
        centre = corners.mean(1, keepdims=True)
        return centre + share[..., None] * (border - centre)

    def exactly(self, k: int, along: float, share: float) -> Point:
        """The rational point, which is in the polygon whatever the rounding above."""
        corners = [tuple(exact.rational(number) for number in corner) for corner in self.vertices[k].tolist()]
        edge = min(int(along), len(corners) - 1)
        t, r = exact.rational(along) - edge, exact.rational(share)
        found = []
        for axis in (0, 1):
            border = corners[edge][axis] * (1 - t) + corners[(edge + 1) % len(corners)][axis] * t
            centre = sum((corner[axis] for corner in corners), fmpq(0)) / len(corners)
            found.append(centre + r * (border - centre))
        return found[0], found[1]


def excess(name: str, chosen: Tensor, side: int, places: Wide) -> Wide:
    """(N, P): how far the function is on the wrong side of planes (N, 3), at places (N, P, 2)."""
    x, y = places.transpose(2, 0, 1)
    a, b, c = (part[:, None] for part in chosen.numpy().astype(np.longdouble).T)
    first, second = FACTORS[name]
    return side * (first(x) * second(y) - a * x - b * y - c)


def worst(name: str, chosen: Tensor, side: int, star: Star, zooms: int = ZOOMS) -> tuple[NDArray[np.float64], Wide]:
    """(N, 2) where the function comes nearest to the planes or crosses them most, and by how much.

    By grids that zoom in, on each quarter of each edge and in the triangle from the middle over it.
    """
    count, edges = star.vertices.shape[:2]
    several, fan = chosen.repeat_interleave(8 * edges, 0), Star(star.vertices.repeat(8 * edges, axis=0))
    low = np.tile([(j / 4, share) for j in range(4 * edges) for share in (0.0, 1.0)], (count, 1))[:, None]
    high = np.stack([low[..., 0] + 0.25, np.ones_like(low[..., 0])], -1)
    start, stop = low, high
    for zoom in range(zooms):
        axis = np.linspace(0, 1, 7) if zoom else (np.arange(7) + 0.5) / 7
        axes = np.meshgrid(axis, axis, indexing="ij")
        spots = np.minimum(start + np.stack(axes, -1).reshape(1, -1, 2) * (stop - start), high)
        found = excess(name, several, side, fan.places(spots[..., 0], spots[..., 1]))
        best = found.argmax(1)[:, None]
        spot = np.take_along_axis(spots, best[..., None], 1)
        reach = 1.3 * (axis[1] - axis[0]) * (stop - start)
        start, stop = np.maximum(spot - reach, low), np.minimum(spot + reach, high)
    spot, most = spot.reshape(count, -1, 2), np.take_along_axis(found, best, 1).reshape(count, -1)
    top = most.argmax(1)[:, None]
    return np.take_along_axis(spot, top[..., None], 1)[:, 0], np.take_along_axis(most, top, 1)[:, 0]


def exact_excess(name: str, plane: Tensor, side: int, point: Point) -> arb:
    x, y = arb(point[0]), arb(point[1])
    value = exact.operation(functions()[name], *((x, y) if name in PAIRS else (x,)))
    a, b, c = (exact.rational(number) for number in plane.tolist())
    return side * (value - arb(a * point[0] + b * point[1] + c))


def violations(name: str, lower: Tensor, upper: Tensor, vertices: Tensor) -> list[str]:
    """Where planes (N, 3) fail to hold the function on polygons (N, V, 2), in exact arithmetic: corners, nearest points."""
    faults = []
    star = Star(vertices.numpy())
    edges = star.vertices.shape[1]
    for side, chosen in ((1, upper), (-1, lower)):
        nearest = worst(name, chosen, side, star)[0]
        for k in range(len(nearest)):
            for along, share in [*((float(j), 1.0) for j in range(edges)), nearest[k].tolist()]:
                point = star.exactly(k, along, share)
                over = exact_excess(name, chosen[k], side, point)
                if not over <= 0:
                    where = [float(arb(x)) for x in point]
                    faults.append(f"{name}, {star.vertices[k].tolist()}: side {side} crossed by {float(over):.3g} at {where}")
    return faults


def polygons_of(name: str, boxes: Tensor) -> Polygons:
    return Polygons.of_boxes(boxes) if name in PAIRS else Polygons.of_intervals(boxes)


def domain(name: str, polygons: Polygons, solver: str = "batched") -> Domain:
    return Domain(*functions()[name].traits.factors, polygons, solver)


def heights(chosen: Tensor, points: Tensor) -> Tensor:
    """(..., N): planes (N, ..., 3) over points (N, ..., 2)."""
    return (chosen[..., :2] * points).sum(-1) + chosen[..., 2]


def octagons(boxes: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Half-planes `normals @ p >= least` that cut boxes to octagons: usual, slivers, and such that graze a corner."""
    rng = np.random.default_rng(seed)
    width = (boxes[:, 1::2] - boxes[:, 0::2]).clamp(min=1e-3).numpy()
    tilt = rng.uniform(0.3, 3, len(boxes)) * width[:, 0] / width[:, 1]
    ones = np.ones_like(tilt)
    normals = np.stack([np.stack(pair, -1) for pair in ((ones, tilt), (-ones, -tilt), (ones, -tilt), (-ones, tilt))], 1)
    reach = np.einsum("ndk,nvk->ndv", normals, Polygons.of_boxes(boxes).vertices.numpy())
    low, high = reach.min(2), reach.max(2)
    share = rng.uniform(0.05, 0.45, normals.shape[:2])
    share[::4, 0] = 1 - share[::4, 1] - rng.choice([1e-3, 1e-9, 1e-15, 0], len(share[::4]))
    share[1::4, 2:] = rng.choice([0, 1e-15, -1e-15, 1e-12], share[1::4, 2:].shape)
    return torch.from_numpy(normals), torch.from_numpy(low + share * (high - low))


def question(name: str, polygons: Polygons, sign: int, seed: int = 0) -> Question:
    """Planes of random slopes, about those of the function at its corners."""
    generator = torch.Generator().manual_seed(seed)
    count, first, second = len(polygons), *functions()[name].traits.factors
    share = torch.rand((count, polygons.vertices.shape[1], 1), generator=generator, dtype=torch.float64)
    x, y = (polygons.vertices * share).sum(1).div(share.sum(1)).unbind(1)
    f, g = ranges.jet(first, x), ranges.jet(second, y)
    slopes = sign * torch.stack([f.first * g.value, f.value * g.first], dim=1)
    slopes[::3] *= 1 + torch.randn(slopes[::3].shape, generator=generator, dtype=torch.float64)
    return Question(first, second, torch.full((count,), float(sign), dtype=torch.float64), slopes, polygons.middle, polygons)


def proved(name: str, asked: Question, slack: Tensor) -> tuple[list[str], Wide]:
    """Where the proved planes fail, and how far they are above the highest point found."""
    sign = int(asked.sign[0])
    answer = proved_offset(asked, slack)
    chosen = sign * family.through(asked.slopes, answer.offset, asked.anchors)
    found = worst(name, chosen, sign, Star(asked.polygons.vertices.numpy()), MANY_ZOOMS)[1]
    own = np.nanmax(excess(name, chosen, sign, answer.places.numpy().astype(np.longdouble)), axis=1)
    loose = -np.maximum(found, own)
    huge = torch.tensor([[0.0, 0.0, sign * 1e300]], dtype=torch.float64).expand_as(chosen)
    pair = (-huge, chosen) if sign > 0 else (chosen, -huge)
    return violations(name, *pair, asked.polygons.vertices), loose


def rounding_of(asked: Question) -> Tensor:
    """What the arithmetic cannot tell apart."""
    return 5 * FUNCTION_ERROR * offsets.spread(asked)


def sides(found: family.PlaneSet | PlaneFit) -> tuple[Tensor, Tensor]:
    return found.lower, found.upper
