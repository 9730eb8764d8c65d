"""Planes of sums and differences of a curve's values over polygons: they hold, nearly touch, beat lines; damage is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.helpers import exact
from tightverify.relax import curves, pair_planes
from tightverify.relax.curves import Bent, Curve, Symmetric
from tightverify.relax.lines import upper_offset
from tightverify.relax.pair_planes import SIGNS, CurvePairs, Part, extremes
from tightverify.relax.polygons import Polygons
from tightverify.values import Interval

CURVES: list[Symmetric | Bent] = [
    curves.Tanh(),
    curves.Sigmoid(),
    curves.TwoSlopes(0.0, 1.0),
    curves.TwoSlopes(1.0, 0.2),
    curves.Clip(-1.0, 2.0),
]
COUNT = 60


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def octagons(seed: int, widest: float = 1.0) -> Polygons:
    """Boxes from 1e-3 to 10 ** widest wide, about 0 and far from it, with corners cut off."""
    middle = 6 * random(COUNT, 2, seed=seed) - 3
    half = 10 ** ((3 + widest) * random(COUNT, 2, seed=seed + 1) - 3) / 2
    boxes = torch.stack([middle - half, middle + half], dim=2).flatten(1)
    normals = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64) / half[:, None]
    reach = 0.05 + 1.9 * random(COUNT, 4, seed=seed + 2)
    return Polygons.within(boxes, normals, (normals * middle[:, None]).sum(-1) - reach)


def points_of(polygons: Polygons, seed: int = 0, count: int = 3000) -> Tensor:
    """(N, M, 2): points of them, many near the border, and the places where curves turn."""
    vertices = polygons.vertices
    weights = random(len(vertices), count, vertices.shape[1], seed=seed) ** 8
    weights[:, : vertices.shape[1]] = torch.eye(vertices.shape[1], dtype=torch.float64)
    return (weights / weights.sum(2, keepdim=True)) @ vertices


def heights(curve: Curve, points: Tensor) -> Tensor:
    """(N, 4, M): s f(x) + t f(y) for each of SIGNS."""
    return points.new_tensor(SIGNS) @ curve.value(points).mT


def gaps(curve: Symmetric | Bent, slopes: Tensor, polygons: Polygons, points: Tensor) -> Tensor:
    """(N, 4, K, M): by how much planes with these slopes are above the function."""
    offsets = CurvePairs(curve).offsets(slopes, polygons)
    return slopes @ points.mT[:, None] + offsets[..., None] - heights(curve, points)[:, :, None]


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_planes_hold_and_nearly_touch(curve: Symmetric | Bent) -> None:
    for seed in range(3):
        polygons = octagons(10 * seed, widest=0.7)
        lower, upper = CurvePairs(curve).planes(polygons)
        points = points_of(polygons, seed)
        values = heights(curve, points)
        for sign, planes, which in ((1, upper, [0, 2]), (-1, -lower, [1, 3])):
            found = planes[..., :2] @ points.mT[:, None] + planes[..., 2:] - values[:, which][:, :, None]
            assert float(found.amin()) >= 0, sign
            assert float(found.amin(-1).median()) < 0.01, sign


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_any_slopes_get_offsets_that_hold_and_are_no_worse_than_lines(curve: Symmetric | Bent) -> None:
    polygons = octagons(5)
    slopes = torch.cat([2.6 * random(COUNT, 4, 5, 2, seed=9) - 1.3, torch.zeros(COUNT, 4, 1, 2, dtype=torch.float64)], dim=2)
    assert float(gaps(curve, slopes, polygons, points_of(polygons)).amin()) >= 0
    low, high = extremes(polygons)
    apart = torch.zeros_like(slopes[..., 0])
    for k in (0, 1):
        box = Interval(low[:, k, None].expand(-1, 6), high[:, k, None].expand(-1, 6))
        for number, signs in enumerate(SIGNS):
            slope = slopes[:, number, :, k]
            mirrored = upper_offset(curve.mirror, -slope, box.mirror())
            apart[:, number] += upper_offset(curve, slope, box) if signs[k] > 0 else mirrored
    assert (CurvePairs(curve).offsets(slopes, polygons) <= apart).all()


def test_a_strip_is_held_far_better_than_its_box() -> None:
    """Where x and y hardly differ, so do their values."""
    boxes = torch.tensor([[-2.0, 2.0, -2.0, 2.0]], dtype=torch.float64)
    normals = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)
    strip = Polygons.within(boxes, normals, torch.tensor([[-0.1, -0.1]], dtype=torch.float64))
    lower, upper = CurvePairs(curves.Tanh()).planes(strip)
    at_middle = upper[0, 1, :, 2].amin() - lower[0, 1, :, 2].amax()
    assert float(at_middle) < 0.25
    box_lower, box_upper = CurvePairs(curves.Tanh()).planes(Polygons.of_boxes(boxes))
    assert float(box_upper[0, 1, :, 2].amin() - box_lower[0, 1, :, 2].amax()) > 0.75


@pytest.mark.parametrize("curve", [curves.Tanh(), curves.Sigmoid(), curves.TwoSlopes(0.0, 1.0)], ids=str)
@pytest.mark.parametrize(
    "box",
    [
        (1.0, 1.0, -2.0, -2.0),
        (0.0, 0.0, -1.0, 3.0),
        (30.0, 60.0, -70.0, -20.0),
        (-9e5, 9e5, -1e-9, 1e-9),
        (0.0, 1e-13, 0.3, 0.3),
    ],
)
def test_odd_boxes_hold(curve: Symmetric | Bent, box: tuple[float, ...]) -> None:
    polygons = Polygons.of_boxes(torch.tensor([box], dtype=torch.float64))
    slopes = torch.tensor([[0.0, 0.0], [1e-20, 1.0], [1.0, -1.0], [0.25, 1e-3]], dtype=torch.float64).expand(1, 4, -1, -1)
    assert float(gaps(curve, slopes, polygons, points_of(polygons)).amin()) >= 0
    assert torch.isfinite(CurvePairs(curve).offsets(slopes, polygons)).all()


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_planes_hold_exact_values(name: str) -> None:
    """At vertices and middles of thin boxes, where there is no room for float errors."""
    curve = {"tanh": curves.Tanh(), "sigmoid": curves.Sigmoid()}[name]
    boxes = torch.cat([4 * random(6, 2) - 2, torch.zeros(6, 2, dtype=torch.float64)], dim=1)[:, [0, 2, 1, 3]]
    boxes[:, 1::2] = boxes[:, 0::2] + 1e-13 * (1 + random(6, 2, seed=2))
    polygons = Polygons.of_boxes(boxes)
    lower, upper = CurvePairs(curve).planes(polygons)
    for number, vertices in enumerate(polygons.vertices.tolist()):
        for x, y in vertices:
            f, g = (exact.EXACT[name](exact.ball(value)) for value in (x, y))
            for which, truth in enumerate((f + g, f - g)):
                for side, planes in ((1, upper), (-1, lower)):
                    for a, b, c in planes[number, which].tolist():
                        height = exact.ball(a) * exact.ball(x) + exact.ball(b) * exact.ball(y) + exact.ball(c)
                        assert not side * (height - truth) < 0


def no_tops(curve: Curve, slope: Tensor, box: Interval) -> Part:
    part = pair_planes_top_of(curve, slope, box)
    return replace(part, low=torch.full_like(part.low, torch.inf), high=torch.full_like(part.high, -torch.inf))


pair_planes_top_of = pair_planes.top_of


@pytest.mark.parametrize("curve", [curves.Tanh(), curves.TwoSlopes(0.0, 1.0)], ids=str)
def test_damage_is_caught(curve: Symmetric | Bent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tops inside forgotten, the curve's bending between samples forgotten, signs exchanged."""
    polygons = octagons(5)
    slopes = 1.2 * random(COUNT, 4, 6, 2, seed=9) - 0.1
    slopes = torch.cat([slopes, -slopes], dim=2)
    points = points_of(polygons)
    inner = torch.cat([points, points.lerp(polygons.centroids[:, None], 0.7), torch.zeros_like(points[:, :1])], dim=1)
    inner[:, -1] = torch.where((gaps_to_origin(polygons) >= 0)[:, None], inner[:, -1], polygons.centroids)
    assert float(gaps(curve, slopes, polygons, inner).amin()) >= 0
    with monkeypatch.context() as patch:
        patch.setattr(pair_planes, "top_of", no_tops)
        assert float(gaps(curve, slopes, polygons, inner).amin()) < 0
    with monkeypatch.context() as patch:
        patch.setattr(CurvePairs, "_samples", lambda _self, some: (some.vertices, torch.zeros_like(some.vertices[:, 0, 0])))
        assert float(gaps(curve, slopes, polygons, inner).amin()) < 0
    with monkeypatch.context() as patch:
        patch.setattr(pair_planes, "SIGNS", (SIGNS[0], SIGNS[1], SIGNS[3], SIGNS[2]))
        assert float(gaps(curve, slopes, polygons, inner).amin()) < 0


def gaps_to_origin(polygons: Polygons) -> Tensor:
    """(N,): 0 or more where polygons hold the point (0, 0)."""
    vertices = polygons.vertices
    after = vertices.roll(-1, 1)
    return (vertices[..., 0] * after[..., 1] - vertices[..., 1] * after[..., 0]).amin(1)
