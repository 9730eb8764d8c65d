"""Polygons hold what half-planes leave of a box, in rational arithmetic; what is no convex polygon is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from torch import Tensor

from tests.helpers.plane_checks import boxes_of, every_span, octagons, violations
from tightverify.api.planes import planes
from tightverify.errors import UsageError
from tightverify.relax.polygons import MOST_CUTS, Polygons, clipped


def test_vertices_a_little_out_of_order_cannot_hide_the_inside() -> None:
    """Two vertices on one side change places: by rounding, and by more, which is refused."""

    def swapped(near: float) -> torch.Tensor:
        corners = [[0.5, 0.2], [1.5 + near, 0.2], [1.5 - near, 0.2], [3.5, 0.2], [3.5, 2.2], [0.5, 2.2]]
        return torch.tensor([corners], dtype=torch.float64)

    with pytest.raises(UsageError, match="not convex"):
        planes("sigmoid_tanh", [[0.5, 3.5, 0.2, 2.2]], over=swapped(5e-11), solver="batched")
    vertices = swapped(1e-14)
    found = planes("sigmoid_tanh", [[0.5, 3.5, 0.2, 2.2]], over=vertices, tolerance=0.1, solver="batched")
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
