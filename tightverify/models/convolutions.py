"""Convolutions of neurons: nodes for bands of positions along the first axis in space, each a sum of maps that slide.

One node for all positions would be bounded with rows over all that comes before it. A band's rows are only over what its
filters reach, and are few at a time; a network in time has a node for each time step, as its recurrent layers have. What a
band reads of each earlier node is one term: a `Convolution`, or a matrix where that is smaller.

Where neurons of several nodes alternate in space, or zeros lie among them, every position is a matrix product of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product, starmap

import numpy as np
import torch
from torch import Tensor

from tightverify.graph import Term
from tightverify.linear_map import Axis, Convolution, Dense, Diagonal, Identity, LinearMap
from tightverify.models.builder import MANY, NARROW, ZERO, Builder, Symbols
from tightverify.models.sizes import fits

WIDTH = 512
"""How many neurons the node of a band has, about."""
STEPS = 128
"""Up to so many positions in a row, along one axis alone, are nodes of their own, as time steps are."""
SMALL = 2**14
"""A matrix of so few numbers is multiplied sooner than filters slide."""


def convolve(
    builder: Builder, x: Symbols, weight: Tensor, bias: Tensor | None, axes: Sequence[Axis], groups: int = 1
) -> Symbols:
    """(N, C, *lengths) to (N, O, *positions), by filters (O, C / groups, *taps)."""
    fits(len(x), len(weight), *(axis.positions for axis in axes))
    fits(*x.shape[:2], *(length for axis in axes for length in (axis.positions, axis.span)))
    filters = Filters(builder, builder.exact(weight), bias, groups)
    return np.stack([filters.over(one, tuple(axes)) for one in x])


def transposed(
    builder: Builder, x: Symbols, weight: Tensor, bias: Tensor | None, axes: Sequence[Axis], groups: int = 1
) -> Symbols:
    """The transpose of a convolution, by its filters (C, O / groups, *taps): its values (N, C, *positions) to (N, O, *lengths).

    The results whose places leave the same rest when divided by the stride are a convolution of stride 1, by the taps that
    are ever on such a place.
    """
    filters = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    result = np.empty(fits(len(x), len(filters), *(axis.length for axis in axes)), dtype=np.int64)
    for rests in product(*(range(min(axis.stride, axis.length)) for axis in axes)):
        ways = list(starmap(reading, zip(axes, rests, strict=True)))
        place = (slice(None), slice(None), *(slice(r, None, axis.stride) for r, axis in zip(rests, axes, strict=True)))
        if all(taps for taps, _ in ways):
            own = filters
            for k, (taps, _) in enumerate(ways):
                own = own[(slice(None),) * (2 + k) + (list(taps),)]
            result[place] = convolve(builder, x, own, bias, [axis for _, axis in ways], groups)
        else:
            shift = torch.zeros(len(filters)) if bias is None else bias
            result[place] = builder.constant(shift).reshape(-1, *(1,) * len(axes))
    return result


def reading(axis: Axis, rest: int) -> tuple[range, Axis]:
    """Which taps are on numbers that leave a rest when divided by the stride, last first, and how these read the positions."""
    stride = axis.stride
    taps = [k for k in range(axis.taps) if (k * axis.dilation + axis.start - rest) % stride == 0]
    if not taps:
        return range(0), axis
    step = stride // math.gcd(stride, axis.dilation)
    count = len(range(rest, axis.length, stride))
    first = (rest - axis.start - taps[-1] * axis.dilation) // stride
    return range(taps[-1], -1, -step), Axis(axis.positions, count, len(taps), 1, step * axis.dilation // stride, first)


@dataclass(frozen=True, eq=False)
class Filters:
    """Filters (O, C / groups, *taps) that are to slide over neurons."""

    builder: Builder
    weight: Tensor
    bias: Tensor | None
    groups: int

    def over(self, x: Symbols, axes: tuple[Axis, ...]) -> Symbols:
        """(C, *lengths) to (O, *positions)."""
        x, axes = without_margins(x, axes)
        sources = self.builder.source_of(x).reshape(*x.shape[:2], -1)
        narrow = len(axes) == 1 and self.weight.numel() * self.groups <= NARROW and axes[0].positions >= MANY
        if narrow or not all(axis.most_taps for axis in axes) or (sources != sources[..., :1]).any():
            return self.at_every_position(x, axes)
        return self.in_bands(x, sources[..., 0], axes)

    def in_bands(self, x: Symbols, sources: Symbols, axes: tuple[Axis, ...]) -> Symbols:
        """The same for neurons whose nodes are (C, first length) `sources`, `ZERO` where there are zeros."""
        outputs, (first, *others) = len(self.weight), axes
        positions = [axis.positions for axis in others]
        changes = np.flatnonzero((sources[:, 1:] != sources[:, :-1]).any(axis=0)) + 1
        runs = list(zip([0, *changes], [*changes, first.length], strict=True))
        height = max(1, WIDTH // (outputs * math.prod(positions)))
        if len(runs) > 1:
            height = max(1, min(height, first.length // len(runs) // first.stride))
        if len(axes) == 1 and first.positions <= STEPS:
            height = 1
        result = np.empty((outputs, first.positions, *positions), dtype=np.int64)
        for start in range(0, first.positions, height):
            band = replace(first, positions=min(height, first.positions - start), start=first.start + start * first.stride)
            terms = [term for run in runs for term in self.terms(x, sources, (band, *others), run)]
            bias = torch.zeros(outputs, dtype=torch.float64) if self.bias is None else self.bias.detach().to(torch.float64)
            made = self.builder.affine(terms, bias.repeat(band.positions * math.prod(positions)))
            result[:, start : start + height] = np.moveaxis(made.reshape(band.positions, *positions, outputs), -1, 0)
        return result

    def terms(self, x: Symbols, sources: Symbols, axes: tuple[Axis, ...], run: tuple[int, int]) -> list[Term]:
        """What a band gets from a run of rows, of which each channel is in one node."""
        (band, *others), (start, stop) = axes, run
        places = band.places().numpy()
        inside = (places >= start) & (places < stop)
        if not inside.any():
            return []
        taps = np.flatnonzero(inside.any(axis=0))
        low, high, tap = int(places[inside].min()), int(places[inside].max()) + 1, int(taps[0])
        own = replace(band, length=high - low, taps=int(taps[-1]) + 1 - tap, start=band.start + tap * band.dilation - low)
        found = []
        for source in np.unique(sources[:, start]):
            if source != ZERO:
                channels = np.flatnonzero(sources[:, start] == source)
                numbers = np.moveaxis(x[channels, low:high], 0, -1).ravel()
                found.append(Term(self.builder.operand(numbers, source)[1], self.map(channels, tap, (own, *others))))
        return found

    def map(self, channels: Symbols, tap: int, axes: tuple[Axis, ...]) -> LinearMap:
        """The map of some channels by the filters' taps from one on; the same for the same."""

        def make() -> LinearMap:
            weight, groups = self.weight[:, :, tap : tap + axes[0].taps], self.groups
            if len(channels) < self.weight.shape[1] * groups:
                weight, groups = ungrouped(weight, groups)[:, torch.from_numpy(channels)], 1
            return simplest(Convolution(weight.contiguous(), axes, groups))

        return self.builder.shared((id(self.weight), self.groups, channels.tobytes(), tap, axes), self.weight, make)

    def at_every_position(self, x: Symbols, axes: tuple[Axis, ...]) -> Symbols:
        """A matrix product for each position, or sums of neurons moved along."""
        seen = windows(x, axes, ZERO)  # (C, *positions, *taps)
        seen = np.moveaxis(seen, 0, -1).reshape(*seen.shape[1 : 1 + len(axes)], -1)
        fits(len(self.weight), seen.shape[-1])
        matrix = ungrouped(self.weight, self.groups).movedim(1, -1).flatten(1)
        return np.moveaxis(self.builder.slide(seen, matrix, self.bias), -1, 0)


