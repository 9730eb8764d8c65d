"""ONNX's Resize and Upsample: along each axis, every number is moved or is a weighted sum of a few.

Where each comes from and with what weights follows from the lengths alone, as onnxruntime works it out: places in float32,
which decides what is nearest where two are all but equally near. Axes are gone through one after the other, as the weights of
several axes are the products of those of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tightverify.models.builder import Builder, Symbols
from tightverify.models.from_onnx.node import Call
from tightverify.models.sizes import fits

ONE = np.float32(1)
HALF = np.float32(0.5)
WHOLE = (np.float32(0), ONE)
NONE = np.empty(0, dtype=np.float32)
ROUNDED = np.float32(1e-6)
SINCE = 11
"""The opset from which Resize says how places and what is nearest are meant."""
MODES = ("nearest", "linear", "cubic")
Places = NDArray[np.float32]


@dataclass(frozen=True)
class Stretch:
    """An axis of one length that gets another, by a scale that may be that of a length between two numbers.

    `crop` is the part of the axis that is taken.
    """

    length: int
    made: int
    scale: np.float32
    crop: tuple[np.float32, np.float32] = WHOLE

    @property
    def same(self) -> bool:
        """Whether its numbers stay where they are."""
        return self.length == self.made and self.scale == 1 and self.crop == WHOLE


def half_pixel(axis: Stretch, k: Places) -> Places:
    return (k + HALF) / axis.scale - HALF


def half_pixel_symmetric(axis: Stretch, k: Places) -> Places:
    """The middle stays the middle, though the length made was rounded."""
    adjusted = np.float32(axis.made) / (axis.scale * np.float32(axis.length))
    offset = np.float32(axis.length) * HALF * (ONE - adjusted)
    return offset + (k + HALF) / axis.scale - HALF


def pytorch_half_pixel(axis: Stretch, k: Places) -> Places:
    return half_pixel(axis, k) if axis.made > 1 else np.zeros_like(k)


def align_corners(axis: Stretch, k: Places) -> Places:
    return np.zeros_like(k) if axis.made == 1 else k * np.float32(axis.length - 1) / np.float32(axis.made - 1)


def asymmetric(axis: Stretch, k: Places) -> Places:
    return k / axis.scale


def cropped(axis: Stretch, k: Places) -> Places:
    (start, end), last = axis.crop, np.float32(axis.length - 1)
    if axis.made == 1:
        return np.full_like(k, HALF * (start + end) * last)
    return start * last + k * (end - start) * last / np.float32(axis.made - 1)


PLACES: dict[str, Callable[[Stretch, Places], Places]] = {
    "align_corners": align_corners,
    "asymmetric": asymmetric,
    "half_pixel": half_pixel,
    "half_pixel_symmetric": half_pixel_symmetric,
    "pytorch_half_pixel": pytorch_half_pixel,
    "tf_crop_and_resize": cropped,
}
"""Where along an axis the numbers that are made lie."""

BY_LENGTHS = ("align_corners", "tf_crop_and_resize")
"""Transforms by the length made, which is rounded for some and not for others."""

NEAREST: dict[str, Callable[[Places, Stretch], Places]] = {
    "ceil": lambda x, _: np.ceil(x),
    "floor": lambda x, _: np.floor(x),
    "round_prefer_ceil": lambda x, _: np.floor(x + HALF),
    "round_prefer_floor": lambda x, _: np.ceil(x - HALF),
    "simple": lambda x, axis: np.ceil(x) if axis.scale < 1 else np.trunc(x),
}
"""Which number is nearest; `simple` is what was meant before it could be said."""


def resize(call: Call) -> Symbols:
    x, mode = call.numbers(0), call.text("mode", "nearest")
    if mode not in MODES:
        raise call.unsupported(f"the mode {mode}", f"use {', '.join(MODES)}")
    if call.integer("antialias", 0) and mode != "nearest":
        raise call.unsupported("antialias = 1", "resize without it, or average the numbers first (AveragePool)")
    transform = call.text("coordinate_transformation_mode", "half_pixel" if call.opset >= SINCE else "asymmetric")
    if transform not in PLACES:
        raise call.unsupported(f"coordinate_transformation_mode = {transform}", f"use {', '.join(PLACES)}")
    rounding = call.text("nearest_mode", "round_prefer_floor" if call.opset >= SINCE else "simple")
    coefficient = call.number("cubic_coeff_a", -0.75)
    beyond, outside = call.number("extrapolation_value", 0.0), call.integer("exclude_outside", 0) != 0
    axes = stretches(call, x.shape, transform == "tf_crop_and_resize")
    fits(*(axis.made for axis in axes))
    still = [axis for axis in axes if axis.made == axis.length]
    if any(axis.crop != WHOLE for axis in still) or (len(still) == len(axes) and not all(axis.same for axis in still)):
        raise call.unsupported(
            "a part of an axis, or a scale other than 1, that leaves lengths as they are,",
            "resize to other lengths: runtimes differ in what they make of this",
        )
    if transform in BY_LENGTHS and any(abs(axis.scale * axis.length - axis.made) > ROUNDED * axis.made for axis in axes):
        raise call.unsupported(
            f"{transform} by a scale that does not make whole lengths", "give `sizes`: runtimes differ in what they make of it"
        )
    lost = np.zeros((1,) * x.ndim, dtype=np.bool_)
    for k, axis in enumerate(axes):
        places = PLACES[transform](axis, np.arange(axis.made, dtype=np.float32))
        if transform == "tf_crop_and_resize":
            lost = lost | along((places < 0) | (places > axis.length - 1), k, x.ndim)
        elif axis.same:
            continue
        if mode == "nearest":
            x = np.take(x, nearest(call, places, axis, rounding, transform), axis=k)
        else:
            taps, weights = linear(places) if mode == "linear" else cubic(places, coefficient)
            if outside and mode == "cubic":
                weights = np.where((taps >= 0) & (taps < axis.length), weights, 0.0)
                weights = weights / weights.sum(1, keepdims=True)
            x = weighted(call.builder, x, k, np.clip(taps, 0, axis.length - 1), weights)
    if not lost.any():
        return x
    return np.where(lost, call.builder.constant(torch.tensor(beyond, dtype=torch.float64)), x)


def nearest(call: Call, places: Places, axis: Stretch, rounding: str, transform: str) -> NDArray[np.int64]:
    """For each place the number that is nearest; refused where that hangs on how the middle is rounded."""
    if rounding not in NEAREST:
        raise call.unsupported(f"nearest_mode = {rounding}", f"use {', '.join(NEAREST)}")
    found = NEAREST[rounding](places, axis)
    near = [NEAREST[rounding](places + shift, axis) for shift in (-ROUNDED * axis.length, ROUNDED * axis.length)]
    if transform == "half_pixel_symmetric" and any((found != other).any() for other in near):
        raise call.unsupported(f"{transform} where two numbers are equally near", "use half_pixel, or the mode linear")
    return np.clip(found.astype(np.int64), 0, axis.length - 1)


def stretches(call: Call, shape: tuple[int, ...], crops: bool) -> list[Stretch]:
    """All axes, by the scales or the lengths that the node has for some or all."""
    count = len(shape)
    chosen = [axis % count for axis in call.integers("axes") or range(count)]
    lengths = [shape[axis] for axis in chosen]
    policy, given = call.text("keep_aspect_ratio_policy", "stretch"), call.attribute("scales")
    part = numbers(call, 1) if call.opset >= SINCE else NONE
    scales = numbers(call, 2 if call.opset >= SINCE else 1) if given is None else np.array(given, dtype=np.float32)
    if scales.size:
        made = [int(scale * np.float32(n)) for scale, n in zip(scales, lengths, strict=True)]
    else:
        made = [int(n) for n in call.constant(3).ravel()]
        scales = np.divide(made, lengths, dtype=np.float32)
        if policy != "stretch":
            scales = np.repeat(scales.min() if policy == "not_larger" else scales.max(), len(lengths))
            made = [int(np.floor(scale * np.float32(n) + HALF)) for scale, n in zip(scales, lengths, strict=True)]
    ends = part.reshape(2, -1) if crops else np.array([WHOLE] * len(chosen), dtype=np.float32).T
    found = [Stretch(length, length, ONE) for length in shape]
    for axis, n, m, scale, start, end in zip(chosen, lengths, made, scales, *ends, strict=True):
        if m < 1 or scale <= 0:
            raise call.unsupported(f"a scale of {scale:g} of {n} numbers", "leave at least one number along each axis")
        found[axis] = Stretch(n, m, scale, (start, end))
    return found


def numbers(call: Call, k: int) -> NDArray[np.float32]:
    """Input k, constant numbers of which there may be none."""
    return np.asarray(call.constant(k), dtype=np.float32).ravel() if call.given(k) else NONE


def linear(places: Places) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each place the two numbers around it, and their weights."""
    first = np.floor(places).astype(np.int64)
    share = (places.astype(np.float64) - first)[:, None]
    return first[:, None] + np.arange(2), np.concatenate([1 - share, share], axis=1)


def cubic(places: Places, a: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each place the four numbers around it, and Keys' weights."""
    first = np.floor(places).astype(np.int64)
    taps = first[:, None] + np.arange(-1, 3)
    d = np.abs(places.astype(np.float64)[:, None] - taps)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return taps, np.where(d <= 1, near, far)


def weighted(builder: Builder, x: Symbols, axis: int, taps: NDArray[np.int64], weights: NDArray[np.float64]) -> Symbols:
    """Along an axis, each number the weighted sum of those at its taps."""
    parts = []
    for tap, weight in zip(taps.T, weights.T, strict=True):
        parts.append((np.take(x, tap, axis=axis), torch.from_numpy(along(weight, axis, x.ndim).copy())))
    return builder.combine(parts)


def along(values: NDArray[Any], axis: int, count: int) -> NDArray[Any]:
    """A vector along one of so many axes."""
    return values.reshape([-1 if k == axis else 1 for k in range(count)])


RESIZING: dict[str, Callable[[Call], Symbols]] = {"Resize": resize, "Upsample": resize}
