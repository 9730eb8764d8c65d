"""The contract of a region: a list of checks that each region of REGIONS passes, whatever its kind, and every other one.

A region is tried as it is stated for inputs of `tests.helpers.regions.clips`: nine numbers between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.helpers.regions import SAMPLES, clips
from tightverify.region import Perturbation, Region, SplitBy
from tightverify.values import Interval

DOUBLE = torch.float64


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows() -> Tensor:
    """(1, R, n): dense, sparse, of one sign, of many sizes, and zero."""
    found = torch.randn((8, SAMPLES), generator=drawn(2), dtype=DOUBLE)
    found[1] *= torch.arange(SAMPLES) % 3 == 0
    found[2].abs_()
    found[3] *= 10.0 ** torch.linspace(-6, 6, SAMPLES, dtype=DOUBLE)
    found[4] = 0
    return found[None]


def allowance(region: Region) -> Tensor:
    """(B, R): what a caller allows for rounding."""
    return 4e-15 * (rows().abs() * region.rounding_scale[:, None]).sum(-1) + 1e-290


def the_minimum_is_below_all_points_and_attained_at_the_minimiser(stated: Perturbation) -> None:
    region = stated.around(clips())
    least = region.minimise(rows())
    points = torch.cat([region.sample(500, drawn(3)), region.centre[:, None]], 1)
    values = (rows() @ points.mT).amin(-1)
    assert (least <= values + allowance(region)).all()
    worst = region.minimiser(rows())
    attained = (rows() * worst).sum(-1)
    size = (rows().abs() * region.rounding_scale[:, None]).sum(-1)
    assert torch.allclose(attained, least, rtol=0, atol=float(1e-6 * (1 + size.max())))
    dense = [0, 2, 5, 6, 7]  # where coefficients are 0 it may be anywhere
    moved = (rows() * region.project(worst)).sum(-1)
    gap = (rows() @ region.centre[..., None])[..., 0] - least
    assert (moved - least <= 0.05 * gap + 1e-6 * (1 + size))[:, dense].all()


def hull_and_reach_hold_the_region(stated: Perturbation) -> None:
    region = stated.around(clips())
    units = torch.cat([torch.eye(SAMPLES, dtype=DOUBLE), -torch.eye(SAMPLES, dtype=DOUBLE)])[None]
    lower, upper = region.minimise(units.expand(len(region), -1, -1).clone()).chunk(2, 1)
    slack = 1e-13
    for hull in (region.box, region.reach):
        assert (hull.lower <= lower + slack).all()
        assert (hull.upper >= -upper - slack).all()
    if region.separable:
        assert torch.allclose(region.box.lower, lower)
        assert torch.allclose(region.box.upper, -upper)


def only_points_inside_are_said_to_be(stated: Perturbation) -> None:
    """A point's rows are nowhere below the region's least; outside of its hull, and beyond the minimiser, is outside."""
    region = stated.around(clips())
    assert region.contains(region.centre).all()
    for point in region.sample(40, drawn(4)).unbind(1):
        inside = region.contains(point)
        below = ((rows() * point[:, None]).sum(-1) < region.minimise(rows()) - allowance(region)).any(1)
        assert not (inside & below).any()
    width = (region.box.upper - region.box.lower).amax(1, keepdim=True)
    assert not region.contains(region.box.upper + 0.1 * width + 1e-6).any()
    direction = rows()[:, :1]
    beyond = region.minimiser(direction)[:, 0] - 1e-3 * direction[:, 0]
    assert not region.contains(beyond).any()


def batches_are_taken_apart_and_joined(stated: Perturbation) -> None:
    region = stated.around(clips())
    order = torch.tensor([2, 0, 1])
    again = region[order].joined([region[:1], region[1:2]])
    assert type(again) is type(region)
    assert len(again) == 5
    whole, slack = region.minimise(rows()), 2 * allowance(region)
    for k, number in enumerate([2, 0, 1, 0, 1]):
        assert ((again.minimise(rows())[k] - whole[number]).abs() <= slack[number]).all()
    assert torch.equal(region.to("cpu").box.lower, region.box.lower)


def what_it_may_be_cut_by_covers_it(stated: Perturbation) -> None:
    region = stated.around(clips())
    assert region.splits
    assert (SplitBy.GENERATORS in region.splits) is (region.generated is not None)
    least = region.minimise(rows())
    points = region.sample(60, drawn(7))
    if (whole := region.generated) is not None:
        parts = whole.halves(whole.longest)
        assert len(parts) == 2 * len(region)
        pairs = parts.minimise(rows()).view(len(region), 2, -1)
        assert (pairs.amin(1) <= least + allowance(region)).all()
    if SplitBy.COORDINATES in region.splits:
        middle = region.box.lower.clone()
        middle[:, 3] = region.box.centre[:, 3]
        upper = region.box.upper.clone()
        upper[:, 3] = region.box.centre[:, 3]
        halves = [region.within(Interval(region.box.lower, upper)), region.within(Interval(middle, region.box.upper))]
        values = rows() @ points.mT
        for half, mine in zip(halves, (points[..., 3] <= upper[:, None, 3], points[..., 3] >= middle[:, None, 3]), strict=True):
            lowest = torch.where(mine[:, None], values, math.inf).amin(-1)
            assert (half.minimise(rows()) <= lowest + allowance(region)).all()


def the_distance_from_a_point_holds_all_points(stated: Perturbation) -> None:
    region = stated.around(clips())
    places = torch.tensor([0, 2, 3, 8])
    values = Interval(region.box.lower[:, places], region.box.upper[:, places] + 0.25)
    far = region.furthest(places, values)
    if far is not None:
        away = torch.linalg.vector_norm(region.sample(200, drawn(8))[..., places] - values.centre[:, None], dim=-1)
        assert (away <= far[:, None]).all()


def what_is_written_of_it_is_its_own(stated: Perturbation) -> None:
    region = stated.around(clips())
    assert stated.words
    assert region.words
    assert stated.boxes is region.separable
    assert [len(region.balls), len(region)] == [3, 3]
    one = region[1:2].written
    assert np.array_equal(one.centre, region.centre[1].numpy())
    assert np.array_equal(one.lower, region.box.lower[1].numpy())
    radius, norm = region.balls[1]
    assert one.radius == radius
    assert one.norm == f"{norm:g}"
    assert len(one.generators) == (0 if region.generated is None else region.generated.generators.shape[1])
    assert len(one.slack) in (0, SAMPLES)


CHECKS: tuple[Callable[[Perturbation], None], ...] = (
    the_minimum_is_below_all_points_and_attained_at_the_minimiser,
    hull_and_reach_hold_the_region,
    only_points_inside_are_said_to_be,
    batches_are_taken_apart_and_joined,
    what_it_may_be_cut_by_covers_it,
    the_distance_from_a_point_holds_all_points,
    what_is_written_of_it_is_its_own,
)


def check(stated: Perturbation) -> None:
    """The whole contract, for a region that stands outside of the package."""
    for one in CHECKS:
        one(stated)
