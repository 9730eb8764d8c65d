"""Arithmetic on ranges: what a curve and its derivatives take on between two points, and sums and products of that.

Rounding. A range of a curve is FUNCTION_ERROR wider than it need be, 32 unit roundoffs of its size where the function
itself may be off by a quarter of that. The rest pays for the handful of sums and products that are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Symmetric
from tightverify.values import FUNCTION_ERROR


@dataclass(frozen=True, eq=False)
class Range:
    """The numbers between two ends, element by element."""

    low: Tensor
    high: Tensor

    def __getitem__(self, chosen: Tensor) -> Range:
        return Range(self.low[chosen], self.high[chosen])

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        corners = self.low * other.low, self.low * other.high, self.high * other.low, self.high * other.high
        low = torch.minimum(torch.minimum(corners[0], corners[1]), torch.minimum(corners[2], corners[3]))
        high = torch.maximum(torch.maximum(corners[0], corners[1]), torch.maximum(corners[2], corners[3]))
        return Range(low, high)

    def scaled(self, factor: Tensor) -> Range:
        """Multiplied by a number of either sign."""
        one, other = self.low * factor, self.high * factor
        return Range(torch.minimum(one, other), torch.maximum(one, other))

    def plus(self, shift: Tensor) -> Range:
        return Range(self.low + shift, self.high + shift)

    @property
    def size(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.high, -self.low)


def widened(low: Tensor, high: Tensor, size: Tensor) -> Range:
    return Range(low - FUNCTION_ERROR * size, high + FUNCTION_ERROR * size)


@dataclass(frozen=True, eq=False)
class Jet:
    """A curve's value, derivative and second derivative, as numbers or as ranges."""

    value: Tensor
    first: Tensor
    second: Tensor


def jet(curve: Symmetric, x: Tensor) -> Jet:
    return Jet(curve.value(x), curve.derivative(x), curve.second(x))


@dataclass(frozen=True, eq=False)
class JetRange:
    value: Range
    first: Range
    second: Range

    def __getitem__(self, chosen: Tensor) -> JetRange:
        return JetRange(self.value[chosen], self.first[chosen], self.second[chosen])


def jet_range(curve: Symmetric, one: Tensor, other: Tensor, at_one: Jet, at_other: Jet) -> JetRange:
    """The ranges between two points in either order, from the jets there."""
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    least, most = torch.minimum(at_one.value, at_other.value), torch.maximum(at_one.value, at_other.value)
    value = widened(least, most, torch.maximum(most, -least))
    if curve.linear:
        flat, none = torch.full_like(low, curve.steepest), torch.zeros_like(low)
        return JetRange(value, Range(flat, flat), Range(none, none))
    # The derivative is largest at the point nearest to 0, least at one of the ends.
    least, most = torch.minimum(at_one.first, at_other.first), torch.maximum(at_one.first, at_other.first)
    most = torch.where((low <= 0) & (high >= 0), most.clamp(min=curve.steepest), most)
    first = widened(least, most, most)
    # The second derivative goes up to `sharpest` at -bend, down through 0 to -sharpest at bend, and up again.
    least, most_bent = torch.minimum(at_one.second, at_other.second), torch.maximum(at_one.second, at_other.second)
    least, most_bent = least.clamp(max=0.0), most_bent.clamp(min=0.0)
    least = torch.where((low <= curve.bend) & (high >= curve.bend), least.clamp(max=-curve.sharpest), least)
    most_bent = torch.where((low <= -curve.bend) & (high >= -curve.bend), most_bent.clamp(min=curve.sharpest), most_bent)
    return JetRange(value, first, widened(least, most_bent, most))
