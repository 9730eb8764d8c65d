"""Pools: the average or the largest of the neurons in windows that slide, whatever a format calls them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from tightverify.linear_map import Axis
from tightverify.models.builder import ZERO, Builder, Symbols
from tightverify.models.convolutions import convolve, windows

OUTSIDE = ZERO - 1
"""In place of a neuron's number in a window: not part of the tensor."""


def slid(length: int, taps: int, stride: int, dilation: int, margins: tuple[int, int], ceil: bool = False) -> Axis:
    """Windows that fit between margins added on either side.

    With `ceil` also one that ends behind them, if it does not begin behind the numbers.
    """
    room = length + sum(margins) - (taps - 1) * dilation - 1
    if room < 0:
        raise ValueError(f"windows of {taps} do not fit into {length} numbers and margins of {margins}")
    positions = room // stride + 1
    if ceil and room % stride and positions * stride < length + margins[0]:
        positions += 1
    return Axis(length, positions, taps, stride, dilation, -margins[0])


def average(
    builder: Builder, x: Symbols, axes: Sequence[Axis], counted: Sequence[int] | None = None, divisor: int | None = None
) -> Symbols:
    """(N, C, *lengths) to (N, C, *positions): averages of windows.

    They are over the numbers, or over all until behind a margin of so many zeros (`counted`), or sums over a divisor.
    """
    counts = np.ones((1,) * len(axes))
    for place, axis in enumerate(axes):
        places = axis.places().numpy()
        within = (places >= 0) & (places < axis.length) if counted is None else places < axis.length + counted[place]
        counts = counts * within.sum(1).reshape([-1 if k == place else 1 for k in range(len(axes))])
    if divisor is not None:
        counts = np.full_like(counts, divisor)
    alike = bool((counts == counts.flat[0]).all())
    share = 1 / float(counts.flat[0]) if alike else 1.0
    filters = torch.full((x.shape[1], 1, *(axis.taps for axis in axes)), share, dtype=torch.float64)
    sums = convolve(builder, x, filters, None, axes, groups=x.shape[1])
    return sums if alike else builder.combine([(sums, torch.from_numpy(1 / counts))])


def largest(builder: Builder, x: Symbols, axes: Sequence[Axis]) -> Symbols:
    """(N, C, *lengths) to (N, C, *positions): the largest of each window's numbers, of which there has to be one."""
    seen = windows(x, axes, OUTSIDE)
    shape = seen.shape[: -len(axes)]
    seen = seen.reshape(-1, math.prod(axis.taps for axis in axes))
    result = np.empty(len(seen), dtype=np.int64)
    inside = seen != OUTSIDE
    for pattern in np.unique(inside, axis=0):
        rows = (inside == pattern).all(axis=1)
        result[rows] = builder.largest(seen[rows][:, pattern], 1)
    return result.reshape(shape)


def empty(axes: Sequence[Axis]) -> bool:
    """Whether some window lies outside altogether."""
    return any(axis.fewest_taps == 0 for axis in axes)
