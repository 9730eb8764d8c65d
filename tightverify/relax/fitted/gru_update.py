"""The tightest planes of GRU's update `f(a, n, h) = n + s(a) (h - n)`, s the sigmoid, over boxes of three operands.

Offset. Let slopes p, b, c in a, n, h be given. For fixed a, f less the slopes is linear in n and in h, so that its supremum is
at one of four corners, where it is the curve `(h - n) s(a) - p a` plus a constant: `largest_supremum` gives it, exactly but for
rounding. Nothing else is needed for a plane to be valid.

Height. The plane of least height over a point (a0, n0, h0) supports f's concave envelope there; at the centre it has the least
volume. Let V_j(p) = sup over a of k_j (s(a) - s(a0)) - p (a - a0), with k_j = h - n at corner j. For a given p the best b and
c make the envelope, over the point, of the four values V_j at the corners of a rectangle. It folds along one of the diagonals,
so that the height is f(a0, n0, h0) plus the larger of two sums, A = sum_j u_j V_j and B = sum_j v_j V_j: u and v are the
point's weights in the triangle where it lies, for either diagonal. Three slopes have become one: max(A, B) is convex in p, and
each p gives a line below it, from the touching points a_j and the larger sum's weights. Where the lines on both sides of the
minimum cross is the next p. Where the point lies on the fold, as centres do, all planes between those of both triangles are as
tight; the one amid them is taken.

Programs. What is left open goes on as in `relax.fitted.fit`: a linear program in p, b, c and the height over samples, and the
worst gate of each corner is the next one's sample. (k s(a) - p a is largest at an end or where s'(a) = p / k on k s's concave
side.)

Lower bound. Weights over samples prove one (`relax.fitted.cutting`), for slopes need not leave the ranges of f's derivatives
(`relax.fitted.fit`). A program's multipliers are such weights, and so are those of two lines, mixed so that they sum to p0.

Lower planes are upper planes of the negation, -f(a, n, h) = f(a, -n, -h).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Identity, Sigmoid
from tightverify.relax.fitted.cutting import BestSoFar, SlopeRange, fit_prove_cut
from tightverify.relax.fitted.family import Domain, distinct, plane_set
from tightverify.relax.polygons import Polygons
from tightverify.relax.products import largest_supremum
from tightverify.relax.ranges import Range, jet, jet_range
from tightverify.values import FUNCTION_ERROR, TINY, UNIT_ROUNDOFF, Interval, above

SIGMOID = Sigmoid()
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Which end of n and of h."""
SEARCH_STEPS = 16
FOLD = 1e-9
"""Points so near to a diagonal count as on it."""
PORTION = 8192
"""planes that are worked on together, so that they fit the processor's cache"""


@dataclass(frozen=True, eq=False)
class UpdatePlaneSet:
    """K planes `p a + b n + c h + d` below and above each of N functions, (N, K, 4), and how much tighter they might be.

    `gap` (N, K, 2) bounds by how much the height of each over its point, (lower, upper), is more than need be; NaN for planes
    that were not fitted at a point.
    """

    lower: Tensor
    upper: Tensor
    gap: Tensor


def fitted_update(boxes: Tensor, points: Tensor, solver: str = "highs", tolerance: float = 1e-6) -> UpdatePlaneSet:
    """The planes that support the envelopes at points (N, K, 3) of boxes (N, 6) of (a, n, h)'s lower and upper ends.

    To a gap of `tolerance` times the mean distance, or what rounding allows.
    """
    count, per = points.shape[:2]
    ends, places = boxes.repeat_interleave(per, 0), points.reshape(-1, 3)
    keys = torch.cat([torch.cat([ends, places], 1), torch.cat([negated(ends), places * turn(places)], 1)])
    chosen, back = distinct(keys)
    ends, places = keys[chosen, :6], keys[chosen, 6:]
    portions = zip(torch.split(ends, PORTION), torch.split(places, PORTION), strict=True)
    found = torch.cat([fit(UpdateQuery.of(*portion), solver, tolerance) for portion in portions])[back]
    upper, lower = found.view(2, count, per, 5)
    flipped = lower[..., :4] * lower.new_tensor([-1, 1, 1, -1])
    return UpdatePlaneSet(flipped, upper[..., :4], torch.stack([lower[..., 4], upper[..., 4]], dim=-1))


