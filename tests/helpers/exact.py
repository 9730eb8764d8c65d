"""Exact arithmetic: operations and whole graphs in balls of 200 bits (python-flint), against which floats are held.

Floats are taken as the rational numbers that they are. A ball `b` surely holds the true value, so that `b > x` is true
only where it is proved: `above_all(bounds)` and its like never blame a bound for the ball's own radius.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flint
import torch
from flint import arb, fmpq
from torch import Tensor

from tightverify.graph import Affine, Apply, Graph, Input, Operand, Quadratic, Term
from tightverify.ops import Operation
from tightverify.relax.planes import Plane
from tightverify.relax.quadratic import Forms
from tightverify.values import Interval

flint.ctx.prec = 200


def rational(value: float) -> fmpq:
    """A finite float as the rational number that it is."""
    return fmpq(*float(value).as_integer_ratio())


def ball(value: float) -> arb:
    return arb(rational(value))


def sigmoid(x: arb) -> arb:
    return 1 / (1 + (-x).exp())


def tanh(x: arb) -> arb:
    return 1 - 2 / (1 + (2 * x).exp())


def leaky_relu(x: arb, slope: float) -> arb:
    other = ball(slope) * x
    return x.max(other) if slope <= 1 else x.min(other)


def clamp(x: arb, low: float, high: float) -> arb:
    return x.max(ball(low)).min(ball(high))


def ramp(x: arb, slope: float, cap: float, beyond: float) -> arb:
    return ball(slope) * x.min(arb(0)) + x.max(arb(0)).min(ball(cap)) + ball(beyond) * (x - ball(cap)).max(arb(0))


def hard_sigmoid(x: arb, slope: float, shift: float) -> arb:
    return clamp(ball(slope) * x + ball(shift), 0.0, 1.0)


def table(x: arb, breaks: Sequence[float], left: Sequence[float], right: Sequence[float], before: float, after: float) -> arb:
    """A table's value, on the right of a jump."""
    if x < ball(breaks[0]):
        return ball(left[0]) + ball(before) * (x - ball(breaks[0]))
    piece = max(k for k, place in enumerate(breaks) if not x < ball(place))
    start, value = ball(breaks[piece]), ball(right[piece])
    if piece == len(breaks) - 1:
        return value + ball(after) * (x - start)
    return value + (ball(left[piece + 1]) - value) * (x - start) / (ball(breaks[piece + 1]) - start)


EXACT: dict[str, Callable[..., arb]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "leaky_relu": leaky_relu,
    "clamp": clamp,
    "ramp": ramp,
    "hard_sigmoid": hard_sigmoid,
    "table": table,
    "sigmoid_less_table": lambda x, **of: sigmoid(x) - table(x, **of),
    "tanh_less_table": lambda x, **of: tanh(x) - table(x, **of),
    "erf": lambda x: x.erf(),
    "exp": lambda x: x.exp(),
    "softplus": lambda x: (1 + x.exp()).log(),
    "elu": lambda x, alpha: x if x >= 0 else ball(alpha) * (x.exp() - 1),
    "softsign": lambda x: x / (1 + abs(x)),
    "gelu": lambda x: x * (-x / arb(2).sqrt()).erfc() / 2,
    "gelu_by_tanh": lambda x, cube: x * sigmoid(2 * (2 / arb.pi()).sqrt() * (x + ball(cube) * x**3)),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * tanh((1 + x.exp()).log()),
    "hard_swish": lambda x, slope, shift: x * hard_sigmoid(x, slope, shift),
    "power": lambda x, exponent: x**exponent,
    "step": lambda x: arb(int(x > 0)),
    "nonzero": lambda x: arb(int(x != 0)),
    "floor": lambda x: x.floor(),
    "truncation": lambda x, limit: (x.floor() if x >= 0 else x.ceil()) if abs(x) < ball(limit) else arb("nan"),
    "square": lambda x: x * x,
    "log": lambda x: x.log(),
    "square_root": lambda x: x.sqrt(),
    "reciprocal": lambda x: 1 / x,
    "sum_of_squares": lambda x, y: x * x + y * y,
    "maximum": lambda x, y: x.max(y),
    "gru_update": lambda a, n, h: n + sigmoid(a) * (h - n),
    "weighted_mean": lambda a, n, h: n + clamp(a, 0.0, 1.0) * (h - n),
    "multiply": lambda x, y: x * y,
    "sigmoid_tanh": lambda x, y: sigmoid(x) * tanh(y),
    "sigmoid_times": lambda x, y: sigmoid(x) * y,
    "tanh_times": lambda x, y: tanh(x) * y,
    "gelu_difference": lambda x, d: EXACT["gelu"](x) - EXACT["gelu"](x - d),
    "power_difference": lambda x, d, exponent: x**exponent - (x - d) ** exponent,
    "sigmoid_difference": lambda x, d: sigmoid(x) - sigmoid(x - d),
    "tanh_difference": lambda x, d: tanh(x) - tanh(x - d),
    "leaky_relu_difference": lambda x, d, slope: leaky_relu(x, slope) - leaky_relu(x - d, slope),
    "clamp_difference": lambda x, d, low, high: clamp(x, low, high) - clamp(x - d, low, high),
    "hard_sigmoid_difference": lambda x, d, slope, shift: hard_sigmoid(x, slope, shift) - hard_sigmoid(x - d, slope, shift),
    "ramp_difference": lambda x, d, slope, cap: ramp(x, slope, cap, slope) - ramp(x - d, slope, cap, slope),
}
"""By an operation's name, its true value; parameters are given by their names."""


