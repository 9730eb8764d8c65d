"""Regions: the least value of a linear function, against references, and the points that they say are inside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from tightverify.errors import RegionError
from tightverify.region import Ball, Box, L1Ball, L2Ball, LinfBall, LpBall, Perturbation, Region
from tightverify.values import Interval

NAN, INF = float("nan"), float("inf")
DOUBLE = torch.float64


def inputs(batch: int, shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((batch, *shape), generator=generator, dtype=DOUBLE)


def rows_for(region: Region, count: int, seed: int) -> Tensor:
    """(B, R, n): rows of several sizes, sparse ones, rows with equal entries, and zero."""
    generator = torch.Generator().manual_seed(seed)
    n = region.centre.shape[1]
    rows = torch.randn(len(region), count, n, generator=generator, dtype=DOUBLE)
    rows[:, 0] = 0.0
    rows[:, 1] = 1.0
    rows[:, 2] *= torch.rand(n, generator=generator, dtype=DOUBLE) < 0.4
    rows[:, 3] *= 10.0 ** torch.linspace(-8, 8, n, dtype=DOUBLE)
    return rows


def reference(row: np.ndarray, centre: np.ndarray, low: np.ndarray, high: np.ndarray, radius: float, norm: float) -> float:
    """The true minimum, to about 1e-9 of its size, by means other than the region's own; reached at a point inside."""
    low, high = low - centre, high - centre
    if norm == np.inf:
        return float(row @ centre + np.minimum(row * low, row * high).sum())
    if norm == 1:
        scale = np.abs(row).max() or 1.0
        n = len(row)
        answer = linprog(
            np.concatenate([row, -row]) / scale,
            A_ub=np.ones((1, 2 * n)),
            b_ub=[radius],
            bounds=[(0, h) for h in high] + [(0, -v) for v in low],
        )
        assert answer.status == 0
        return float(row @ centre + answer.fun * scale)
    # The ball's best point within the box is clip(-row * t) for some t; the largest t that keeps the radius.
    limit = np.where(row < 0, high, -low)
    weight = np.abs(row) * (limit > 0)
    if not weight.any():
        return float(row @ centre)
    stops = np.sort(limit[weight > 0] / weight[weight > 0])
    if np.linalg.norm(np.where(weight > 0, limit, 0.0)) <= radius:
        return float(row @ centre - (weight * limit).sum())
    for stop in stops:
        if np.linalg.norm(np.minimum(weight * stop, limit)) >= radius:
            break
    fixed = np.where(weight > 0, limit / np.where(weight > 0, weight, 1.0), np.inf) < stop * (1 - 1e-14)
    left = radius**2 - (limit[fixed] ** 2).sum()
    t = np.sqrt(max(left, 0.0) / (weight[~fixed] ** 2).sum())
    step = np.where(fixed, limit, np.minimum(weight * t, limit))
    step *= min(1.0, radius / np.linalg.norm(step))
    return float(row @ centre - weight @ step)


PERTURBATIONS: list[tuple[str, Perturbation]] = [
    ("linf", LinfBall(0.1)),
    ("linf clipped", LinfBall(0.3, clip=(0.0, 1.0))),
    ("linf frames", LinfBall(0.3, clip=(0.0, 1.0), frames=[1])),
    ("linf features", LinfBall(0.3, features=[0, 2])),
    ("l1", L1Ball(0.5)),
    ("l1 clipped", L1Ball(0.9, clip=(0.0, 1.0))),
    ("l1 wide", L1Ball(50.0, clip=(0.0, 1.0))),
    ("l1 frames", L1Ball(0.7, clip=(0.0, 1.0), frames=[0, 2])),
    ("l1 features", L1Ball(0.7, features=[1])),
    ("l2", L2Ball(0.5)),
    ("l2 clipped", L2Ball(0.7, clip=(0.0, 1.0))),
    ("l2 nearly wide", L2Ball(1.6, clip=(0.0, 1.0))),
    ("l2 wide", L2Ball(50.0, clip=(0.0, 1.0))),
    ("l2 frames", L2Ball(0.9, clip=(0.0, 1.0), frames=[2], features=[0, 1])),
    ("linf tiny", LinfBall(1e-14)),
    ("l2 tiny", L2Ball(1e-14, clip=(0.0, 1.0))),
    ("l1 tiny", L1Ball(1e-14, clip=(0.0, 1.0))),
    ("linf zero", LinfBall(0.0)),
    ("l2 zero", L2Ball(0.0, clip=(0.0, 1.0))),
    ("l1 zero", L1Ball(0.0)),
    ("box", Box(torch.tensor(-0.5), torch.linspace(1.0, 3.0, 3))),
]


