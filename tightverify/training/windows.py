"""Pooling over windows by torch's names and arguments; of a maximum, padding is what no window takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tightverify.training.operators import largest, moved, refuse, weighed
from tightverify.training.tracing import OPERATORS, Bounded


def averaging(function: Callable[..., Tensor]) -> Callable[..., Bounded]:
    return lambda x, *args, **kwargs: moved(lambda t: function(t, *args, **kwargs), x)


def max_pool(axes: int, x: Bounded, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Bounded:  # fmt: skip
    if return_indices:
        raise refuse("the positions of max pooling", "pool without them")
    given = (kernel_size, stride or kernel_size, padding, dilation)
    sizes, steps, around, spaces = ((one,) * axes if isinstance(one, int) else tuple(one) for one in given)
    pool = {1: F.max_pool1d, 2: F.max_pool2d}[axes]
    example = torch.zeros(1, *x.shape[-axes:])
    counts = pool(example, sizes, steps, around, spaces, ceil_mode).shape[-axes:]
    x = padded(x, [(around[k], (counts[k] - 1) * steps[k] + spaces[k] * (sizes[k] - 1) + 1) for k in range(axes)])

    def taken(t: Tensor, offsets: tuple[int, ...]) -> Tensor:
        for k, (offset, step, space, count) in enumerate(zip(offsets, steps, spaces, counts, strict=True)):
            axis = t.dim() - axes + k
            t = t.narrow(axis, offset * space, (count - 1) * step + 1)
            t = t[(slice(None),) * axis + (slice(None, None, step),)]
        return t

    every = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, axes).tolist()
    return largest([moved(partial(taken, offsets=tuple(each)), x) for each in every])


def padded(x: Bounded, along: Sequence[tuple[int, int]]) -> Bounded:
    """So many places before along each of the last axes, and places up to a length: what stands there is below all else."""
    lengths = x.shape[-len(along) :]
    pads = [(before, max(0, total - before - length)) for (before, total), length in zip(along, lengths, strict=True)]
    if not any(map(any, pads)):
        return x
    flat, lower = [size for pair in reversed(pads) for size in pair], x.node.interval.lower.detach()
    below = F.pad(torch.zeros(lengths).to(lower), flat, value=float(lower.min()) - 1)
    return weighed([(moved(lambda t: F.pad(t, flat), x).node, None)], below)


POOLS = ("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
OPERATORS.update({name: averaging(getattr(F, name)) for name in POOLS})
OPERATORS.update({f"max_pool{k}d{ending}": partial(max_pool, k) for k in (1, 2) for ending in ("", "_with_indices")})
