"""ONNX operators that normalise, and norms and sums of powers (`models.normalisations`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tightverify.models import normalisations
from tightverify.models.builder import Builder, Symbols
from tightverify.models.composed import absolute
from tightverify.models.from_onnx.node import Call
from tightverify.models.from_onnx.operators import reduction
from tightverify.ops import Log, NonZero, Reciprocal, Square

PER_CHANNEL = 21
"""The opset from which group norm has a scale for each channel: before, it had one for each group."""


def group_normalisation(call: Call) -> Symbols:
    x, groups = call.numbers(0), call.integer("num_groups", 1)
    call.integer("stash_type", 1)
    scale, shift = call.weights(1), call.weights(2)
    if call.opset < PER_CHANNEL and len(scale) == groups:
        scale, shift = (part.repeat_interleave(x.shape[1] // groups) for part in (scale, shift))
    return normalisations.by_groups(call.builder, x, groups, call.number("epsilon", 1e-5), scale, shift)


def instance_normalisation(call: Call) -> Symbols:
    x, epsilon = call.numbers(0), call.number("epsilon", 1e-5)
    return normalisations.by_groups(call.builder, x, x.shape[1], epsilon, call.weights(1), call.weights(2))


def rms_normalisation(call: Call) -> Symbols:
    """By the mean square over the axes from one on."""
    x, first = call.numbers(0), call.integer("axis", -1)
    call.integer("stash_type", 1)
    axes = tuple(range(first % x.ndim, x.ndim))
    return normalisations.by_mean_square(call.builder, x, axes, call.number("epsilon", 1e-5), call.weights(1))


def lp_normalisation(call: Call) -> Symbols:
    """By the norm along an axis; 0 where that is 0."""
    x, axis = call.numbers(0), call.integer("axis", -1) % call.numbers(0).ndim
    size = normalisations.norm(call.builder, x, (axis,), call.integer("p", 2))
    divisor = call.builder.combine([(size, 1.0), (call.builder.apply(NonZero(), size), -1.0)], 1.0)
    return call.builder.multiply(x, np.expand_dims(call.builder.apply(Reciprocal(), divisor), axis))


Made = Callable[[Builder, Symbols, tuple[int, ...]], Symbols]


def reduced(made: Made, alone: Callable[[Builder, Symbols], Symbols], call: Call) -> Symbols:
    """What is made of numbers over some axes; where there are none, of each number alone."""
    x, axes, kept = reduction(call)
    if not axes:
        return alone(call.builder, x)
    found = made(call.builder, x, axes)
    return np.expand_dims(found, axes) if kept else found


def of_norm(order: float) -> Made:
    return lambda builder, x, axes: normalisations.norm(builder, x, axes, order)


def squares(builder: Builder, x: Symbols) -> Symbols:
    return builder.apply(Square(), x)


NORMALISING: dict[str, Callable[[Call], Symbols]] = {
    "GroupNormalization": group_normalisation,
    "InstanceNormalization": instance_normalisation,
    "LpNormalization": lp_normalisation,
    "RMSNormalization": rms_normalisation,
    "ReduceL1": partial(reduced, of_norm(1), absolute),
    "ReduceL2": partial(reduced, of_norm(2), absolute),
    "ReduceLogSum": partial(
        reduced,
        lambda builder, x, axes: builder.apply(Log(), builder.total(x, axes)),
        lambda builder, x: builder.apply(Log(), x),
    ),
    "ReduceLogSumExp": partial(reduced, normalisations.log_sum_exp, lambda _builder, x: x),
    "ReduceSumSquare": partial(reduced, lambda builder, x, axes: builder.total(squares(builder, x), axes), squares),
}
