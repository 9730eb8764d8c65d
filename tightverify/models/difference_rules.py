"""By how much an operation's value differs between two networks, from its operands x in the first and their differences d.

The second network has x - d. A rule says how nodes of operations that exist make the difference, one line of `RULES` each: a
curve has an operation of its own (`ops.difference`), a product is

    F(x) G(y) - F(x - d) G(y - e) = F(x) (G(y) - G(y - e)) + (F(x) - F(x - d)) G(y - e),

with the second network's own operand `y - e`, and GRU's update `n + z (h - n)` of a gate z differs by

    dn + z (dh - dn) + dz (h' - n'),

which is the update of the differences, and what the other gate makes of the second network's states. What differs nowhere is
None. An operation that has no rule is written down for both networks and subtracted (`models.pair`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tightverify.graph import Operand
from tightverify.ops import (
    MULTIPLY,
    SIGMOID_TIMES,
    TANH_TIMES,
    Clamp,
    ClampDifference,
    Gelu,
    GeluByTanh,
    GruUpdate,
    HardSigmoid,
    HardSigmoidDifference,
    HardSwish,
    LeakyRelu,
    LeakyReluDifference,
    Maximum,
    Mish,
    Operation,
    PiecewiseDifference,
    Power,
    Ramp,
    RampDifference,
    Sigmoid,
    SigmoidDifference,
    SigmoidLessTable,
    Silu,
    Square,
    Table,
    Tanh,
    TanhDifference,
    TanhLessTable,
    WeightedMean,
)
from tightverify.ops.product import Product
from tightverify.relax import curves
from tightverify.relax.straight import Straight

Difference = Operand | None
"""A difference's neurons; None where there is none."""


class Nodes(Protocol):
    """Where nodes are written down."""

    def apply(self, op: Operation, *operands: Operand) -> Operand: ...

    def sum(self, *summands: tuple[Operand | None, float]) -> Difference:
        """Operands times their factors, those that are None left out; None if nothing is left."""

    def second(self, x: Operand, d: Difference) -> Operand:
        """The second network's own value of an operand, `x - d`."""


Rule = Callable[[Nodes, Any, Sequence[Operand], Sequence[Difference]], Difference]

CHANGES: dict[type[curves.Curve], Operation | None] = {
    curves.Identity: None,
    curves.Sigmoid: SigmoidDifference(),
    curves.Tanh: TanhDifference(),
}
"""A factor's change as an operation; a bare operand's is its difference."""
TIMES: dict[type[curves.Curve], Operation] = {
    curves.Identity: MULTIPLY,
    curves.Sigmoid: SIGMOID_TIMES,
    curves.Tanh: TANH_TIMES,
}
"""A factor times something."""


