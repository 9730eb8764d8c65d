"""The arithmetic of a check of evidence, in NumPy: functions, least values over a ball's part, polygons, weak duality."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from tests.helpers.evidence_choices import least_chosen, reached_by_choice, sampled_choices
from tests.helpers.evidence_lines import SHAPED, rational, shape_of
from tightverify.evidence import Polygon, Program, Question

Floats = NDArray[np.float64]


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


FUNCTIONS: dict[str, Callable[..., Floats]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "log": np.log,
    "exp": np.exp,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "gelu": lambda x: x * special.ndtr(x),
    "silu": lambda x: x * special.expit(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "step": lambda x: (x > 0) * 1.0,
    "nonzero": lambda x: (x != 0) * 1.0,
    "floor": np.floor,
    "truncation": np.trunc,
    "reciprocal": np.reciprocal,
    "square_root": np.sqrt,
    "maximum": np.maximum,
    "multiply": lambda x, y: x * y,
    "sigmoid_tanh": lambda x, y: sigmoid(x) * np.tanh(y),
    "sigmoid_times": lambda x, y: sigmoid(x) * y,
    "tanh_times": lambda x, y: np.tanh(x) * y,
    "weighted_mean": lambda a, n, h: n + np.clip(a, 0, 1) * (h - n),
    "gru_update": lambda a, n, h: n + sigmoid(a) * (h - n),
    "square": np.square,
    "sum_of_squares": lambda x, y: x * x + y * y,
}

GRID = np.linspace(-4, 4, 80_002)
"""Points between which inflections are looked for: slopes there are within the square of a step of the extremes."""

DOMAINS = {"log": np.greater, "reciprocal": np.greater, "square_root": np.greater_equal}
"""How the operand of those that have no value everywhere has to compare to 0."""


def function_of(kind: Mapping[str, Any]) -> Callable[..., Floats]:
    """An operation's function, by the name and the parameters that its node has."""
    if kind["op"].endswith("_difference"):
        of = function_of({**kind, "op": kind["op"].removesuffix("_difference")})
        return lambda x, d: of(x) - of(x - d)
    if kind["op"].endswith("_less_table"):
        smooth, straight = FUNCTIONS[kind["op"].removesuffix("_less_table")], function_of({**kind, "op": "table"})
        return lambda x: smooth(x) - straight(x)
    if kind["op"] == "table":
        return lambda x: table(kind, np.asarray(x))
    if kind["op"] == "gelu_by_tanh":
        return lambda x: x * special.expit(2 * math.sqrt(2 / math.pi) * (x + kind["cube"] * x**3))
    if kind["op"] == "power":
        return lambda x: x ** kind["exponent"]
    if kind["op"] == "hard_swish":
        return lambda x: x * np.clip(kind["slope"] * x + kind["shift"], 0, 1)
    if kind["op"] == "hard_sigmoid":
        return lambda x: np.clip(kind["slope"] * x + kind["shift"], 0, 1)
    if kind["op"] == "leaky_relu":
        return lambda x: np.where(x < 0, kind["slope"] * x, x)
    if kind["op"] == "elu":
        return lambda x: np.where(x < 0, kind["alpha"] * np.expm1(np.minimum(x, 0)), x)
    if kind["op"] == "clamp":
        low, high = (-np.inf if kind["low"] is None else kind["low"]), (np.inf if kind["high"] is None else kind["high"])
        return lambda x: np.clip(x, low, high)
    if kind["op"] == "ramp":
        slope, cap, beyond = kind["slope"], kind["cap"], kind.get("beyond", kind["slope"])
        return lambda x: slope * np.minimum(x, 0) + np.clip(x, 0, cap) + beyond * np.maximum(x - cap, 0)
    return FUNCTIONS[kind["op"]]


def table(kind: Mapping[str, Any], x: Floats) -> Floats:
    """A table's value, on the right of a jump."""
    breaks, left, right = (np.array(kind[name]) for name in ("breaks", "left", "right"))
    piece = np.searchsorted(breaks, x, side="right") - 1
    start, end = piece.clip(min=0), (piece + 1).clip(max=len(breaks) - 1)
    share = (x - breaks[start]) / np.where(start == end, 1, breaks[end] - breaks[start])
    inner = right[start] + (left[end] - right[start]) * share
    first, last = left[0] + kind["before"] * (x - breaks[0]), right[-1] + kind["after"] * (x - breaks[-1])
    return np.where(piece < 0, first, np.where(piece == len(breaks) - 1, last, inner))


