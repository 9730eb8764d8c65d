"""Choices between lines over the same neurons that are one bent line: leaky ReLUs, caps, ramps, by `where` or by extremes.

`where(z < 0, a z, z)` and `max(a z, z)` are a leaky ReLU; `where(z > r, b z + s, z)` and `min(z, b z + s)` are
`r - leaky(r - z)`, where the two lines meet at r; one inside the other is a ramp, as ParamRamp is written by many: see `ramps`.
By themselves a step, two products and a sum, or two maxima of two neurons, are far less tight.

Where s was worked out in few digits, `b r + s` is not quite r. The bent line then is off by at most that jump, which is
paid for as an error of its constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tightverify.graph import OTHER_ROUNDINGS, Term
from tightverify.linear_map import Identity
from tightverify.models.builder import ZERO, Builder, Scaled, Symbols
from tightverify.models.ramps import DIGITS
from tightverify.models.sizes import fits
from tightverify.ops import LeakyRelu, Maximum, Operation, Ramp, Step
from tightverify.values import gamma

Op = TypeVar("Op", bound=Operation)
JUMP = 2.0**-20
"""Lines that miss each other by a larger share do not meet."""
DEPTH = 4
"""So many sums are looked through."""


@dataclass(frozen=True, eq=False)
class Line:
    """`factor z + shift`; `size` is for the shift what a sum's `bias_size` is."""

    factor: Tensor
    shift: Tensor
    size: Tensor

    @property
    def slope(self) -> float | None:
        """From 0 to 1, if it is the same for all neurons."""
        slope = float(self.factor[0])
        return slope if 0 <= slope <= 1 and bool((self.factor == slope).all()) else None

    @property
    def through_0(self) -> bool:
        return not bool(self.shift.any() or self.size.any())


@dataclass(frozen=True, eq=False)
class Bent:
    """z, but `low z` below 0, and with the slope `high` from caps on; `size` is for the caps what a sum's `bias_size` is."""

    low: float = 1.0
    high: float = 1.0
    caps: Tensor | None = None
    size: Tensor | None = None


def chosen(builder: Builder, c: Symbols, x: Symbols, y: Symbols) -> Symbols:
    """x where c is 1, y where it is 0: a bent line, or `c x + (1 - c) y`."""

    def choose(c: Symbols, x: Symbols, y: Symbols) -> Symbols:
        parts = (builder.multiply(c, x), builder.multiply(builder.combine([(c, -1.0)], 1.0), y))
        return builder.combine([(part, 1.0) for part in parts])

    return recognised(builder, by_condition, choose, c, x, y)


def larger(builder: Builder, x: Symbols, y: Symbols) -> Symbols:
    return recognised(builder, by_maximum, lambda x, y: builder.apply(Maximum(), x, y), x, y)


def smaller(builder: Builder, x: Symbols, y: Symbols) -> Symbols:
    def least(x: Symbols, y: Symbols) -> Symbols:
        over = builder.apply(Maximum(), builder.combine([(x, -1.0)]), builder.combine([(y, -1.0)]))
        return builder.combine([(over, -1.0)])

    return recognised(builder, by_minimum, least, x, y)


def recognised(
    builder: Builder, bend: Callable[..., Symbols | None], otherwise: Callable[..., Symbols], *xs: Symbols
) -> Symbols:
    """Neurons that read the same nodes are looked at together; those that are no bent line stay what they are."""
    shape = fits(*np.broadcast_shapes(*(x.shape for x in xs)))
    flat = [np.broadcast_to(x, shape).ravel() for x in xs]
    result, left = np.full(len(flat[0]), ZERO, dtype=np.int64), np.ones(len(flat[0]), dtype=bool)
    keys = np.stack([builder.source_of(x) for x in flat])
    _, numbers = np.unique(keys, axis=1, return_inverse=True)
    for number in range(int(numbers.max(initial=-1)) + 1):
        there = np.flatnonzero(numbers.ravel() == number)
        found = bend(builder, *(x[there] for x in flat))
        if found is not None:
            result[there], left[there] = found, False
    if left.all():
        return otherwise(*xs)
    if left.any():
        result[left] = otherwise(*(x[left] for x in flat))
    return result.reshape(shape)


