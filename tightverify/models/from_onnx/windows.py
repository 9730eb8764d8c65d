"""ONNX's convolutions and pools, over any number of spatial axes: numpy's windows over the neurons' numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tightverify.errors import ModelError
from tightverify.models.builder import ZERO, Symbols
from tightverify.models.from_onnx.node import Call
from tightverify.models.sizes import fits

OUTSIDE = ZERO - 1
"""In place of a neuron's number in a pool's windows: not part of the tensor."""


def windows(call: Call, x: Symbols, kernel: tuple[int, ...], filling: int) -> Symbols:
    """(batch, channels, *positions, *kernel): what each position of the result sees."""
    spatial = len(kernel)
    strides = call.integers("strides") or (1,) * spatial
    dilations = call.integers("dilations") or (1,) * spatial
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    margins = padding(call, x.shape[2:], spans, strides)
    fits(*x.shape[:2], *(n + sum(margin) for n, margin in zip(x.shape[2:], margins, strict=True)))
    padded = np.pad(x, ((0, 0), (0, 0), *margins), constant_values=filling)
    rests = [(n - span) % step for n, span, step in zip(padded.shape[2:], spans, strides, strict=True)]
    if call.integer("ceil_mode", 0) and any(rests):
        raise call.unsupported("ceil_mode = 1 where the windows do not fit evenly", "pad the input beforehand")
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + spatial)))
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    seen = view[(slice(None), slice(None), *steps)]
    fits(*seen.shape)  # A view until it is reshaped.
    return seen


def padding(
    call: Call, lengths: tuple[int, ...], spans: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """How much to add before and after each spatial axis."""
    mode = call.text("auto_pad", "NOTSET")
    given = call.integers("pads") or (0,) * (2 * len(lengths))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-n // step) - 1) * step + span - n, 0) for n, span, step in zip(lengths, spans, strides, strict=True)]
        halves = [(total // 2, total - total // 2) for total in totals]
        return tuple(pair if mode == "SAME_UPPER" else pair[::-1] for pair in halves)
    if mode == "VALID":
        return ((0, 0),) * len(lengths)
    if mode != "NOTSET":
        raise call.unsupported(f"auto_pad = {mode}", "use NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    return tuple(zip(given[: len(lengths)], given[len(lengths) :], strict=True))


def convolve(call: Call) -> Symbols:
    """One matrix, with zeros between the groups' blocks, at every position."""
    x, weight = call.numbers(0), call.weights(1)
    bias = call.weights(2) if call.given(2) else None
    kernel = tuple(weight.shape[2:])
    if (call.integers("kernel_shape") or kernel) != kernel:
        raise ModelError(f"{call.place}: kernel_shape does not fit weights of shape {tuple(weight.shape)}; export it again")
    group, outputs, channels = call.integer("group", 1), len(weight), x.shape[1]
    if weight.shape[1] * group != channels or outputs % group:
        raise ModelError(
            f"{call.place}: weights of shape {tuple(weight.shape)} in {group} group(s) do not fit {channels} channels; "
            "export the model again"
        )
    matrix = torch.zeros(fits(outputs, channels, *kernel), dtype=torch.float64)
    for k in range(group):
        rows = slice(k * outputs // group, (k + 1) * outputs // group)
        matrix[rows, k * channels // group : (k + 1) * channels // group] = weight[rows]
    seen = np.moveaxis(windows(call, x, kernel, ZERO), 1, 1 + len(kernel))
    seen = seen.reshape(*seen.shape[: 1 + len(kernel)], -1)
    return np.moveaxis(call.builder.slide(seen, matrix.flatten(1), bias), -1, 1)


def max_pool(call: Call) -> Symbols:
    kernel = call.integers("kernel_shape") or ()
    call.integer("storage_order", 0)  # only concerns the second output, which nothing may read
    seen = windows(call, call.numbers(0), kernel, OUTSIDE)
    shape = seen.shape[: -len(kernel)]
    seen = seen.reshape(-1, int(np.prod(kernel)))
    result = np.empty(len(seen), dtype=np.int64)
    inside = seen != OUTSIDE
    for pattern in np.unique(inside, axis=0):
        if not pattern.any():
            raise call.unsupported("a window that lies in the padding altogether", "pad less")
        rows = (inside == pattern).all(axis=1)
        result[rows] = call.builder.largest(seen[rows][:, pattern], 1)
    return result.reshape(shape)


def average_pool(call: Call) -> Symbols:
    kernel = call.integers("kernel_shape") or ()
    everything = call.integer("count_include_pad", 0) != 0
    seen = windows(call, call.numbers(0), kernel, OUTSIDE)
    seen = seen.reshape(*seen.shape[: -len(kernel)], -1)
    inside = seen != OUTSIDE
    if not inside.any(axis=-1).all():
        raise call.unsupported("a window that lies in the padding altogether", "pad less")
    counts = np.full(seen.shape[:-1], seen.shape[-1]) if everything else inside.sum(axis=-1)
    share = torch.from_numpy(1.0 / counts)
    seen = np.where(inside, seen, ZERO)
    return call.builder.combine([(seen[..., k], share) for k in range(seen.shape[-1])])


def global_average_pool(call: Call) -> Symbols:
    x = call.numbers(0)
    axes = tuple(range(2, x.ndim))
    return np.expand_dims(call.builder.total(x, axes, 1.0 / int(np.prod(x.shape[2:]))), axes)


def global_max_pool(call: Call) -> Symbols:
    x = call.numbers(0)
    flat = x.reshape(*x.shape[:2], -1)
    return call.builder.largest(flat, 2).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


WINDOWS: dict[str, Callable[[Call], Symbols]] = {
    "AveragePool": average_pool,
    "Conv": convolve,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
}
