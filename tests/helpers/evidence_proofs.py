"""Proofs that an operation keeps to one side of a plane, on all of a domain, without a sample and without a tolerance.

The question is always whether `g(p) = k f(p) + a @ p + c >= 0` for all p of the domain, k, a and c being rationals: floats are
taken as the rationals that they are. Functions that are rational are decided as such; of others balls (python-flint) hold the
values, slopes and second derivatives.

* Straight pieces: at the ends of the pieces. Squares and products: at critical points and on the domain's border.
* One operand (`line_holds`): where g is concave, at the ends; where it is convex, above where the tangents at the
  ends meet; else the interval is halved.
* F(x) y is linear in y, so that g is the least on the border, where it is a function of one number. GRU's update is linear in
  its second and third operand: the same at the four corners of these.
* sigmoid(x) tanh(y): the domain is cut into triangles until its second derivatives are small enough on each (`surface_holds`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from flint import fmpq

from tests.helpers.evidence_lines import (
    BELLS,
    SHAPED,
    Along,
    Curved,
    Point,
    line_holds,
    rational,
    rationals,
    segment_holds,
    shape_of,
)
from tests.helpers.evidence_surfaces import Change, Surface, surface_holds

Named = tuple[str, tuple[tuple[str, float | tuple[float, ...] | None], ...]]
MOST_CORNERS = 12
"""Of a box of more coordinates, not every corner is looked at."""


@lru_cache(maxsize=100_000)
def number_of(parameter: float | tuple[float, ...]) -> float:
    """A parameter that is one number."""
    assert not isinstance(parameter, tuple)
    return parameter


def keeps_above(op: Named, k: fmpq, slopes: Point, constant: fmpq, domain: tuple[Point, ...]) -> bool:
    """Whether `k f(p) + slopes @ p + constant >= 0` on a domain of two operands' polygon, or else a box's opposite corners.

    `op` is the operation's name, with its parameters.
    """
    name, parameters = op[0], dict(op[1])
    if len(slopes) == 2:
        if name.endswith("_difference"):
            return change_holds(name.removesuffix("_difference"), parameters, k, slopes, constant, list(domain))
        return on_polygon(name, k, slopes, constant, list(domain))
    low, high = domain
    if name == "gru_update":
        return all(
            line_holds(
                Curved("sigmoid", k * (h - n), slopes[0], (k + slopes[1]) * n + slopes[2] * h + constant), low[0], high[0]
            )
            for n in (low[1], high[1])
            for h in (low[2], high[2])
        )
    if name == "weighted_mean":
        points = [low[0], *(t for t in (fmpq(0), fmpq(1)) if low[0] < t < high[0]), high[0]]
        return all(
            k * (n + min(max(t, fmpq(0)), fmpq(1)) * (h - n)) + slopes[0] * t + slopes[1] * n + slopes[2] * h + constant >= 0
            for t in points
            for n in (low[1], high[1])
            for h in (low[2], high[2])
        )
    (a,), (left,), (right,) = slopes, low, high
    if name.endswith("table"):
        return table_holds(name.removesuffix("_less_table"), parameters, k, a, constant, left, right)
    if name == "square":
        return segment_holds(k, a, constant, left, right)
    if name in ("leaky_relu", "clamp", "ramp", "hard_sigmoid"):
        bends, value = straight(name, parameters)
        points = [left, *(t for t in bends if left < t < right), right]
        return all(k * value(t) + a * t + constant >= 0 for t in points)
    if name == "elu":
        alpha = rational(number_of(parameters["alpha"]))
        bent = Curved("exp", k * alpha, a, constant - k * alpha)
        straight_ends = (max(left, fmpq(0)), right) if right >= 0 else ()
        return all((k + a) * t + constant >= 0 for t in straight_ends) and (
            left >= 0 or line_holds(bent, left, min(right, fmpq(0)))
        )
    if name == "softsign":  # x / (1 - x) on the left, x / (1 + x) on the right, each times its denominator
        return all(
            segment_holds(sign * a, k + a + sign * constant, constant, low, high)
            for sign, low, high in ((1, max(left, fmpq(0)), right), (-1, left, min(right, fmpq(0))))
            if low <= high
        )
    if name == "hard_swish":
        slope, shift = rational(number_of(parameters["slope"])), rational(number_of(parameters["shift"]))
        first, last = -shift / slope, (1 - shift) / slope
        inner = max(left, first), min(right, last)
        outer = [a * t + constant for t in (left, min(right, first)) if left <= first]
        outer += [(k + a) * t + constant for t in (max(left, last), right) if right >= last]
        return min(outer, default=fmpq(0)) >= 0 and (
            inner[0] > inner[1] or segment_holds(k * slope, k * shift + a, constant, *inner)
        )
    if name == "step":
        ends = [(left, left > 0), (right, right > 0), *((fmpq(0), one) for one in (False, True) if left <= 0 < right)]
        return all(k * int(value) + a * t + constant >= 0 for t, value in ends)  # right of 0 it is 1 at once
    if name == "nonzero":
        ends = [(t, t != 0) for t in (left, right, *([fmpq(0)] if left <= 0 <= right else ()))]
        beside = [(fmpq(0), True)] if left <= 0 <= right and left < right else []
        return all(k * int(value) + a * t + constant >= 0 for t, value in [*ends, *beside])  # beside 0 it is 1 at once
    if name == "floor":
        return floor_holds(k, a, constant, left, right)
    if name == "truncation":
        limit = rational(number_of(parameters["limit"]))
        above = right < 0 or floor_holds(k, a, constant, max(left, fmpq(0)), right)
        below = left > 0 or floor_holds(-k, -a, constant, max(-right, fmpq(0)), -left)
        return -limit < left and right < limit and above and below
    starts = {"log": left > 0, "reciprocal": left > 0 or right < 0, "square_root": left >= 0}
    return starts.get(name, True) and line_holds(Curved(shape_of(name, parameters), k, a, constant), left, right)


def floor_holds(k: fmpq, slope: fmpq, constant: fmpq, low: fmpq, high: fmpq) -> bool:
    """The same of the greatest whole number: at the ends, at whole numbers and just below; first and last decide."""
    points = [(low, low.floor()), (high, high.floor())]
    first, last = -((-low).floor()), high.floor()
    for whole in (first, last) if first <= last else ():
        points += [(fmpq(whole), whole), *([(fmpq(whole), whole - 1)] if whole > low else [])]
    if first + 1 <= last:
        points.append((fmpq(first + 1), first))
    return all(k * value + slope * t + constant >= 0 for t, value in points)


def table_holds(name: str, parameters: Mapping[str, Any], k: fmpq, slope: fmpq, constant: fmpq, low: fmpq, high: fmpq) -> bool:
    """The same of a table, or of a curve less one, on each piece with both its ends."""
    breaks, left, right = ([rational(value) for value in parameters[part]] for part in ("breaks", "left", "right"))
    before, after = rational(parameters["before"]), rational(parameters["after"])
    inner = [(b - a) / (t - s) for a, b, s, t in zip(right[:-1], left[1:], breaks[:-1], breaks[1:], strict=True)]
    lines = zip([before, *inner, after], [breaks[0], *breaks], [left[0], *right], strict=True)
    for (steep, place, value), start, end in zip(lines, [low, *breaks], [*breaks, high], strict=True):
        first, last = max(low, start), min(high, end)
        if first > last:
            continue
        height = value - steep * place
        if name == "table" and not all(k * (height + steep * t) + slope * t + constant >= 0 for t in (first, last)):
            return False
        bent = Curved(name, k, slope - k * steep, constant - k * height)
        if name != "table" and not line_holds(bent, first, last):
            return False
    return True


def straight(name: str, parameters: Mapping[str, Any]) -> tuple[list[fmpq], Any]:
    """Where a function of straight pieces bends, and its value."""
    if name == "leaky_relu":
        slope = rational(parameters["slope"])
        return [fmpq(0)], lambda t: slope * t if t < 0 else t
    if name == "ramp":
        slope, cap = rational(parameters["slope"]), rational(parameters["cap"])
        beyond = rational(parameters.get("beyond", parameters["slope"]))
        return [fmpq(0), cap], lambda t: slope * t if t < 0 else min(t, cap) + beyond * max(t - cap, fmpq(0))
    if name == "hard_sigmoid":
        slope, shift = rational(parameters["slope"]), rational(parameters["shift"])
        return [-shift / slope, (1 - shift) / slope], lambda t: min(max(slope * t + shift, fmpq(0)), fmpq(1))
    low, high = (None if parameters[end] is None else rational(parameters[end]) for end in ("low", "high"))

    def value(t: fmpq) -> fmpq:
        raised = t if low is None else max(t, low)
        return raised if high is None else min(raised, high)

    return [bend for bend in (low, high) if bend is not None], value


def on_polygon(name: str, k: fmpq, slopes: Point, c: fmpq, polygon: list[Point]) -> bool:
    a, b = slopes
    if k == 0:
        return all(a * x + b * y + c >= 0 for x, y in polygon)
    if name == "maximum":
        halves = [clipped(polygon, sign * fmpq(1), -sign * fmpq(1), fmpq(0)) for sign in (1, -1)]
        return all(k * max(x, y) + a * x + b * y + c >= 0 for half in halves for x, y in half)
    if name in ("multiply", "sum_of_squares"):
        return quadratic_holds(name, k, a, b, c, polygon)
    if name in ("tanh_times", "sigmoid_times"):
        bell = BELLS[name.partition("_")[0]]
        return all(line_holds(Along(bell, k, a, b, c, *edge), fmpq(0), fmpq(1)) for edge in edges(polygon))
    if name == "sigmoid_tanh":
        return surface_holds(Surface(BELLS["sigmoid"], BELLS["tanh"], k, a, b, c), polygon)
    raise NotImplementedError(f"write the proof of {name} here")


def change_holds(name: str, parameters: Mapping[str, Any], k: fmpq, slopes: Point, c: fmpq, polygon: list[Point]) -> bool:
    """The same for `f(x) - f(x - d)`, which is straight between the lines on which x or x - d is where f bends, if f is."""
    (a, b), name = slopes, shape_of(name, parameters)
    if name in SHAPED:
        return surface_holds(Change(SHAPED[name], k, a, b, c), polygon)
    bends, value = straight(name, parameters)
    parts = [polygon]
    for bend in bends:
        for along in (fmpq(0), fmpq(-1)):
            halves = [clipped(part, sign * fmpq(1), sign * along, sign * bend) for part in parts for sign in (1, -1)]
            parts = [half for half in halves if half]
    return all(k * (value(x) - value(x - d)) + a * x + b * d + c >= 0 for part in parts for x, d in part)


def edges(polygon: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    return zip(polygon, [*polygon[1:], polygon[0]], strict=True)


def quadratic_holds(name: str, k: fmpq, a: fmpq, b: fmpq, c: fmpq, polygon: list[Point]) -> bool:
    """On the border; a sum of squares may be the least inside, a product is nowhere."""

    def form(x: fmpq, y: fmpq, u: fmpq, v: fmpq) -> fmpq:
        return x * u + y * v if name == "sum_of_squares" else (x * v + y * u) / 2

    for (x, y), (u, v) in edges(polygon):
        dx, dy = u - x, v - y
        line = k * form(dx, dy, dx, dy), 2 * k * form(x, y, dx, dy) + a * dx + b * dy, k * form(x, y, x, y) + a * x + b * y + c
        if not segment_holds(*line, fmpq(0), fmpq(1)):
            return False
    if name == "multiply" or k < 0 or c - (a * a + b * b) / (4 * k) >= 0:
        return True
    x, y = -a / (2 * k), -b / (2 * k)
    return any((u[0] - v[0]) * (y - v[1]) - (u[1] - v[1]) * (x - v[0]) <= 0 for v, u in edges(polygon))


def clipped(polygon: Sequence[Point], a: fmpq, b: fmpq, least: fmpq) -> list[Point]:
    """What of a convex polygon has `a x + b y >= least`."""
    found: list[Point] = []
    for p, q in edges(polygon) if polygon else ():
        here, there = a * p[0] + b * p[1] - least, a * q[0] + b * q[1] - least
        if here >= 0:
            found.append(p)
        if (here < 0 < there) or (there < 0 < here):
            share = here / (here - there)
            found.append((p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])))
    return found


def hull(points: Sequence[Point]) -> list[Point]:
    """The corners of points' convex hull, counter-clockwise."""
    every = sorted(set(points))
    if len(every) < 3:
        return every

    def chain(some: Sequence[Point]) -> list[Point]:
        found: list[Point] = []
        for p in some:
            while len(found) > 1 and turn(found[-2], found[-1], p) <= 0:
                found.pop()
            found.append(p)
        return found[:-1]

    return chain(every) + chain(every[::-1])


