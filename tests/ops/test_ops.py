"""The contract of every operation; mirror images have mirrored answers; boxes that others get wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given

from tests.helpers import exact
from tests.helpers.operation_contract import CHECKS, box, boxes_of, draw_many, faults
from tightverify.bounds.linear import linear_bounds
from tightverify.models.builder import Builder
from tightverify.ops import (
    MULTIPLY,
    OPS,
    SIGMOID_TANH,
    SIGMOID_TIMES,
    TANH_TIMES,
    Clamp,
    ClampDifference,
    Erf,
    Floor,
    GruUpdate,
    LeakyRelu,
    LeakyReluDifference,
    Log,
    Maximum,
    NonZero,
    Operation,
    Reciprocal,
    Sigmoid,
    SigmoidDifference,
    Square,
    SquareRoot,
    Straight,
    SumOfSquares,
    Table,
    Tanh,
    TanhDifference,
    Truncation,
)
from tightverify.ops.gap import Gap
from tightverify.region import Box
from tightverify.values import Interval


def ids(op: Operation) -> str:
    pieces = len(op.straight.breaks) if isinstance(op, Table | Gap) else ""
    return f"{op.name}{getattr(op, 'slope', '')}{getattr(op, 'low', '')}{pieces}"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("op", OPS, ids=ids)
def test_operations_keep_their_contract(op: Operation, check: Callable[[Operation], None]) -> None:
    check(op)


def test_an_operation_is_known_by_its_name_and_its_parameters() -> None:
    known = [(op.name, *sorted(op.parameters.items())) for op in OPS]
    assert len(set(known)) == len(known)


def mirrored(boxes: tuple[Interval, ...], signs: tuple[int, ...]) -> tuple[Interval, ...]:
    return tuple(b if sign > 0 else b.mirror() for b, sign in zip(boxes, signs, strict=True))


MIRRORS = [
    # f's operands with these signs, in this order, are those of g; and f = factor * g + shift.
    (Tanh(), Tanh(), (-1,), (0,), -1.0, 0.0),
    (Sigmoid(), Sigmoid(), (-1,), (0,), -1.0, 1.0),
    (Erf(), Erf(), (-1,), (0,), -1.0, 0.0),
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
    (SigmoidDifference(), SigmoidDifference(), (-1, -1), (0, 1), -1.0, 0.0),
    (TanhDifference(), TanhDifference(), (-1, -1), (0, 1), -1.0, 0.0),
    (LeakyReluDifference(0.5), LeakyReluDifference(2.0), (-1, -1), (0, 1), -0.5, 0.0),
    (ClampDifference(0.25, 0.5), ClampDifference(-0.5, -0.25), (-1, -1), (0, 1), -1.0, 0.0),
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


def test_a_reciprocal_below_0_is_the_mirror_image_of_that_above() -> None:
    """And where a box holds 0, or has it as an end, it has no value."""
    above = box([(1e-6, 1e3), (0.5, 0.5), (2.0, 3.0), (5e-324, 1.0)])
    below = above.mirror()
    assert not bool(Reciprocal().undefined(below).any())
    assert bool(Reciprocal().undefined(box([(-1.0, 0.0), (-1.0, 1.0), (-0.0, 2.0)])).all())
    interval, mirror = Reciprocal().interval(below), Reciprocal().interval(above).mirror()
    assert torch.equal(interval.lower, mirror.lower)
    assert torch.equal(interval.upper, mirror.upper)
    planes, mirrored_planes = Reciprocal().relax(below), Reciprocal().relax(above)
    assert torch.equal(planes.lower.slopes[0], mirrored_planes.upper.slopes[0])
    assert torch.equal(planes.lower.offset, -mirrored_planes.upper.offset)
    assert not faults(Reciprocal(), (below,), planes, interval)


def test_whole_numbers_at_jumps() -> None:
    """An end on a jump, and one beside it."""
    boxes = box([(0.0, 1.0), (-1.0, 0.0), (-0.5, 0.5), (1.5, 3.2), (-3.2, -1.5), (2.0, 2.0), (-1e-300, 1e-300), (-7.5, 7.5)])
    assert Floor().interval(boxes).lower.tolist() == [[0, -1, -1, 1, -4, 2, -1, -8]]
    assert Truncation().interval(boxes).upper.tolist() == [[1, 0, 0, 3, -1, 2, 0, 7]]
    assert NonZero().interval(boxes).lower.tolist() == [[0, 0, 0, 1, 1, 1, 0, 0]]
    for op in (Floor(), Truncation(), NonZero()):
        assert not faults(op, (boxes,), op.relax(boxes), op.interval(boxes))
    assert bool(Truncation(8.0).undefined(box([(-8.0, 0.0), (7.0, 8.0)])).all())


def test_a_jump_has_both_values_at_the_point_itself() -> None:
    """Whichever side a comparison of rounded numbers takes; and one side alone beside it."""
    table = Table(Straight((-1.0, 0.0, 1.0), (0.0, 0.25, 0.5), (0.25, 0.5, 1.0)))
    boxes = box([(0.0, 0.0), (0.0, 0.5), (-0.5, 0.0), (-0.5, -1e-300), (-9.0, 1.0), (1e-300, 0.5)])
    interval, planes = table.interval(boxes), table.relax(boxes)
    assert interval.lower.tolist() == [[0.25, 0.25, 0.25, 0.25, 0.0, 0.5]]
    assert interval.upper.tolist() == [[0.5, 0.5, 0.5, 0.25, 1.0, 0.5]]
    for k, jump in ((0, 0.0), (1, 0.0), (2, 0.0), (4, 1.0)):
        for value in (0.25, 0.5) if jump == 0 else (0.5, 1.0):
            x = torch.full((1, 6), jump, dtype=torch.float64)
            assert float(planes.lower.at(x)[0, k]) <= value <= float(planes.upper.at(x)[0, k])


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
