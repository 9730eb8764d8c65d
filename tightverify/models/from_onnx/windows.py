"""ONNX's convolutions and pools, over any number of spatial axes: numpy's windows over the neurons' numbers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tightverify.errors import ModelError
from tightverify.linear_map import Axis
from tightverify.models.builder import Symbols
from tightverify.models.convolutions import convolve, transposed
from tightverify.models.from_onnx.node import Call
from tightverify.models.pooling import average, empty, largest, slid
from tightverify.models.sizes import fits


def sliding(call: Call, x: Symbols, kernel: tuple[int, ...]) -> list[Axis]:
    """Windows over a tensor's spatial axes, as the node's attributes have them."""
    strides = call.integers("strides") or (1,) * len(kernel)
    dilations = call.integers("dilations") or (1,) * len(kernel)
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    margins, ceil = padding(call, x.shape[2:], spans, strides), call.integer("ceil_mode", 0) != 0
    fits(*x.shape[:2], *(n + sum(margin) for n, margin in zip(x.shape[2:], margins, strict=True)))
    return [slid(*each, ceil) for each in zip(x.shape[2:], kernel, strides, dilations, margins, strict=True)]


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


def convolution(call: Call) -> Symbols:
    x, weight = call.numbers(0), call.weights(1)
    bias, group, kernel = given_bias(call), call.integer("group", 1), kernel_of(call, weight)
    if weight.shape[1] * group != x.shape[1] or len(weight) % group:
        raise unfit(call, weight, group, x)
    return convolve(call.builder, x, weight, bias, sliding(call, x, kernel), group)


def transposed_convolution(call: Call) -> Symbols:
    x, weight = call.numbers(0), call.weights(1)
    bias, group, kernel = given_bias(call), call.integer("group", 1), kernel_of(call, weight)
    if len(weight) != x.shape[1] or len(weight) % group:
        raise unfit(call, weight, group, x)
    ones = (1,) * len(kernel)
    strides, dilations = (call.integers(name) or ones for name in ("strides", "dilations"))
    more, given = call.integers("output_padding") or (0,) * len(kernel), call.integers("output_shape")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [(n - 1) * s + span + m for n, s, span, m in zip(x.shape[2:], strides, spans, more, strict=True)]
    mode, pads = call.text("auto_pad", "NOTSET"), call.integers("pads") or (0,) * (2 * len(kernel))
    if given is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
        lengths = list(given or (n * s for n, s in zip(x.shape[2:], strides, strict=True)))[-len(kernel) :]
        cut = [n - length for n, length in zip(full, lengths, strict=True)]
        before = [n // 2 if mode == "SAME_UPPER" else n - n // 2 for n in cut]
    else:
        before = list(pads[: len(kernel)])
        lengths = [n - a - b for n, a, b in zip(full, before, pads[len(kernel) :], strict=True)]
    each = zip(lengths, x.shape[2:], kernel, strides, dilations, before, strict=True)
    axes = [Axis(n, positions, k, s, d, -b) for n, positions, k, s, d, b in each]
    return transposed(call.builder, x, weight, bias, axes, group)


def given_bias(call: Call) -> Tensor | None:
    return call.weights(2) if call.given(2) else None


def kernel_of(call: Call, weight: Tensor) -> tuple[int, ...]:
    kernel = tuple(weight.shape[2:])
    if (call.integers("kernel_shape") or kernel) != kernel:
        raise ModelError(f"{call.place}: kernel_shape does not fit weights of shape {tuple(weight.shape)}; export it again")
    return kernel


def unfit(call: Call, weight: Tensor, group: int, x: Symbols) -> ModelError:
    return ModelError(
        f"{call.place}: weights of shape {tuple(weight.shape)} in {group} group(s) do not fit {x.shape[1]} channels; "
        "export the model again"
    )


def pooled(call: Call) -> tuple[Symbols, list[Axis]]:
    """What a pool reads, and its windows."""
    x = call.numbers(0)
    axes = sliding(call, x, call.integers("kernel_shape") or ())
    if empty(axes):
        raise call.unsupported("a window that lies in the padding altogether", "pad less")
    return x, axes


def max_pool(call: Call) -> Symbols:
    call.integer("storage_order", 0)  # only concerns the second output, which nothing may read
    return largest(call.builder, *pooled(call))


def average_pool(call: Call) -> Symbols:
    x, axes = pooled(call)
    if not call.integer("count_include_pad", 0):
        return average(call.builder, x, axes)
    strides = tuple(axis.stride for axis in axes)
    margins = padding(call, x.shape[2:], tuple(axis.span for axis in axes), strides)
    return average(call.builder, x, axes, [behind for _, behind in margins])


def global_average_pool(call: Call) -> Symbols:
    x = call.numbers(0)
    return average(call.builder, x, [Axis(length, 1, length) for length in x.shape[2:]])


def global_max_pool(call: Call) -> Symbols:
    x = call.numbers(0)
    flat = x.reshape(*x.shape[:2], -1)
    return call.builder.largest(flat, 2).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))


WINDOWS: dict[str, Callable[[Call], Symbols]] = {
    "AveragePool": average_pool,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
}