def bends_of(kind: Mapping[str, Any]) -> list[float]:
    """Where a table, or a curve less one, can have extremes, and points on either side of each break."""
    breaks = list(kind["breaks"])
    beside = [float(np.nextafter(place, end)) for place in breaks for end in (-np.inf, np.inf)]
    if kind["op"] == "table":
        return [*breaks, *beside]
    rises = np.subtract(kind["left"][1:], kind["right"][:-1]) / np.diff(breaks)
    slopes = np.array([kind["before"], *rises, kind["after"]])
    if kind["op"].startswith("sigmoid"):  # F' = s (1 - s)
        root = np.sqrt((1 - 4 * slopes).clip(min=0))
        turns = np.log((1 + root) ** 2 / np.maximum(4 * slopes, 1e-300))
    else:  # F' = 1 - t^2
        turns = np.arctanh(np.sqrt((1 - slopes).clip(0, 1 - 1e-16)))
    return [*breaks, *beside, *turns.tolist(), *(-turns).tolist()]


TURNING = "gelu", "gelu_by_tanh", "silu", "mish", "hard_swish", "power"
"""Functions that fall up to one point, if at all, and rise from there on."""


def turn_of(kind: Mapping[str, Any]) -> float:
    if kind["op"] == "power":
        return 0.0
    return float(optimize.minimize_scalar(function_of(kind), bounds=(-4, 1), method="bounded", options={"xatol": 1e-12}).x)


