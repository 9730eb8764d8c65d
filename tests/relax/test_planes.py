"""The fitted planes hold, are as tight as they say, and so do their parts; in exact arithmetic where it counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
import torch
from flint import arb, arb_series, fmpq
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

import solvers
import tightverify
from tests.helpers import exact
from tightverify.api.planes import PlaneFit, functions, planes
from tightverify.errors import UsageError
from tightverify.relax import curves, ranges
from tightverify.relax.fitted import family, fit, offsets
from tightverify.relax.fitted.family import KINDS, Domain
from tightverify.relax.fitted.offsets import Question, proved_offset
from tightverify.relax.polygons import MOST_CUTS, Polygons, clipped
from tightverify.values import FUNCTION_ERROR

Wide = NDArray[np.longdouble]
Curve = Callable[[Wide], Wide]
Point = tuple[fmpq, fmpq]


def one(x: Wide) -> Wide:
    return np.ones_like(x)


def identity(x: Wide) -> Wide:
    return x


def sigmoid(x: Wide) -> Wide:
    return 1 / (1 + np.exp(-x))


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


# The planes hold.


@every_span
@every_function
def test_planes_of_every_kind_hold_in_exact_arithmetic(name: str, span: str) -> None:
    boxes = boxes_of(name, span, 3)
    polygons = polygons_of(name, boxes)
    found = planes(name, boxes, solver="batched")
    assert not violations(name, full(found.lower), full(found.upper), polygons.vertices)
    for kind in KINDS.values():
        several = kind(domain(name, polygons))
        for lower, upper in zip(several.lower.unbind(1), several.upper.unbind(1), strict=True):
            assert not violations(name, lower, upper, polygons.vertices)


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


@every_span
@every_pair
def test_planes_over_polygons_hold_in_exact_arithmetic(name: str, span: str) -> None:
    boxes = boxes_of(name, span, 3, seed=3)
    polygons = Polygons.within(boxes, *octagons(boxes))
    found = planes(name, polygons.boxes, over=polygons, solver="batched")
    assert not violations(name, found.lower, found.upper, polygons.vertices)
    for kind in ("closed", "constant", "tangent", "mccormick", "edges"):
        several = KINDS[kind](domain(name, polygons))
        for lower, upper in zip(several.lower.unbind(1), several.upper.unbind(1), strict=True):
            assert not violations(name, lower, upper, polygons.vertices)


@every_pair
def test_planes_over_given_vertices_hold_and_are_the_tightest(name: str) -> None:
    """Triangles and quadrilaterals, and the same with a vertex that repeats."""
    rng = np.random.default_rng(5)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (6, 4)), axis=1)
    centre, size = rng.uniform(-3, 3, (6, 1, 2)), rng.uniform(0.3, 2, (6, 1, 2))
    vertices = torch.from_numpy(centre + size * np.stack([np.cos(angles), np.sin(angles)], -1))
    for corners in (vertices, vertices[:, :3]):
        polygons = Polygons(corners)
        found = planes(name, polygons.boxes, over=corners, solver="batched")
        again = planes(name, polygons.boxes, over=corners[:, [0, 1, 2, *[-1] * 4]].contiguous(), solver="batched")
        assert not violations(name, found.lower, found.upper, corners)
        above = heights(found.upper, polygons.centroids) - heights(again.upper, polygons.centroids)
        below = heights(again.lower, polygons.centroids) - heights(found.lower, polygons.centroids)
        assert (above <= found.gap[:, 1] + 1e-12).all()
        assert (below <= found.gap[:, 0] + 1e-12).all()


def test_vertices_a_little_out_of_order_cannot_hide_the_inside() -> None:
    """Two vertices on one side change places: by rounding, and by more, which is refused."""

    def swapped(near: float) -> torch.Tensor:
        corners = [[0.5, 0.2], [1.5 + near, 0.2], [1.5 - near, 0.2], [3.5, 0.2], [3.5, 2.2], [0.5, 2.2]]
        return torch.tensor([corners], dtype=torch.float64)

    with pytest.raises(UsageError, match="not convex"):
        planes("sigmoid_tanh", [[0.5, 3.5, 0.2, 2.2]], over=swapped(5e-11), solver="batched")
    vertices = swapped(1e-14)
    found = planes("sigmoid_tanh", [[0.5, 3.5, 0.2, 2.2]], over=vertices, solver="batched")
    assert not violations("sigmoid_tanh", found.lower, found.upper, Polygons.of_boxes(Polygons(vertices).boxes).vertices)


def hull(points: list[tuple[Fraction, Fraction]]) -> list[tuple[Fraction, Fraction]]:
    """Counter-clockwise, without points between others; exactly."""
    points = sorted(set(points))
    found: list[tuple[Fraction, Fraction]] = []
    for run in (points, points[::-1]):
        keep = len(found)
        for point in run:
            while len(found) - keep >= 2 and turn(found[-2], found[-1], point) <= 0:
                found.pop()
            found.append(point)
        found.pop()
    return found or points[:1]


def turn(a: tuple[Fraction, Fraction], b: tuple[Fraction, Fraction], c: tuple[Fraction, Fraction]) -> Fraction:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def true_vertices(box: Sequence[float], normals: Tensor, least: Tensor) -> list[tuple[Fraction, Fraction]]:
    """The corners of the points of a box with `normals @ p >= least`, exactly: where two lines meet and all others hold."""
    x1, x2, y1, y2 = map(Fraction, box)
    lines = [(Fraction(1), Fraction(0), x1), (Fraction(-1), Fraction(0), -x2), (Fraction(0), Fraction(1), y1)]
    lines += [(Fraction(0), Fraction(-1), -y2)]
    lines += [(Fraction(a), Fraction(b), Fraction(c)) for (a, b), c in zip(normals.tolist(), least.tolist(), strict=True)]
    found = []
    for (a, b, c), (d, e, f) in combinations(lines, 2):
        if a * e != b * d:
            x, y = (c * e - b * f) / (a * e - b * d), (a * f - c * d) / (a * e - b * d)
            if all(p * x + q * y >= r for p, q, r in lines):
                found.append((x, y))
    return found


def left_out(boxes: Tensor, normals: Tensor, least: Tensor, polygons: Polygons) -> int:
    """How many corners of what the half-planes leave are outside of the polygons."""
    count = 0
    for box, normal, bound, vertices in zip(boxes.tolist(), normals, least, polygons.vertices.tolist(), strict=True):
        border = hull([(Fraction(x), Fraction(y)) for x, y in vertices])
        for point in true_vertices(box, normal, bound):
            count += any(turn(a, b, point) < 0 for a, b in zip(border, border[1:] + border[:1], strict=True))
    return count


@every_span
def test_polygons_hold_what_half_planes_leave(span: str) -> None:
    boxes = boxes_of("multiply", span, 60, seed=7)
    normals, least = octagons(boxes)
    polygons = Polygons.within(boxes, normals, least)
    assert left_out(boxes, normals, least, polygons) == 0
    size = polygons.vertices.abs().amax((1, 2))
    for j in range(normals.shape[1]):  # and hardly more
        below = least[:, j] - (polygons.vertices * normals[:, None, j]).sum(-1).amin(1)
        possible = torch.tensor([bool(true_vertices(b, n, h)) for b, n, h in zip(boxes.tolist(), normals, least, strict=True)])
        assert (below <= 1e-12 * size * normals[:, j].abs().sum(-1))[possible].all()


def test_a_cut_that_meets_a_dented_edge_takes_no_corner_away() -> None:
    """The line runs along an edge that rounding has dented: both its ends are below, a vertex between them is above."""
    low = 1e-17
    vertices = torch.tensor([[[0.0, -low], [1.0, low], [2.0, -low], [2.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    found = clipped(vertices, torch.tensor([[0.0, 1.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert torch.equal(Polygons(found).boxes, Polygons(vertices).boxes)
    assert float(Polygons(found).areas) == pytest.approx(2.0)


def test_a_cut_without_numbers_is_not_made() -> None:
    corners = Polygons.of_boxes(torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)).vertices
    normals = torch.tensor([[math.inf, 1.0]], dtype=torch.float64)
    found = clipped(corners, normals, torch.tensor([0.5], dtype=torch.float64))
    assert torch.equal(Polygons(found).boxes, Polygons(corners).boxes)


def test_a_cut_without_its_margin_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = boxes_of("multiply", "huge", 60, seed=7)
    normals, least = octagons(boxes)
    monkeypatch.setattr("tightverify.relax.polygons.MARGIN", 0.0)
    assert left_out(boxes, normals, least, Polygons.within(boxes, normals, least)) > 0


# Offsets.


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


@every_span
@every_function
def test_proved_offsets_hold_and_lose_little(name: str, span: str) -> None:
    boxes = boxes_of(name, span, 4, seed=11)
    shapes = [polygons_of(name, boxes)]
    if name in PAIRS:
        shapes.append(Polygons.within(boxes, *octagons(boxes)))
    for polygons, sign in product(shapes, (1, -1)):
        asked = question(name, polygons, sign)
        first, second = FACTORS[name]
        corners = polygons.vertices.numpy()
        most = torch.from_numpy(np.abs(first(corners[..., 0]) * second(corners[..., 1])).max(1).astype(float))
        slack = 0.5e-9 * (1 + most)
        faults, loose = proved(name, asked, slack)
        assert not faults
        assert (torch.from_numpy(loose.astype(float)) <= torch.maximum(2 * slack, rounding_of(asked))).all()


def rounding_of(asked: Question) -> Tensor:
    """What the arithmetic cannot tell apart."""
    return 5 * FUNCTION_ERROR * offsets.spread(asked)


def test_steep_slopes_over_a_thin_box_end_soon() -> None:
    """What rounding costs such a plane is more than the slack asked for: halving its pieces would never end."""
    boxes = torch.tensor([[-2.8, -2.3, -0.48, -0.48 + 1e-12], [-3.4, -3.4, -11.0, -11.0 + 1e-12]], dtype=torch.float64)
    asked = question("sigmoid_tanh", Polygons.of_boxes(boxes), 1)
    steep = Question(asked.first, asked.second, asked.sign, asked.slopes + 1e9, asked.anchors, asked.polygons)
    assert not proved("sigmoid_tanh", steep, torch.full((2,), 1e-9, dtype=torch.float64))[0]
    lower, upper = sides(KINDS["r2"](domain("sigmoid_tanh", asked.polygons)))
    assert not violations("sigmoid_tanh", lower[:, 0], upper[:, 0], asked.polygons.vertices)


def sides(found: family.PlaneSet | PlaneFit) -> tuple[Tensor, Tensor]:
    return found.lower, found.upper


# Gaps.


def brute(name: str, side: int, star: Star, point: Tensor) -> tuple[float, float]:
    """The least height over a point of a plane above 60 x 60 samples, and of one that was then moved above all found."""
    edges = star.vertices.shape[1]
    along, share = np.meshgrid(np.linspace(0, edges, 30 * edges + 1), np.linspace(0, 1, 31))
    spots = np.stack([along.ravel(), share.ravel()], -1)[None]
    first, second = FACTORS[name]
    origin, half = point.numpy(), np.ptp(star.vertices[0], axis=0) / 2
    half[half == 0] = 1
    for _ in range(4):
        places = star.places(spots[..., 0], spots[..., 1])[0]
        values = (side * first(places[:, 0]) * second(places[:, 1])).astype(float)
        rows = np.column_stack([(places - origin).astype(float) / half, np.ones(len(places))])
        found = linprog([0, 0, 1], -rows, -values, bounds=(None, None), method="highs", options={"presolve": False}).x
        a, b = found[:2] / half
        plane = torch.tensor([[side * a, side * b, side * (found[2] - a * origin[0] - b * origin[1])]], dtype=torch.float64)
        spot, over = worst(name, plane, side, star, MANY_ZOOMS)
        spots = np.concatenate([spots, spot[None]], axis=1)
    return float(found[2]), float(found[2] + max(over[0], 0))


def gap_faults(name: str, found: PlaneFit, polygons: Polygons, count: int, tight: float) -> list[str]:
    """Whether reported gaps are smaller than what a tighter plane shows, or larger than asked for."""
    faults = []
    for k, (column, side) in product(range(count), ((0, -1), (1, 1))):
        point = polygons.centroids[k]
        chosen = full(found.upper if side > 0 else found.lower)[k]
        height, gap = side * float(heights(chosen, point)), float(found.gap[k, column])
        least, valid = brute(name, side, Star(polygons.vertices[k : k + 1].numpy()), point)
        if gap < 0 or height - gap > valid + 1e-12 * (1 + abs(valid)):
            faults.append(f"{name} {k} {side}: a plane of height {valid} is known, {height} with a gap of {gap} is reported")
        if height - least > gap + tight * (1 + abs(least)):
            faults.append(f"{name} {k} {side}: {height} is more than {gap} above {least}")
    return faults


@every_function
@pytest.mark.parametrize("tolerance", [1e-6, 0.3])
def test_gaps_bound_what_a_tighter_plane_could_gain(name: str, tolerance: float) -> None:
    boxes = boxes_of(name, "ordinary", 4, seed=13)
    found = planes(name, boxes, tolerance=tolerance, solver="batched")
    assert not gap_faults(name, found, polygons_of(name, boxes), 4, 1e-4)


@every_pair
def test_gaps_over_polygons_bound_what_a_tighter_plane_could_gain(name: str) -> None:
    boxes = boxes_of(name, "ordinary", 5, seed=17)
    polygons = Polygons.within(boxes, *octagons(boxes))
    found = planes(name, polygons.boxes, over=polygons, solver="batched")
    assert not gap_faults(name, found, polygons, 5, 1e-4)


@every_span
@every_function
def test_gaps_are_within_the_tolerance_or_rounding(name: str, span: str) -> None:
    boxes = boxes_of(name, span, 12, seed=19)
    polygons = polygons_of(name, boxes)
    found = planes(name, boxes, solver="batched")
    assert torch.isfinite(found.gap).all()
    assert (found.gap >= 0).all()
    along, share = np.meshgrid(np.linspace(0, polygons.vertices.shape[1], 161), np.sqrt(np.linspace(0, 1, 40)))
    spots = [np.broadcast_to(part.ravel(), (len(boxes), part.size)) for part in (along, share)]
    places = Star(polygons.vertices.numpy()).places(*spots)
    for column, side, chosen in ((0, -1, found.lower), (1, 1, found.upper)):
        distance = -excess(name, full(chosen), side, places).mean(1).astype(float)
        floor = rounding_of(question(name, polygons, side)).numpy()
        assert (found.gap[:, column].numpy() <= 1.02e-6 * distance + 2 * floor).all()


def test_a_gap_that_is_kept_small_is_caught() -> None:
    boxes = boxes_of("sigmoid_tanh", "ordinary", 4, seed=13)
    found = planes("sigmoid_tanh", boxes, tolerance=0.3, solver="batched")
    liar = PlaneFit(found.lower, found.upper, 0 * found.gap)
    assert gap_faults("sigmoid_tanh", liar, polygons_of("sigmoid_tanh", boxes), 4, 1)


# What does not matter, and what does.


@pytest.mark.parametrize("name", ["sigmoid_tanh", "sigmoid_times", "multiply", "tanh_times"])
def test_mirrored_boxes_have_mirrored_planes(name: str) -> None:
    """The second factor is odd: f(x, -y) = -f(x, y)."""
    boxes = boxes_of(name, "ordinary", 20, seed=23)
    found, mirrored = planes(name, boxes, solver="batched"), planes(name, boxes @ MIRROR, solver="batched")
    centre = Polygons.of_boxes(boxes).centroids
    for one_side, other, column in ((found.upper, mirrored.lower, 1), (found.lower, mirrored.upper, 0)):
        turned = other * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)
        gap = found.gap[:, column] + mirrored.gap[:, 1 - column] + 1e-12
        assert ((heights(turned, centre) - heights(one_side, centre)).abs() <= gap).all()


MIRROR = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1], [0, 0, -1, 0]], dtype=torch.float64)


def test_lines_of_tanh_mirror() -> None:
    boxes = boxes_of("tanh", "ordinary", 20, seed=23)
    found, mirrored = planes("tanh", boxes), planes("tanh", -boxes.flip(1))
    apart = (found.upper * torch.tensor([1.0, -1.0], dtype=torch.float64) - mirrored.lower).abs()
    assert (heights(full(apart), Polygons.of_intervals(boxes.abs()).centroids) <= 1e-6).all()


@every_function
def test_the_plane_at_a_point_is_the_tightest_there(name: str) -> None:
    boxes = boxes_of(name, "ordinary", 10, seed=29)
    polygons = polygons_of(name, boxes)
    points = polygons.towards(torch.tensor([[0.0, 0.0], [0.7, -0.3], [1.0, 0.2]], dtype=torch.float64), 0.7)
    points[:, 0] = polygons.centroids
    at = points if name in PAIRS else points[..., 0]
    found = planes(name, boxes, at=at, solver="batched")
    assert found.upper.shape == (10, 3, 3 if name in PAIRS else 2)
    assert found.gap.shape == (10, 3, 2)
    rivals = family.plane_set(domain(name, polygons), tuple(KINDS))
    for column, side, chosen, others in ((0, -1, found.lower, rivals.lower), (1, 1, found.upper, rivals.upper)):
        height = side * heights(full(chosen), points)
        best = (side * heights(others[:, None], points[:, :, None])).amin(2)
        assert (height <= best + found.gap[..., column] + 1e-12).all()
    centred = planes(name, boxes, solver="batched")
    assert (heights(full(found.upper[:, 0] - centred.upper), points[:, 0]).abs() <= 1e-6).all()


@every_function
def test_solvers_agree(name: str) -> None:
    boxes = boxes_of(name, "ordinary", 4, seed=31)
    centre = polygons_of(name, boxes).centroids
    found = {solver: planes(name, boxes, solver=solver) for solver in ("highs", "scipy", "batched")}
    for other in found.values():
        for one_side, reference in zip(sides(other), sides(found["highs"]), strict=True):
            assert (heights(full(one_side), centre) - heights(full(reference), centre)).abs().max() <= 1e-6


@every_function
def test_boxes_do_not_depend_on_each_other(name: str) -> None:
    boxes = boxes_of(name, "ordinary", 12, seed=37)
    centre = polygons_of(name, boxes).centroids
    found = planes(name, boxes, solver="batched")
    twice = planes(name, torch.cat([boxes.flip(0), boxes]), solver="batched")
    for several, whole in zip(sides(twice), sides(found), strict=True):
        assert torch.equal(several[:12].flip(0), several[12:])  # identical boxes have identical planes
        assert (heights(full(several[12:] - whole), centre).abs() <= 1e-9 + found.gap.amax(1)).all()
    for k in range(3):
        alone = planes(name, boxes[k : k + 1], solver="batched")
        for lone, whole in zip(sides(alone), sides(found), strict=True):
            assert (heights(full(lone - whole[k]), centre[k]).abs() <= 1e-9 + found.gap[k].max()).all()


@pytest.mark.parametrize(
    "boxes",
    [
        [[-1, 2, 0, 3]],
        np.array([[-1, 2, 0, 3]]),
        torch.tensor([[-1, 2, 0, 3]]),
        torch.tensor([[-1, 2, 0, 3]], dtype=torch.float32, requires_grad=True),
        ((-1.0, 2.0, -0.0, 3.0),),
    ],
    ids=["list", "numpy", "integers", "float32", "tuples"],
)
def test_boxes_of_any_make(boxes: object) -> None:
    usual = planes("sigmoid_tanh", torch.tensor([[-1, 2, 0, 3]], dtype=torch.float64))
    found = planes("sigmoid_tanh", boxes)
    assert found.lower.dtype == torch.float64
    assert torch.equal(found.lower, usual.lower)
    assert torch.equal(found.upper, usual.upper)


def test_no_boxes_have_no_planes() -> None:
    found = tightverify.planes("multiply", torch.zeros((0, 4)), solver="batched")
    assert found.lower.shape == (0, 3)
    assert found.gap.shape == (0, 2)


BOX = [[-1.0, 2.0, 0.0, 3.0]]
SQUARE = [[[-1.0, 0.0], [2.0, 0.0], [2.0, 3.0], [-1.0, 3.0]]]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: planes("sigmoid_tanh", [[2.0, -1.0, 0.0, 3.0]]), "bounds of box 0 are crossed"),
        (lambda: planes("sigmoid_tanh", [[float("nan"), 2.0, 0.0, 3.0]]), "the boxes hold a NaN"),
        (lambda: planes("sigmoid_tanh", [[-1.0, float("inf"), 0.0, 3.0]]), "the boxes hold a NaN or an infinite number"),
        (lambda: planes("sigmoid_tanh", [[-1.0, 2.0]]), r"boxes have shape \(1, 2\); wanted N x 4"),
        (lambda: planes("tanh", BOX), r"boxes have shape \(1, 4\); wanted N x 2"),
        (lambda: planes("sigmoid_tanh", BOX[0]), r"boxes have shape \(4,\)"),
        (lambda: planes("sigmoid_tanh", "a box"), "the boxes cannot be made a tensor"),
        (lambda: planes("sine", BOX), "cannot be fitted to 'sine'; choose one of .*sigmoid_tanh"),
        (lambda: planes("log", [[1.0, 2.0]]), "cannot be fitted to 'log'"),
        (lambda: planes("sigmoid_tanh", BOX, tolerance=0), "the tolerance is 0; it must be above 0"),
        (lambda: planes("sigmoid_tanh", BOX, tolerance=float("nan")), "the tolerance is nan"),
        (lambda: planes("sigmoid_tanh", BOX, at=[[5.0, 1.0]]), "a point of box 0 is outside"),
        (lambda: planes("tanh", [[0.0, 1.0]], at=[2.0]), "a point of box 0 is outside"),
        (lambda: planes("sigmoid_tanh", BOX, at=[[0.0, 1.0], [0.0, 1.0]]), r"points have shape \(2, 2\) for 1 boxes"),
        (lambda: planes("sigmoid_tanh", BOX, at=[[0.0, float("nan")]]), "the points hold a NaN"),
        (lambda: planes("sigmoid_tanh", BOX, over=[SQUARE[0][::-1]]), "polygon 0 is not convex, or runs clockwise"),
        (lambda: planes("sigmoid_tanh", BOX, over=[[*SQUARE[0], [0.0, 1.0]]]), "polygon 0 is not convex"),
        (lambda: planes("sigmoid_tanh", [[-1.0, 1.0, 0.0, 3.0]], over=SQUARE), "polygon 0 goes beyond its box"),
        (lambda: planes("sigmoid_tanh", BOX, over=SQUARE * 2), r"polygons have shape \(2, 4, 2\) for 1 boxes"),
        (lambda: planes("tanh", [[0.0, 1.0]], over=SQUARE), "a function of one operand has no polygons"),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], PlaneFit], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        call()


def test_solvers_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(solvers.backend("gurobi")), "missing", lambda _: "gurobi is not installed")
    with pytest.raises(UsageError, match="gurobi is not installed"):
        planes("sigmoid_tanh", BOX, solver="gurobi")
    with pytest.raises((UsageError, solvers.SolverError), match="nobody"):
        planes("sigmoid_tanh", BOX, solver="nobody")


# Curves and ranges.

SMOOTH = {"sigmoid": (curves.Sigmoid(), exact.sigmoid), "tanh": (curves.Tanh(), exact.tanh)}
SPOTS = [0.0, 1e-30, 1e-9, 0.3, 0.6584, 1.0, 1.31696, 2.5, 7.0, 19.0, 36.0, 90.0, 200.0, 340.0]


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_are_as_exact_as_they_say(name: str) -> None:
    curve, truth = SMOOTH[name]
    for x in SPOTS + [-x for x in SPOTS]:
        series = truth(arb_series([exact.ball(x), 1], 3))
        at = torch.tensor([x], dtype=torch.float64)
        value, first, second = (exact.ball(float(part)) for part in vars(ranges.jet(curve, at)).values())
        allowed = FUNCTION_ERROR / 4 * abs(series[1]) + 1e-300
        assert abs(first - series[1]) <= allowed
        assert abs(second - 2 * series[2]) <= allowed
        true_curl = 2 * series[0] * series[2] / series[1] ** 2
        assert abs(exact.ball(float(curve.curl(at))) - true_curl) <= FUNCTION_ERROR * (1 + abs(true_curl))
        assert abs(value - series[0]) <= FUNCTION_ERROR / 4 * abs(series[0])


@pytest.mark.parametrize("name", SMOOTH)
def test_curls_go_one_way_on_either_side_of_zero(name: str) -> None:
    curve = SMOOTH[name][0]
    x = torch.linspace(0, 40, 4001, dtype=torch.float64)
    for part in (curve.curl(x), curve.curl(-x)):
        steps = part.diff()
        slack = 1e-13 * (1 + part[1:].abs())
        assert (steps <= slack).all() or (steps >= -slack).all()


@every_span
@pytest.mark.parametrize("curve", [curves.Sigmoid(), curves.Tanh(), curves.Identity(), curves.One()], ids=lambda c: repr(c))
def test_ranges_hold_samples(curve: curves.Symmetric, span: str) -> None:
    low, high = boxes_of("tanh", span, 200, seed=41).unbind(1)
    found = ranges.jet_range(curve, high, low, ranges.jet(curve, high), ranges.jet(curve, low))
    share = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]
    inside = torch.minimum(torch.maximum(low + share * (high - low), low), high)
    for kept, sampled in zip(vars(found).values(), vars(ranges.jet(curve, inside)).values(), strict=True):
        assert ((kept.low <= sampled) & (sampled <= kept.high)).all()
    product_of = found.value * found.first
    both = [(found.value, curve.value(inside)), (found.first, curve.derivative(inside))]
    (one_range, one_sample), (other_range, other_sample) = both
    noise = 1e-15 * (1 + product_of.size)
    assert (product_of.low - noise <= one_sample * other_sample).all()
    assert (one_sample * other_sample <= product_of.high + noise).all()
    total, turned = one_range + other_range, one_range.scaled(-torch.ones_like(low)).plus(low)
    assert ((total.low - noise <= one_sample + other_sample) & (one_sample + other_sample <= total.high + noise)).all()
    assert ((turned.low - noise <= low - one_sample) & (low - one_sample <= turned.high + noise + 1e-14 * low.abs())).all()


# Broken on purpose.


def unsound(count: int = 8) -> list[str]:
    """The faults of planes of every kind of box, fitted and with random slopes."""
    found = []
    for name, span in (("sigmoid_tanh", "ordinary"), ("sigmoid_tanh", "zero"), ("tanh_times", "zero"), ("sigmoid", "zero")):
        boxes = boxes_of(name, span, count, seed=43)
        polygons = polygons_of(name, boxes)
        shapes = [polygons, Polygons.within(boxes, *octagons(boxes))] if name in PAIRS else [polygons]
        for sign, shape in product((1, -1), shapes):
            found += proved(name, question(name, shape, sign), torch.full((count,), 1e-9, dtype=torch.float64))[0]
        fitted = planes(name, boxes, solver="batched")
        found += violations(name, full(fitted.lower), full(fitted.upper), polygons.vertices)
    return found


def test_the_checks_find_nothing_as_it_is() -> None:
    assert not unsound()


ALONG, INSIDE, TOP, CURL, RANGES = (
    offsets.along_edges,
    offsets.inside,
    offsets.may_hold_top,
    offsets.curl_range,
    offsets.jet_range,
)


def no_rise_on_edges(asked: Question, pieces: offsets.Pieces) -> tuple[Tensor, Tensor, Tensor]:
    """Only what the function is in the middle of a piece."""
    line = offsets.Line(asked, pieces.owner, pieces.start, pieces.along)
    height = line.height(line.at((pieces.left + pieces.right) / 2))
    return height, *ALONG(asked, pieces)[1:]


def no_rise_inside(asked: Question, owner: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Only what the function is at a corner of a cell."""
    low = INSIDE(asked, owner, cells[:, [0, 0, 2, 2]])
    return low[2], low[1], low[2]


