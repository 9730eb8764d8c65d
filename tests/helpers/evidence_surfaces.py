"""Proofs that a smooth function of two numbers is at least 0 on a polygon, cut into triangles until it shows on each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from flint import arb, fmpq

from tests.helpers.evidence_lines import STEPS, Bell, Point, Range, Shaped, plus, rational, scaled, times


class Smooth(ABC):
    """A smooth function of two numbers, its derivatives in balls and in floats."""

    @abstractmethod
    def value(self, p: Point) -> arb: ...

    @abstractmethod
    def gradient(self, p: Point) -> tuple[arb, arb]: ...

    @abstractmethod
    def hessian(self, low: Point, high: Point) -> tuple[Range, Range, Range]:
        """Of xx, xy and yy over a box."""

    @abstractmethod
    def floats(self, x: float, y: float) -> tuple[float, float, float, float, float]:
        """The derivatives by x, y, xx, xy and yy, about."""

    def lowest(self, low: Point, high: Point) -> Point:
        """About where it is the least in a box on which it is convex, by Newton's method in floats."""
        ends = [(float(least), float(most)) for least, most in zip(low, high, strict=True)]
        x, y = (sum(pair) / 2 for pair in ends)
        for _ in range(12):
            gx, gy, xx, xy, yy = self.floats(x, y)
            size = xx * yy - xy * xy
            if not size > 0:
                break
            x = min(max(x - (yy * gx - xy * gy) / size, ends[0][0]), ends[0][1])
            y = min(max(y - (xx * gy - xy * gx) / size, ends[1][0]), ends[1][1])
        return tuple(min(max(rational(v), least), most) for v, least, most in zip((x, y), low, high, strict=True))

    def lowest_along(self, p: Point, edge: Point) -> fmpq:
        """About where it is the least on an edge from p on which it is convex, in floats: halving until its slope is 0."""
        x, y, u, v = (float(part) for part in (*p, *edge))
        low, high = 0.0, 1.0
        for _ in range(60):
            t = (low + high) / 2
            gx, gy, *_ = self.floats(x + t * u, y + t * v)
            low, high = (low, t) if gx * u + gy * v > 0 else (t, high)
        return rational(low if low < 0.5 else high)


@dataclass(frozen=True)
class Surface(Smooth):
    """`k F(x) G(y) + a x + b y + c`, with sigmoid and tanh."""

    first: Bell
    second: Bell
    k: fmpq
    a: fmpq
    b: fmpq
    c: fmpq

    def value(self, p: Point) -> arb:
        return self.k * self.first.value(p[0]) * self.second.value(p[1]) + self.a * p[0] + self.b * p[1] + self.c

    def gradient(self, p: Point) -> tuple[arb, arb]:
        along = self.first.slope(p[0]) * self.second.value(p[1]), self.first.value(p[0]) * self.second.slope(p[1])
        return self.k * along[0] + self.a, self.k * along[1] + self.b

    def hessian(self, low: Point, high: Point) -> tuple[Range, Range, Range]:
        x, y = (low[0], high[0]), (low[1], high[1])
        parts = (
            times(self.first.curvature(*x), self.second.values(*y)),
            times(self.first.slopes(*x), self.second.slopes(*y)),
            times(self.first.values(*x), self.second.curvature(*y)),
        )
        return scaled(self.k, parts[0]), scaled(self.k, parts[1]), scaled(self.k, parts[2])

    def floats(self, x: float, y: float) -> tuple[float, float, float, float, float]:
        k, s, t = float(self.k), 1 / (1 + math.exp(-x)), math.tanh(y)
        ds, dt = s * (1 - s), 1 - t * t
        second = k * ds * (1 - 2 * s) * t, k * ds * dt, -2 * k * s * t * dt
        return k * ds * t + float(self.a), k * s * dt + float(self.b), *second


@dataclass(frozen=True)
class Change(Smooth):
    """`k (F(x) - F(x - d)) + a x + b d + c`."""

    curve: Bell | Shaped
    k: fmpq
    a: fmpq
    b: fmpq
    c: fmpq

    def value(self, p: Point) -> arb:
        return self.k * (self.curve.value(p[0]) - self.curve.value(p[0] - p[1])) + self.a * p[0] + self.b * p[1] + self.c

    def gradient(self, p: Point) -> tuple[arb, arb]:
        here, there = self.curve.slope(p[0]), self.curve.slope(p[0] - p[1])
        return self.k * (here - there) + self.a, self.k * there + self.b

    def hessian(self, low: Point, high: Point) -> tuple[Range, Range, Range]:
        there = scaled(self.k, self.curve.curvature(low[0] - high[1], high[0] - low[1]))
        minus = scaled(fmpq(-1), there)
        return plus(scaled(self.k, self.curve.curvature(low[0], high[0])), minus), there, minus

    def floats(self, x: float, y: float) -> tuple[float, float, float, float, float]:
        def derivatives(t: float) -> tuple[float, float]:
            ball = fmpq(*t.as_integer_ratio())
            first = float(self.curve.slope(ball))
            return first, float(self.curve.curvature(ball, ball)[0])

        (first, second), (before, bent) = derivatives(x), derivatives(x - y)
        k = float(self.k)
        return k * (first - before) + float(self.a), k * before + float(self.b), k * (second - bent), k * bent, -k * bent