def operation(op: Operation, *x: arb) -> arb:
    """The operation's true value."""
    return EXACT[op.name](*x, **op.parameters)


def plane_at(plane: Plane, neuron: int, point: Sequence[float], row: int = 0) -> fmpq | None:
    """The plane's exact value at a point, None where the plane claims nothing."""
    numbers = [float(slope[row, neuron]) for slope in plane.slopes] + [float(plane.offset[row, neuron])]
    if not all(abs(number) < float("inf") for number in numbers):
        return None
    value = rational(numbers[-1])
    for slope, x in zip(numbers, point, strict=False):
        value += rational(slope) * rational(x)
    return value


def positions(operand: Operand, sizes: list[int]) -> list[int]:
    return torch.arange(sizes[operand.source])[operand.index].tolist()


def _rows(term: Term, values: list[arb], size: int) -> list[arb]:
    found = [arb(0) for _ in range(size)]
    for row, column, weight in zip(*(part.tolist() for part in term.map.entries()), strict=True):
        if weight:
            found[row] += ball(weight) * values[column]
    return found


def values(graph: Graph, x: Tensor) -> list[list[arb]]:
    """Every node's true values at one flat input."""
    found: list[list[arb]] = []
    sizes = [node.size for node in graph.nodes]
    for node in graph.nodes:
        match node:
            case Input():
                found.append([ball(v) for v in x[node.block].tolist()])
            case Affine():
                total = [ball(b) for b in node.bias.tolist()]
                for term in node.terms:
                    operand = [found[term.operand.source][k] for k in positions(term.operand, sizes)]
                    total = [a + b for a, b in zip(total, _rows(term, operand, node.size), strict=True)]
                found.append(total)
            case Apply():
                operands = [[found[o.source][k] for k in positions(o, sizes)] for o in node.operands]
                found.append([operation(node.op, *point) for point in zip(*operands, strict=True)])
            case Quadratic():
                everything = [found[o.source][k] for o in node.operands for k in positions(o, sizes)]
                found.append(quadratics(node.forms, everything))
    return found


def quadratics(forms: Forms, x: Sequence[arb]) -> list[arb]:
    """Sums of squares of the forms as they are stored."""
    rows = zip(forms.matrix.tolist(), forms.shift.tolist(), strict=True)
    squares = [(linear(row, x) + ball(shift)) ** 2 for row, shift in rows]
    return [linear(weights, squares) for weights in forms.weights.tolist()]


def linear(row: Sequence[float], values: Sequence[arb]) -> arb:
    """`row @ values`."""
    return sum((ball(w) * v for w, v in zip(row, values, strict=True)), arb(0))


def is_below(value: arb, bound: float) -> bool:
    """Whether the true value is proved to lie below a bound."""
    if bound != bound or bound == -float("inf"):
        return False
    return bound == float("inf") or bool(value < ball(bound))


def is_above(value: arb, bound: float) -> bool:
    return is_below(-value, -bound)


def outside(truth: list[list[arb]], intervals: Sequence[Interval], row: int = 0) -> list[str]:
    """The neurons whose true value is proved to lie outside its interval, a sentence each."""
    faults = []
    for number, (node, interval) in enumerate(zip(truth, intervals, strict=True)):
        bounds = zip(interval.lower[row].tolist(), interval.upper[row].tolist(), strict=True)
        for k, (value, (lower, upper)) in enumerate(zip(node, bounds, strict=True)):
            if is_below(value, lower) or is_above(value, upper):
                faults.append(f"node {number}, neuron {k}: {value.str(25)} is outside [{lower!r}, {upper!r}]")
    return faults