def by_condition(builder: Builder, c: Symbols, x: Symbols, y: Symbols) -> Symbols | None:
    for z, threshold, size, over in conditions(builder, c):
        above, below = (x, y) if over else (y, x)
        upper, lower = line(builder, above, z), line(builder, below, z)
        if not bool(threshold.any() or size.any()) and lower is not None and lower.through_0 and lower.slope is not None:
            bent = bent_of(builder, above, z)
            if bent is not None and (bent.caps is None or bool((bent.caps > 0).all())):
                return made(builder, z, Bent(lower.slope, bent.high, bent.caps, bent.size))
        bent = bent_of(builder, below, z)
        if upper is not None and bent is not None and bent.caps is None:
            found = capped(builder, z, bent, upper, threshold, size)
            if found is not None:
                return found
    return None


def by_maximum(builder: Builder, x: Symbols, y: Symbols) -> Symbols | None:
    for z in [*below_of(builder, x), *below_of(builder, y)]:
        for first, second in ((x, y), (y, x)):
            steady, bent = line(builder, first, z), bent_of(builder, second, z)
            low = None if steady is None or not steady.through_0 else steady.slope
            if low is not None and bent is not None and bent.low == 1 and bent.high >= low:
                return made(builder, z, Bent(low, bent.high, bent.caps, bent.size))
    return None


def by_minimum(builder: Builder, x: Symbols, y: Symbols) -> Symbols | None:
    for z in [*below_of(builder, x), *below_of(builder, y)]:
        for first, second in ((x, y), (y, x)):
            steady, bent = line(builder, first, z), bent_of(builder, second, z)
            high = None if steady is None else steady.slope
            if steady is None or bent is None or bent.caps is not None or high is None or high >= 1 or bent.low < high:
                continue
            meeting = steady.shift / (1 - high)
            return capped(builder, z, bent, steady, meeting, torch.zeros_like(meeting))
    return None


def capped(builder: Builder, z: Symbols, bent: Bent, upper: Line, caps: Tensor, size: Tensor) -> Symbols | None:
    """`bent` up to the caps and the line from there on, if they meet there but for roundings."""
    if upper.slope is None:
        return None
    numbers = caps.abs() + upper.shift.abs() + (upper.slope * caps).abs()
    jump = (upper.slope * caps + upper.shift - caps).abs()
    if not bool((jump <= JUMP * numbers).all()):
        return None
    error = 2 * (numbers + size + upper.size + jump / gamma(OTHER_ROUNDINGS))
    return made(builder, z, Bent(bent.low, upper.slope, caps, error))


def made(builder: Builder, z: Symbols, bent: Bent) -> Symbols | None:
    """The neurons of one operation on z."""
    if bent.caps is None:
        return paid(builder, builder.apply(LeakyRelu(bent.low), z), bent.low)
    if bent.low == 1:
        rest = builder.apply(LeakyRelu(bent.high), builder.combine([(z, -1.0)], bent.caps))
        return builder.combine([(rest, -1.0)], bent.caps, bent.size)
    inverse = 1 / bent.caps
    if not bool((torch.isfinite(inverse) & (bent.caps > 0) & (inverse > torch.finfo(torch.float64).tiny)).all()):
        return None
    ramp = builder.apply(Ramp(bent.low, 1.0, bent.high), builder.combine([(z, inverse)]))
    return builder.combine([(ramp, bent.caps)], 0.0, bent.size)


def paid(builder: Builder, x: Symbols, slope: float) -> Symbols:
    """The same neurons; a sum pays for a slope that may be a rounded quotient, as all have that are no float32."""
    source = only_source(builder, x)
    if source is None or slope * DIGITS == round(slope * DIGITS):
        return x
    return builder.affine([Term(builder.operand(x, source)[1], Identity(len(x)))], torch.zeros(len(x), dtype=torch.float64))


# What neurons are made of


def scaled_by(builder: Builder, x: Symbols) -> Scaled | None:
    source = only_source(builder, x)
    return None if source is None else builder.scaled_by(x, source)


