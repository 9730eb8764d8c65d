"""The fitted planes hold, and are as tight as they say; in exact arithmetic where it counts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from tests.helpers.plane_checks import (
    FACTORS,
    MANY_ZOOMS,
    PAIRS,
    Star,
    boxes_of,
    domain,
    every_function,
    every_pair,
    every_span,
    excess,
    full,
    heights,
    octagons,
    polygons_of,
    question,
    rounding_of,
    sides,
    violations,
    worst,
)
from tightverify.api.planes import PlaneFit, planes
from tightverify.relax.fitted import family
from tightverify.relax.fitted.family import KINDS
from tightverify.relax.polygons import Polygons


@pytest.mark.covering
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


@pytest.mark.covering
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


@pytest.mark.covering
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


@pytest.mark.covering
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
