"""Planes of a curve's change over polygons: they hold in exact arithmetic, are near the tightest, and no flip goes unseen."""

from __future__ import annotations

import pytest
import torch
from flint import arb, fmpq
from scipy.optimize import linprog
from torch import Tensor

from tests.helpers.evidence_lines import BELLS, rational
from tests.helpers.evidence_proofs import hull
from tests.helpers.evidence_surfaces import Change, surface_holds
from tightverify.ops import SigmoidDifference, TanhDifference
from tightverify.ops.difference import Difference
from tightverify.relax.fitted.change_planes import ChangePlanes, offsets
from tightverify.relax.polygons import Polygons
from tightverify.relax.secants import LogisticSecants
from tightverify.relax.traits import OperandSet, Search
from tightverify.values import Interval

OPS = SigmoidDifference(), TanhDifference()
KINDS = "tightest", "edges", "corners"


def cut_boxes(size: float, share: float = 1.3) -> OperandSet:
    """Boxes of x and of differences up to `size`, of one sign and of both, their corners cut off, one of them a segment."""
    x = torch.tensor([[-0.7, 0.5], [0.2, 1.4], [-3.0, -0.5], [0.4, 0.4], [3.0, 6.0]], dtype=torch.float64)
    d = size * torch.tensor([[-0.6, 1.0], [0.4, 1.0], [-1.0, -0.2], [-1.0, 1.0], [-0.1, 0.3]], dtype=torch.float64)
    half_x, half_d = ((ends[:, 1] - ends[:, 0]) / 2 for ends in (x, d))
    ratio = torch.where(half_x > 0, half_x / half_d, 1.0)
    signs = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    normals = signs * torch.stack([torch.ones_like(ratio), ratio], dim=1)[:, None]
    middle = torch.stack([x.mean(1), d.mean(1)], dim=1)
    least = (normals @ middle[..., None])[..., 0] - share * torch.maximum(half_x, ratio * half_d)[:, None]
    ends = torch.cat([x, d], dim=1)
    return OperandSet(ends, Polygons.within(ends, normals, least))


def planes_of(op: Difference, operands: OperandSet) -> tuple[Tensor, Tensor]:
    own = op.traits.fitted
    assert isinstance(own, ChangePlanes)
    return own.planes(operands, KINDS, Search("batched", once=True))


def holds(op: Difference, side: int, plane: Tensor, vertices: Tensor) -> bool:
    """Whether a plane keeps to its side of the change on a polygon, proved."""
    bell = BELLS[op.name.removesuffix("_difference")]
    a, b, c = (rational(float(number)) for number in plane)
    polygon = hull([(rational(float(x)), rational(float(d))) for x, d in vertices])
    return surface_holds(Change(bell, fmpq(-side), side * a, side * b, side * c), polygon)


@pytest.mark.covering
@pytest.mark.parametrize("op", OPS, ids=repr)
@pytest.mark.parametrize("size", [0.05, 0.3])
def test_they_hold_in_exact_arithmetic(op: Difference, size: float) -> None:
    operands = cut_boxes(size)
    for side, planes in zip((-1, 1), planes_of(op, operands), strict=True):
        for number in range(2):
            for plane in planes[number, [0, 7]]:
                assert holds(op, side, plane, operands.planar.vertices[number])
                lowered = plane - side * plane.new_tensor([0.0, 0.0, 0.03 * size])
                assert not holds(op, side, lowered, operands.planar.vertices[number])


