"""What normalises activations by numbers of their own, and the norms and variances that it does so by, whatever the importer.

Sums of squares are cut off at 0, which in real numbers changes nothing: rounding never makes a root's operand negative.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from tightverify.models.builder import Builder, Symbols
from tightverify.models.composed import absolute, log_softmax, normalised
from tightverify.ops import Clamp, Reciprocal, Square, SquareRoot

Axes = tuple[int, ...]


def variance(builder: Builder, x: Symbols, axes: Axes, correction: float = 0.0) -> Symbols:
    """Over some axes, which disappear: the squared distances from the mean, added up, by their number less a correction."""
    count = math.prod(x.shape[axis] for axis in axes)
    mean = np.expand_dims(builder.total(x, axes, 1 / count), axes)
    apart = builder.combine([(x, 1.0), (mean, -1.0)])
    return builder.total(builder.apply(Square(), apart), axes, 1 / (count - correction))


def root(builder: Builder, x: Symbols) -> Symbols:
    """The root of what is 0 or more."""
    return builder.apply(SquareRoot(), builder.apply(Clamp(0.0, math.inf), x))


def norm(builder: Builder, x: Symbols, axes: Axes, order: float) -> Symbols:
    """Of order 1, 2 or infinity, over some axes, which disappear."""
    if order == 2:
        return root(builder, builder.total(builder.apply(Square(), x), axes))
    sizes = absolute(builder, x)
    if order == 1:
        return builder.total(sizes, axes)
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    flat = sizes.transpose([*axes, *rest]).reshape(-1, *(x.shape[axis] for axis in rest))
    return builder.largest(flat, 0)


def by_groups(
    builder: Builder, x: Symbols, groups: int, epsilon: float, scale: Tensor | float, shift: Tensor | float
) -> Symbols:
    """Group norm: the channels, the second axis, in groups, each normalised by its mean and its variance.

    `scale` and `shift` have a number for each channel.
    """
    grouped = x.reshape(x.shape[0], groups, -1)
    found = normalised(builder, grouped, (2,), epsilon, 1.0, 0.0).reshape(x.shape)
    along = (-1, *(1 for _ in x.shape[2:]))
    factor, offset = (part.reshape(along) if isinstance(part, Tensor) else part for part in (scale, shift))
    return builder.combine([(found, factor)], offset)


def by_mean_square(builder: Builder, x: Symbols, axes: Axes, epsilon: float, scale: Tensor | float) -> Symbols:
    """RMS norm: by the root of the mean square over some axes, without a mean."""
    count = math.prod(x.shape[axis] for axis in axes)
    mean = np.expand_dims(builder.total(builder.apply(Square(), x), axes, 1 / count), axes)
    spread = root(builder, builder.combine([(mean, 1.0)], epsilon))
    return builder.combine([(builder.multiply(x, builder.apply(Reciprocal(), spread)), scale)])


def log_sum_exp(builder: Builder, x: Symbols, axes: Axes) -> Symbols:
    """The logarithm of the sum of exponentials over some axes, which disappear: the first less its log-softmax."""
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    flat = x.transpose([*axes, *rest]).reshape(-1, *(x.shape[axis] for axis in rest))
    return builder.combine([(flat[0], 1.0), (log_softmax(builder, flat, 0)[0], -1.0)])
