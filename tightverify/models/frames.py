"""Which numbers of a model's output are asked about: one row, those of a frame, or those of all frames.

An output for one input has the batch as an axis of length 1, the first such; the first of the others, where there are several,
is that of frames. Flattened, it is a row whose order does not depend on where the batch lies.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.errors import ModelError, UsageError

Frame = int | str
"""The number of one, from the back if it is negative, or a word of these: `last`, `all`."""
LAST, ALL = "last", "all"
WANTED = "--frame last, --frame all or --frame 3 on the command line, frame='last', 'all' or 3 from Python"


def as_frame(given: Frame | None) -> Frame | None:
    """What a user says of the frame, numbers as numbers."""
    if given is None or given in (LAST, ALL):
        return given
    try:
        return int(given)
    except ValueError as error:
        raise UsageError(f"the frame is {given!r}; wanted last, all, or the number of one from 0 on") from error


def of_calls(shape: tuple[int, ...], frame: Frame | None, output: str) -> NDArray[np.int64]:
    """The same of an output of several calls (1, K, n), of which one is to be chosen even where each gives one number."""
    if frame is None and shape[1] > 1:
        raise ModelError(f"{output} is that of {shape[1]} calls; choose a frame, {WANTED}")
    return picked(shape, frame, output)


def picked(shape: tuple[int, ...], frame: Frame | None, output: str) -> NDArray[np.int64]:
    """The places, in the flattened `output` of this shape for one input, of the numbers that are asked about."""
    places = np.arange(math.prod(shape))
    long = frame_axis(shape)
    if frame is None:
        if not places.size or max(shape, default=1) != places.size:
            advice = (
                f"choose a frame, {WANTED}" if long is not None and places.size else "end the model with one row of outputs"
            )
            raise ModelError(f"{output} has shape {shape} for one input; wanted one row of numbers: {advice}")
        return places
    if long is None or not places.size:
        raise UsageError(f"{output} has shape {shape} for one input, and no frames to choose from; leave the frame out")
    if frame == ALL:
        return places
    count = shape[long]
    number = count - 1 if frame == LAST else int(frame)
    if not -count <= number < count:
        raise UsageError(f"{output} has {count} frames, and frame {number} was asked for; wanted one of 0 to {count - 1}")
    frames: list[NDArray[np.int64]] = list(np.moveaxis(places.reshape(shape), long, 0))
    return frames[number].ravel()


def frame_axis(shape: tuple[int, ...]) -> int | None:
    """The axis of frames, if there is one beside that of the batch."""
    axes = list(range(len(shape)))
    if 1 in shape:
        axes.remove(shape.index(1))
    return axes[0] if len(axes) > 1 else None


def along(places: NDArray[np.int64], shape: tuple[int, ...], axis: int) -> bool:
    """Whether places are all those along one axis, at one place of every other."""
    where = np.unravel_index(places, shape)
    axis %= len(shape)
    others = [index for k, index in enumerate(where) if k != axis]
    return len(places) == shape[axis] and all(bool((index == index[0]).all()) for index in others)


def rows(found: Tensor, single: tuple[int, ...], count: int, source: str) -> Tensor:
    """The outputs of `count` inputs, a row each, with the batch, wherever it lies in them, brought to the front."""
    if tuple(found.shape) == single and count == 1:
        return found.reshape(1, -1)
    batch = [k for k, (one, many) in enumerate(zip(single, found.shape, strict=False)) if one == 1 and many == count]
    if found.dim() == len(single) and len(batch) == 1:
        several = found.movedim(batch[0], 0).reshape(count, -1)
        if several.shape[1] == math.prod(single):
            return several
    raise ModelError(
        f"{source}: {count} input(s) give outputs of shape {tuple(found.shape)} where one gives {single}; wanted one row "
        "of outputs per input: check `batch_axis`, or export the model with a batch of 1 or a dynamic one"
    )


def chosen(found: Tensor, places: NDArray[np.int64]) -> Tensor:
    """The columns of rows that are asked about."""
    return found if len(places) == found.shape[1] else found[:, torch.from_numpy(places)]
