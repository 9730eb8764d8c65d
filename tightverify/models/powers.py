"""Powers, for every importer alike: whole ones as they are, halves of roots, others of exponentials.

Where a base may be 0
or less, a power that is not whole has no value.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from tightverify.models.builder import Builder, Symbols
from tightverify.models.sizes import fits
from tightverify.ops import Exp, Log, Power, Reciprocal, Square, SquareRoot

HIGHEST = 64
"""Whole powers up to here are operations of their own."""


def powers(builder: Builder, x: Symbols, exponents: NDArray[np.float64]) -> Symbols:
    """`x ** exponents`, constant exponents, both broadcast together."""
    shape = fits(*np.broadcast_shapes(x.shape, exponents.shape))
    found = np.empty(shape, dtype=np.int64)
    wide, high = np.broadcast_to(x, shape), np.broadcast_to(exponents, shape)
    for exponent in np.unique(high):
        found[high == exponent] = power(builder, wide[high == exponent], float(exponent))
    return found


def power(builder: Builder, x: Symbols, exponent: float) -> Symbols:
    """`x ** exponent`."""
    if exponent == 0:
        return builder.constant(torch.ones(x.shape, dtype=torch.float64))
    if exponent < 0:
        return builder.apply(Reciprocal(), power(builder, x, -exponent))
    if exponent.is_integer() and exponent <= HIGHEST:
        return whole(builder, x, int(exponent))
    if (2 * exponent).is_integer() and exponent <= HIGHEST:
        return whole(builder, builder.apply(SquareRoot(), x), int(2 * exponent))
    return builder.apply(Exp(), builder.combine([(builder.apply(Log(), x), exponent)]))


def whole(builder: Builder, x: Symbols, exponent: int) -> Symbols:
    """A whole power from 1 on."""
    if exponent == 1:
        return x
    return builder.apply(Square() if exponent == 2 else Power(exponent), x)


def exponential(builder: Builder, base: NDArray[np.float64], x: Symbols) -> Symbols:
    """`base ** x`, constant bases above 0."""
    factors = torch.from_numpy(np.array([math.log(value) for value in base.ravel()])).reshape(base.shape)
    return builder.apply(Exp(), builder.combine([(x, factors)]))
