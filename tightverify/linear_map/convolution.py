"""Filters that slide over numbers in space, never written down as a matrix: convolutions, and sums or averages of windows.

Rounding. Each value is a plain sum of products: the numbers under the filters are laid side by side (im2col), and one matrix
product with the filters makes the values, just as `Dense` does. Rows go back the same way: a matrix product, whose results
are added where they belong, tap by tap (col2im). So both sums are those that `Graph.rounding` counts, in some order, on any
device. Torch's own convolutions are not used: what a library chooses among for a given shape, such as Winograd's products or
Fourier transforms, adds and subtracts numbers that the value does not depend on, and its error is of their size.

Zeros outside the numbers take part in these sums, which changes no bit of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from tightverify.linear_map.base import LinearMap
from tightverify.linear_map.dense import Dense
from tightverify.values import Index, as_index

MOST = 2**18
"""So many numbers are laid side by side at once: 2 MB, which a processor's caches hold."""


@dataclass(frozen=True)
class Axis:
    """How filters slide along one axis: tap k at position p is on number `p * stride + k * dilation + start`."""

    length: int
    """how many numbers lie along the axis"""
    positions: int
    taps: int
    stride: int = 1
    dilation: int = 1
    start: int = 0
    """the number under the first tap at the first position: minus the padding"""

    @property
    def reach(self) -> int:
        """From the first number under the taps at the first position to the last at the last one."""
        return (self.positions - 1) * self.stride + self.span

    @property
    def span(self) -> int:
        """From the first tap to the last."""
        return (self.taps - 1) * self.dilation + 1

    def places(self, device: torch.device | None = None) -> Tensor:
        """(positions, taps): the numbers that they are on; some may be outside."""
        first = torch.arange(self.positions, device=device) * self.stride + self.start
        return first[:, None] + torch.arange(self.taps, device=device) * self.dilation

    @cached_property
    def most_taps(self) -> int:
        """How many taps are on numbers at one position, at most."""
        return int(self._inside.sum(1).max())

    @property
    def fewest_taps(self) -> int:
        """The same, at least."""
        return int(self._inside.sum(1).min())

    @cached_property
    def most_readers(self) -> int:
        """How many taps at how many positions are on one number, at most."""
        return int(torch.bincount(self.places()[self._inside], minlength=1).max())

    @property
    def _inside(self) -> Tensor:
        places = self.places()
        return (places >= 0) & (places < self.length)

    def under(self, tap: int) -> slice:
        """The numbers that a tap is on, one for each position, counted from the first tap's first."""
        first = tap * self.dilation
        return slice(first, first + (self.positions - 1) * self.stride + 1, self.stride)


