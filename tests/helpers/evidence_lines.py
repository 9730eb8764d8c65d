"""Proofs that a function of one number is at least 0 on an interval, in balls that hold its values and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import flint
import numpy as np
from flint import arb, fmpq

flint.ctx.prec = 200
STEPS = 20_000
"""Parts of one domain after which a plane counts as not proved."""
PARTS = 4
"""of an interval where a ball of a formula is looked for"""
Point = tuple[fmpq, ...]
Range = tuple[arb, arb]
Formula = Callable[[arb], arb]


def rational(value: float) -> fmpq:
    return fmpq(*float(value).as_integer_ratio())


rationals = np.frompyfunc(rational, 1, 1)


class Line(Protocol):
    """A function of one number: what line_holds asks of it."""

    def value(self, t: fmpq) -> arb: ...

    def slope(self, t: fmpq) -> arb: ...

    def curvature(self, low: fmpq, high: fmpq) -> Range: ...


def line_holds(line: Line, low: fmpq, high: fmpq) -> bool:
    """Whether a function is at least 0 on [low, high]."""
    todo, steps = [(low, high)], 0
    while todo:
        steps += 1
        left, right = todo.pop()
        width = right - left
        at_left, at_right = line.value(left), line.value(right)
        if not (at_left >= 0 and at_right >= 0) or steps > STEPS:
            return False
        least, most = line.curvature(left, right)
        if most <= 0 or width == 0:
            continue
        middle = (left + right) / 2
        if least >= 0:
            down, up = line.slope(left), line.slope(right)
            # Where the tangents at the ends meet, their height times what their slopes differ by is this:
            if down >= 0 or up <= 0 or (down < 0 < up and at_left * up - at_right * down + down * up * width >= 0):
                continue
            meeting = left + (at_right - at_left - up * width) / (down - up)
            if meeting.is_finite() and left < meeting.mid().fmpq() < right:
                middle = meeting.mid().fmpq()
        elif at_left.min(at_right) - most * width**2 / 8 >= 0:
            continue
        todo += [(left, middle), (middle, right)]
    return True


def segment_holds(a: fmpq, b: fmpq, c: fmpq, low: fmpq, high: fmpq) -> bool:
    """Whether `a t^2 + b t + c >= 0` on [low, high]."""
    if any((a * t + b) * t + c < 0 for t in (low, high)):
        return False
    return a <= 0 or not low < -b / (2 * a) < high or c - b * b / (4 * a) >= 0


def times(one: Range, other: Range) -> Range:
    products = [x * y for x in one for y in other]
    least, most = products[0], products[0]
    for product in products[1:]:
        least, most = least.min(product), most.max(product)
    return least, most


def scaled(k: Any, values: Range) -> Range:
    return times((arb(k), arb(k)), values)


def plus(one: Range, other: Range) -> Range:
    return one[0] + other[0], one[1] + other[1]


class Bell:
    """tanh or sigmoid: increasing, its derivative even and falling from 0 on."""

    def __init__(self, name: str) -> None:
        self._sigmoid = name == "sigmoid"

    def value(self, t: fmpq) -> arb:
        return 1 / (1 + (-arb(t)).exp()) if self._sigmoid else arb(t).tanh()

    def slope(self, t: fmpq) -> arb:
        return self.value(t) * self.value(-t) if self._sigmoid else arb(t).sech() ** 2

    def values(self, low: fmpq, high: fmpq) -> Range:
        return self.value(low), self.value(high)

    def slopes(self, low: fmpq, high: fmpq) -> Range:
        ends = self.slope(low), self.slope(high)
        return ends[0].min(ends[1]), self.slope(fmpq(0)) if low < 0 < high else ends[0].max(ends[1])

    def curvature(self, low: fmpq, high: fmpq) -> Range:
        """The derivative times -tanh(x / 2), or -2 tanh(x)."""
        bent = tuple(-(arb(t) / 2).tanh() if self._sigmoid else -2 * arb(t).tanh() for t in (high, low))
        return times(self.slopes(low, high), bent)  # type: ignore[arg-type]


class Shaped:
    """A smooth function that is no such curve, by its value, its slope and its second derivative in balls."""

    def __init__(self, value: Formula, slope: Formula, second: Formula) -> None:
        self._formulas = value, slope, second

    def value(self, t: fmpq) -> arb:
        return self._formulas[0](arb(t))

    def slope(self, t: fmpq) -> arb:
        return self._formulas[1](arb(t))

    def curvature(self, low: fmpq, high: fmpq) -> Range:
        """Over a ball that holds the interval, cut into parts."""
        count = 1 if low == high else PARTS
        found = [
            self._formulas[2](around(low + (high - low) * k / count, low + (high - low) * (k + 1) / count))
            for k in range(count)
        ]
        least, most = found[0].lower(), found[0].upper()
        for part in found[1:]:
            least, most = least.min(part.lower()), most.max(part.upper())
        return least, most


def around(low: fmpq, high: fmpq) -> arb:
    return arb(arb((low + high) / 2), arb((high - low) / 2))


def gated(share: Formula, density: Formula, ratio: Formula) -> Shaped:
    """`x s(x)`, by s, its slope s' and s'' / s'."""
    return Shaped(lambda x: x * share(x), lambda x: share(x) + x * density(x), lambda x: density(x) * (2 + x * ratio(x)))


def logistic(x: arb) -> arb:
    """By tanh, whose balls stay within its range."""
    return (1 + (x / 2).tanh()) / 2


def by_tanh(cube: float) -> tuple[Formula, Formula, Formula]:
    """Of GELU's approximation `x sigmoid(2 u)`, `u = steep (x + cube x^3)`."""
    steep = (2 / arb.pi()).sqrt()
    cubic = steep * arb(rational(cube))

    def inner(x: arb) -> arb:
        return steep * x + cubic * x**3

    def slope(x: arb) -> arb:
        return steep + 3 * cubic * x * x

    return (
        lambda x: logistic(2 * inner(x)),
        lambda x: slope(x) * inner(x).sech() ** 2 / 2,
        lambda x: 6 * cubic * x / slope(x) - 2 * inner(x).tanh() * slope(x),
    )


