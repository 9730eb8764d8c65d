"""Operators that slide over space: convolutions and pooling, in any number of dimensions."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType

import numpy as np
import torch

from tightverify.models.builder import ZERO, Symbols
from tightverify.models.from_torch.call import POSITIONS, Call
from tightverify.models.sizes import fits

Handler = Callable[[Call], object]


def windows(
    x: Symbols, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]
) -> Symbols:
    """(..., space) to (..., positions, kernel), zeros around."""
    axes = tuple(range(x.ndim - len(kernel), x.ndim))
    pads = [(0, 0)] * (x.ndim - len(kernel)) + [(p, p) for p in padding]
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads, constant_values=ZERO), reach, axis=axes)
    steps: tuple[EllipsisType | slice, ...] = (
        ...,
        *(slice(None, None, s) for s in stride),
        *(slice(None, None, d) for d in dilation),
    )
    seen = seen[steps]
    fits(*seen.shape)  # A view until it is reshaped.
    return seen


def _spread(values: tuple[int, ...], dimensions: int, default: int) -> tuple[int, ...]:
    """Torch's short forms of an argument: one number for all axes, none for the default."""
    values = values or (default,) * dimensions
    return values * dimensions if len(values) == 1 else values


def convolution(call: Call) -> object:
    """A matrix product at every position, groups side by side as one matrix with zeros."""
    if call.flag("transposed"):
        raise call.refuse("transposed is not supported", "use a plain convolution")
    call.integers("output_padding")  # Has no meaning for a plain convolution.
    weight, x, groups = call.constant("weight"), call.symbols("input"), call.integer("groups")
    kernel = tuple(weight.shape[2:])
    stride, padding, dilation = (
        _spread(call.integers(name), len(kernel), default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    seen = windows(x, kernel, stride, padding, dilation)  # (1, channels, positions, kernel)
    count = len(kernel)
    inputs, outputs = x.shape[1], weight.shape[0]
    full = torch.zeros(fits(outputs, *kernel, inputs), dtype=torch.float64)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        columns = slice(group * inputs // groups, (group + 1) * inputs // groups)
        full[rows, ..., columns] = weight[rows].movedim(1, -1)
    seen = np.moveaxis(seen, 1, -1)
    flat = seen.reshape(*seen.shape[: 1 + count], -1)
    bias = None if call["bias"] is None else call.constant("bias")
    return np.moveaxis(call.builder.slide(flat, full.flatten(1), bias), -1, 1)


def pool(reduce: Callable[[Call, Symbols], Symbols], indices: bool = False) -> Handler:
    """Pooling of windows: `reduce` makes one number of each window, its last axis."""

    def build(call: Call) -> object:
        kernel = call.integers("kernel_size")
        kernel = _spread(kernel, 2 if "2d" in call.name else 1, 1)
        padding = _spread(call.integers("padding"), len(kernel), 0)
        dilation = call.integers("dilation") if "dilation" in call.arguments else ()
        if any(padding) and not call.arguments.get("count_include_pad", False):
            raise call.refuse("with padding is not supported", "pad with torch.nn.functional.pad first")
        call.read.add("count_include_pad")
        stride = call.integers("stride")
        steps = _spread(stride, len(kernel), 1) if stride else kernel
        seen = windows(call.symbols("self"), kernel, steps, padding, _spread(dilation, len(kernel), 1))
        result = reduce(call, seen.reshape(*seen.shape[: -len(kernel)], -1))
        return (result, POSITIONS) if indices else result

    return build


def adaptive_pool(reduce: Callable[[Call, Symbols], Symbols], indices: bool) -> Handler:
    """Torch's bins: from floor(i * length / bins) to ceil((i + 1) * length / bins)."""

    def build(call: Call) -> object:
        x, (bins,) = call.symbols("self"), call.integers("output_size")
        length = x.shape[-1]
        parts = [reduce(call, x[..., i * length // bins : -(-(i + 1) * length // bins)]) for i in range(bins)]
        result = np.stack(parts, axis=-1)
        return (result, POSITIONS) if indices else result

    return build


def mean_of(call: Call, x: Symbols) -> Symbols:
    return call.builder.total(x, (-1,), 1 / x.shape[-1])


def largest_of(call: Call, x: Symbols) -> Symbols:
    return call.builder.largest(x, -1)


WINDOWS: dict[str, Handler] = {
    "aten.convolution.default": convolution,
    "aten.avg_pool1d.default": pool(mean_of),
    "aten.avg_pool2d.default": pool(mean_of),
    "aten.max_pool1d.default": pool(largest_of),
    "aten.max_pool2d_with_indices.default": pool(largest_of, indices=True),
    "aten.adaptive_avg_pool1d.default": adaptive_pool(mean_of, indices=False),
    "aten.adaptive_max_pool1d.default": adaptive_pool(largest_of, indices=True),
}
"""Operators by name."""
