"""ONNX operators on what is true or not: 1 and 0, made of steps, as masks are by which padded frames are passed over.

What is compared is compared as real numbers. Where a region holds points on both sides, bounds hold both outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from tightverify.models.builder import Symbols
from tightverify.models.choices import chosen
from tightverify.models.from_onnx.node import Activations, Call
from tightverify.models.sizes import fits
from tightverify.ops import NonZero, Step


def truths(call: Call, k: int) -> Symbols:
    """Input k as neurons of 0 and 1."""
    value = call.value(k)
    if isinstance(value, Activations):
        return value.numbers
    return call.builder.constant(torch.from_numpy(value.astype(np.float64)))


def numbers(call: Call, k: int) -> Symbols:
    """Input k as neurons, whole numbers too."""
    return truths(call, k) if not isinstance(call.value(k), Activations) else call.numbers(k)


def exceeds(call: Call, first: int, second: int) -> Symbols:
    """Whether one input is the larger."""
    difference = call.builder.combine([(numbers(call, first), 1.0), (numbers(call, second), -1.0)])
    return call.builder.apply(Step(), difference)


def opposite(call: Call, x: Symbols) -> Symbols:
    return call.builder.combine([(x, -1.0)], 1.0)


def greater(call: Call) -> Symbols:
    return exceeds(call, 0, 1)


def less(call: Call) -> Symbols:
    return exceeds(call, 1, 0)


def at_least(call: Call) -> Symbols:
    return opposite(call, less(call))


def at_most(call: Call) -> Symbols:
    return opposite(call, greater(call))


def equal(call: Call) -> Symbols:
    difference = call.builder.combine([(numbers(call, 0), 1.0), (numbers(call, 1), -1.0)])
    return opposite(call, call.builder.apply(NonZero(), difference))


def negation(call: Call) -> Symbols:
    return opposite(call, truths(call, 0))


def both(call: Call) -> Symbols:
    return call.builder.multiply(truths(call, 0), truths(call, 1))


def either(exclusive: bool, call: Call) -> Symbols:
    """`a + b - a b`, or `a + b - 2 a b` where not both may be true."""
    product = -2.0 if exclusive else -1.0
    return call.builder.combine([(truths(call, 0), 1.0), (truths(call, 1), 1.0), (both(call), product)])


def where(call: Call) -> Symbols:
    """Of two inputs the first where a condition is true, which need not be constant."""
    condition = call.value(0)
    if isinstance(condition, Activations):
        return chosen(call.builder, condition.numbers, call.numbers(1), call.numbers(2))
    x, y = call.numbers(1), call.numbers(2)
    fits(*np.broadcast_shapes(condition.shape, x.shape, y.shape))
    return np.where(condition, x, y)


COMPARISONS: dict[str, Callable[[Call], Symbols]] = {
    "And": both,
    "Equal": equal,
    "Greater": greater,
    "GreaterOrEqual": at_least,
    "Less": less,
    "LessOrEqual": at_most,
    "Not": negation,
    "Or": partial(either, False),
    "Where": where,
    "Xor": partial(either, True),
}