def share_of_mish(x: arb) -> arb:
    return (1 + x.exp()).log().tanh()


GATED: dict[str, tuple[Formula, Formula, Formula]] = {
    "gelu": (lambda x: (-x / arb(2).sqrt()).erfc() / 2, lambda x: (-x * x / 2).exp() / (2 * arb.pi()).sqrt(), lambda x: -x),
    "silu": (logistic, lambda x: (x / 2).sech() ** 2 / 4, lambda x: -(x / 2).tanh()),
    "mish": (
        share_of_mish,
        lambda x: (1 + x.exp()).log().sech() ** 2 * logistic(x),
        lambda x: 1 - logistic(x) * (1 + 2 * share_of_mish(x)),
    ),
}


def power(exponent: int) -> Shaped:
    return Shaped(
        lambda x: x**exponent,
        lambda x: exponent * x ** (exponent - 1),
        lambda x: exponent * (exponent - 1) * x ** (exponent - 2),
    )


BELLS = {name: Bell(name) for name in ("tanh", "sigmoid")}
SHAPED: dict[str, Bell | Shaped] = {**BELLS, **{name: gated(*formulas) for name, formulas in GATED.items()}}


def shape_of(name: str, parameters: Mapping[str, Any]) -> str:
    """The name in `SHAPED` of a function with numbers of its own."""
    if name == "gelu_by_tanh":
        called = f"{name} {parameters['cube']!r}"
        SHAPED.setdefault(called, gated(*by_tanh(parameters["cube"])))
        return called
    if name == "power":
        called = f"{name} {parameters['exponent']}"
        SHAPED.setdefault(called, power(parameters["exponent"]))
        return called
    return name


