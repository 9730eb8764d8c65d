"""Operators that slide over space: convolutions and pooling, in any number of dimensions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import numpy as np

from tightverify.linear_map import Axis
from tightverify.models.builder import Symbols
from tightverify.models.convolutions import convolve, transposed
from tightverify.models.from_torch.call import POSITIONS, Call
from tightverify.models.pooling import average, empty, largest, slid

Handler = Callable[[Call], object]


def _spread(values: tuple[int, ...], dimensions: int, default: int) -> tuple[int, ...]:
    """Torch's short forms of an argument: one number for all axes, none for the default."""
    values = values or (default,) * dimensions
    return values * dimensions if len(values) == 1 else values


def convolution(call: Call) -> object:
    """A convolution or, as torch has it in one operator, the transpose of one."""
    return slid_over(call, call.flag("transposed"))


def convolution_of(transpose: bool) -> Handler:
    return lambda call: slid_over(call, transpose)


def slid_over(call: Call, transpose: bool) -> Symbols:
    weight, x, groups = call.constant("weight"), call.symbols("input"), call.integer("groups")
    kernel = tuple(weight.shape[2:])
    stride, padding, dilation = (
        _spread(call.integers(name), len(kernel), default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    bias = None if call["bias"] is None else call.constant("bias")
    batch = x if x.ndim == len(kernel) + 2 else x[None]
    more = _spread(call.integers("output_padding"), len(kernel), 0) if "output_padding" in call.arguments else ()
    if transpose:
        each = zip(batch.shape[2:], kernel, stride, padding, dilation, more, strict=True)
        axes = [Axis((n - 1) * s - 2 * p + (k - 1) * d + 1 + m, n, k, s, d, -p) for n, k, s, p, d, m in each]
        result = transposed(call.builder, batch, weight, bias, axes, groups)
    else:
        result = convolve(call.builder, batch, weight, bias, sliding(batch, kernel, stride, padding, dilation), groups)
    return result if batch is x else result[0]


def sliding(x: Symbols, *each: tuple[int, ...], ceil: bool = False) -> list[Axis]:
    """Windows along the last axes, by their lengths, strides, paddings and dilations."""
    lengths = x.shape[x.ndim - len(each[0]) :]
    return [slid(n, k, s, d, (p, p), ceil) for n, k, s, p, d in zip(lengths, *each, strict=True)]


def pool(average_of: bool, indices: bool = False) -> Handler:
    """The average or the largest of windows."""

    def build(call: Call) -> object:
        x, kernel = call.symbols("self"), call.integers("kernel_size")
        kernel = _spread(kernel, int(re.findall(r"pool(\d)d", call.name)[0]), 1)
        stride, padding = call.integers("stride"), _spread(call.integers("padding"), len(kernel), 0)
        dilation = _spread(call.integers("dilation") if "dilation" in call.arguments else (), len(kernel), 1)
        steps = _spread(stride, len(kernel), 1) if stride else kernel
        axes = sliding(x, kernel, steps, padding, dilation, ceil=call.flag("ceil_mode"))
        if empty(axes):
            raise call.refuse("has a window that lies in the padding altogether, which is not supported", "pad less")
        batch = x.reshape(-1, *x.shape[-1 - len(kernel) :])
        if average_of:
            divisor = call["divisor_override"] if "divisor_override" in call.arguments else None
            counted = padding if call.flag("count_include_pad") else None
            result = average(call.builder, batch, axes, counted, None if divisor is None else int(cast(int, divisor)))
        else:
            result = largest(call.builder, batch, axes)
        result = result.reshape(*x.shape[: -len(kernel)], *result.shape[2:])
        return (result, POSITIONS) if indices else result

    return build


def adaptive_pool(reduce: Callable[[Call, Symbols], Symbols], indices: bool) -> Handler:
    """Torch's bins along each axis: from floor(i * length / bins) to ceil((i + 1) * length / bins)."""

    def build(call: Call) -> object:
        x, bins = call.symbols("self"), call.integers("output_size")
        lengths = x.shape[x.ndim - len(bins) :]
        lead = x.shape[: x.ndim - len(bins)]
        if reduce is mean_of and all(length % count == 0 for length, count in zip(lengths, bins, strict=True)):
            axes = [Axis(length, count, length // count, length // count) for length, count in zip(lengths, bins, strict=True)]
            return average(call.builder, x.reshape(-1, *x.shape[-1 - len(bins) :]), axes).reshape(*lead, *bins)
        result = np.empty((*lead, *bins), dtype=np.int64)
        for place in np.ndindex(*bins):
            each = zip(place, lengths, bins, strict=True)
            ends = [(k * length // count, -(-(k + 1) * length // count)) for k, length, count in each]
            under = x[tuple([...] + [slice(*end) for end in ends])]
            result[(..., *place)] = reduce(call, under.reshape(*lead, -1))
        return (result, POSITIONS) if indices else result

    return build


def mean_of(call: Call, x: Symbols) -> Symbols:
    return call.builder.total(x, (-1,), 1 / x.shape[-1])


def largest_of(call: Call, x: Symbols) -> Symbols:
    return call.builder.largest(x, -1)


WINDOWS: dict[str, Handler] = {
    "aten.convolution.default": convolution,
    **{f"aten.conv{n}d.default": convolution_of(transpose=False) for n in (1, 2, 3)},
    "aten.conv_transpose1d.default": convolution_of(transpose=True),
    "aten.conv_transpose2d.input": convolution_of(transpose=True),
    "aten.conv_transpose3d.input": convolution_of(transpose=True),
    **{f"aten.avg_pool{n}d.default": pool(average_of=True) for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d.default": pool(average_of=False) for n in (1, 2, 3)},
    "aten.max_pool2d_with_indices.default": pool(average_of=False, indices=True),
    "aten.max_pool3d_with_indices.default": pool(average_of=False, indices=True),
    "aten.adaptive_avg_pool1d.default": adaptive_pool(mean_of, indices=False),
    "aten.adaptive_avg_pool2d.default": adaptive_pool(mean_of, indices=False),
    "aten._adaptive_avg_pool2d.default": adaptive_pool(mean_of, indices=False),
    "aten.adaptive_max_pool1d.default": adaptive_pool(largest_of, indices=True),
    "aten.adaptive_max_pool2d.default": adaptive_pool(largest_of, indices=True),
}
"""Operators by name."""
