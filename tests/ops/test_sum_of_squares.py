"""`x^2 + y^2`: over polygons its planes hold in exact arithmetic and are the tightest; it is recognised and uses them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.bounds.test_bounds import violations
from tests.helpers import exact
from tests.helpers.exact import arb, ball, rational
from tightverify.bounds.fitted import Fitting, fitted_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.graph import Apply
from tightverify.ops import SumOfSquares
from tightverify.ops.sum_of_squares import polygon_planes
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons

DOUBLE = torch.float64


def octagons(count: int, seed: int = 0, scale: float = 1.0) -> Polygons:
    """Around discs, some of them far from 0."""
    generator = torch.Generator().manual_seed(seed)
    centre = 3 * torch.randn((count, 2), generator=generator, dtype=DOUBLE)
    half = (torch.rand((count, 1), generator=generator, dtype=DOUBLE) + 0.1).expand(-1, 2)
    ends = scale * torch.stack([centre - half, centre + half], dim=2).view(count, 4)
    normals = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=DOUBLE) / half[:, None]
    least = scale * ((normals * centre[:, None]).sum(-1) - math.sqrt(2))
    return Polygons.within(ends, normals, least)


def faults(polygons: Polygons, planes: Planes) -> int:
    """How many planes exact arithmetic disproves at the vertices and halfway between two of them and the middle."""
    found = 0
    for k, vertices in enumerate(polygons.vertices):
        middle = polygons.middle[k]
        for point in [*vertices, *((vertices + vertices.roll(1, 0)) / 2), *((vertices + middle) / 2), middle]:
            value = exact.operation(SumOfSquares(), *(ball(float(v)) for v in point))
            found += bool(value > height(planes.upper, k, point)) + bool(value < height(planes.lower, k, point))
    return found


def height(plane: Plane, k: int, point: Tensor) -> arb:
    total = rational(float(plane.offset[k]))
    for slope, x in zip(plane.slopes, point.tolist(), strict=True):
        total += rational(float(slope[k])) * rational(x)
    return arb(total)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e5])
def test_planes_over_polygons_hold_in_exact_arithmetic(scale: float) -> None:
    polygons = octagons(10, scale=scale)
    planes = polygon_planes(polygons)
    assert not faults(polygons, planes)
    nearer = 1e-6 * (planes.upper.offset - planes.lower.offset)
    lifted = Plane(planes.lower.slopes, planes.lower.offset + nearer)
    lowered = Plane(planes.upper.slopes, planes.upper.offset - nearer)
    turned = Plane(tuple(-slope for slope in planes.upper.slopes), planes.upper.offset)
    for broken in (Planes(lifted, planes.upper), Planes(planes.lower, lowered), Planes(planes.lower, turned)):
        assert faults(polygons, broken)
    assert faults(polygons, Planes(planes.upper, planes.lower))


def test_the_upper_plane_touches_and_octagons_halve_the_gap() -> None:
    polygons = octagons(200)
    planes = polygon_planes(polygons)
    x, y = polygons.vertices.unbind(2)
    gap = planes.upper.map(lambda part: part[:, None]).at(x, y) - (x * x + y * y)
    assert (gap >= 0).all()
    assert (gap.amin(1) <= 1e-9).all()
    whole = polygon_planes(Polygons.of_boxes(polygons.boxes))
    share = (planes.upper.offset - planes.lower.offset) / (whole.upper.offset - whole.lower.offset)
    assert float(share.max()) < 0.6


class Power(nn.Module):
    """The logarithm of a power spectrum, spelt in several ways."""

    real: Tensor
    imaginary: Tensor

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        angles = 2 * math.pi / 16 * torch.outer(torch.arange(1, 5), torch.arange(16)).double()
        self.register_buffer("real", angles.cos())
        self.register_buffer("imaginary", angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        real, imaginary = x @ self.real.T, x @ self.imaginary.T
        match self.spelling:
            case "products":
                return torch.log(real * real + imaginary * imaginary + 0.1)
            case "powers":
                return torch.log(real**2 + imaginary.square() + 0.1)
            case "scaled":
                return torch.log((real**2) / 16 + (imaginary**2) / 16 + 0.1)
        return torch.sqrt(real**2 + imaginary**2)


@pytest.mark.parametrize("spelling", ["products", "powers", "scaled", "magnitudes"])
def test_a_power_spectrum_is_recognised_and_bounded_over_polygons(spelling: str) -> None:
    graph = tv.load(Power(spelling), shape=(16,)).graph
    names = [node.op.name for node in graph.nodes if isinstance(node, Apply)]
    assert names == ["sum_of_squares", "square_root" if spelling == "magnitudes" else "log"]
    x = torch.cos(torch.arange(16, dtype=DOUBLE) * 0.9)[None]
    region = tv.LinfBall(0.1).around(x)
    points = torch.cat([region.centre[:, None], region.sample(500, torch.Generator().manual_seed(0))], 1)
    rows = torch.eye(4, dtype=DOUBLE)[None]
    found = []
    for compute in (linear_bounds, lambda graph, region: fitted_bounds(graph, region, Fitting())):
        assert not violations(graph, region, points, compute)
        found.append(-compute(graph, region).lower({graph.output: -rows}))
    assert (found[1] <= found[0] + 1e-12).all()
    assert (found[1] < found[0] - 1e-4).any()