def two_products(boxes: Tensor, solver: str = "highs", tolerance: float = 1e-6) -> UpdatePlaneSet:
    """Of boxes (N, 6), the sums of the tightest planes of s(a) h and of s(-a) n."""
    a1, a2, n1, n2, h1, h2 = boxes.unbind(1)
    pairs = torch.cat([torch.stack([a1, a2, h1, h2], 1), torch.stack([-a2, -a1, n1, n2], 1)])
    found = plane_set(Domain(SIGMOID, Identity(), Polygons.of_boxes(pairs), solver, tolerance), ["tightest"])
    reach = torch.maximum(a1.abs(), a2.abs())

    def total(planes: Tensor) -> Tensor:
        (p, c, d), (q, b, e) = (half.unbind(1) for half in planes[:, 0].chunk(2))
        allowance = 4 * UNIT_ROUNDOFF * (d.abs() + e.abs() + (p.abs() + q.abs()) * reach)
        return torch.stack([p - q, b, c, above(d + e, allowance)], dim=1)[:, None]

    upper = total(found.upper)
    return UpdatePlaneSet(-total(-found.lower), upper, torch.full_like(upper[..., :2], torch.nan))


def negated(boxes: Tensor) -> Tensor:
    """The boxes over which upper planes of f are lower planes."""
    return torch.cat([boxes[:, :2], -boxes[:, [3, 2, 5, 4]]], dim=1)


def turn(points: Tensor) -> Tensor:
    return points.new_tensor([1, -1, -1])


def value(places: Tensor) -> Tensor:
    a, n, h = places.unbind(-1)
    return n + torch.sigmoid(a) * (h - n)


def update_offset(slopes: Tensor, boxes: Tensor) -> Tensor:
    """(N,): the least offsets of planes with slopes (N, 3) above f on boxes (N, 6), rounded up."""
    p, b, c = slopes.unbind(1)
    gate, new, old = (Interval(boxes[:, k], boxes[:, k + 1]) for k in (0, 2, 4))
    corners = []
    for n in (new.lower, new.upper):
        for h in (old.lower, old.upper):
            # h - n is rounded: what sigmoid times the error may amount to is in the size below.
            corners.append((h - n, n - b * n - c * h))
    size = (2 + b.abs()) * new.magnitude + (2 + c.abs()) * old.magnitude
    return largest_supremum(SIGMOID, p, gate, corners, size)


