"""The contracts of every operation: its interval and its planes hold it, over boxes of every kind, rounding included."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers import exact
from tightverify.bounds.linear import linear_bounds
from tightverify.models.builder import Builder
from tightverify.ops import (
    MULTIPLY,
    OPS,
    SIGMOID_TANH,
    SIGMOID_TIMES,
    TANH_TIMES,
    Clamp,
    GruUpdate,
    LeakyRelu,
    Log,
    Maximum,
    Operation,
    Reciprocal,
    Sigmoid,
    Square,
    SquareRoot,
    SumOfSquares,
    Tanh,
)
from tightverify.region import Box
from tightverify.relax.planes import Plane, Planes
from tightverify.values import Interval

NEURONS = 6
GRID = {1: 65, 2: 17, 3: 9}
ZOOMS = 6
LOOSER = 1.0
"""Products take slopes from chords, which on a convex stretch cost up to twice the gap: it may grow by this share of itself."""
POSITIVE = (Log, SquareRoot, Reciprocal)
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.25, 0.5)


def ids(op: Operation) -> str:
    return f"{op.name}{getattr(op, 'slope', '')}{getattr(op, 'low', '')}"


every_op = pytest.mark.parametrize("op", OPS, ids=ids)
draw_many = settings(max_examples=25, deadline=None, derandomize=True)


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
    one = positive_ends(-150 if isinstance(op, Reciprocal) else -320) if isinstance(op, POSITIVE) else ends()
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
        corners = set(product(*[(float(b.lower[0, k]), float(b.upper[0, k])) for b in boxes]))
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


@every_op
def test_interval_and_planes_hold_in_exact_arithmetic(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        assert not faults(op, boxes, op.relax(*boxes), op.interval(*boxes))

    check()


@every_op
def test_interval_and_planes_hold_dense_samples(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        points = grid(boxes, {1: 801, 2: 41, 3: 15}[op.arity])
        value = op.forward(*points)
        interval, planes = op.interval(*boxes), op.relax(*boxes)
        noise = 1e-13 * (1e-280 + value.abs()) + (1e-15 if not isinstance(op, Square) and op is not MULTIPLY else 0)
        assert ((interval.lower <= value + noise) & (value - noise <= interval.upper)).all()
        reach = [b.magnitude for b in boxes]
        for side, plane in ((1, planes.upper), (-1, planes.lower)):
            size = plane.map(torch.abs).at(*reach)
            gap = side * (plane.at(*points) - value)
            claims = torch.isfinite(size)
            assert (gap[:, claims[0]] >= -(noise + 1e-14 * size)[:, claims[0]]).all()

    check()


@every_op
def test_ordinary_boxes_have_finite_answers(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        interval, planes = op.interval(*boxes), op.relax(*boxes)
        usual = torch.stack([torch.isfinite(b.width) & (b.lower.abs() > 1e-290) for b in boxes]).all(0)
        for bound in (interval.lower, interval.upper, planes.lower.offset, planes.upper.offset):
            assert torch.isfinite(bound[usual]).all()
        assert (interval.lower <= interval.upper).all()

    check()


@every_op
def test_a_point_is_exact(op: Operation) -> None:
    x = [torch.tensor([[0.3, -2.5, 0.0, 17.0, -40.0, 1e-5]], dtype=torch.float64).roll(k) for k in range(op.arity)]
    if isinstance(op, POSITIVE):
        x = [point.abs() + 1e-3 for point in x]
    boxes = tuple(Interval(point, point) for point in x)
    interval, planes, value = op.interval(*boxes), op.relax(*boxes), op.forward(*x)
    size = 1 + value.abs() + sum(point.abs() for point in x)
    for bound in (interval.lower, interval.upper, planes.lower.at(*x), planes.upper.at(*x)):
        assert ((bound - value).abs() <= 1e-12 * size).all()


@every_op
def test_a_shrinking_box_never_loosens_the_interval(op: Operation) -> None:
    @draw_many
    @given(boxes_of(op), st.lists(finite(0, 1), min_size=2 * op.arity, max_size=2 * op.arity))
    def check(boxes: tuple[Interval, ...], cut: list[float]) -> None:
        outer, inner = op.interval(*boxes), op.interval(*inside(boxes, cut))
        slack = 1e-13 * (1 + outer.magnitude.nan_to_num(posinf=0.0))
        assert (inner.lower >= outer.lower - slack).all()
        assert (inner.upper <= outer.upper + slack).all()

    check()


@every_op
def test_a_shrinking_box_never_loosens_the_planes(op: Operation) -> None:
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


def mirrored(boxes: tuple[Interval, ...], signs: tuple[int, ...]) -> tuple[Interval, ...]:
    return tuple(b if sign > 0 else b.mirror() for b, sign in zip(boxes, signs, strict=True))


MIRRORS = [
    # f's operands with these signs, in this order, are those of g; and f = factor * g + shift.
    (Tanh(), Tanh(), (-1,), (0,), -1.0, 0.0),
    (Sigmoid(), Sigmoid(), (-1,), (0,), -1.0, 1.0),
    (LeakyRelu(0.5), LeakyRelu(2.0), (-1,), (0,), -0.5, 0.0),
    (Clamp(0.25, 0.5), Clamp(-0.5, -0.25), (-1,), (0,), -1.0, 0.0),
    (Square(), Square(), (-1,), (0,), 1.0, 0.0),
    (SumOfSquares(), SumOfSquares(), (-1, 1), (0, 1), 1.0, 0.0),
    (SumOfSquares(), SumOfSquares(), (1, 1), (1, 0), 1.0, 0.0),
    (MULTIPLY, MULTIPLY, (-1, 1), (0, 1), -1.0, 0.0),
    (MULTIPLY, MULTIPLY, (1, -1), (0, 1), -1.0, 0.0),
    (MULTIPLY, MULTIPLY, (1, 1), (1, 0), 1.0, 0.0),
    (SIGMOID_TANH, SIGMOID_TANH, (1, -1), (0, 1), -1.0, 0.0),
    (SIGMOID_TIMES, SIGMOID_TIMES, (1, -1), (0, 1), -1.0, 0.0),
    (TANH_TIMES, TANH_TIMES, (-1, 1), (0, 1), -1.0, 0.0),
    (TANH_TIMES, TANH_TIMES, (1, -1), (0, 1), -1.0, 0.0),
    (Maximum(), Maximum(), (1, 1), (1, 0), 1.0, 0.0),
    (GruUpdate(), GruUpdate(), (1, -1, -1), (0, 1, 2), -1.0, 0.0),
]


@pytest.mark.parametrize(("op", "other", "signs", "order", "factor", "shift"), MIRRORS)
def test_mirrored_boxes_have_mirrored_answers(
    op: Operation, other: Operation, signs: tuple[int, ...], order: tuple[int, ...], factor: float, shift: float
) -> None:
    @draw_many
    @given(boxes_of(op))
    def check(boxes: tuple[Interval, ...]) -> None:
        image = tuple(mirrored(boxes, signs)[k] for k in order)
        centre, image_centre = [b.centre for b in boxes], [b.centre for b in image]
        planes, others = op.relax(*boxes), other.relax(*image)
        interval, other_interval = op.interval(*boxes), other.interval(*image)
        pairs = [(others.lower, others.upper), (others.upper, others.lower)][factor < 0]
        ends = [(other_interval.lower, other_interval.upper), (other_interval.upper, other_interval.lower)][factor < 0]
        size = 1 + interval.magnitude + sum(b.magnitude for b in boxes)
        for bound, end in zip((interval.lower, interval.upper), ends, strict=True):
            assert ((bound - (factor * end + shift)).abs() <= 1e-13 * size).all()
        for plane, pair in zip((planes.lower, planes.upper), pairs, strict=True):
            scale = size + plane.map(torch.abs).at(*[b.magnitude for b in boxes])
            gap = plane.at(*centre) - (factor * pair.at(*image_centre) + shift)
            assert (gap.abs() <= 1e-9 * scale).all()

    check()


def test_log_claims_nothing_where_it_is_not_defined() -> None:
    boxes = box([(-1.0, 2.0), (0.0, 1.0), (-2.0, -1.0), (-0.0, 0.0), (-5e-324, 5e-324), (0.0, 5e-324)])
    interval, planes = Log().interval(boxes), Log().relax(boxes)
    assert (interval.lower == -torch.inf).all()
    assert (interval.upper >= torch.log(boxes.upper.clamp(min=0))).all()
    for k in range(6):
        x = float(boxes.upper[0, k])
        points = [x * share for share in (1.0, 0.5, 1e-9, 1e-300) if x * share > 0]
        for point in points:
            value = exact.ball(point).log()
            above, below = exact.plane_at(planes.upper, k, (point,)), exact.plane_at(planes.lower, k, (point,))
            assert above is None or not value > exact.arb(above)
            assert below is None or not value < exact.arb(below)
        assert exact.plane_at(planes.lower, k, (0.0,)) is None


KNOWN_FAILURES = [
    # Boxes on which other verifiers are wrong: see the tables of the project's survey.
    (SIGMOID_TANH, [(8.1988, 31.2190), (3.7455, 5.5686)]),
    (SIGMOID_TANH, [(6.0, 14.0), (-3.0, 20.0)]),
    (SIGMOID_TANH, [(-31.2190, -8.1988), (-5.5686, -3.7455)]),
    (SIGMOID_TIMES, [(8.1988, 31.2190), (3.7455, 5.5686)]),
    (TANH_TIMES, [(8.1988, 31.2190), (-3.7455, 5.5686)]),
    (Tanh(), [(-200.0, 10.0)]),
    (Tanh(), [(-10.0, 200.0)]),
    (Sigmoid(), [(-200.0, 10.0)]),
    (Square(), [(0.3, 0.5)]),
    (Square(), [(-0.5, -0.3)]),
    (Log(), [(1e-12, 1e6)]),
    (SquareRoot(), [(0.0, 1e6)]),
    (Reciprocal(), [(1e-6, 1e3)]),
    (SumOfSquares(), [(0.3, 0.5), (-0.5, 0.1)]),
]


@pytest.mark.parametrize(("op", "pairs"), KNOWN_FAILURES)
def test_boxes_that_others_get_wrong(op: Operation, pairs: list[tuple[float, float]]) -> None:
    boxes = tuple(box([pair]) for pair in pairs)
    assert not faults(op, boxes, op.relax(*boxes), op.interval(*boxes))


def test_a_difference_of_square_and_line() -> None:
    """x^2 - 0.8 x on [0.3, 0.5] is at most -0.15, at both ends."""
    builder = Builder()
    x = builder.input((1,))
    graph = builder.graph(builder.combine([(builder.multiply(x, x), 1.0), (x, -0.8)]))
    centre = torch.full((1, 1), 0.4, dtype=torch.float64)
    bounds = linear_bounds(graph, Box(torch.tensor([0.3]).double(), torch.tensor([0.5]).double()).around(centre))
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    lower, upper = float(bounds.lower({graph.output: one})), -float(bounds.lower({graph.output: -one}))
    assert exact.ball(lower) <= exact.ball(0.4) ** 2 - exact.ball(0.8) * exact.ball(0.4)
    assert -0.15 - 1e-15 <= upper <= -0.15 + 1e-9


def test_a_blend_is_at_least_as_tight_as_its_two_products() -> None:
    """`sigmoid(-a) * n + sigmoid(a) * h` by two planes has the same slopes; one offset for both is never worse."""
    generator = torch.Generator().manual_seed(0)

    def boxes(spread: float) -> Interval:
        middle = torch.randn((2000, 1), generator=generator, dtype=torch.float64) * spread
        reach = torch.rand((2000, 1), generator=generator, dtype=torch.float64) * spread
        return Interval(middle - reach, middle + reach)

    gate, new, old = boxes(2.0), boxes(0.7), boxes(0.7)
    together = GruUpdate().relax(gate, new, old)
    first, second = SIGMOID_TIMES.relax(gate.mirror(), new), SIGMOID_TIMES.relax(gate, old)
    for side, sign in (("lower", 1), ("upper", -1)):
        apart = getattr(first, side).at(-gate.centre, new.centre) + getattr(second, side).at(gate.centre, old.centre)
        joined = getattr(together, side).at(gate.centre, new.centre, old.centre)
        assert bool((sign * (joined - apart) >= -1e-12).all())
        assert bool((sign * (joined - apart) > 1e-3).any())