def surface_holds(surface: Smooth, polygon: Sequence[Point]) -> bool:
    """Whether it is at least 0 on a polygon, cut into triangles along their longest edges."""
    fan = [(polygon[0], p, q) for p, q in pairwise(polygon[1:])]
    todo = fan or [(polygon[0], polygon[-1], polygon[-1])]
    steps = 0
    while todo:
        steps += 1
        corners = todo.pop()
        values = [surface.value(p) for p in corners]
        if not all(value >= 0 for value in values) or steps > STEPS:
            return False
        if triangle_holds(surface, corners, values):
            continue
        p, q, r = max((corners[k:] + corners[:k] for k in range(3)), key=lambda c: length(c[0], c[1]))
        middle = (p[0] + q[0]) / 2, (p[1] + q[1]) / 2
        todo += [(p, middle, r), (middle, q, r)]
    return True


def length(p: Point, q: Point) -> fmpq:
    return (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2


def triangle_holds(surface: Smooth, corners: tuple[Point, Point, Point], values: list[arb]) -> bool:
    """Whether bounds of the second derivatives show that it is at least 0 on a triangle, at whose corners it is.

    * Below the mean of the corners it is at most an eighth of what the second derivatives make of the widths squared.
    * Where it is convex, it is above its tangent at any point of the box, such as where it is the least.
    * On an edge it may be convex where it is not inside: then it is the least there about where its slope is 0.
    * In terms of the steps s, t >= 0 (s + t <= 1) along the edges from a corner, s^2, t^2 and 2 s t are at most s, t and s + t.
    """
    low, high = (tuple(end(p[k] for p in corners) for k in range(2)) for end in (min, max))
    w, h = high[0] - low[0], high[1] - low[1]
    xx, xy, yy = surface.hessian(low, high)
    cross = abs(xy[0]).max(abs(xy[1]))
    zero = arb(0)
    sag = (xx[1].max(zero) * w * w + 2 * cross * w * h + yy[1].max(zero) * h * h) / 8
    if all(value - sag >= 0 for value in values):
        return True
    if xx[0] >= 0 and yy[0] >= 0 and xx[0] * yy[0] - cross * cross >= 0:
        p = surface.lowest(low, high)
        value, (gx, gy) = surface.value(p), surface.gradient(p)
        if all(value + gx * (q[0] - p[0]) + gy * (q[1] - p[1]) >= 0 for q in corners):
            return True
    bends = xx, xy, yy
    return any(from_corner(surface, corners[k:] + corners[:k], values[k], bends) for k in range(3)) or any(
        from_edge(surface, corners[k:] + corners[:k], bends) for k in range(3)
    )


def from_corner(surface: Smooth, corners: Sequence[Point], value: arb, bends: tuple[Range, Range, Range]) -> bool:
    """Above what it is at least along the steps from the first corner."""
    steps = [(q[0] - corners[0][0], q[1] - corners[0][1]) for q in corners[1:]]
    gx, gy = surface.gradient(corners[0])
    zero = arb(0)
    off = bent(bends, *steps)[0].min(zero)
    rises = [gx * d[0] + gy * d[1] + (bent(bends, d, d)[0].min(zero) + off) / 2 for d in steps]
    return all(value + rise.min(zero) >= 0 for rise in rises)


def from_edge(surface: Smooth, corners: Sequence[Point], bends: tuple[Range, Range, Range]) -> bool:
    """Above what it is at least along the first two corners' edge, on which it is convex, and away from that.

    Where the foot of the third corner, at a distance d, lies in the edge, all of the triangle lies s (q - p) + n d away from a
    point p + t (q - p) of the edge, with s in [-t, 1 - t] and n in [0, 1].
    """
    p, q, r = corners
    edge, other, zero = (q[0] - p[0], q[1] - p[1]), (r[0] - p[0], r[1] - p[1]), arb(0)
    square, across = edge[0] ** 2 + edge[1] ** 2, edge[0] * other[0] + edge[1] * other[1]
    if not 0 <= across <= square or square == 0 or not bent(bends, edge, edge)[0] >= 0:
        return False
    away = other[0] - across / square * edge[0], other[1] - across / square * edge[1]
    t = surface.lowest_along(p, edge)
    m = p[0] + t * edge[0], p[1] + t * edge[1]
    gx, gy = surface.gradient(m)
    along, mixed = gx * edge[0] + gy * edge[1], bent(bends, edge, away)
    rise = gx * away[0] + gy * away[1] - abs(mixed[0]).max(abs(mixed[1])) + bent(bends, away, away)[0].min(zero) / 2
    return bool(surface.value(m) + zero.min(along * (1 - t)).min(-along * t) + rise.min(zero) >= 0)


def bent(bends: tuple[Range, Range, Range], d: tuple[fmpq, fmpq], e: tuple[fmpq, fmpq]) -> Range:
    """`d' H e` for second derivatives H."""
    xx, xy, yy = bends
    return plus(plus(scaled(d[0] * e[0], xx), scaled(d[1] * e[1], yy)), scaled(d[0] * e[1] + d[1] * e[0], xy))