VALUES: dict[str, Callable[[arb], arb]] = {
    "log": lambda x: x.log(),
    "square_root": lambda x: x.sqrt(),
    "reciprocal": lambda x: 1 / x,
    "exp": lambda x: x.exp(),
    "softplus": lambda x: (1 + x.exp()).log(),
    "erf": lambda x: x.erf(),
}
SLOPES: dict[str, Callable[[arb], arb]] = {
    "log": lambda x: 1 / x,
    "square_root": lambda x: 1 / (2 * x.sqrt()),
    "reciprocal": lambda x: -1 / x**2,
    "exp": lambda x: x.exp(),
    "softplus": lambda x: 1 / (1 + (-x).exp()),
    "erf": lambda x: 2 / arb.pi().sqrt() * (-x * x).exp(),
}


@dataclass(frozen=True)
class Curved:
    """`k f(t) + a t + c` for a smooth function of one operand."""

    name: str
    k: fmpq
    a: fmpq
    c: fmpq

    def value(self, t: fmpq) -> arb:
        f = SHAPED[self.name].value(t) if self.name in SHAPED else VALUES[self.name](arb(t))
        return self.k * f + self.a * t + self.c

    def slope(self, t: fmpq) -> arb:
        if self.name in SHAPED:
            f = SHAPED[self.name].slope(t)
        else:
            x = arb(t)
            f = SLOPES[self.name](x)
        return self.k * f + self.a

    def curvature(self, low: fmpq, high: fmpq) -> Range:
        """That of a logarithm, a root and a reciprocal falls in size from 0 on, where it may be infinite."""
        if self.name in SHAPED:
            return scaled(self.k, SHAPED[self.name].curvature(low, high))
        if self.name == "exp":
            return scaled(self.k, (arb(low).exp(), arb(high).exp()))
        if self.name == "erf":  # -2 x times the slope, which is even and falls from 0 on
            far = max(abs(low), abs(high))
            closest = fmpq(0) if low <= 0 <= high else min(abs(low), abs(high))
            slopes = SLOPES["erf"](arb(far)), SLOPES["erf"](arb(closest))
            return scaled(self.k, times((arb(-2 * high), arb(-2 * low)), slopes))
        if self.name == "softplus":
            return scaled(self.k, BELLS["sigmoid"].slopes(low, high))
        powers: dict[str, tuple[fmpq | int, fmpq]] = {
            "log": (-1, fmpq(-2)),
            "square_root": (fmpq(-1, 4), fmpq(-3, 2)),
            "reciprocal": (2, fmpq(-3)),
        }
        share, power = powers[self.name]
        near = arb("inf") if low == 0 else arb(low) ** arb(power)
        return scaled(self.k * share, (arb(high) ** arb(power), near)) if self.k != 0 else (arb(0), arb(0))


@dataclass(frozen=True)
class Along:
    """`k F(x) y + a x + b y + c` along an edge, for t from 0 to 1."""

    bell: Bell
    k: fmpq
    a: fmpq
    b: fmpq
    c: fmpq
    start: Point
    stop: Point

    def at(self, t: fmpq) -> Point:
        return tuple(p + t * (q - p) for p, q in zip(self.start, self.stop, strict=True))

    def value(self, t: fmpq) -> arb:
        x, y = self.at(t)
        return self.k * self.bell.value(x) * y + self.a * x + self.b * y + self.c

    def slope(self, t: fmpq) -> arb:
        (x, y), dx, dy = self.at(t), self.stop[0] - self.start[0], self.stop[1] - self.start[1]
        return self.k * (self.bell.slope(x) * dx * y + self.bell.value(x) * dy) + self.a * dx + self.b * dy

    def curvature(self, low: fmpq, high: fmpq) -> Range:
        (x, y), (u, v) = self.at(low), self.at(high)
        dx, dy = self.stop[0] - self.start[0], self.stop[1] - self.start[1]
        over = min(x, u), max(x, u)
        bent = scaled(dx * dx, times(self.bell.curvature(*over), (arb(min(y, v)), arb(max(y, v)))))
        return scaled(self.k, plus(bent, scaled(2 * dx * dy, self.bell.slopes(*over))))