def of_curve(change: Callable[[Any], Operation]) -> Rule:
    """The rule of a curve, whose change is an operation made of the curve's own."""

    def rule(nodes: Nodes, op: Any, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
        return changed(nodes, change(op), x[0], d[0])

    return rule


def changed(nodes: Nodes, change: Operation | None, x: Operand, d: Difference) -> Difference:
    return d if change is None or d is None else nodes.apply(change, x, d)


def of_product(nodes: Nodes, op: Product, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    kinds = type(op.first), type(op.second)
    first, second = (changed(nodes, CHANGES[kind], a, b) for kind, a, b in zip(kinds, x, d, strict=True))
    by_second = None if second is None else nodes.apply(TIMES[kinds[0]], x[0], second)
    by_first = None if first is None else nodes.apply(TIMES[kinds[1]], nodes.second(x[1], d[1]), first)
    return nodes.sum((by_second, 1.0), (by_first, 1.0))


def of_update(nodes: Nodes, _op: GruUpdate, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    (gate, *_), (d_gate, d_new, d_old) = x, d
    if d_new is None:
        kept = None if d_old is None else nodes.apply(SIGMOID_TIMES, gate, d_old)
    elif d_old is None:
        turned = nodes.sum((gate, -1.0))
        assert turned is not None
        kept = nodes.apply(SIGMOID_TIMES, turned, d_new)
    else:
        kept = nodes.apply(GruUpdate(), gate, d_new, d_old)
    change = changed(nodes, SigmoidDifference(), gate, d_gate)
    return nodes.sum((kept, 1.0), (stepped(nodes, change, x[1:], d[1:]), 1.0))


def of_mean(nodes: Nodes, _op: WeightedMean, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    """The same of a weight at hand, whose difference is."""
    (weight, *_), (change, d_new, d_old) = x, d
    if d_new is None or d_old is None:
        part = d_new if d_old is None else d_old
        shared = None if part is None else nodes.apply(MULTIPLY, weight, part)
        kept = nodes.sum((d_new, 1.0), (shared, -1.0 if d_old is None else 1.0))
    else:
        kept = nodes.apply(WeightedMean(), weight, d_new, d_old)
    return nodes.sum((kept, 1.0), (stepped(nodes, change, x[1:], d[1:]), 1.0))


def stepped(nodes: Nodes, change: Difference, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    """A weight's change times `h' - n'`, for states n, h."""
    if change is None:
        return None
    step = nodes.sum((x[1], 1.0), (x[0], -1.0), (d[1], -1.0), (d[0], 1.0))
    assert step is not None
    return nodes.apply(MULTIPLY, change, step)


def of_square(nodes: Nodes, _op: Square, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    """`x^2 - (x - d)^2 = d (2 x - d)`."""
    total = nodes.sum((x[0], 2.0), (d[0], -1.0))
    return None if d[0] is None or total is None else nodes.apply(MULTIPLY, d[0], total)


def of_maximum(nodes: Nodes, _op: Maximum, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    """`max(x, y) = y + relu(x - y)`."""
    ahead, change = nodes.sum((x[0], 1.0), (x[1], -1.0)), nodes.sum((d[0], 1.0), (d[1], -1.0))
    assert ahead is not None
    return nodes.sum((d[1], 1.0), (changed(nodes, LeakyReluDifference(), ahead, change), 1.0))


def of_hard_swish(nodes: Nodes, op: HardSwish, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    """As the product that it is, of x and a hard sigmoid."""
    gate = HardSigmoid(op.slope, op.shift)
    share, change = nodes.apply(gate, x[0]), changed(nodes, HardSigmoidDifference(op.slope, op.shift), x[0], d[0])
    return of_product(nodes, MULTIPLY, (x[0], share), (d[0], change))


def of_ramp(nodes: Nodes, op: Ramp, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
    """With unequal slopes it is `leaky_relu(x) - (1 - beyond) max(x, cap)` and a constant."""
    if op.slope == op.beyond:
        return changed(nodes, RampDifference(op.slope, op.cap), x[0], d[0])
    bent, above = LeakyReluDifference(op.slope), ClampDifference(op.cap, math.inf)
    return nodes.sum((changed(nodes, bent, x[0], d[0]), 1.0), (changed(nodes, above, x[0], d[0]), op.beyond - 1))


RULES: dict[type[Operation], Rule] = {
    Sigmoid: of_curve(lambda _op: SigmoidDifference()),
    Tanh: of_curve(lambda _op: TanhDifference()),
    LeakyRelu: of_curve(lambda op: LeakyReluDifference(op.slope)),
    Clamp: of_curve(lambda op: ClampDifference(op.low, op.high)),
    Ramp: of_ramp,
    Product: of_product,
    GruUpdate: of_update,
    WeightedMean: of_mean,
    HardSigmoid: of_curve(lambda op: HardSigmoidDifference(op.slope, op.shift)),
    Square: of_square,
    Maximum: of_maximum,
    HardSwish: of_hard_swish,
    **dict.fromkeys((Gelu, GeluByTanh, Mish, Power, Silu), of_curve(PiecewiseDifference)),
}


# Where another function stands in the second network

SMOOTH: dict[type[Operation], tuple[Operation, Callable[[Straight], Operation]]] = {
    Sigmoid: (SigmoidDifference(), SigmoidLessTable),
    Tanh: (TanhDifference(), TanhLessTable),
}
"""A curve's change, and how far the curve is from a table."""


def pieces_of(op: Operation) -> Straight | None:
    """The straight pieces of a function that may stand in a curve's place; their breaks are rounded."""
    if isinstance(op, Table):
        return op.straight
    if isinstance(op, HardSigmoid):
        return Straight((-op.shift / op.slope, (1.0 - op.shift) / op.slope), (0.0, 1.0), (0.0, 1.0))
    if isinstance(op, Clamp) and -math.inf < op.low < op.high < math.inf:
        return Straight((op.low, op.high), (op.low, op.high), (op.low, op.high))
    return None


def rule_of_others(one: Operation, other: Operation) -> Rule | None:
    """`F(x) - G(x - d)` of two functions: the change of the smooth one of them, and by how much both differ at one point."""
    if type(one) in SMOOTH and (pieces := pieces_of(other)) is not None:
        return of_smooth_first(*SMOOTH[type(one)], pieces)
    if type(other) in SMOOTH and (pieces := pieces_of(one)) is not None:
        return of_smooth_second(*SMOOTH[type(other)], pieces)
    if isinstance(one, LeakyRelu) and isinstance(other, LeakyRelu):
        return of_slopes(one.slope, other.slope)
    return None


def of_smooth_first(change: Operation, gap: Callable[[Straight], Operation], pieces: Straight) -> Rule:
    """`(F(x) - F(x - d)) + (F - G)(x - d)`"""

    def rule(nodes: Nodes, _op: Any, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
        change_at, second = changed(nodes, change, x[0], d[0]), nodes.second(x[0], d[0])
        return nodes.sum((change_at, 1.0), (nodes.apply(gap(pieces), second), 1.0))

    return rule


def of_smooth_second(change: Operation, gap: Callable[[Straight], Operation], pieces: Straight) -> Rule:
    """`(F - G)(x) + (G(x) - G(x - d))`"""

    def rule(nodes: Nodes, _op: Any, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
        return nodes.sum((changed(nodes, change, x[0], d[0]), 1.0), (nodes.apply(gap(pieces), x[0]), -1.0))

    return rule


def of_slopes(first: float, second: float) -> Rule:
    """Of leaky ReLUs: their difference at one point is that of the slopes, times what lies below 0 of it."""

    def rule(nodes: Nodes, _op: Any, x: Sequence[Operand], d: Sequence[Difference]) -> Difference:
        below = nodes.apply(Clamp(-math.inf, 0.0), nodes.second(x[0], d[0]))
        return nodes.sum((changed(nodes, LeakyReluDifference(first), x[0], d[0]), 1.0), (below, first - second))

    return rule
