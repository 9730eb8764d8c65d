"""Functions that are made of several operations, for every importer alike.

A softmax is 1 / (1 + sum of exp(x_j - x_i)): differences of neurons are linear in them, so that what all have in common drops
out before anything is bounded, and of two neurons it is a sigmoid.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tightverify.models.builder import Builder, Symbols
from tightverify.ops import (
    Clamp,
    Elu,
    Exp,
    HardSigmoid,
    LeakyRelu,
    Log,
    Maximum,
    Reciprocal,
    Sigmoid,
    Softplus,
    Square,
    SquareRoot,
    Step,
)

SPECTRA = "build the front end of `tightverify.speech` (`Spectrogram`, `log_mel`, `mfcc`), whose transforms are matrices"
"""What to do about Fourier transforms."""


def absolute(builder: Builder, x: Symbols) -> Symbols:
    return builder.apply(Maximum(), x, builder.combine([(x, -1.0)]))


def sign(builder: Builder, x: Symbols) -> Symbols:
    """1 above 0, -1 below, 0 there."""
    above, below = (builder.apply(Step(), side) for side in (x, builder.combine([(x, -1.0)])))
    return builder.combine([(above, 1.0), (below, -1.0)])


def two_slopes(builder: Builder, x: Symbols, slopes: Tensor) -> Symbols:
    """x from 0 on, and `slopes` of each number times it below."""
    if bool((slopes == slopes.flatten()[0]).all()) and float(slopes.flatten()[0]) >= 0:
        return builder.apply(LeakyRelu(float(slopes.flatten()[0])), x)
    return builder.combine([(x, slopes), (builder.apply(LeakyRelu(0.0), x), 1 - slopes)])


def exponential_linear(builder: Builder, x: Symbols, alpha: float, outer: float = 1.0, inner: float = 1.0) -> Symbols:
    """`outer * x` from 0 on, `outer * alpha * (exp(inner * x) - 1)` below."""
    bent = builder.apply(Elu(alpha * inner), builder.combine([(x, inner)]))
    return builder.combine([(bent, outer / inner)])


def hard_sigmoid(builder: Builder, x: Symbols, slope: float = 1 / 6, shift: float = 0.5) -> Symbols:
    if slope > 0 and 0 <= shift <= 1:
        return builder.apply(HardSigmoid(slope, shift), x)
    return builder.apply(Clamp(0.0, 1.0), builder.combine([(x, slope)], shift))


LARGEST = 60.0
"""Differences from here on count as this: a softmax is at most exp(-60) = 9e-27 then, and every bound of a reciprocal allows
FUNCTION_ERROR, 3e-15, for its rounding; so no exponential overflows, whatever a mask adds to what is not to count."""


def softmax(builder: Builder, x: Symbols, axis: int) -> Symbols:
    if x.shape[axis] == 1:
        return builder.constant(torch.ones(x.shape, dtype=torch.float64))
    apart = differences(builder, x, axis)
    if apart.shape[-1] == 1:
        return np.moveaxis(builder.apply(Sigmoid(), builder.combine([(apart[..., 0], -1.0)])), -1, axis)
    kept = builder.apply(Clamp(-math.inf, LARGEST), apart)
    return np.moveaxis(builder.apply(Reciprocal(), one_and_all(builder, kept)), -1, axis)


def log_softmax(builder: Builder, x: Symbols, axis: int) -> Symbols:
    if x.shape[axis] == 1:
        return builder.constant(torch.zeros(x.shape, dtype=torch.float64))
    apart = differences(builder, x, axis)
    if apart.shape[-1] == 1:
        found = builder.apply(Softplus(), apart[..., 0])
    else:
        found = builder.apply(Log(), one_and_all(builder, apart))
    return np.moveaxis(builder.combine([(found, -1.0)]), -1, axis)


def differences(builder: Builder, x: Symbols, axis: int) -> Symbols:
    """(..., n, n - 1): by how much each of the others along an axis is larger."""
    x = np.moveaxis(x, axis, -1)
    count = x.shape[-1]
    others = np.array([[j for j in range(count) if j != i] for i in range(count)], dtype=np.int64).reshape(count, count - 1)
    return builder.combine([(x[..., others], 1.0), (x[..., None], -1.0)])


def one_and_all(builder: Builder, apart: Symbols) -> Symbols:
    """1 and the sum of the exponentials along the last axis."""
    return builder.combine([(builder.total(builder.apply(Exp(), apart), (apart.ndim - 1,)), 1.0)], 1.0)


def normalised(
    builder: Builder, x: Symbols, axes: tuple[int, ...], epsilon: float, scale: Tensor | float, shift: Tensor | float
) -> Symbols:
    """`scale * (x - mean) / sqrt(variance + epsilon) + shift`, by the mean and the variance over some axes."""
    share = 1 / math.prod(x.shape[axis] for axis in axes)
    mean = np.expand_dims(builder.total(x, axes, share), axes)
    apart = builder.combine([(x, 1.0), (mean, -1.0)])
    variance = np.expand_dims(builder.total(builder.apply(Square(), apart), axes, share), axes)
    spread = builder.apply(SquareRoot(), builder.combine([(variance, 1.0)], epsilon))
    return builder.combine([(builder.multiply(apart, builder.apply(Reciprocal(), spread)), scale)], shift)


def matrix_product(builder: Builder, x: Symbols, y: Symbols) -> Symbols:
    """(..., a, k) times (..., k, b), both of neurons."""
    products = builder.multiply(x[..., :, :, None], y[..., None, :, :])
    return builder.total(products, (products.ndim - 2,))


def softplus(builder: Builder, x: Symbols, beta: float, threshold: float | None) -> Symbols:
    """`log(1 + exp(beta x)) / beta`, and x itself where `beta x` is above the threshold, if there is one.

    x is softplus(x) - softplus(-x), of which the second is left out up to the threshold.
    """
    scaled = builder.combine([(x, beta)])
    smooth = builder.apply(Softplus(), scaled)
    if threshold is None:
        return builder.combine([(smooth, 1 / beta)])
    beyond = builder.apply(Step(), builder.combine([(scaled, 1.0)], -threshold))
    rest = builder.multiply(beyond, builder.apply(Softplus(), builder.combine([(scaled, -1.0)])))
    return builder.combine([(smooth, 1 / beta), (rest, -1 / beta)])