@pytest.mark.parametrize("op", OPS, ids=repr)
@pytest.mark.parametrize("size", [1e-250, 1e-9, 1e-3, 0.5, 4.0])
def test_they_hold_at_samples_of_any_size(op: Difference, size: float) -> None:
    operands = cut_boxes(size)
    vertices = operands.planar.vertices
    weights = torch.rand(
        len(vertices), 4000, vertices.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    weights = weights**6
    points = (weights / weights.sum(2, keepdim=True)) @ vertices
    values = op.forward(*points.unbind(2))[:, None]
    for side, planes in zip((-1, 1), planes_of(op, operands), strict=True):
        heights = planes[..., :2] @ points.mT + planes[..., 2:]
        assert torch.isfinite(planes).all()
        assert (side * (heights - values) >= -1e-13 * size).all()


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_less_is_lost_over_a_polygon_and_offsets_are_hardly_too_large(op: Difference) -> None:
    """Where little is left of the box, planes at the middle are less than 0.6 times as far apart."""
    operands = cut_boxes(1e-3, share=1.0)
    boxes = OperandSet.of_boxes(operands.ends)
    middle = operands.middle[:, None]

    def gap(planes: tuple[Tensor, Tensor]) -> Tensor:
        lower, upper = ((side[..., :2] * middle).sum(2) + side[..., 2] for side in planes)
        return (upper.amin(1) - lower.amax(1))[:3]

    assert (gap(planes_of(op, operands)) < 0.6 * gap(planes_of(op, boxes))).all()
    vertices = operands.planar.vertices
    slopes = planes_of(op, operands)[1][:, :9, :2]
    share = torch.linspace(0, 1, 401, dtype=torch.float64)
    border = (vertices[:, :, None] + share[:, None] * (vertices.roll(-1, 1) - vertices)[:, :, None]).flatten(1, 2)
    most = (op.forward(*border.unbind(2))[:, None] - slopes @ border.mT).amax(-1)
    secants = op.secants
    assert isinstance(secants, LogisticSecants)
    proved = offsets(secants, operands.planar, slopes)
    assert (proved >= most).all()
    assert (proved <= most + 1e-2 * 1e-3).all()


@pytest.mark.parametrize("op", OPS, ids=repr)
@pytest.mark.parametrize("width", [1e-6, 1.0])
def test_large_differences_bend_hardly_more_than_they_do(op: Difference, width: float) -> None:
    """Of a change that bends one way in d alone, and of one by far: no plane at the middle is much lower than need be."""
    ends = torch.tensor([[0.5, 0.5 + width, -3.0, -1.0]], dtype=torch.float64)
    operands = OperandSet.of_boxes(ends)
    lower, upper = planes_of(op, operands)
    middle = torch.cat([operands.middle, torch.ones(1, 1, dtype=torch.float64)], dim=1)
    gap = float((upper[:, 0] * middle).sum() - (lower[:, 0] * middle).sum())
    share = torch.linspace(0, 1, 41, dtype=torch.float64)
    x, d = torch.meshgrid(torch.lerp(ends[0, 0], ends[0, 1], share), torch.lerp(ends[0, 2], ends[0, 3], share), indexing="ij")
    rows = torch.stack([x.flatten() - middle[0, 0], d.flatten() - middle[0, 1], torch.ones(x.numel())], 1).numpy()
    rows[:, 0] /= width
    values = op.forward(x.flatten(), d.flatten()).numpy()
    least = sum(
        linprog([0, 0, 1], A_ub=-rows, b_ub=-side * values, bounds=(None, None), method="highs").fun for side in (1, -1)
    )
    assert least <= gap <= 1.15 * least


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_second_and_third_derivatives_are_as_large_as_is_said(op: Difference) -> None:
    secants = op.secants
    assert isinstance(secants, LogisticSecants)
    for low, high in ((-9.0, 9.0), (0.3, 0.5), (-0.1, 4.0), (-2.5, -1.0), (1.1, 1.1)):
        ends = Interval(*torch.tensor([[low], [high]], dtype=torch.float64))
        said = [float(bound) for bound in secants.bends(ends)]
        found = [0.0, 0.0]
        for k in range(201):
            s = 1 / (1 + (-secants.rate * (arb(low) + (arb(high) - arb(low)) * k / 200)).exp())
            bell = s * (1 - s)
            second = secants.height * secants.rate**2 * abs(bell * (1 - 2 * s))
            third = secants.height * secants.rate**3 * abs(bell * (1 - 6 * bell))
            found = [max(was, float(now.lower())) for was, now in zip(found, (second, third), strict=True)]
        assert all(f <= s <= f * 1.02 for f, s in zip(found, said, strict=True))
