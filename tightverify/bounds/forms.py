"""Forms: for each neuron of a node a linear function of the input that is below it everywhere on the region, and one above.

They are what LBP propagates forward (Lyu et al. 2021, "Towards Evaluating and Training Verifiably Robust Neural Networks"), and
where relaxed CROWN stops (`bounds.window`). Old inputs fold into constants: a form keeps the last that were read, and of the
others the least, or the most, over their box.

Rounding. A form holds in exact arithmetic, whatever went into it: what the sums that made it may be off by is paid for in its
constants. So is, in advance, what one more sum may lose that goes on with it, as with the planes of operations: `settled` moves
both sides apart by rounding * (|offset| + |slopes| (M + s)) of both, M and s being an input's magnitude and scale
(`bounds.linear`), and by TINY for each coefficient that may underflow. Each node at which rows stop is one more reader of the
inputs, as wide as it has neurons: the rounding is that of a graph with so many more summands (`Graph.stopped`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.bounds.interval import rows_over
from tightverify.relax.planes import Plane, Planes
from tightverify.values import TINY, Index, Interval, above, below, times


@dataclass(frozen=True, eq=False)
class Side:
    """Linear functions of the input, one for each neuron: slopes (B or 1, n, w) on input nodes, and constants (B, n)."""

    slopes: Mapping[int, Tensor]
    offset: Tensor

    def __getitem__(self, index: Index) -> Side:
        """Those of some neurons."""
        return Side({number: slope[:, index] for number, slope in self.slopes.items()}, self.offset[:, index])

    def at(self, inputs: Mapping[int, Tensor]) -> Tensor:
        """(B, R, n): their values at points, of whose input nodes there are (B, R, w)."""
        total = self.offset[:, None]
        for number, slope in self.slopes.items():
            total = total + inputs[number] @ slope.mT
        return total

    def size(self, sizes: Mapping[int, Tensor]) -> Tensor:
        """(B, n): the sum of the absolute values of all terms, for inputs of such sizes (B, w)."""
        total = self.offset.abs()
        for number, slope in self.slopes.items():
            total = total + times(slope.abs(), sizes[number])
        return total


@dataclass(frozen=True, eq=False)
class Form:
    """Functions below and above a node's neurons; both have slopes on the same input nodes."""

    lower: Side
    upper: Side

    def __getitem__(self, index: Index) -> Form:
        return Form(self.lower[index], self.upper[index])

    def of(self, places: Tensor) -> Form:
        """The forms of some regions, several times each if need be."""

        def taken(values: Tensor) -> Tensor:
            return values[places] if len(values) > 1 else values

        def side(one: Side) -> Side:
            offset = one.offset[places]
            return Side({number: taken(slope) for number, slope in one.slopes.items()}, offset)

        return Form(side(self.lower), side(self.upper))

    def or_constants(self, constants: Form, inputs: Mapping[int, Tensor]) -> Form:
        """The tighter functions, on either side, of these and of constants, at inputs (B, w)."""
        points = {number: values[:, None] for number, values in inputs.items()}

        def side(own: Side, other: Tensor, kept: Tensor) -> Side:
            slopes = {number: torch.where(kept[..., None], slope, 0.0) for number, slope in own.slopes.items()}
            return Side(slopes, torch.where(kept, own.offset, other))

        low, high = self.lower.at(points)[:, 0] >= constants.lower.offset, self.upper.at(points)[:, 0] <= constants.upper.offset
        return Form(side(self.lower, constants.lower.offset, low), side(self.upper, constants.upper.offset, high))

    def size(self, sizes: Mapping[int, Tensor]) -> Tensor:
        """(B, n): both sides' sizes together: slopes of both may be mixed."""
        return self.lower.size(sizes) + self.upper.size(sizes)

    def widen(self, amount: Tensor) -> Form:
        """The same, its sides moved apart by an amount (B, n)."""
        lower, upper = below(self.lower.offset, amount), above(self.upper.offset, amount)
        return Form(Side(self.lower.slopes, lower), Side(self.upper.slopes, upper))

    def settled(self, sizes: Mapping[int, Tensor], rounding: float, met: Tensor) -> Form:
        """The same, what is lost where rows go on with it paid for; `met` (B,) is what an underflow may be multiplied by."""
        return self.widen(rounding * self.size(sizes) + TINY * (1 + met[:, None]))

    def folded(self, kept: Collection[int], boxes: Mapping[int, Interval]) -> Form:
        """The same with slopes on some input nodes only: the least, or the most, that others may bring is constant."""
        lower, upper = self.lower.offset, self.upper.offset
        for number in self.lower.slopes.keys() - kept:
            lower = below(lower + rows_over(self.lower.slopes[number], boxes[number]), 0.0)
            upper = above(upper - rows_over(-self.upper.slopes[number], boxes[number]), 0.0)
        low, high = (
            {number: slope for number, slope in side.slopes.items() if number in kept} for side in (self.lower, self.upper)
        )
        return Form(Side(low, lower), Side(high, upper))


def of_input(number: int, size: int, like: Tensor) -> Form:
    """An input node is itself."""
    identity = torch.eye(size, dtype=like.dtype, device=like.device)[None]
    side = Side({number: identity}, like.new_zeros((len(like), size)))
    return Form(side, side)


def composed(planes: Planes, operands: Sequence[Form]) -> Form:
    """The form of an operation by its planes (B, n) and its operands' forms, before rounding is paid for."""

    def side(plane: Plane, below_side: bool) -> Side:
        slopes: dict[int, Tensor] = {}
        offset = plane.offset
        for slope, form in zip(plane.slopes, operands, strict=True):
            positive = slope.clamp(min=0)
            negative = slope - positive
            low, high = (form.lower, form.upper) if below_side else (form.upper, form.lower)
            offset = offset + positive * low.offset + negative * high.offset
            for number in low.slopes:
                part = positive[..., None] * low.slopes[number] + negative[..., None] * high.slopes[number]
                slopes[number] = slopes[number] + part if number in slopes else part
        return Side(slopes, offset)

    return Form(side(planes.lower, True), side(planes.upper, False))


def composed_size(planes: Planes, operands: Sequence[Tensor]) -> Tensor:
    """(B, n): the sum of the absolute values of all terms of both sides of `composed`, for operands' forms of such sizes."""
    absolute = planes.map(torch.abs)
    return absolute.lower.at(*operands) + absolute.upper.at(*operands)
