"""Products of balls: the least value of a linear function against references and exact arithmetic, and what lies inside."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tightverify as tv
from tests.region.test_region import allowance, inputs, reference, rows_for
from tightverify.errors import RegionError
from tightverify.region import Ball, BallProduct, L1Ball, L2Ball, LpBall
from tightverify.values import Interval

DOUBLE = torch.float64
SHAPE = (3, 4)
NUMBERS = torch.tensor([[0, 0, 5, 5], [0, 7, 7, 7], [7, 7, 7, 7]])
GROUPS: dict[str, Any] = {
    "frame": "frame",
    "feature": "feature",
    "uneven": NUMBERS,
    "pairs of frames": torch.tensor([[0], [0], [1]]),
    "one": torch.zeros((1, 1), dtype=torch.long),
    "alone": np.arange(12).reshape(3, 4),
}
every_grouping = pytest.mark.parametrize("groups", GROUPS.values(), ids=list(GROUPS))


def around(stated: LpBall, x: Tensor) -> BallProduct:
    region = stated.around(x)
    assert isinstance(region, BallProduct)
    return region


def parts_of(region: BallProduct, number: int) -> list[np.ndarray]:
    groups = region.groups[number].numpy()
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]


@pytest.mark.covering
@every_grouping
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize(("eps", "clip"), [(0.4, None), (0.5, (0.0, 1.0)), (30.0, (0.0, 1.0)), (1e-14, None), (0.0, None)])
def test_minimise_is_the_sum_of_the_groups_minima(
    groups: Any, norm: float, eps: float, clip: tuple[float, float] | None
) -> None:
    region = around(LpBall(eps, norm, clip, per=groups), inputs(2, SHAPE, 0))
    rows = rows_for(region, 5, 1)
    found, slack = region.minimise(rows.clone()), allowance(region, rows)
    for b, r in product(range(2), range(5)):
        centre, low, high, row = (v.numpy() for v in (region.centre[b], region.box.lower[b], region.box.upper[b], rows[b, r]))
        parts = parts_of(region, b)
        true = sum(reference(row[part], centre[part], low[part], high[part], eps, norm) for part in parts)
        gain = float(rows[b, r] @ region.centre[b]) - true
        assert found[b, r] <= true + slack[b, r] + (1e-9 * gain if norm == 1 else 0)
        assert found[b, r] >= true - slack[b, r] - 1e-6 * abs(gain)


@pytest.mark.parametrize("norm", [1, 2])
def test_the_minimum_is_below_the_true_one_in_exact_arithmetic(norm: float) -> None:
    region = around(LpBall(0.3, norm, per=NUMBERS), 1e8 * (inputs(2, SHAPE, 4) - 0.5))
    rows = rows_for(region, 8, 5)
    lower = region.minimise(rows) - allowance(region, rows)
    with localcontext() as context:
        context.prec = 120
        for b, r in product(range(2), range(8)):
            row, centre = ([Decimal(value) for value in values.tolist()] for values in (rows[b, r], region.centre[b]))
            true = sum((a * c for a, c in zip(row, centre, strict=True)), Decimal(0))
            for part in parts_of(region, b):
                size = [abs(row[k]) for k in part]
                true -= Decimal(float(region.radius[b])) * (
                    max(size) if norm == 1 else sum((a * a for a in size), Decimal(0)).sqrt()
                )
            assert Decimal(float(lower[b, r])) <= true
            assert Decimal(float(lower[b, r])) >= true - Decimal("1e-5") * (1 + abs(true))


@every_grouping
@pytest.mark.parametrize("norm", [1, 2])
def test_parts_that_leave_the_centre_out_are_products_of_parts(groups: Any, norm: float) -> None:
    region = around(LpBall(1.0, norm, per=groups), torch.zeros((2, *SHAPE), dtype=DOUBLE))
    lower = region.box.lower.clone()
    lower[:, [1, 6]], lower[1, 11] = 0.3, 0.4
    part = region.within(Interval(lower, region.box.upper))
    rows = rows_for(part, 6, 2)
    least, reach = torch.zeros((2, 6), dtype=DOUBLE), part.reach
    for places in map(torch.from_numpy, parts_of(part, 0)):
        box = part.box.map(lambda end, places=places: end[:, places])  # type: ignore[misc]
        ball = Ball(part.centre[:, places], box, part.radius, norm)
        least += ball.minimise(rows[..., places])
        assert torch.allclose(reach.upper[:, places], ball.reach.upper, rtol=1e-14)
        assert torch.allclose(reach.lower[:, places], ball.reach.lower, rtol=1e-14)
    assert torch.allclose(part.minimise(rows), least, rtol=1e-12)
    worst = (rows * part.minimiser(rows)).sum(-1)
    assert torch.allclose(worst, least, rtol=1e-4, atol=1e-4)
    for place in (1, 6):
        beyond = part.within(Interval(lower.index_fill(1, torch.tensor(place), 1.01), part.box.upper + 1))
        reach = beyond.reach
        assert bool(((reach.upper < beyond.box.lower) | (reach.lower > beyond.box.upper)).any(1).all())


@every_grouping
@pytest.mark.parametrize("norm", [1, 2])
def test_what_lies_inside(groups: Any, norm: float) -> None:
    """All groups at their border at once are inside; one a little beyond is not."""
    x = inputs(2, SHAPE, 3)
    region = around(LpBall(0.5, norm, per=groups), x)
    generator = torch.Generator().manual_seed(6)
    step = torch.randn((2, 12), generator=generator, dtype=DOUBLE)
    for part in parts_of(region, 0):
        step[:, part] *= 0.5 / torch.linalg.vector_norm(step[:, part], ord=norm, dim=1, keepdim=True)
    assert bool(region.contains(region.centre + (1 - 1e-12) * step).all())
    for part in parts_of(region, 0):
        beyond = step.clone()
        beyond[:, part] *= 1 + 1e-9
        assert not bool(region.contains(region.centre + beyond).any())
    wild = region.centre[:, None] + 4 * torch.randn((2, 50, 12), generator=generator, dtype=DOUBLE)
    for point in region.project(wild).unbind(1):
        assert bool(region.contains(point).all())
    for point in region.sample(50, generator).unbind(1):
        assert bool(region.contains(point).all())
    gradient = torch.randn((2, 12), generator=generator, dtype=DOUBLE)
    onwards = region.steepest(gradient)
    for part in parts_of(region, 0):
        length = torch.linalg.vector_norm(onwards[:, part], dim=1)
        assert torch.allclose(length, torch.tensor(0.5, dtype=DOUBLE), rtol=1e-6)
        assert bool(((onwards * gradient)[:, part].sum(1) > 0).all())


def test_inputs_of_other_groups_are_joined() -> None:
    x = inputs(1, SHAPE, 8)
    several = [around(L2Ball(0.2, per=groups), x) for groups in GROUPS.values()]
    together = several[0].joined(several[1:])
    rows = rows_for(together, 5, 9)
    for k, one in enumerate(several):
        assert torch.allclose(together.minimise(rows)[k], one.minimise(rows[k : k + 1])[0], rtol=1e-12)
        assert torch.allclose(together.minimise(rows[:1])[k], one.minimise(rows[:1])[0], rtol=1e-12)


def test_groups_of_one_coordinate_are_a_box_and_one_group_is_a_ball() -> None:
    x = inputs(2, SHAPE, 10)
    rows = torch.randn((1, 9, 12), generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    for make in (L1Ball, L2Ball):
        alone, one = make(0.3, (0, 1), per=GROUPS["alone"]).around(x), make(0.3, (0, 1), per=GROUPS["one"]).around(x)
        assert torch.allclose(alone.minimise(rows), tv.LinfBall(0.3, (0, 1)).around(x).minimise(rows.clone()), rtol=1e-9)
        assert torch.allclose(one.minimise(rows), make(0.3, (0, 1)).around(x).minimise(rows), rtol=1e-12)
    assert isinstance(LpBall(0.1, math.inf, per="frame").around(x), Ball)


def test_masks_keep_the_rest_as_it_is() -> None:
    region = around(L2Ball(0.3, frames=[0, 2], features=[1, 3], per="frame"), inputs(2, SHAPE, 11))
    free = torch.zeros(SHAPE, dtype=torch.bool)
    free[[[0], [2]], [1, 3]] = True
    assert torch.equal(region.box.width > 0, free.flatten().expand(2, -1))
    fixed = ~free.flatten()
    assert bool((region.sample(20, torch.Generator())[..., fixed] == region.centre[:, None, fixed]).all())


def test_what_is_said_of_them() -> None:
    named, numbered = L2Ball(0.1, clip=(0, 1), per="frame"), L1Ball(0.1, per=GROUPS["pairs of frames"])
    assert named.described == "L2 ball 0.1 within [0, 1] in each frame"
    assert numbered.described == "L1 ball 0.1 in each of 2 groups"
    assert named.limits == {"clip": [0.0, 1.0], "each_frame": []}
    assert numbered.limits == {"each_of_3x1": [0, 0, 1]}
    assert L1Ball(0.1, per=NUMBERS).around(inputs(1, SHAPE, 0)).written.groups.tolist() == [0, 0, 1, 1, 0, *[2] * 7]
    with pytest.raises(RegionError, match="give one of frame, feature"):
        L2Ball(0.1, per="word")
    with pytest.raises(RegionError, match="broadcasts"):
        L2Ball(0.1, per=[0, 1, 2]).around(inputs(1, SHAPE, 0))
    with pytest.raises(RegionError, match="no frames"):
        L2Ball(0.1, per="frame").around(inputs(1, (4,), 0))
    for wrong in ([0.5, 1.0], [], "frames", [[0, 1], [2]]):
        with pytest.raises(RegionError, match="groups"):
            L2Ball(0.1, per=wrong)


@pytest.mark.parametrize("method", ["linear", "complete"])
def test_verdicts_are_those_of_the_box_where_groups_are_single(method: str) -> None:
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    model = tv.load(network, shape=(2, 2))
    x, alone = inputs(3, (2, 2), 12), [[0, 1], [2, 3]]
    same: dict[str, Any] = {"method": method, "thorough": True, "restarts": 3, "splits": 16, "rounds": 1}
    for eps in (0.3, 0.6):
        found, box = (tv.certify(model, x, None, region, **same) for region in (L2Ball(eps, per=alone), tv.LinfBall(eps)))
        assert [one.verdict for one in found] == [one.verdict for one in box]
        if method == "linear":
            for one, other in zip(found, box, strict=True):
                assert torch.allclose(one.margins, other.margins, rtol=1e-7)


def test_counterexamples_use_every_frame() -> None:
    """A margin that falls with each frame by its own ball's radius: less is proved, and more refuted, than of one ball."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.ones((2, 12), dtype=DOUBLE) * torch.tensor([[0.5], [-0.5]]))  # type: ignore[operator]
        network[1].bias.zero_()  # type: ignore[operator]
    model = tv.load(network, shape=SHAPE)
    x = torch.full((1, *SHAPE), 0.1, dtype=DOUBLE)  # the margin is 1.2, and falls by 2 eps for each of 3 frames
    for eps, verdict in ((0.19, tv.Verdict.ROBUST), (0.21, tv.Verdict.COUNTEREXAMPLE)):
        (found,) = tv.certify(model, x, [0], L2Ball(eps, per="frame"))
        assert found.verdict is verdict
        (whole,) = tv.certify(model, x, [0], L2Ball(eps))
        assert whole.verdict is tv.Verdict.ROBUST
    (radius,) = tv.radius(model, x, [0], norm=2, ball_per="frame", tolerance=1e-3)
    assert 0.199 < radius.proved < 0.2 * (1 + 1e-9)
    assert 0.2 * (1 - 1e-9) < radius.refuted < 0.201
