"""The tightest planes of GRU's update: valid in exact arithmetic, as tight as they say, tighter than every other relaxation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from tests.helpers import exact
from tightverify.ops import GruUpdate
from tightverify.relax.curves import Symmetric
from tightverify.relax.fitted import gru_update as blends
from tightverify.relax.fitted.gru_update import UpdateQuery, fitted_update, negated, two_products
from tightverify.relax.fitted.update_planes import CORNERS, OUTWARDS, UpdatePlanes
from tightverify.relax.traits import OperandSet, Search
from tightverify.values import Interval

EACH = 40
NOISE = 1e-7
"""What HiGHS may be off by."""
THIN = (0.0, 1e-300, 1e-12, 1e-9, 3e-7, 1e-5, 1.0)
WHOLE = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


def boxes_of(kind: str, count: int = EACH, seed: int = 0) -> Tensor:
    """(N, 6) boxes."""
    random = torch.Generator().manual_seed(seed)

    def uniform(*scales: float) -> Tensor:
        return torch.rand(count, 3, generator=random, dtype=torch.float64) * torch.tensor(scales, dtype=torch.float64)

    def pick(values: tuple[float, ...], *shape: int) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)[torch.randint(0, len(values), shape, generator=random)]

    match kind:
        case "ordinary":
            centre, width = uniform(6, 2, 2) - uniform(6, 2, 2), uniform(2, 2, 2) * pick(tuple(range(1, 4)), count, 3) / 3
        case "thin":
            centre, width = uniform(10, 2, 2) - 1, uniform(1, 1, 1) * pick(THIN, count, 3)
        case "saturated":
            centre, width = (uniform(20, 2, 2) + uniform(15, 0, 0).new_tensor([15, -1, -1])), uniform(10, 1, 1)
            centre[::2, 0] *= -1
        case "huge":
            centre, width = uniform(200, 200, 200) - 100, uniform(200, 200, 200)
        case "straddling":
            width = uniform(8, 2, 2)
            centre = (uniform(1, 1, 1) - 0.5) * width
        case _:
            return pick(WHOLE, count, 3, 2).sort(2)[0].flatten(1)
    return torch.stack([centre - width / 2, centre - width / 2 + width], dim=2).flatten(1)


KINDS = ("ordinary", "thin", "saturated", "huge", "straddling", "whole")
every_kind = pytest.mark.parametrize("kind", KINDS)


def centres(boxes: Tensor) -> Tensor:
    ends = boxes.view(-1, 3, 2)
    return torch.minimum(torch.maximum(ends.mean(2), ends[..., 0]), ends[..., 1])[:, None]


def several_points(boxes: Tensor) -> Tensor:
    """(N, 4, 3): the centre, two others inside, and a corner."""
    low, high = boxes.view(-1, 3, 2).unbind(2)
    shares = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.8, 0.2], [0.7, 0.7, 0.6], [1, 1, 1]], dtype=torch.float64)
    points = low[:, None] + shares * (high - low)[:, None]
    return torch.minimum(torch.maximum(points, low[:, None]), high[:, None])


def heights(planes: Tensor, points: Tensor) -> Tensor:
    return (planes[..., :3] * points).sum(-1) + planes[..., 3]


def volumes(lower: Tensor, upper: Tensor, boxes: Tensor) -> Tensor:
    """(N,): the mean distance between the first planes on either side."""
    return heights((upper - lower)[:, :1], centres(boxes))[:, 0]


def floors(boxes: Tensor) -> Tensor:
    """(N,): what rounding may cost."""
    return 4 * UpdateQuery.of(boxes, centres(boxes)[:, 0]).floor


def faults(lower: Tensor, upper: Tensor, boxes: Tensor) -> list[str]:
    """Where planes (N, K, 4) fail to hold f in exact arithmetic: corners, and where each comes nearest along an edge."""
    found = []
    for side, planes, turned in ((1, upper, boxes), (-1, lower, negated(boxes))):
        query = UpdateQuery.of(turned, centres(turned)[:, 0])
        for k in range(planes.shape[1]):
            touch = blends.tangent_point(query, side * planes[:, k, 0])
            for row in range(len(boxes)):
                a, n, h = boxes[row].view(3, 2).tolist()
                plane = [exact.rational(c) for c in planes[row, k].tolist()]
                for gate, new, old in product([*a, *touch[row].tolist()], n, h):
                    level = plane[0] * exact.rational(gate) + plane[1] * exact.rational(new)
                    level += plane[2] * exact.rational(old) + plane[3]
                    truth = exact.operation(GruUpdate(), *(exact.ball(x) for x in (gate, new, old)))
                    if side * (exact.arb(level) - truth) < 0:
                        found.append(f"side {side}, plane {k} at {gate, new, old} of {boxes[row].tolist()}")
    return found


@every_kind
def test_planes_hold_in_exact_arithmetic(kind: str) -> None:
    boxes = boxes_of(kind, 12)
    found, pair = fitted_update(boxes, several_points(boxes), "batched", 1e-4), two_products(boxes, "batched", 1e-2)
    assert torch.isfinite(torch.cat([found.lower, found.upper, pair.lower, pair.upper], 1)).all()
    assert not faults(found.lower, found.upper, boxes)
    assert not faults(pair.lower, pair.upper, boxes)


@every_kind
def test_planes_hold_dense_samples(kind: str) -> None:
    boxes = boxes_of(kind)
    found = fitted_update(boxes, several_points(boxes), "batched", 1e-4)
    random = torch.Generator().manual_seed(1)
    shares = torch.rand(EACH, 2000, 3, generator=random, dtype=torch.float64)
    shares[:, 500:, 1:] = shares[:, 500:, 1:].round()
    low, high = boxes.view(-1, 3, 2).unbind(2)
    places = torch.minimum(low[:, None] + shares * (high - low)[:, None], high[:, None])
    value, noise = blends.value(places), floors(boxes)[:, None]
    for k in range(4):
        assert (heights(found.upper[:, k : k + 1], places) >= value - noise).all()
        assert (heights(found.lower[:, k : k + 1], places) <= value + noise).all()


@every_kind
@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_planes_are_as_tight_as_asked(kind: str, tolerance: float) -> None:
    boxes = boxes_of(kind, 400)
    found = fitted_update(boxes, centres(boxes), "batched", tolerance)
    wanted = torch.maximum(floors(boxes), 1.01 * tolerance * volumes(found.lower, found.upper, boxes))
    assert (found.gap >= 0).all()
    assert (found.gap[:, 0].amax(1) <= wanted).all()


def least_height(box: list[float], point: list[float]) -> tuple[float, float]:
    """The least height of a plane over f at a grid of gates, and what is between that and all gates."""
    a, n, h = np.linspace(box[0], box[1], 400), box[2:4], box[4:6]
    places = np.array([(x, *corner) for corner in product(n, h) for x in a])
    values = places[:, 1] + (places[:, 2] - places[:, 1]) / (1 + np.exp(-places[:, 0]))
    rows = np.hstack([places - np.array(point), np.ones((len(places), 1))])
    found = linprog([0, 0, 0, 1], A_ub=-rows, b_ub=-values, bounds=[(None, None)] * 4, method="highs")
    assert found.status == 0
    spread = max(abs(h[1] - n[0]), abs(h[0] - n[1]))
    return float(found.fun), spread * 0.1 * (a[1] - a[0]) ** 2 / 8 + NOISE


@pytest.mark.covering
@pytest.mark.parametrize("kind", ["ordinary", "straddling"])
@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-6])
def test_the_gap_is_a_bound(kind: str, tolerance: float) -> None:
    boxes = boxes_of(kind, 6)
    points = several_points(boxes)[:, :3]
    found = fitted_update(boxes, points, "batched", tolerance)
    for row, k in product(range(len(boxes)), range(3)):
        box, point = boxes[row : row + 1], points[row : row + 1, k]
        for side, planes, b, p in (
            (1, found.upper, box, point),
            (0, -found.lower, negated(box), point * blends.turn(point)),
        ):
            least, between = least_height(b[0].tolist(), p[0].tolist())
            height = float(heights(planes[row, k], point[0]))
            assert height >= least - NOISE
            assert height - float(found.gap[row, k, side]) <= least + between


@pytest.mark.parametrize("solver", ["batched", "highs"])
def test_programs_find_the_same_planes(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = boxes_of("ordinary", 10)
    points = several_points(boxes)
    found = fitted_update(boxes, points, solver, 1e-7)
    monkeypatch.setattr(blends, "SEARCH_STEPS", 1)
    other = fitted_update(boxes, points, solver, 1e-4)
    slack = 1e-3 * volumes(found.lower, found.upper, boxes)[:, None] + 1e-12
    assert ((heights(found.upper, points) - heights(other.upper, points)).abs() <= slack).all()
    assert ((heights(found.lower, points) - heights(other.lower, points)).abs() <= slack).all()
    assert not faults(other.lower, other.upper, boxes)


@every_kind
def test_mirrored_boxes_have_mirrored_planes(kind: str) -> None:
    boxes = boxes_of(kind)
    points, slack = several_points(boxes), 2 * floors(boxes)[:, None]
    found = fitted_update(boxes, points, "batched", 1e-6)
    gap = found.gap.sum(-1)
    flip = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    upside_down = fitted_update(negated(boxes), points * flip, "batched", 1e-6)
    assert torch.equal(upside_down.gap, found.gap.flip(-1))
    assert torch.equal(heights(upside_down.upper, points * flip), -heights(found.lower, points))
    # f(-a, h, n) = f(a, n, h)
    swapped = torch.cat([-boxes[:, [1, 0]], boxes[:, 4:], boxes[:, 2:4]], dim=1)
    image = points[..., [0, 2, 1]] * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    other = fitted_update(swapped, image, "batched", 1e-6)
    room = gap + other.gap.sum(-1) + slack
    assert ((heights(other.upper, image) - heights(found.upper, points)).abs() <= room).all()
    assert ((heights(other.lower, image) - heights(found.lower, points)).abs() <= room).all()


@every_kind
def test_no_relaxation_has_less_volume(kind: str) -> None:
    boxes = boxes_of(kind, 300)
    found, pair = fitted_update(boxes, centres(boxes), "batched", 1e-6), two_products(boxes, "batched", 1e-6)
    volume = volumes(found.lower, found.upper, boxes)
    room = found.gap[:, 0].sum(1) + floors(boxes)
    closed = GruUpdate().relax(*(Interval(boxes[None, :, 2 * k], boxes[None, :, 2 * k + 1]) for k in range(3)))
    centre = [x[None] for x in centres(boxes)[:, 0].T]
    assert (volume <= (closed.upper.at(*centre) - closed.lower.at(*centre))[0] + room).all()
    assert (volume <= volumes(pair.lower, pair.upper, boxes) + room).all()


@every_kind
def test_planes_towards_corners_hold_and_are_the_tightest_there(kind: str) -> None:
    boxes, search = boxes_of(kind), Search("batched", 1e-6, once=False)
    operands = OperandSet.of_boxes(boxes)
    lower, upper = UpdatePlanes().planes(operands, ("tightest", "edges", "corners"), search)
    few = UpdatePlanes().planes(operands, ("tightest",), search)
    assert lower.shape == upper.shape == (len(boxes), 6, 4)
    assert not faults(lower, upper, boxes)
    half, middle = (operands.high - operands.low) / 2, operands.middle[:, None]
    for every, two in zip((lower, upper), few, strict=True):
        away = (heights(every[:, :1], middle) - heights(two[:, :1], middle)).abs()
        assert (away <= (floors(boxes) + 1e-5 * half.sum(1))[:, None]).all()
    for k, corner in enumerate(CORNERS, start=2):
        point = (operands.middle + OUTWARDS * half * half.new_tensor([0, *corner]))[:, None].expand(-1, 6, -1)
        low, high, room = heights(lower, point), heights(upper, point), floors(boxes) + 1e-5 * half.sum(1)
        assert (high[:, k] <= high.amin(1) + room).all()
        assert (low[:, k] >= low.amax(1) - room).all()


def test_ordinary_boxes_gain() -> None:
    boxes = boxes_of("ordinary", 200)
    found, pair = fitted_update(boxes, centres(boxes), "batched", 1e-4), two_products(boxes, "batched", 1e-4)
    assert (volumes(found.lower, found.upper, boxes) / volumes(pair.lower, pair.upper, boxes)).mean() < 0.98


def test_a_point_is_exact() -> None:
    points = centres(boxes_of("ordinary"))
    found = fitted_update(points[:, 0].repeat_interleave(2, 1), points, "batched", 1e-6)
    value = blends.value(points)
    assert ((heights(found.upper, points) - value).abs() <= 1e-13).all()
    assert ((heights(found.lower, points) - value).abs() <= 1e-13).all()


def test_identical_boxes_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = boxes_of("ordinary", 3)
    once = fitted_update(boxes, several_points(boxes), "batched", 1e-4)
    counts = []

    def counted(boxes: Tensor, points: Tensor) -> UpdateQuery:
        counts.append(len(boxes))
        return made(boxes, points)

    made = UpdateQuery.of
    monkeypatch.setattr(UpdateQuery, "of", staticmethod(counted))
    again = fitted_update(boxes.repeat(5, 1), several_points(boxes).repeat(5, 1, 1), "batched", 1e-4)
    assert sum(counts) == 3 * 4 * 2
    for part, other in zip(vars(once).values(), vars(again).values(), strict=True):
        assert torch.equal(part.repeat(5, 1, 1), other)


def test_no_boxes_have_no_planes() -> None:
    nothing = torch.zeros(0, 6, dtype=torch.float64)
    assert fitted_update(nothing, torch.zeros(0, 2, 3, dtype=torch.float64), "batched", 1e-4).gap.shape == (0, 2, 2)


def offered(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Planes with slopes that hang on one corner each, and the least offsets."""
    slopes = torch.tensor([(0.0, b, c) for b in (-0.5, 1.5) for c in (-0.5, 1.5)], dtype=torch.float64)
    sides = []
    for turned in (boxes, negated(boxes)):
        offsets = [blends.update_offset(slope.expand(len(boxes), 3), turned) for slope in slopes]
        sides.append(torch.cat([slopes.expand(len(boxes), 4, 3), torch.stack(offsets, 1)[..., None]], dim=-1))
    return -sides[1] * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64), sides[0]


@every_kind
def test_planes_of_any_slopes_hold(kind: str) -> None:
    boxes = boxes_of(kind, 12)
    assert not faults(*offered(boxes), boxes)


@pytest.mark.parametrize("dropped", range(4))
def test_a_forgotten_corner_is_noticed(dropped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = boxes_of("ordinary", 12)
    whole = blends.largest_supremum  # type: ignore[attr-defined]

    def mutated(curve: Symmetric, slope: Tensor, box: Interval, functions: list[tuple[Tensor, Tensor]], size: Tensor) -> Tensor:
        return whole(curve, slope, box, functions[:dropped] + functions[dropped + 1 :], size)

    monkeypatch.setattr(blends, "largest_supremum", mutated)
    assert faults(*offered(boxes), boxes)


def test_a_missing_offset_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = boxes_of("ordinary", 12)
    whole = blends.update_offset
    monkeypatch.setattr(blends, "update_offset", lambda slopes, boxes: whole(slopes, boxes) - 1e-9)
    found = fitted_update(boxes, centres(boxes), "batched", 1e-2)
    assert faults(found.lower, found.upper, boxes)