@dataclass(frozen=True, eq=False)
class UpdateQuery:
    """N upper planes that are wanted, and what every step asks about them."""

    boxes: Tensor
    points: Tensor
    corners: Tensor
    """(N, 4, 2): n and h"""
    factors: Tensor
    """(N, 4): h - n at the corners"""
    gate: Tensor
    """(N,): s(a0)"""
    folds: Tensor
    """(N, 2, 4): the weights u and v"""
    sides: Tensor
    """(N, 2): on which side of the diagonal the point is, of either fold: 1 is towards large n, 1/2 on it"""
    tangent: Tensor
    """(N, 3), like the ranges of the slopes, `low` to `high`"""
    low: Tensor
    high: Tensor
    mean: Tensor
    """(N,): f's mean over the box, roughly"""
    size: Tensor
    floor: Tensor
    """(N,): what rounding may cost a proof"""

    @staticmethod
    def of(boxes: Tensor, points: Tensor) -> UpdateQuery:
        a1, a2, n1, n2, h1, h2 = boxes.unbind(1)
        a, n, h = points.unbind(1)
        corners = torch.stack([torch.stack([(n1, n2)[i], (h1, h2)[j]], 1) for i, j in CORNERS], dim=1)
        at = jet(SIGMOID, a)
        over = jet_range(SIGMOID, a1, a2, jet(SIGMOID, a1), jet(SIGMOID, a2))
        on_gate = over.first * Range(h1 - n2, h2 - n1)
        low = torch.stack([on_gate.low, 1 - over.value.high, over.value.low], dim=1)
        high = torch.stack([on_gate.high, 1 - over.value.low, over.value.high], dim=1)
        tangent = torch.stack([at.first * (h - n), 1 - at.value, at.value], dim=1)
        folds, sides = triangles(share(n, n1, n2), share(h, h1, h2))
        steps = torch.linspace(0, 1, 5, dtype=boxes.dtype, device=boxes.device)
        along = torch.sigmoid(a1[:, None] + steps * (a2 - a1)[:, None])
        mean_gate = (along.sum(1) - (along[:, 0] + along[:, -1]) / 2) / 4
        mean = ((1 - mean_gate) * (n1 + n2) + mean_gate * (h1 + h2)) / 2
        reach = boxes.view(-1, 3, 2).abs().amax(2)
        steepest = torch.maximum(low.abs(), high.abs())
        size = 4 * (reach[:, 1] + reach[:, 2]) + 2 * (steepest * reach).sum(1)
        factors = corners[..., 1] - corners[..., 0] + 0.0
        floor = 2 * FUNCTION_ERROR * size + 8 * TINY
        return UpdateQuery(boxes, points, corners, factors, at.value, folds, sides, tangent, low, high, mean, size, floor)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: Tensor) -> UpdateQuery:
        return UpdateQuery(*(part[chosen] for part in vars(self).values()))

    def places(self, gates: Tensor) -> Tensor:
        """(N, M, 3): gates (N, M), four by four, at the corners."""
        return torch.cat([gates[..., None], self.corners.repeat(1, gates.shape[1] // 4, 1)], dim=-1)

    def distance(self, slopes: Tensor, height: Tensor) -> Tensor:
        """(N,): the planes' mean distances from f."""
        centre = self.boxes.view(-1, 3, 2).mean(2)
        return (height + (slopes * (centre - self.points)).sum(1) - self.mean).clamp(min=0)

    @property
    def slopes(self) -> SlopeRange:
        half = self.boxes.view(-1, 3, 2).diff(dim=2)[..., 0] / 2
        return SlopeRange(torch.where(half > 0, half, 1.0), self.tangent, self.low, self.high)

    def solved(self, gates: Tensor, solver: str) -> tuple[Tensor, Tensor]:
        """The slopes that are best over samples at the gates (N, M), and the samples' multipliers."""
        offsets = self.places(gates) - self.points[:, None]
        raised = self.factors.repeat(1, gates.shape[1] // 4) * (torch.sigmoid(gates) - self.gate[:, None])
        slopes, weights, _ = self.slopes.best_over(offsets, raised - self.tangent[:, :1] * offsets[..., 0], solver)
        return slopes, weights

    def lower_bound(self, gates: Tensor, weights: Tensor) -> Tensor:
        """What weights (N, M) of samples at the gates prove of every valid plane's height, (N,)."""
        places = self.places(gates)
        reach = self.boxes.view(-1, 3, 2).abs().amax(2)
        return self.slopes.lower_bound(places - self.points[:, None], value(places), weights, reach, self.size)


def share(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.nan_to_num((x - low) / (high - low), nan=0.5).clamp(0, 1)


def triangles(n: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """A point's weights at the corners for both folds, (N, 2, 4), and its sides, (N, 2); n and h are shares of the widths."""

    def fold(h: Tensor) -> tuple[list[Tensor], Tensor]:
        weights = [1 - torch.maximum(n, h), (h - n).clamp(min=0), (n - h).clamp(min=0), torch.minimum(n, h)]
        return weights, torch.where((n - h).abs() <= FOLD, 0.5, (n > h).to(n))

    one, side = fold(h)
    other, other_side = fold(1 - h)  # with h upside down the other diagonal is the same one
    weights = torch.stack([torch.stack(one, 1), torch.stack([other[k] for k in (1, 0, 3, 2)], 1)], dim=1)
    return weights, torch.stack([side, other_side], dim=1)


def fit(query: UpdateQuery, solver: str, tolerance: float) -> Tensor:
    """(N, 5): slopes, offset and gap of upper planes."""
    slopes, gates, weights = search(query, tolerance)
    best = BestSoFar.above(query.tangent, value(query.points) - FUNCTION_ERROR * query.size)
    everything = Work(query, torch.arange(len(query), device=query.boxes.device))
    everything.prove(best, slopes)
    best.raise_least(everything.which, query.lower_bound(gates, weights))
    left = everything.open(best, tolerance)

    def one_round(work: Work, gates: Tensor) -> tuple[Work, Tensor]:
        slopes, weights = work.query.solved(gates, solver)
        work.prove(best, slopes)
        best.raise_least(work.which, work.query.lower_bound(gates, weights))
        gates = torch.cat([gates, tangent_point(work.query, slopes[:, 0])], dim=1)
        left = work.open(best, tolerance)
        return work[left], gates[left]

    fit_prove_cut(everything[left], torch.cat([gates, first_gates(query)], dim=1)[left], one_round)
    gap = (best.height - best.least).clamp(min=0)
    return torch.cat([best.slopes, best.offset[:, None], gap[:, None]], dim=1)


@dataclass(frozen=True, eq=False)
class Work:
    """The planes that are still worked on, and which of all they are."""

    query: UpdateQuery
    which: Tensor

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, chosen: Tensor) -> Work:
        return Work(self.query[chosen], self.which[chosen])

    def prove(self, best: BestSoFar, slopes: Tensor) -> None:
        """Take planes with these slopes where they are lower."""
        offset = update_offset(slopes, self.query.boxes)
        shift = slopes * self.query.points
        height = above(offset + shift.sum(1), 4 * UNIT_ROUNDOFF * (offset.abs() + shift.abs().sum(1)))
        best.take(self.which, slopes, offset, height)

    def open(self, best: BestSoFar, tolerance: float) -> Tensor:
        """The places in `which` of the planes whose gaps are still too large."""
        distance = self.query.distance(best.slopes[self.which], best.height[self.which])
        return best.open(self.which, torch.maximum(2 * self.query.floor, tolerance * distance))


@dataclass(frozen=True, eq=False)
class Line:
    """A line below max(A, B), `level + p slope`, made at `at`: from gates (N, 4) at the corners, with weights (N, 4)."""

    at: Tensor
    gates: Tensor
    weights: Tensor
    level: Tensor
    slope: Tensor

    @staticmethod
    def of(query: UpdateQuery, at: Tensor, gates: Tensor) -> tuple[Line, Tensor]:
        """The line, and b and c relative to the tangent plane, (N, 2), where the four values V are the gates'."""
        raised = query.factors * (torch.sigmoid(gates) - query.gate[:, None])
        steps = gates - query.points[:, :1]
        values = raised - at[:, None] * steps
        v00, v01, v10, v11 = values.unbind(1)
        first = v00 + v11 >= v01 + v10
        weights = torch.where(first[:, None], query.folds[:, 0], query.folds[:, 1])
        side = torch.where(first, query.sides[:, 0], query.sides[:, 1])
        line = Line(at, gates, weights, (weights * raised).sum(1), -(weights * steps).sum(1))
        low_h = torch.where(first, side, 1 - side)
        rise = torch.stack([low_h * (v10 - v00) + (1 - low_h) * (v11 - v01), side * (v11 - v10) + (1 - side) * (v01 - v00)], 1)
        return line, torch.nan_to_num(rise / (query.corners[:, 3] - query.corners[:, 0]), nan=0.0, posinf=0.0, neginf=0.0)

    def where(self, condition: Tensor, other: Line) -> Line:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Line(*(torch.where(condition if a.dim() == 1 else condition[:, None], a, b) for a, b in pairs))


def search(query: UpdateQuery, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes near the best, (N, 3), and samples: gates (N, 8) with weights (N, 8) that give a bound."""
    a1, a2 = query.boxes[:, :1], query.boxes[:, 1:2]
    low, high = query.low[:, 0], query.high[:, 0]
    left, _ = Line.of(query, low, a2.expand(-1, 4))
    right, _ = Line.of(query, high, a1.expand(-1, 4))
    at_point = value(query.points)
    best, slopes = torch.full_like(low, torch.inf), query.tangent
    for step in range(SEARCH_STEPS):
        crossing = (left.level - right.level) / (right.slope - left.slope)
        middle = (left.at + right.at) / 2
        p = middle if step % 4 == 3 else torch.where(torch.isfinite(crossing), crossing, middle)
        p = torch.minimum(torch.maximum(p, left.at), right.at)
        line, rise = Line.of(query, p, tangent_point(query, p))
        height = line.level + p * line.slope
        better = height < best
        best = torch.where(better, height, best)
        found = torch.cat([p[:, None], query.tangent[:, 1:] + rise], dim=1)
        slopes = torch.where(better[:, None], found, slopes)
        to_left = line.slope <= 0
        left, right = line.where(to_left, left), line.where(~to_left, right)
        bound = (left.level * right.slope - right.level * left.slope) / (right.slope - left.slope)
        wanted = torch.maximum(query.floor / 2, 0.9 * tolerance * query.distance(slopes, at_point + best))
        if not bool((best - bound > wanted).any()):
            break
    slopes = torch.minimum(torch.maximum(slopes, query.low), query.high)
    part = torch.nan_to_num(right.slope / (right.slope - left.slope), nan=0.5).clamp(0, 1)[:, None]
    return slopes, torch.cat([left.gates, right.gates], 1), torch.cat([part * left.weights, (1 - part) * right.weights], 1)


def tangent_point(query: UpdateQuery, p: Tensor) -> Tensor:
    """(N, 4): at each corner the gate where k s(a) - p a is largest.

    `+ 0.0`, here and in the factors, makes -0 a 0: the sign of an infinite quotient hangs on it.
    """
    a1, a2 = query.boxes[:, :1], query.boxes[:, 1:2]
    split = torch.minimum(torch.maximum(torch.zeros_like(a1), a1), a2)
    k, up = query.factors, query.factors >= 0
    touch = torch.nan_to_num(SIGMOID.tangent_point(p[:, None] / k + 0.0), nan=0.0)
    touch = torch.where(up, torch.clamp(touch, split, a2), torch.clamp(-touch, a1, split))
    end = torch.where(up, a1, a2)
    higher = k * (torch.sigmoid(touch) - torch.sigmoid(end)) >= p[:, None] * (touch - end)
    return torch.where(higher, touch, end)


def first_gates(query: UpdateQuery) -> Tensor:
    """(N, 12): the ends and the point's gate, at each corner."""
    gates = torch.stack([query.boxes[:, 0], query.points[:, 0], query.boxes[:, 1]], dim=1)
    return gates.repeat_interleave(4, dim=1)