def without_the_top(*given: object) -> ranges.JetRange:
    """The derivative's range from the ends alone."""
    at_one, at_other = given[3:]
    found = RANGES(*given)
    least, most = torch.minimum(at_one.second, at_other.second), torch.maximum(at_one.second, at_other.second)
    return ranges.JetRange(found.value, found.first, ranges.Range(0.3 * least, 0.3 * most))


def turned_question(asked: Question, slack: Tensor, level: Tensor | None = None) -> offsets.Answer:
    """Planes above the function for planes below it."""
    other = Question(asked.first, asked.second, -asked.sign, asked.slopes, asked.anchors, asked.polygons)
    return proved_offset(other, slack, level)


def one_edge_less(asked: Question, slack: Tensor, level: Tensor | None = None) -> offsets.Answer:
    corners = asked.polygons.vertices[:, [0, 1, 1, 0]]
    return proved_offset(
        Question(asked.first, asked.second, asked.sign, asked.slopes, asked.anchors, Polygons(corners)), slack, level
    )


MUTATIONS: dict[str, tuple[object, str, object]] = {
    "no rise on the edges": (offsets, "along_edges", no_rise_on_edges),
    "no top inside": (offsets, "may_hold_top", lambda *given: torch.zeros_like(TOP(*given))),
    "no rise inside": (offsets, "inside", no_rise_inside),
    "the curls forgotten": (offsets, "curl_range", lambda *given: CURL(*given).scaled(torch.zeros(1, dtype=torch.float64))),
    "cells taken for outside": (offsets, "beyond", lambda _, cells: torch.ones(len(cells), dtype=torch.bool)),
    "the second derivative": (offsets, "jet_range", without_the_top),
    "the other side": (fit, "proved_offset", turned_question),
    "edges forgotten": (fit, "proved_offset", one_edge_less),
    "offsets a little low": (family, "above", lambda value, _: value - 1e-10),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_broken_proofs_are_caught(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, broken = MUTATIONS[mutation]
    monkeypatch.setattr(where, name, broken)
    assert unsound()


def test_more_cuts_than_their_rounding_is_paid_for_are_refused() -> None:
    angles = torch.linspace(0, 6, MOST_CUTS + 1, dtype=torch.float64)
    normals = torch.stack([angles.cos(), angles.sin()], dim=1)[None]
    with pytest.raises(UsageError, match="half-planes"):
        Polygons.within(torch.tensor([[-1.0, 1.0, -1.0, 1.0]], dtype=torch.float64), normals, -torch.ones_like(angles)[None])


def test_polygons_far_from_zero_must_be_convex_too() -> None:
    square = torch.tensor([[-3.0, 1e7], [3.0, 1e7], [3.0, 1e7 + 1], [-3.0, 1e7 + 1]], dtype=torch.float64)
    box = [[-3.0, 3.0, 1e7, 1e7 + 1]]
    planes("sigmoid_times", box, over=square[None], solver="batched")
    for order in ([3, 2, 1, 0], [0, 2, 1, 3]):
        with pytest.raises(UsageError, match="not convex, or runs clockwise"):
            planes("sigmoid_times", box, over=square[order][None], solver="batched")