def ball_around(perturbation: Perturbation, x: Tensor) -> Ball:
    """A region that is a ball, as all of these are."""
    region = perturbation.around(x)
    assert isinstance(region, Ball)
    return region


every_region = pytest.mark.parametrize("perturbation", [p for _, p in PERTURBATIONS], ids=[name for name, _ in PERTURBATIONS])


def allowance(region: Region, rows: Tensor) -> Tensor:
    """What a caller allows for rounding."""
    return 4e-15 * (rows.abs() * region.rounding_scale[:, None]).sum(-1) + 1e-290


@every_region
def test_minimise_is_the_true_minimum(perturbation: Perturbation) -> None:
    region = ball_around(perturbation, inputs(4, (3, 3), 0))
    rows = rows_for(region, 12, 1)
    found = region.minimise(rows)
    slack = allowance(region, rows)
    for b, r in product(range(4), range(12)):
        row = rows[b, r].numpy()
        true = reference(
            row,
            region.centre[b].numpy(),
            region.box.lower[b].numpy(),
            region.box.upper[b].numpy(),
            float(region.radius[b]),
            region.norm,
        )
        gain = float(rows[b, r] @ region.centre[b]) - true
        value, slip = float(found[b, r]), float(slack[b, r])
        assert value <= true + slip + (1e-9 * gain if region.norm == 1 else 0)
        assert value >= true - slip - 1e-6 * abs(gain)


@every_region
def test_tiny_rows_are_not_lost_to_underflow(perturbation: Perturbation) -> None:
    """Their squares underflow; the allowance for underflow, 1e-290, does not pay for a gain of 1e-200."""
    region = perturbation.around(inputs(3, (3, 3), 0))
    rows = rows_for(region, 6, 1)
    tiny = rows * 2.0**-660
    assert torch.allclose(region.minimise(tiny) * 2.0**660, region.minimise(rows), rtol=1e-9, atol=1e-9)


@every_region
def test_minimise_is_below_all_samples(perturbation: Perturbation) -> None:
    region = perturbation.around(inputs(3, (3, 3), 5))
    rows = rows_for(region, 10, 2)
    points = region.sample(4000, torch.Generator().manual_seed(0))
    # Besides: the points that greedy search along each row finds.
    greedy = region.project(region.centre[:, None] - rows / rows.abs().amax(-1, keepdim=True).clamp(min=1e-300) * 10)
    values = torch.cat([points, greedy], 1) @ rows.mT
    assert (region.minimise(rows)[:, None] <= values + 10 * allowance(region, rows)[:, None]).all()


@every_region
def test_inputs_and_shared_rows_do_not_mix(perturbation: Perturbation) -> None:
    x = inputs(5, (3, 3), 3)
    region = perturbation.around(x)
    shared = rows_for(region, 8, 4)[:1]
    together = region.minimise(shared)
    spread = region.minimise(shared.expand(5, -1, -1))
    assert torch.allclose(together, spread, rtol=1e-13, atol=1e-14)
    for b in range(5):
        alone = perturbation.around(x[b : b + 1]).minimise(shared)
        assert torch.allclose(together[b : b + 1], alone, rtol=1e-13, atol=1e-14)
        assert torch.allclose(together[b : b + 1], region[b : b + 1].minimise(shared), rtol=1e-13, atol=1e-14)


@every_region
def test_blocks_add_up_where_the_region_is_separable(perturbation: Perturbation) -> None:
    region = perturbation.around(inputs(2, (3, 3), 6))
    if not region.separable:
        pytest.skip("balls of norm 1 and 2 couple all coordinates")
    rows = rows_for(region, 7, 5)
    parts = [region.minimise(rows[..., k : k + 3], slice(k, k + 3)) for k in (0, 3, 6)]
    assert torch.allclose(torch.stack(parts).sum(0), region.minimise(rows), rtol=1e-12, atol=1e-14)


@every_region
def test_projected_and_sampled_points_are_inside(perturbation: Perturbation) -> None:
    if isinstance(perturbation, LpBall) and 0 < perturbation.eps < 1e-9:
        pytest.skip(
            "near 1, floats are too few for a ball this small: `contains` rightly refuses what rounding leaves in doubt"
        )
    region = ball_around(perturbation, inputs(3, (3, 3), 7))
    generator = torch.Generator().manual_seed(1)
    wild = torch.randn(3, 200, 9, generator=generator, dtype=DOUBLE) * 10.0 ** torch.randint(-16, 3, (3, 200, 1)).double()
    points = torch.cat([region.project(wild), region.sample(200, generator), region.centre[:, None]], 1)
    for k in range(points.shape[1]):
        assert bool(region.contains(points[:, k]).all())
    again = region.project(points)
    assert torch.allclose(again, points, rtol=0, atol=2e-6 * float(region.radius.nan_to_num(posinf=1.0).max()) + 1e-15)