@dataclass(frozen=True, eq=False)
class Convolution(LinearMap):
    """Filters (O, C / groups, *taps) over numbers (*lengths, C), of which they make values (*positions, O): channels last.

    A group of filters reads a group of channels, both in order.
    """

    weights: Tensor
    axes: tuple[Axis, ...]
    groups: int = 1
    name: ClassVar[str] = "convolution"
    elementwise: ClassVar[bool] = False
    joins: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        positions, lengths = (math.prod(getattr(axis, what) for axis in self.axes) for what in ("positions", "length"))
        return positions * len(self.weights), lengths * self.channels

    @property
    def channels(self) -> int:
        return self.weights.shape[1] * self.groups

    @property
    def parameters(self) -> dict[str, Any]:
        names = ("length", "positions", "taps", "stride", "dilation", "start")
        return {"axes": [{name: getattr(axis, name) for name in names} for axis in self.axes], "groups": self.groups}

    @property
    def fan_in(self) -> int:
        return self.weights.shape[1] * math.prod(axis.most_taps for axis in self.axes)

    @property
    def fan_out(self) -> int:
        return len(self.weights) // self.groups * math.prod(axis.most_readers for axis in self.axes)

    def push(self, x: Tensor) -> Tensor:
        values = self._in_parts(x, self._push)
        return values.reshape(*x.shape[:-1], self.shape[0])

    def pull(self, rows: Tensor) -> Tensor:
        numbers = self._in_parts(rows, self._pull)
        return numbers.reshape(*rows.shape[:-1], self.shape[1])

    def select(self, index: Index) -> tuple[Index, LinearMap]:
        chosen = torch.arange(self.shape[0], device=self.weights.device)[index]
        if torch.equal(chosen, torch.arange(self.shape[0], device=self.weights.device)):
            return slice(None), self
        rows, columns, values = self._entries(chosen)
        if not len(columns):
            return slice(0, 0), Dense(values.new_zeros((len(chosen), 0)))
        needed, place = torch.unique(columns, return_inverse=True)
        return as_index(needed), Dense(values.new_zeros((len(chosen), len(needed))).index_put((rows, place), values))

    def numbers_of(self, values: int) -> int:
        return values * min(self.shape[1], values * self.fan_in)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._entries(torch.arange(self.shape[0], device=self.weights.device))

    def of_weights(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, weights=change(self.weights))

    @cached_property
    def _filters(self) -> Tensor:
        """(groups, taps and channels, filters): what the numbers under the filters are multiplied by."""
        parts: Tensor = self.weights.unflatten(0, (self.groups, -1)).movedim(2, -1)  # (groups, filters, *taps, channels)
        return parts.flatten(2).mT.contiguous()

    def _in_parts(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """(N, ...): a change of x as (N, its last axis), for as many at once as `MOST` allows."""
        flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        each = math.prod(axis.positions * axis.taps for axis in self.axes) * self.channels
        size = max(1, MOST // max(1, each))
        return change(flat) if len(flat) <= size else torch.cat([change(part) for part in flat.split(size)])

    def _push(self, x: Tensor) -> Tensor:
        """(N, *positions, O)."""
        count, axes = len(x), self.axes
        margins = [margin for axis in reversed(axes) for margin in (-axis.start, axis.start + axis.reach - axis.length)]
        seen = functional.pad(x.reshape(count, *(axis.length for axis in axes), self.channels), (0, 0, *margins))
        for place, axis in enumerate(axes, 1):
            seen = seen.unfold(place, axis.span, axis.stride)[..., :: axis.dilation]
        seen = seen.unflatten(1 + len(axes), (self.groups, -1))  # (N, *positions, groups, channels, *taps)
        seen = seen.movedim(1 + len(axes), 0).movedim(2 + len(axes), -1)
        filters = self._filters.to(x.dtype)
        values: Tensor = seen.reshape(self.groups, -1, filters.shape[1]) @ filters
        return values.movedim(0, 1).reshape(count, *(axis.positions for axis in axes), len(self.weights))

    def _pull(self, rows: Tensor) -> Tensor:
        """(N, *lengths, C)."""
        count, axes = len(rows), self.axes
        positions, filters = [axis.positions for axis in axes], self._filters.to(rows.dtype)
        own = rows.reshape(-1, self.groups, filters.shape[2]).movedim(1, 0)
        products = (own @ filters.mT).reshape(self.groups, count, *positions, *(axis.taps for axis in axes), -1)
        products = products.movedim(0, -2)  # (N, *positions, *taps, groups, channels)
        found = rows.new_zeros((count, *(axis.reach for axis in axes), *products.shape[-2:]))
        for taps in product(*(range(axis.taps) for axis in axes)):
            under = (slice(None), *(axis.under(tap) for axis, tap in zip(axes, taps, strict=True)))
            found[under] += products[(slice(None),) * (1 + len(axes)) + taps]
        margins = [margin for axis in reversed(axes) for margin in (axis.start, axis.length - axis.start - axis.reach)]
        return functional.pad(found.flatten(-2), (0, 0, *margins))

    def _entries(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and value of some of the values (k,), whose rows are counted from the first of them."""
        device, count, outputs = chosen.device, len(chosen), len(self.weights)
        filters, position = chosen % outputs, torch.div(chosen, outputs, rounding_mode="floor")
        column = torch.zeros((count, *(1,) * len(self.axes)), dtype=torch.int64, device=device)
        inside = torch.ones_like(column, dtype=torch.bool)
        every = torch.unravel_index(position, [axis.positions for axis in self.axes])
        for place, (axis, mine) in enumerate(zip(self.axes, every, strict=True)):
            shape = [count, *(axis.taps if k == place else 1 for k in range(len(self.axes)))]
            there = axis.places(device)[mine].reshape(shape)
            column, inside = column * axis.length + there, inside & (there >= 0) & (there < axis.length)
        channel = torch.arange(self.weights.shape[1], device=device)
        first = torch.div(filters, outputs // self.groups, rounding_mode="floor") * len(channel)
        own = first.reshape(-1, *(1,) * (1 + len(self.axes))) + channel
        columns = column[..., None] * self.channels + own
        inside = inside[..., None].expand_as(columns)
        rows = torch.arange(count, device=device).reshape(-1, *(1,) * (1 + len(self.axes))).expand_as(columns)
        return rows[inside], columns[inside], self.weights[filters].movedim(1, -1)[inside]