def made_by(builder: Builder, x: Symbols, kind: type[Op]) -> tuple[Op, Symbols] | None:
    source = only_source(builder, x)
    found = None if source is None else builder.made_by(x, source)
    return (found[0], found[1]) if found is not None and isinstance(found[0], kind) else None


def leaky_of(builder: Builder, x: Symbols) -> tuple[float, Symbols] | None:
    """The slope of a leaky ReLU that x is, and of what it is one; what pays for its slope is looked through."""
    outer = scaled_by(builder, x)
    if outer is not None and bool((outer.factor == 1).all()) and not bool(outer.shift.any() | outer.size.any()):
        x = outer.read
    found = made_by(builder, x, LeakyRelu)
    return (found[0].slope, found[1]) if found is not None and 0 <= found[0].slope <= 1 else None


def below_of(builder: Builder, x: Symbols) -> Iterator[Symbols]:
    """The neurons, and those that they may be lines or bent lines over."""
    for _ in range(DEPTH):
        yield x
        for found in (leaky_of(builder, x), cap_over(builder, x)):
            if found is not None:
                yield found[1]
        step = scaled_by(builder, x)
        if step is None:
            return
        x = step.read


def only_source(builder: Builder, x: Symbols) -> int | None:
    sources = np.unique(builder.source_of(x))
    return int(sources[0]) if len(sources) == 1 and sources[0] != ZERO else None


def line(builder: Builder, x: Symbols, z: Symbols) -> Line | None:
    """x as a line over z, factors as they were given, products of others not."""
    factor = torch.ones(len(x), dtype=torch.float64)
    shift, size = torch.zeros_like(factor), torch.zeros_like(factor)
    for _ in range(DEPTH + 1):
        if np.array_equal(x, z) or (x == ZERO).all():
            return Line(factor if np.array_equal(x, z) else torch.zeros_like(factor), shift, size)
        step = scaled_by(builder, x)
        if step is None or not bool(((factor.abs() == 1) | (step.factor.abs() == 1) | (step.factor == 0)).all()):
            return None
        shift, size = shift + factor * step.shift, 2 * (size + factor.abs() * step.size)
        factor, x = factor * step.factor, step.read
    return None


def bent_of(builder: Builder, x: Symbols, z: Symbols) -> Bent | None:
    """x as a bent line over z."""
    if np.array_equal(x, z):
        return Bent()
    leaky, over = leaky_of(builder, x), cap_over(builder, x)
    if leaky is not None and np.array_equal(leaky[1], z):
        return Bent(leaky[0])
    return over[0] if over is not None and np.array_equal(over[1], z) else None


def cap_over(builder: Builder, x: Symbols) -> tuple[Bent, Symbols] | None:
    """How z is bent if x is `caps - leaky(caps - z)`, and z."""
    outer = scaled_by(builder, x)
    leaky = None if outer is None else leaky_of(builder, outer.read)
    inner = None if leaky is None else scaled_by(builder, leaky[1])
    if outer is None or leaky is None or inner is None:
        return None
    if not bool(((inner.factor == -1) & (outer.factor == -1) & (inner.shift == outer.shift)).all()):
        return None
    return Bent(1.0, leaky[0], outer.shift, outer.size + inner.size), inner.read


def conditions(builder: Builder, c: Symbols) -> Iterator[tuple[Symbols, Tensor, Tensor, bool]]:
    """What c may mean: neurons, thresholds, the sizes of these, and whether it is 1 above them, else below."""
    over = True
    for _ in range(DEPTH):
        opposite = scaled_by(builder, c)
        if opposite is None or not bool(((opposite.factor == -1) & (opposite.shift == 1) & (opposite.size == 1)).all()):
            break
        c, over = opposite.read, not over
    step = made_by(builder, c, Step)
    if step is None:
        return
    zero = torch.zeros(len(c), dtype=torch.float64)
    yield step[1], zero, zero, over
    inner = scaled_by(builder, step[1])
    for sign in (1, -1):
        if inner is not None and bool((inner.factor == sign).all()):
            yield inner.read, -sign * inner.shift, inner.size, over == (sign == 1)