def turn(p: Point, q: Point, r: Point) -> fmpq:
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


def energy_keeps_above(
    forms: tuple[Any, Any, Any], k: fmpq, slopes: Sequence[fmpq], constant: fmpq, low: Sequence[fmpq], high: Sequence[fmpq]
) -> bool:
    """Whether `k E(p) + slopes @ p + constant >= 0` on a box, E being a sum, by weights, of squares of forms: matrix and shift.

    E is convex: above its tangents, and the greatest at a corner; or below `tangent + sum_ij |Q_ij| d_i^2` from the middle,
    Q being half its second derivative.
    """
    matrix, shift, weights = (rationals(part) for part in forms)
    slope, lower, upper = (np.array(list(part), dtype=object) for part in (slopes, low, high))

    def value(p: Any) -> fmpq:
        return (weights * (matrix @ p + shift) ** 2).sum()

    def gradient(p: Any) -> Any:
        return 2 * ((weights * (matrix @ p + shift)) @ matrix)

    def least(g: Any) -> fmpq:
        return sum((min(s * x, s * y) for s, x, y in zip(g, lower, upper, strict=True)), fmpq(0))

    if k > 0:
        plain = [np.asarray(part, dtype=np.float64) for part in forms]
        hessian = 2 * plain[0].T @ (plain[2][:, None] * plain[0])
        wanted = -np.array([float(s / k) for s in slope]) - 2 * (plain[2] * plain[1]) @ plain[0]
        p = rationals(np.linalg.lstsq(hessian, wanted, rcond=None)[0])
        for _ in range(3):  # the rest of the gradient, worked out exactly
            left = np.array([float(v) for v in -slope / k - gradient(p)])
            p = p + rationals(np.linalg.lstsq(hessian, left, rcond=None)[0])
        g = gradient(p)
        return bool(k * (value(p) - (g * p).sum()) + constant + least(k * g + slope) >= 0)
    if len(slope) <= MOST_CORNERS:
        choices = (np.array([(which >> j) & 1 for j in range(len(slope))], dtype=bool) for which in range(2 ** len(slope)))
        corners = (np.where(choice, upper, lower) for choice in choices)
        return all(k * value(p) + (slope * p).sum() + constant >= 0 for p in corners)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    sums = abs(matrix.T @ (weights[:, None] * matrix)).sum(1)
    g = gradient(middle)
    most = value(middle) - (g * middle).sum() + (sums * half**2).sum()
    return bool(k * most + constant + least(k * g + slope) >= 0)