@pytest.mark.parametrize("make", [LinfBall, L1Ball, L2Ball])
def test_projected_points_are_inside_a_range_of_odd_numbers(make: Callable[..., LpBall]) -> None:
    """centre + (x - centre) may round to the wrong side of x, and so of the range's end."""
    x = 16 * inputs(50, (5,), 8) - 7.0
    region = make(50.0, clip=(-7.3, 9.1)).around(x)
    points = region.sample(40, torch.Generator().manual_seed(0))
    inside = torch.stack([region.contains(points[:, k]) for k in range(40)])
    assert bool(inside.all()), f"{int((~inside).sum())} of {inside.numel()} points are outside"


@every_region
def test_points_outside_are_refused(perturbation: Perturbation) -> None:
    region = ball_around(perturbation, inputs(3, (3, 3), 7))
    far = region.box.upper + 1e-9
    assert not bool(region.contains(far).any())
    assert not bool(region.contains(torch.full_like(far, NAN)).any())
    if region.norm != INF and bool((region.radius > 1e-9).all()):
        free = (region.box.width > 0).double()
        step = free / torch.linalg.vector_norm(free, ord=region.norm, dim=1, keepdim=True)
        assert not bool(region.contains(region.centre + step * (region.radius[:, None] * (1 + 1e-9))).any())


@pytest.mark.parametrize("norm", [1, 2, INF])
def test_masks_leave_the_rest_alone(norm: float) -> None:
    x = inputs(2, (4, 3), 9)
    region = LpBall(0.4, norm, frames=[1, 3], features=torch.tensor([2])).around(x)
    free = torch.zeros(4, 3, dtype=torch.bool)
    free[1, 2] = free[3, 2] = True
    assert torch.equal(region.box.width > 0, free.flatten().expand(2, -1))
    assert torch.equal(region.box.lower[:, ~free.flatten()], region.centre[:, ~free.flatten()])


@pytest.mark.parametrize("norm", [1, 2, INF])
@pytest.mark.parametrize("eps", [0.1, 1e-17, 3.0])
def test_the_box_holds_the_whole_ball(norm: float, eps: float) -> None:
    """centre - eps and centre + eps as rational numbers."""
    from tests.helpers.exact import rational

    region = LpBall(eps, norm).around(inputs(1, (6,), 10))
    for centre, low, high in zip(*(v[0].tolist() for v in (region.centre, region.box.lower, region.box.upper)), strict=True):
        assert rational(low) <= rational(centre) - rational(eps)
        assert rational(high) >= rational(centre) + rational(eps)


def test_what_makes_no_sense_is_refused() -> None:
    x = inputs(2, (4, 3), 11)
    for eps, norm in ((-0.1, 2), (NAN, 2), (INF, INF), (0.1, 3), (0.1, NAN), (0.1, 0)):
        with pytest.raises(RegionError):
            LpBall(eps, norm)
    for clip in ((1.0, 0.0), (NAN, 1.0), (0.0, NAN)):
        with pytest.raises(RegionError):
            LinfBall(0.1, clip=clip)
    for ball in (
        LinfBall(0.1, clip=(0.5, 1.0)),
        LinfBall(0.1, clip=(0.0, 0.5)),
        LinfBall(0.1, frames=[4]),
        LinfBall(0.1, frames=[-1]),
        LinfBall(0.1, frames=[]),
        LinfBall(0.1, features=[3]),
    ):
        with pytest.raises(RegionError):
            ball.around(x)
    with pytest.raises(RegionError):
        LinfBall(0.1, frames=[0]).around(inputs(2, (3,), 0))
    zeros, ones = torch.zeros(4, 3), torch.ones(4, 3)
    for low, high in (
        (ones, zeros),
        (zeros, zeros + 1e-9),
        (zeros + NAN, ones),
        (zeros, ones + INF),
        (torch.zeros(5, 3), torch.ones(5, 3)),
        (torch.zeros(4), torch.ones(4)),
    ):
        with pytest.raises(RegionError):
            Box(low, high).around(x)