def steepness_of(kind: Mapping[str, Any], low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The range of a smooth one's slope, which is the least or largest at an end or at an inflection."""
    bell = SHAPED[shape_of(kind["op"], kind)]
    signs = [np.sign(float(bell.curvature(*(rational(x),) * 2)[0])) for x in GRID]
    bends = [(a + b) / 2 for a, b, s, t in zip(GRID, GRID[1:], signs, signs[1:], strict=False) if s != t]
    slope = np.vectorize(lambda x: float(bell.slope(rational(x))), otypes=[float])
    found = np.array([slope(np.clip(place, low, high)) for place in (-np.inf, np.inf, *bends)])
    return found.min(0), found.max(0)


def change_of(kind: Mapping[str, Any], boxes: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Of `f(x) - f(x - d)`: a slope on the way times d, and no more than f's values leave."""
    of = {**kind, "op": kind["op"].removesuffix("_difference")}
    (x_low, x_high), (d_low, d_high) = boxes
    y_low, y_high = x_low - d_high, x_high - d_low
    slopes = steepness_of(of, np.minimum(x_low, y_low), np.maximum(x_high, y_high))
    products = [slope * d for slope in slopes for d in (d_low, d_high)]
    (a, b), (c, d) = range_of(of, [(x_low, x_high)]), range_of(of, [(y_low, y_high)])
    return np.maximum(np.min(products, 0), a - d), np.minimum(np.max(products, 0), b - c)


def range_of(kind: Mapping[str, Any], boxes: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """An operation's least and greatest values over boxes: nothing is said where it may have none.

    Squares are the least as near to 0 as can be; differences of a curve symmetric about a point have extremes where the way is
    centred there; tables have them at breaks, curves less tables also where slopes are equal; all else
    is monotone in each operand for fixed others, and has its extremes at
    corners.
    """
    defined = DOMAINS[kind["op"]](boxes[0][0], 0) if kind["op"] in DOMAINS else True
    with np.errstate(all="ignore"):
        corners = [function_of(kind)(*ends) for ends in product(*boxes)]
        if kind["op"] in ("square", "sum_of_squares"):
            corners.append(function_of(kind)(*(np.clip(0.0, low, high) for low, high in boxes)))
        if kind["op"].endswith("table"):
            corners.extend(function_of(kind)(np.clip(place, *boxes[0])) for place in bends_of(kind))
        if kind["op"] in TURNING:
            corners.append(function_of(kind)(np.clip(turn_of(kind), *boxes[0])))
        if kind["op"].removesuffix("_difference") in TURNING and kind["op"].endswith("_difference"):
            return change_of(kind, boxes)
        if kind["op"].endswith("_difference"):
            (low, high), ends = boxes
            about = (kind.get("low") or 0.0) + (kind.get("high") or kind.get("cap") or 0.0)
            about += (1 - 2 * kind["shift"]) / kind["slope"] if "shift" in kind else 0.0
            corners.extend(function_of(kind)(np.clip((about + d) / 2, low, high), d) for d in ends)
    return np.where(defined, np.min(corners, 0), -np.inf), np.where(defined, np.max(corners, 0), np.inf)


def factors(question: Question) -> Iterator[tuple[NDArray[np.intp], Question]]:
    """For each group of coordinates these, and the ball that they may change in; all of them, if there are no groups."""
    if not len(question.groups):
        yield np.arange(len(question.centre)), question
    for number in np.unique(question.groups):
        (part,) = np.nonzero(question.groups == number)
        ends = {name: getattr(question, name)[part] for name in ("centre", "lower", "upper")}
        yield part, replace(question, groups=question.groups[:0], **ends)


def reached(question: Question, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """What of a part's box the ball lets each coordinate have, where the others are as near to the centre as they can be."""
    if len(question.vectors):
        return reached_by_choice(question, lower, upper)
    if question.norm == "inf":
        return lower, upper
    if len(question.groups):
        found_lower, found_upper = lower.copy(), upper.copy()
        for part, factor in factors(question):
            found_lower[part], found_upper[part] = reached(factor, lower[part], upper[part])
        return found_lower, found_upper
    power = float(question.norm)
    away = np.abs(question.centre.clip(lower, upper) - question.centre) ** power
    reach = (question.radius**power - (away.sum() - away)).clip(min=0) ** (1 / power)
    return np.maximum(lower, question.centre - reach), np.minimum(upper, question.centre + reach)


@dataclass(frozen=True, eq=False)
class Quadratics:
    """A node of energies: weighted sums of squares of linear forms of all its operands' neurons, side by side."""

    matrix: Floats
    shift: Floats
    weights: Floats

    def at(self, points: Floats) -> Floats:
        """(S, n) at points (S, m)."""
        return np.asarray((points @ self.matrix.T + self.shift) ** 2 @ self.weights.T)

    def over(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """The energies' range over a box of a few operands: they are convex, so that the most is at a corner.

        Below them are their tangents, here at points to which they were brought down.
        """
        corners = np.stack(np.meshgrid(*([0.0, 1.0],) * len(lower), indexing="ij"), -1).reshape(-1, len(lower))
        most = self.at(lower + corners * (upper - lower)).max(0)
        points = np.tile((lower + upper) / 2, (len(self.weights), 1))
        quadratic = np.einsum("nk,ki,kj->nij", self.weights, self.matrix, self.matrix)
        pace = 0.5 / np.linalg.norm(quadratic, 2, axis=(1, 2))[:, None]
        for _ in range(1000):
            points = (points - pace * self.slopes(points)).clip(lower, upper)
        slopes = self.slopes(points)
        ends = np.where(slopes > 0, lower, upper)
        return self.at(points).diagonal() + (slopes * (ends - points)).sum(1), most

    def slopes(self, points: Floats) -> Floats:
        """(n, m): each energy's gradient at a point (n, m) of its own."""
        return np.asarray(2 * (self.weights * (points @ self.matrix.T + self.shift)) @ self.matrix)

    def of_forms(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """The energies' ends, by those of the forms."""
        nearest, farthest = np.maximum(np.maximum(low, -high), 0), np.maximum(-low, high)
        return self.weights @ nearest**2, self.weights @ farthest**2


def moved(question: Question, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """The centre, the generators and the slack of the part of a zonotope where the shares (K, 2) have these ends."""
    middle, half = shares.mean(1), (shares[:, 1] - shares[:, 0]) / 2
    return question.centre + middle @ question.generators, half[:, None] * question.generators, question.slack


def least_moved(question: Question, rows: Floats, shares: Floats) -> Floats:
    """The least values of rows (R, N) over such a part."""
    centre, generators, slack = moved(question, shares)
    return np.asarray(rows @ centre - np.abs(rows @ generators.T).sum(1) - np.abs(rows) @ slack)


def samples_of(question: Question, lower: Floats, upper: Floats, shares: Floats) -> Floats:
    """Inputs (S, N) all over the part of the region with these coordinates, or these shares; many on its border."""
    draw = np.random.default_rng(0)
    if len(question.vectors):
        return sampled_choices(question, lower, upper)
    if len(question.slack):
        centre, generators, slack = moved(question, shares)
        t = draw.uniform(-1, 1, (400, len(generators)))
        t[::2] = np.sign(t[::2])
        return np.asarray(centre + t @ generators + draw.uniform(-1, 1, (400, len(slack))) * slack)
    points = lower + draw.random((400, len(lower))) * (upper - lower)
    points[::2] = np.where(draw.random((200, len(lower))) < 0.5, lower, upper)
    if question.norm == "inf":
        return np.asarray(points)
    inside = points.copy()
    for part, factor in factors(question):
        step = points[:, part] - factor.centre
        length = np.linalg.norm(step, ord=float(question.norm), axis=1, keepdims=True)
        inside[:, part] = factor.centre + step * np.minimum(1, question.radius / np.maximum(length, 1e-300))
    return np.asarray(inside[((inside >= lower) & (inside <= upper)).all(1)])


def least(question: Question, rows: Floats, lower: Floats, upper: Floats) -> Floats:
    """The least values of rows (R, N) over a part's box, cut to the ball by its dual, whose every value is a bound."""
    if len(question.vectors):
        return least_chosen(question, rows, lower, upper)
    if question.norm == "inf":
        return np.asarray(rows.clip(min=0) @ lower + rows.clip(max=0) @ upper)
    if len(question.groups):
        each = [least(factor, rows[:, part], lower[part], upper[part]) for part, factor in factors(question)]
        return np.asarray(np.sum(each, 0))
    centre, radius = question.centre, question.radius
    low, high = lower - centre, upper - centre
    if question.norm == "1":
        # A concave function of one multiplier, straight between the rows' sizes.
        multipliers = np.concatenate([np.zeros_like(rows[:, :1]), np.abs(rows)], axis=1)[..., None]
        ends = [rows[:, None] * d + multipliers * np.abs(d) for d in (low, high, np.zeros_like(low).clip(low, high))]
        return np.asarray(rows @ centre + (np.min(ends, 0).sum(-1) - radius * multipliers[..., 0]).max(1))

    def kept_at(power: Floats) -> Floats:
        multiplier = np.exp(power)[:, None]
        step = (-rows / multiplier).clip(low, high)
        return np.asarray((rows * step + multiplier * step**2 / 2).sum(1) - multiplier[:, 0] * radius**2 / 2)

    left, right = np.full(len(rows), -40.0), np.full(len(rows), 40.0)
    for _ in range(150):
        third = (right - left) / 3
        better = kept_at(left + third) > kept_at(right - third)
        left, right = np.where(better, left, left + third), np.where(better, right - third, right)
    return np.asarray(rows @ centre + np.maximum(kept_at(left), (rows.clip(min=0) @ low + rows.clip(max=0) @ high)))


def put(old: Polygon, new: Polygon) -> Polygon:
    """All neurons' polygons, some of them new ones; the last vertices are repeated where there are fewer."""
    most = max(old.vertices.shape[1], new.vertices.shape[1])
    vertices, more = (np.concatenate([v, np.repeat(v[:, -1:], most - v.shape[1], 1)], 1) for v in (old.vertices, new.vertices))
    holds = old.holds.copy()
    vertices[new.neurons], holds[new.neurons] = more, new.holds
    return replace(old, vertices=vertices, holds=holds)


def inside(vertices: Floats, points: Floats) -> NDArray[np.bool_]:
    """(S, n): whether points (S, n, 2) lie in polygons (n, V, 2), up to rounding."""
    edges = np.roll(vertices, -1, 1) - vertices
    away = points[:, :, None] - vertices
    cross = edges[..., 0] * away[..., 1] - edges[..., 1] * away[..., 0]
    return np.asarray((cross >= -1e-11 * (1e-3 + np.abs(edges).sum(-1))).all(-1))


def breaks_of(entry: Program) -> dict[int, Floats]:
    """Of each variable that is cut, where."""
    variables = dict.fromkeys(entry.breaks[:, 0].astype(int).tolist())
    return {variable: entry.breaks[entry.breaks[:, 0] == variable, 1] for variable in variables}


def matrix_of(entry: Program) -> Floats:
    found = np.zeros((len(entry.row_lower), len(entry.cost)))
    which = np.repeat(np.arange(len(found)), np.diff(entry.indptr))
    found[which, entry.indices] = entry.data
    return found


def weak_duality(cost: Floats, rows: Floats, low: Floats, high: Floats, dual: Floats, lower: Floats, upper: Floats) -> float:
    """The bound of `cost @ v` by multipliers of the rows, over the variables' bounds."""
    side = np.where(dual > 0, low, high)
    used = np.where((dual != 0) & np.isfinite(side), dual, 0.0)
    reduced = cost - used @ rows
    terms = np.where(reduced > 0, reduced * lower, reduced * upper)
    return float((used * np.where(used != 0, side, 0.0)).sum() + np.where(reduced == 0, 0.0, terms).sum())
