"""Values that travel between the layers: intervals of batched tensors, and the arithmetic of rounding.

Shapes: B inputs, n neurons. Everything is float64.

Rounding. Each basic operation on float64 returns the exact result times (1 + d), |d| <= u = 2^-53, or, where it
underflows, within 2^-1022 of it, also where subnormal numbers are flushed to 0. A sum of products of n terms, in any order,
with or without fused multiply-add, is within gamma(n) * sum |terms| of the exact one (Higham, Accuracy and Stability, section
3.1), and n 2^-1022 besides. The allowances below are twice what that theory asks, which pays for their own rounding, and add
`TINY` for underflow. That is enough for a number that is a result. A number that something is multiplied by later, a
coefficient or a size, is off by `TINY` times that something: whoever multiplies has to say how large it can be.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from tightverify.decimals import at_least, at_most
from tightverify.errors import SoundnessFault

UNIT_ROUNDOFF = 2.0**-53
TINY = 1e-290
"""More than underflow can add to one result, a sum of up to 10^17 products; and still more than that times any `gamma`."""
FUNCTION_ERROR = 32 * UNIT_ROUNDOFF
"""Relative error allowed to torch's exp, tanh, sigmoid, log and what is built of a few of them (they keep to 4 ulps)."""

Index = slice | Tensor
"""Some neurons of a node: a slice, or a tensor of positions."""


def as_index(positions: Tensor) -> Index:
    """A slice where positions follow one another, else the positions."""
    start = int(positions[0])
    following = torch.equal(positions, torch.arange(start, start + len(positions)))
    return slice(start, start + len(positions)) if following else positions


def gamma(operations: int) -> float:
    """Twice the relative error of a sum of `operations` products."""
    return 2 * operations * UNIT_ROUNDOFF / (1 - operations * UNIT_ROUNDOFF)


class NextBelow(torch.autograd.Function):
    """The next smaller float, whose derivative counts as 1."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return torch.nextafter(x, torch.full_like(x, -torch.inf))

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def below(value: Tensor, allowance: Tensor | float) -> Tensor:
    """A float that is surely at most `value - allowance`; NaN and overflow become -inf, which claims nothing."""
    lowered = value - allowance
    nothing = torch.full_like(lowered, -torch.inf)
    if lowered.requires_grad:
        nearest: Tensor = NextBelow.apply(lowered)  # type: ignore[no-untyped-call]
    else:
        nearest = torch.nextafter(lowered, nothing)
    return torch.where(torch.isfinite(lowered), nearest, nothing)


class OnlyNumbers(torch.autograd.Function):
    """The same; derivatives that are no numbers, of a branch that was not taken, are 0."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return torch.nan_to_num(gradients[0], 0.0, 0.0, 0.0)


def tamed(x: Tensor) -> Tensor:
    """The same, for an expression that is not used where its derivative is no number."""
    if not x.requires_grad:
        return x
    found: Tensor = OnlyNumbers.apply(x)  # type: ignore[no-untyped-call]
    return found


def above(value: Tensor, allowance: Tensor | float) -> Tensor:
    """A float that is surely at least `value + allowance`; NaN becomes +inf."""
    return -below(-value, allowance)


K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")


@final
class FrozenMapping(Mapping[K, V]):
    """A mapping that nobody changes."""

    def __init__(self, values: Mapping[K, V] = MappingProxyType({})) -> None:
        self._values = dict(values)

    def __getitem__(self, key: K) -> V:
        return self._values[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> ItemsView[K, V]:
        return self._values.items()

    def map(self, change: Callable[[V], W]) -> FrozenMapping[K, W]:
        """The same change made to all the values."""
        return FrozenMapping({key: change(value) for key, value in self._values.items()})


@dataclass(frozen=True, eq=False, repr=False)
class Interval:
    """A closed box: `lower <= value <= upper`, neuron by neuron, each (B, n)."""

    lower: Tensor
    upper: Tensor

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.lower.shape))
        if not self.lower.numel():
            return f"Interval({shape})"
        low, high = at_least(float(self.lower.detach().min()), 4), at_most(float(self.upper.detach().max()), 4)
        return f"Interval({shape}: within [{low}, {high}], mean width {float(self.width.detach().mean()):.3g})"

    def intersect(self, other: Interval) -> Interval:
        """What both say. Sound bounds of one value cannot contradict each other, so an empty result is a fault."""
        lower = torch.maximum(self.lower, other.lower)
        upper = torch.minimum(self.upper, other.upper)
        if bool((lower > upper).any()):
            gap = float((lower - upper).max())
            raise SoundnessFault(
                f"two bounds of one neuron contradict each other by {gap:.3g}: this is a bug in tightverify, please report it"
            )
        return Interval(lower, upper)

    def meet(self, other: Interval) -> tuple[Interval, Tensor]:
        """What both say of values that there may be none of: (B,) says where they contradict; there this one is kept."""
        lower = torch.maximum(self.lower, other.lower)
        upper = torch.minimum(self.upper, other.upper)
        crossed = lower > upper
        return Interval(torch.where(crossed, self.lower, lower), torch.where(crossed, self.upper, upper)), crossed.any(-1)

    def __getitem__(self, index: Index) -> Interval:
        return self.map(lambda bound: bound[..., index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Interval:
        """The same change of shape, device or order applied to both ends."""
        return Interval(change(self.lower), change(self.upper))

    def mirror(self) -> Interval:
        """The interval of the negated value."""
        return Interval(-self.upper, -self.lower)

    @property
    def centre(self) -> Tensor:
        return self.lower + (self.upper - self.lower) / 2

    @property
    def width(self) -> Tensor:
        return self.upper - self.lower

    @property
    def magnitude(self) -> Tensor:
        """The largest absolute value inside."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


def negative(values: Tensor) -> Tensor:
    """-1, that is all bits, where the sign is a minus, else 0. Zeros and what is no number have either."""
    return values.view(torch.int64) >> 63


def by_sign(signs: Tensor, positive: Tensor, other: Tensor) -> Tensor:
    """Numbers taken by others' signs, all float64; where those are 0, either.

    By their bits, as processors take long over a condition that they cannot foresee.
    """
    one, two = positive.view(torch.int64), other.view(torch.int64)
    return ((one ^ two) & negative(signs)).bitwise_xor_(one).view(torch.float64)


def times(rows: Tensor, values: Tensor) -> Tensor:
    """(B or 1, R, n) times (B, n): (B, R)."""
    if rows.shape[0] == 1:
        return values @ rows[0].T
    return torch.matmul(rows, values[:, :, None])[..., 0]
