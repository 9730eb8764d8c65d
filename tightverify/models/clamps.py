"""Numbers kept between constants of their own: one operation, also where another clamp or a ReLU stands before it.

With a bound for each neuron, `clamp(x, l, h) = l + w clamp((x - l) / w, 0, 1)` for w = h - l, `max(x, l) = l + relu(x - l)` and
`min(x, h) = h - relu(h - x)`: what is scaled and shifted is as exact as any weight that an importer works out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.models.builder import ZERO, Builder, Symbols
from tightverify.models.sizes import fits
from tightverify.ops import Clamp, LeakyRelu, Maximum, Operation

Ends = NDArray[np.float64]
NARROWEST = 1e-200
"""Of a clamp that is narrower the inverse of the width may be out of range: it is made of two maxima."""


def clamped(builder: Builder, x: Symbols, low: Tensor | float = -math.inf, high: Tensor | float = math.inf) -> Symbols:
    """x, broadcast with its bounds, of which no lower one is above the upper one."""
    ends = [torch.as_tensor(end, dtype=torch.float64).detach().numpy() for end in (low, high)]
    shape = fits(*np.broadcast_shapes(x.shape, *(end.shape for end in ends)))
    flat = np.broadcast_to(x, shape).ravel()
    least, most = (np.broadcast_to(end, shape).ravel() for end in ends)
    while (inner := kept_already(builder, flat)) is not None:
        flat, before, behind = inner
        least, most = np.clip(before, least, most), np.clip(behind, least, most)
    return between(builder, flat, least, most).reshape(shape)


def kept_already(builder: Builder, x: Symbols) -> tuple[Symbols, Ends, Ends] | None:
    """If every neuron is one that is kept between bounds: what is, and the bounds."""
    found, least, most = np.empty_like(x), np.empty(len(x)), np.empty(len(x))
    sources = builder.source_of(x)
    for source in np.unique(sources):
        there = sources == source
        made = None if source == ZERO else builder.made_by(x[there], int(source))
        ends = None if made is None else ends_of(made[0])
        if made is None or ends is None:
            return None
        found[there], (least[there], most[there]) = made[1], ends
    return (found, least, most) if len(x) else None


def ends_of(op: Operation) -> tuple[float, float] | None:
    """The bounds that an operation keeps its operand between, if that is all it does."""
    if isinstance(op, Clamp):
        return op.low, op.high
    return (0.0, math.inf) if op == LeakyRelu(0.0) else None


def between(builder: Builder, x: Symbols, least: Ends, most: Ends) -> Symbols:
    """Flat neurons between flat bounds: those apart that have bounds of the same kinds."""
    if len(x) and (least == least[0]).all() and (most == most[0]).all():
        return builder.apply(Clamp(float(least[0]), float(most[0])), x)
    result = x.copy()
    kinds = 2 * np.isfinite(least) + np.isfinite(most)
    for kind in np.unique(kinds[kinds > 0]):
        there = kinds == kind
        low, high = torch.from_numpy(least[there]), torch.from_numpy(most[there])
        result[there] = (at_most, at_least, within)[kind - 1](builder, x[there], low, high)
    return result


def at_least(builder: Builder, x: Symbols, low: Tensor, _high: Tensor) -> Symbols:
    raised = builder.apply(LeakyRelu(0.0), builder.combine([(x, 1.0)], -low))
    return builder.combine([(raised, 1.0)], low)


def at_most(builder: Builder, x: Symbols, _low: Tensor, high: Tensor) -> Symbols:
    over = builder.apply(LeakyRelu(0.0), builder.combine([(x, -1.0)], high))
    return builder.combine([(over, -1.0)], high)


def within(builder: Builder, x: Symbols, low: Tensor, high: Tensor) -> Symbols:
    width = high - low
    if not bool((torch.isfinite(width) & ((width == 0) | (width > NARROWEST))).all()):
        raised = builder.apply(Maximum(), x, builder.constant(low))
        over = builder.apply(Maximum(), builder.combine([(raised, -1.0)]), builder.constant(-high))
        return builder.combine([(over, -1.0)])
    share = torch.where(width > 0, 1 / width, 0.0)
    inside = builder.apply(Clamp(0.0, 1.0), builder.combine([(x, share)], -low * share))
    return builder.combine([(inside, width)], low)
