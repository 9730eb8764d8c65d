"""The contract of an operation: a list of checks that each of OPS passes, and every other one that is registered.

Checked are the interval and the planes, over boxes of every kind, in exact arithmetic, at critical points and dense samples,
and whatever its record of traits claims. `exact.EXACT` has to hold its true value. An operation that has no value everywhere
has to have one at every x > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers import exact
from tests.helpers.traits_contract import TRAITS
from tightverify.ops import Operation
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval

NEURONS = 6
GRID = {1: 65, 2: 17, 3: 9}
ZOOMS = 6
LOOSER = 1.0
"""Products take slopes from chords, which on a convex stretch cost up to twice the gap: it may grow by this share of itself."""
EXACT_FLOATS = ("square", "multiply")
"""Operations whose value in floats is the true one, rounded: no noise near 0."""
LARGEST = 600.0
"""An operand at which the exponential function is still a float, as are products of it and the operand."""
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.25, 0.5)

draw_many = settings(max_examples=25, deadline=None, derandomize=True)
draw_some = settings(max_examples=8, deadline=None, derandomize=True)


def finite(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@st.composite
def ends(draw: st.DrawFn) -> tuple[float, float]:
    """One interval: ordinary, thin, saturated, huge, about zero, or with a kink or inflection at an end."""
    kind = draw(st.sampled_from(["ordinary", "thin", "saturated", "huge", "zero", "special", "tiny", "split"]))
    sign = draw(st.sampled_from([-1.0, 1.0]))
    match kind:
        case "ordinary":
            low = draw(finite(-8, 8))
            pair = low, low + draw(finite(0.01, 8))
        case "thin":
            low = draw(finite(-30, 30))
            width = draw(st.sampled_from([0.0, 1e-12, 1e-300, math.ulp(low), 3e-9]))
            pair = low, low + width
        case "saturated":
            low = draw(finite(20, 700))
            pair = low, low + draw(finite(0, 60))
        case "huge":
            low = draw(finite(-1e6, 1e6))
            pair = low, low + draw(finite(200, 1e6))
        case "zero":
            size = draw(st.sampled_from([1e-310, 1e-160, 1e-9, 0.5, 4.0, 40.0, 300.0]))
            pair = draw(st.sampled_from([(0.0, size), (-size, size), (-size, 3 * size), (-0.0, size)]))
        case "special":
            low = draw(st.sampled_from(SPECIAL))
            pair = low, low + draw(finite(0, 20))
        case "tiny":
            low = draw(finite(-1e-290, 1e-290))
            pair = low, low + draw(st.sampled_from([0.0, 1e-300, 1e-8]))
        case _:
            pair = -draw(finite(0, 60)), draw(finite(0, 60))
    low, high = (pair[0] * 1.0, pair[1] * 1.0) if sign > 0 else (-pair[1], -pair[0])
    return low, high


@st.composite
def positive_ends(draw: st.DrawFn, least: int = -320) -> tuple[float, float]:
    """Where logarithms, roots and reciprocals are defined."""
    low = 10.0 ** draw(finite(least, 6)) or 5e-324
    width = draw(st.sampled_from([0.0, math.ulp(low), low, 1e-12, 1.0, 1e6, 10.0 ** draw(finite(-300, 6))]))
    return low, low + width


def boxes_of(op: Operation) -> st.SearchStrategy[tuple[Interval, ...]]:
    """(1, NEURONS) boxes for each operand."""
    one = positive_ends(-150 if op.name == "reciprocal" else -320) if op.partial else ends()
    if op.name == "exp":
        one = one.map(lambda pair: (min(pair[0], LARGEST), min(pair[1], LARGEST)))
    several = st.lists(one, min_size=NEURONS, max_size=NEURONS).map(box)
    return st.tuples(*[several] * op.arity)


def box(pairs: list[tuple[float, float]]) -> Interval:
    low, high = torch.tensor(pairs, dtype=torch.float64).T
    return Interval(low[None], high[None])


def grid(boxes: tuple[Interval, ...], count: int) -> list[Tensor]:
    """(P, n) for each operand: a grid of `count` points per axis over the boxes (1, n), both ends included exactly."""
    steps = torch.linspace(0, 1, count, dtype=torch.float64)
    axes = []
    for b in boxes:
        along = b.lower + steps[:, None] * (b.upper - b.lower)
        along[-1] = b.upper[0]
        axes.append(torch.minimum(torch.maximum(along, b.lower), b.upper))
    picks = torch.tensor(list(product(range(count), repeat=len(boxes))))
    return [axis[picks[:, k]] for k, axis in enumerate(axes)]


def around(points: list[Tensor], boxes: tuple[Interval, ...], share: float) -> tuple[Interval, ...]:
    """The boxes shrunk by a factor about points (1, n)."""
    shrunk = []
    for x, b in zip(points, boxes, strict=True):
        reach = share * b.width
        shrunk.append(Interval(torch.maximum(x - reach, b.lower), torch.minimum(x + reach, b.upper)))
    return tuple(shrunk)


def closest_points(op: Operation, plane: Plane, boxes: tuple[Interval, ...], side: int) -> list[Tensor]:
    """(1, n) for each operand: where the plane comes nearest to the function, or crosses it the most; by zooming in."""
    window = boxes
    for zoom in range(ZOOMS):
        points = grid(window, GRID[op.arity] if zoom == 0 else 5)
        gap = side * (plane.at(*points) - op.forward(*points))
        best = gap.nan_to_num(nan=torch.inf).argmin(0, keepdim=True)
        points = [x.gather(0, best) for x in points]
        window = around(points, boxes, 0.5 / 2.0 ** (3 + 2 * zoom))
    return points


def faults(op: Operation, boxes: tuple[Interval, ...], planes: Planes, interval: Interval) -> list[str]:
    """Where interval or planes fail to hold the operation, in exact arithmetic: corners and nearest points."""
    upper, lower = closest_points(op, planes.upper, boxes, 1), closest_points(op, planes.lower, boxes, -1)
    found = []
    for k in range(boxes[0].lower.shape[1]):
        ends = [(float(b.lower[0, k]), float(b.upper[0, k])) for b in boxes]
        corners = set(product(*[(low, high, *((0.0,) if low < 0 < high else ())) for low, high in ends]))
        corners |= {tuple(float(x[0, k]) for x in points) for points in (upper, lower)}
        for point in corners:
            value = exact.operation(op, *(exact.ball(x) for x in point))
            above, below = exact.plane_at(planes.upper, k, point), exact.plane_at(planes.lower, k, point)
            if above is not None and value > exact.arb(above):
                found.append(f"the upper plane is {float(value - exact.arb(above))} below at {point}")
            if below is not None and value < exact.arb(below):
                found.append(f"the lower plane is {float(exact.arb(below) - value)} above at {point}")
            low, high = float(interval.lower[0, k]), float(interval.upper[0, k])
            if exact.is_below(value, low) or exact.is_above(value, high):
                found.append(f"{value.str(25)} at {point} is outside [{low!r}, {high!r}]")
    return found


def closed_forms(op: Operation, boxes: tuple[Interval, ...]) -> tuple[Planes, ...]:
    return op.relax(*boxes), *op.alternatives(*boxes)


def interval_and_planes_hold_in_exact_arithmetic(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        for planes in closed_forms(op, boxes):
            assert not faults(op, boxes, planes, op.interval(*boxes))

    check()


def tight_planes_hold_and_stay_within_the_range(op: Operation) -> None:
    @draw_some
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        interval, planes = op.interval(*boxes), op.tight(*boxes)
        assert not faults(op, boxes, planes, interval)
        for corner in product(*((b.lower, b.upper) for b in boxes)):
            for side, plane, most in ((1, planes.upper, interval.upper), (-1, planes.lower, -interval.lower)):
                beyond = side * plane.at(*corner) - most
                slack = 1e-12 * (1 + plane.map(torch.abs).at(*(b.magnitude for b in boxes)))
                assert not (beyond > slack).any()

    check()


def interval_and_planes_hold_dense_samples(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        points = grid(boxes, {1: 801, 2: 41, 3: 15}[op.arity])
        value = op.forward(*points)
        interval = op.interval(*boxes)
        noise = 1e-13 * (1e-280 + value.abs()) + (1e-15 if op.name not in EXACT_FLOATS else 0)
        assert ((interval.lower <= value + noise) & (value - noise <= interval.upper)).all()
        reach = [b.magnitude for b in boxes]
        every = closed_forms(op, boxes)
        for side, plane in (*((1, planes.upper) for planes in every), *((-1, planes.lower) for planes in every)):
            size = plane.map(torch.abs).at(*reach)
            gap = side * (plane.at(*points) - value)
            claims = torch.isfinite(size)
            assert (gap[:, claims[0]] >= -(noise + 1e-14 * size)[:, claims[0]]).all()

    check()


def ordinary_boxes_have_finite_answers(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        interval = op.interval(*boxes)
        usual = torch.stack([torch.isfinite(b.width) & (b.lower.abs() > 1e-290) for b in boxes]).all(0)
        offsets = [side.offset for planes in closed_forms(op, boxes) for side in (planes.lower, planes.upper)]
        for bound in (interval.lower, interval.upper, *offsets):
            assert torch.isfinite(bound[usual]).all()
        assert (interval.lower <= interval.upper).all()

    check()


def a_point_is_exact(op: Operation) -> None:
    x = [torch.tensor([[0.3, -2.5, 0.0, 17.0, -40.0, 1e-5]], dtype=torch.float64).roll(k) for k in range(op.arity)]
    if op.partial:
        x = [point.abs() + 1e-3 for point in x]
    boxes = tuple(Interval(point, point) for point in x)
    interval, value = op.interval(*boxes), op.forward(*x)
    size = 1 + value.abs() + sum(point.abs() for point in x)
    heights = [side.at(*x) for planes in closed_forms(op, boxes) for side in (planes.lower, planes.upper)]
    for bound in (interval.lower, interval.upper, *heights):
        assert ((bound - value).abs() <= 1e-12 * size).all()


def a_shrinking_box_never_loosens_the_interval(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op), st.lists(finite(0, 1), min_size=2 * op.arity, max_size=2 * op.arity))
    def check(boxes: tuple[Interval, ...], cut: list[float]) -> None:
        outer, inner = op.interval(*boxes), op.interval(*inside(boxes, cut))
        slack = 1e-13 * (1 + outer.magnitude.nan_to_num(posinf=0.0))
        assert (inner.lower >= outer.lower - slack).all()
        assert (inner.upper <= outer.upper + slack).all()

    check()


def a_shrinking_box_never_loosens_the_planes(op: Operation) -> None:
    """At the inner box's centre: the gap of the planes made for it is no larger than that of the outer box's."""

    @draw_many
    @given(boxes_of(op), st.lists(finite(0, 1), min_size=2 * op.arity, max_size=2 * op.arity))
    def check(boxes: tuple[Interval, ...], cut: list[float]) -> None:
        smaller = inside(boxes, cut)
        centre = [b.centre for b in smaller]
        outer, inner = op.relax(*boxes), op.relax(*smaller)
        reach = [b.magnitude for b in boxes]
        size = outer.upper.map(torch.abs).at(*reach) + outer.lower.map(torch.abs).at(*reach)
        before = outer.upper.at(*centre) - outer.lower.at(*centre)
        after = inner.upper.at(*centre) - inner.lower.at(*centre)
        usual = torch.isfinite(before) & (size < 1e250)
        slack = 1e-11 * (1 + size) + LOOSER * before
        assert (after <= before + slack)[usual].all(), ((after - before) / before)[usual].max()

    check()


def inside(boxes: tuple[Interval, ...], cut: list[float]) -> tuple[Interval, ...]:
    """Boxes inside boxes; two numbers in [0, 1] for each operand say which part of it."""
    smaller = []
    for k, b in enumerate(boxes):
        start, stop = sorted(cut[2 * k : 2 * k + 2])
        low = torch.minimum(torch.maximum(b.lower + start * b.width, b.lower), b.upper)
        high = torch.minimum(torch.maximum(b.lower + stop * b.width, low), b.upper)
        smaller.append(Interval(low, high))
    return tuple(smaller)


CHECKS: tuple[Callable[[Operation], None], ...] = (
    interval_and_planes_hold_in_exact_arithmetic,
    tight_planes_hold_and_stay_within_the_range,
    interval_and_planes_hold_dense_samples,
    ordinary_boxes_have_finite_answers,
    a_point_is_exact,
    a_shrinking_box_never_loosens_the_interval,
    a_shrinking_box_never_loosens_the_planes,
    *TRAITS,
)


def check(op: Operation) -> None:
    """The whole contract, for an operation that stands outside of the package."""
    for one in CHECKS:
        one(op)