def without_margins(x: Symbols, axes: tuple[Axis, ...]) -> tuple[Symbols, tuple[Axis, ...]]:
    """Neurons (C, *lengths) without the zeros around them, which count as being outside."""
    found = []
    for place, axis in enumerate(axes, 1):
        live = np.flatnonzero((x != ZERO).any(axis=tuple(k for k in range(x.ndim) if k != place)))
        if len(live):
            x = x[(slice(None),) * place + (slice(live[0], live[-1] + 1),)]
            axis = replace(axis, length=int(live[-1] + 1 - live[0]), start=axis.start - int(live[0]))
        found.append(axis)
    return x, tuple(found)


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The same filters over all channels, zero on those of other groups."""
    if groups == 1:
        return weight
    outputs, channels = len(weight) // groups, weight.shape[1]
    whole = weight.new_zeros((len(weight), channels * groups, *weight.shape[2:]))
    for k in range(groups):
        rows = slice(k * outputs, (k + 1) * outputs)
        whole[rows, k * channels : (k + 1) * channels] = weight[rows]
    return whole


def simplest(sliding: Convolution) -> LinearMap:
    """The same map as a scaling of each channel if it is one, or as a matrix if that is small, or hardly larger."""
    outputs, inputs = sliding.shape
    if outputs == inputs == sliding.groups:
        flat = sliding.weights.flatten()
        return Identity(outputs) if bool((flat == 1).all()) else Diagonal(flat)
    small = outputs * inputs <= SMALL or inputs <= 2 * sliding.fan_in
    return Dense(sliding.matrix) if small else sliding


def windows(x: Symbols, axes: Sequence[Axis], outside: int) -> Symbols:
    """(..., *lengths) to (..., *positions, *taps): neurons under each tap at each position, `outside` where there are none."""
    count, before = len(axes), x.ndim - len(axes)
    fits(*x.shape[:before], *(axis.positions for axis in axes), *(axis.taps for axis in axes))
    x = np.pad(x, [(0, 0)] * before + [(0, 1)] * count, constant_values=outside)
    index: list[Symbols | slice] = [slice(None)] * before
    for place, axis in enumerate(axes):
        places = axis.places().numpy()
        shape = [1] * (2 * count)
        shape[place], shape[count + place] = places.shape
        index.append(np.where((places >= 0) & (places < axis.length), places, axis.length).reshape(shape))
    return x[tuple(index)]
