"""Where an input may change: frames and features by their numbers or a mask, and segments of a waveform's samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tightverify.errors import RegionError

Frames = Sequence[int] | Tensor | None
Segment = tuple[int, int] | None
"""The first of some consecutive samples, and the first after them; None for all."""


def positions(x: Tensor, frames: Frames, features: Frames) -> Tensor:
    """(time, features) or (features,), broadcast to x: where the input may change."""
    free = torch.ones_like(x, dtype=torch.bool)
    for axis, chosen, name in ((1, frames, "frame"), (x.dim() - 1, features, "feature")):
        if chosen is None:
            continue
        if axis == 1 and name == "frame" and x.dim() < 3:
            raise RegionError("frames were chosen, but the inputs have no time axis: they are (N, features)")
        free = free & along(x, axis, picked(chosen, x.shape[axis], name).to(x.device))
    return free


def picked(chosen: Sequence[int] | Tensor, size: int, name: str) -> Tensor:
    """(size,): which places were chosen, by their numbers or by a mask."""
    given = torch.as_tensor(chosen)
    if given.dtype == torch.bool:
        if tuple(given.shape) != (size,) or not bool(given.any()):
            raise RegionError(f"the mask of {name}s is {given.tolist()}; give {size} values, some of them true")
        return given
    if given.numel() and (given.is_floating_point() or given.is_complex()):
        raise RegionError(f"{name}s {given.tolist()} were chosen; give whole numbers, or a mask of true and false")
    numbers = given.flatten().to(torch.long)
    if len(numbers) == 0 or bool(((numbers < 0) | (numbers >= size)).any()):
        raise RegionError(f"{name}s {numbers.tolist()} were chosen; give some of 0 to {size - 1}")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[numbers] = True
    return mask


def segment(x: Tensor, samples: Segment) -> Tensor:
    """Where a segment of samples lies, broadcast to waveforms x (N, samples), (N, channels, samples) or (N, samples, 1)."""
    axis = samples_axis(tuple(x.shape))
    size = x.shape[axis]
    start, stop = (0, size) if samples is None else samples
    if not 0 <= start < stop <= size:
        raise RegionError(
            f"the segment of samples is ({start}, {stop}), an input has samples 0 to {size - 1}; "
            f"give the first sample, and the first one after the segment, at most {size}"
        )
    picked = torch.zeros(size, dtype=torch.bool, device=x.device)
    picked[start:stop] = True
    return along(x, axis, picked)


def samples_axis(shape: tuple[int, ...]) -> int:
    """The axis of a batch of waveforms along which time goes: the last one that is longer than 1."""
    longer = [axis for axis, size in enumerate(shape) if axis > 0 and size > 1]
    return longer[-1] if longer else len(shape) - 1


def along(x: Tensor, axis: int, values: Tensor) -> Tensor:
    """Values along one axis, shaped to broadcast to x."""
    return values.view([-1 if other == axis else 1 for other in range(x.dim())])