@pytest.mark.parametrize("eps", [1e-150, 1e-158, 1e-161, 1e-170, 1e-250])
@pytest.mark.parametrize("ball", [L1Ball, L2Ball])
def test_balls_whose_squares_vanish_are_as_others(ball: Callable[[float], Perturbation], eps: float) -> None:
    centre = torch.zeros((1, 3), dtype=DOUBLE)
    rows = torch.tensor([[[1.0, 1.0, 0.2], [0.6, -0.8, 0.0], [0.0, 0.0, 3.0]]], dtype=DOUBLE)
    small, usual = ball_around(ball(eps), centre), ball_around(ball(1.0), centre)
    clamped = Interval(torch.tensor([[-1.0, -0.1, -2.0]], dtype=DOUBLE), torch.tensor([[0.1, 1.0, 2.0]], dtype=DOUBLE))
    for one, other in ((small, usual), (part_of(small, clamped, eps), part_of(usual, clamped, 1.0))):
        assert torch.allclose(one.minimise(rows) / eps, other.minimise(rows), rtol=1e-12)
        assert torch.allclose(one.reach.upper / eps, other.reach.upper, rtol=1e-12)
    inside, outside = (torch.full((1, 3), share * eps / 3 ** (1 / small.norm), dtype=DOUBLE) for share in (0.999, 1.001))
    assert small.contains(inside)
    assert not small.contains(outside)
    assert not small.contains(torch.tensor([[eps, eps, 0.0]], dtype=DOUBLE))


def part_of(region: Region, box: Interval, scale: float) -> Region:
    return region.within(box.map(lambda end: end * scale))


def test_masks_choose_what_they_say() -> None:
    x = torch.zeros((1, 6, 2), dtype=DOUBLE)
    late = torch.tensor([False, False, False, False, True, True])
    for frames in (late, late.tolist(), late.numpy(), [4, 5], torch.tensor([5, 4])):
        width = LinfBall(1.0, frames=frames).around(x).box.width.view(6, 2)  # type: ignore[arg-type]
        assert (width > 0).all(1).tolist() == late.tolist()
    for wrong in ([0.9, 4.7], [True, False], torch.zeros(6, dtype=torch.bool), [6], [-1], []):
        with pytest.raises(RegionError, match="frames"):
            LinfBall(1.0, frames=wrong).around(x)  # type: ignore[arg-type]


@pytest.mark.parametrize("radius", [1e-200, 1e-3, 0.1, 0.3, 0.7, 1.0, 3.0, 1e4])
@pytest.mark.parametrize("part", ["ball", "clamped", "away"])
@pytest.mark.parametrize("ball", [L1Ball, L2Ball, LinfBall])
def test_the_least_value_is_attained_at_the_minimiser(ball: Callable[[float], Perturbation], part: str, radius: float) -> None:
    region = ball(radius).around(torch.zeros((2, 4), dtype=DOUBLE))
    low, high = {"ball": (-1.0, 1.0), "clamped": (-0.3, 0.4), "away": (0.1, 0.6)}[part]
    box = Interval(torch.tensor([[low, low, -1, -1]], dtype=DOUBLE), torch.tensor([[high, high, 1, 1]], dtype=DOUBLE))
    box = box.map(lambda end: end.expand(2, -1))
    region = part_of(region, box, radius)
    rows = torch.randn((2, 50, 4), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    rows[:, :10] *= 1e6
    rows[:, 10:20] *= 1e-6
    least = region.minimise(rows)
    at = (rows * region.minimiser(rows)).sum(-1)
    assert ((at - least).abs() <= 1e-4 * radius * rows.norm(dim=-1)).all()
    points = region.sample(50, torch.Generator().manual_seed(0)).transpose(0, 1)
    assert part == "away" or all(bool(region.contains(point).all()) for point in points)


@pytest.mark.parametrize("limits", [{}, {"clip": (-0.3, 0.4)}, {"frames": [0, 2], "features": [1]}], ids=str)
def test_boxes_in_the_inputs_own_type_are_the_region_s_up_to_rounding(limits: dict[str, Any]) -> None:
    x = (0.5 * torch.rand((2, 3, 4), generator=torch.Generator().manual_seed(0)) - 0.2).float()
    region = LinfBall(0.2, **limits)
    found, wanted = region.nearby(x), region.around(x).box
    assert found is not None
    assert found.lower.dtype == torch.float32
    assert torch.allclose(found.lower.flatten(1).double(), wanted.lower, atol=1e-6)
    assert torch.allclose(found.upper.flatten(1).double(), wanted.upper, atol=1e-6)
    assert L2Ball(0.2).nearby(x) is None
    assert LinfBall([0.1, 0.2]).nearby(x) is None
    with pytest.raises(RegionError, match="outside the range"):
        LinfBall(0.2, (0.2, 1)).nearby(x)
