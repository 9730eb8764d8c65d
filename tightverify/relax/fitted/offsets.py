"""The least offset of a plane with given slopes above F(x) G(y) over a polygon, proved by subdivision.

Let E(x, y) = sign F(x) G(y) - a (x - x0) - b (y - y0). Its supremum over the polygon is wanted, rounded up, and no more than
`slack` too large. It is attained on an edge, or inside, where then the gradient is 0 and the second derivative has no
positive direction.

* *Edges.* On a piece of an edge, x = px + t dx and y = py + t dy for t in [t1, t2], let the second derivative of t -> E be
  in [low, high]. Then E is at most the larger of its values at t1 and t2 plus max(0, -low) (t2 - t1)^2 / 8, and at most
  E(m) + E'(m) (t - m) + max(0, high) (t - m)^2 / 2 for any m of the piece; the latter is largest at t1, t2 or m. For a convex
  piece the first is exact, for a concave one the second with m at the top, which Newton's steps look for.
* *Inside.* A rectangle holds no top of its inside if one of the partial derivatives has one sign there, or if one of the
  second ones is positive, or if the Hessian's determinant is negative. That has the sign of c(x) d(y) - 1 for the curls
  c = F F'' / F'^2 and d of G, each monotone on either side of 0, so that its range is known from the corners. Else Taylor's
  formula from a point m bounds E: where the determinant is positive and E_xx negative, E is concave. Where F or G is linear,
  there is no top inside: a linear function on a chord of the polygon is largest at its ends.

A piece is done when its bound exceeds the best value known by no more than the slack; the others are halved. Pieces that are
left after MOST_ROUNDS count with the bound that they have. A bad m or a missing round makes an offset loose, never wrong.

Rounding. Values of E, its slopes times the piece's extent, and points of an edge are off by less than
FUNCTION_ERROR times the sum of the absolute values that enter, which `size` exceeds. Ranges pay for themselves (`ranges`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.fitted.pieces import MOST_ROUNDS, NEWTON_STEPS, OpenPieces, Question, exhausted, halfway, sizes
from tightverify.relax.fitted.rectangles import inner_pieces
from tightverify.relax.ranges import Jet, jet, jet_range
from tightverify.values import FUNCTION_ERROR, TINY


@dataclass(frozen=True, eq=False)
class Answer:
    """The proved offsets at the anchors, (N,), and for each edge and for the inside the best point found."""

    offset: Tensor
    places: Tensor
    """(N, V + 1, 2); the last one is the inside's, NaN where nothing was looked at"""
    values: Tensor
    """(N, V + 1): E there, -inf where nothing was looked at"""


def proved_offset(question: Question, slack: Tensor, level: Tensor | None = None) -> Answer:
    """The offsets, each at most `slack` (N,) too large if MOST_ROUNDS suffice and rounding allows.

    Where a value exceeds `level`, (N,), the offset may be too large by a share SHARE of that: near enough to go on from.
    """
    count, edges = question.polygons.vertices.shape[:2]
    open_pieces = OpenPieces.empty(
        count, edges + 1, question.slopes, torch.maximum(slack, 2 * FUNCTION_ERROR * spread(question)), level
    )
    edge_pieces(question, open_pieces)
    if not (question.first.linear or question.second.linear):
        inner_pieces(question, open_pieces)
    return Answer(open_pieces.bounds + TINY, open_pieces.places, open_pieces.values)


def edge_pieces(question: Question, open_pieces: OpenPieces) -> None:
    """The edges, cut where an operand is 0: there the curves bend over."""
    vertices = question.polygons.vertices
    count, edges = vertices.shape[:2]
    start, along = vertices, vertices.roll(-1, 1) - vertices
    turns = torch.nan_to_num(-start / along, nan=0.0, posinf=0.0, neginf=0.0).clamp(0, 1)
    low, high = turns.amin(-1), turns.amax(-1)
    ends = torch.stack([torch.zeros_like(low), low, high, torch.ones_like(low)], dim=-1)
    left, right = ends[..., :-1], ends[..., 1:]
    slot = torch.arange(count * edges, device=vertices.device).view(count, edges, 1).expand_as(left)
    wanted = (right > left) & (along.abs().amax(-1) > 0)[..., None]
    wanted[:, 0] |= right[:, 0] > left[:, 0]
    slot, left, right = slot[wanted], left[wanted], right[wanted]
    start, along = start.reshape(-1, 2), along.reshape(-1, 2)
    for last in range(MOST_ROUNDS + 1):
        owner, edge = slot // edges, slot % edges
        pieces = Pieces.of(question, owner, start[slot], along[slot], left, right)
        open_pieces.offer(owner * (edges + 1) + edge, pieces.value, pieces.best)
        bound = pieces.by_chord
        done = bound <= open_pieces.enough[owner]
        open_pieces.settle(owner[done], bound[done])
        rest = torch.nonzero(~done).flatten()
        slot, left, right, owner, edge, bound = (part[rest] for part in (slot, left, right, owner, edge, bound))
        by_taylor, value, top = along_edges(question, pieces[rest])
        open_pieces.offer(owner * (edges + 1) + edge, value, top)
        bound = torch.minimum(bound, by_taylor)
        done = (bound <= open_pieces.enough[owner]) | exhausted(bound, last, count)
        open_pieces.settle(owner[done], bound[done])
        rest = torch.nonzero(~done).flatten()
        if not len(rest):
            return
        slot, left, right = slot[rest], left[rest], right[rest]
        middle = middle_of(start[slot], along[slot], left, right)
        slot, left, right = slot.repeat(2), torch.cat([left, middle]), torch.cat([middle, right])


def middle_of(start: Tensor, along: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Where to cut pieces of edges: `halfway` of the operand that moves more."""
    more = along.abs().argmax(-1, keepdim=True)
    begin, step = torch.gather(start, 1, more)[:, 0], torch.gather(along, 1, more)[:, 0]
    found = (halfway(begin + left * step, begin + right * step) - begin) / step
    return torch.where((found > left) & (found < right), found, (left + right) / 2)


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of edges: where they are, E's second derivative along them, what is known from their ends."""

    owner: Tensor
    start: Tensor
    along: Tensor
    left: Tensor
    right: Tensor
    high: Tensor
    """of the second derivative"""
    allowance: Tensor
    by_chord: Tensor
    value: Tensor
    """E at the better end"""
    best: Tensor
    """(M, 2): that end"""

    @staticmethod
    def of(question: Question, owner: Tensor, start: Tensor, along: Tensor, left: Tensor, right: Tensor) -> Pieces:
        line = Line(question, owner, start, along)
        one, other = line.at(left), line.at(right)
        at_left, at_right = line.height(one), line.height(other)
        f = jet_range(question.first, one.x, other.x, one.f, other.f)
        g = jet_range(question.second, one.y, other.y, one.g, other.g)
        dx, dy = along.unbind(-1)
        twice = (f.first * g.first).scaled(2 * dx * dy)
        bend = ((f.second * g.value).scaled(dx * dx) + twice + (f.value * g.second).scaled(dy * dy)).scaled(line.sign)
        reach = torch.maximum(start.abs(), (start + along).abs()) + line.anchors.abs()
        allowance = FUNCTION_ERROR * sizes(f, g, *line.slopes.unbind(-1), *reach.unbind(-1))
        width, value = right - left, torch.maximum(at_left, at_right)
        by_chord = value + (-bend.low).clamp(min=0) * width * width / 8 + allowance
        best = torch.where(at_left >= at_right, left, right)
        ends = start + best[:, None] * along
        return Pieces(owner, start, along, left, right, bend.high, allowance, by_chord, value, ends)

    def __getitem__(self, chosen: Tensor) -> Pieces:
        return Pieces(*(part[chosen] for part in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Spot:
    """Points of edges, and the curves' jets there."""

    x: Tensor
    y: Tensor
    f: Jet
    g: Jet


class Line:
    """E along edges, start + t * along."""

    def __init__(self, question: Question, owner: Tensor, start: Tensor, along: Tensor) -> None:
        self.curves = question.first, question.second
        self.sign, self.slopes, self.anchors = question.sign[owner], question.slopes[owner], question.anchors[owner]
        self.start, self.along = start, along
        self.tilt = (self.slopes * along).sum(-1)

    def at(self, t: Tensor) -> Spot:
        x, y = (self.start + t[:, None] * self.along).unbind(-1)
        return Spot(x, y, jet(self.curves[0], x), jet(self.curves[1], y))

    def height(self, spot: Spot) -> Tensor:
        (a, b), (x0, y0) = self.slopes.unbind(-1), self.anchors.unbind(-1)
        return self.sign * spot.f.value * spot.g.value - a * (spot.x - x0) - b * (spot.y - y0)

    def slope(self, spot: Spot) -> Tensor:
        dx, dy = self.along.unbind(-1)
        return self.sign * (spot.f.first * spot.g.value * dx + spot.f.value * spot.g.first * dy) - self.tilt

    def bend(self, spot: Spot) -> Tensor:
        (dx, dy), f, g = self.along.unbind(-1), spot.f, spot.g
        return self.sign * (f.second * g.value * dx * dx + 2 * f.first * g.first * dx * dy + f.value * g.second * dy * dy)


def along_edges(question: Question, pieces: Pieces) -> tuple[Tensor, Tensor, Tensor]:
    """For pieces of edges: Taylor's bound, E at the best point found, and that point."""
    line = Line(question, pieces.owner, pieces.start, pieces.along)
    left, right = pieces.left, pieces.right
    middle = (left + right) / 2
    for _ in range(NEWTON_STEPS):
        spot = line.at(middle)
        step = line.slope(spot) / line.bend(spot).clamp(max=-1e-300)
        middle = torch.minimum(torch.maximum(middle - torch.nan_to_num(step), left), right)
    spot = line.at(middle)
    top, slope = line.height(spot), line.slope(spot)
    bent, before, after = pieces.high.clamp(min=0) / 2, middle - left, right - middle
    rise = torch.maximum(bent * before * before - slope * before, bent * after * after + slope * after)
    better = top >= pieces.value
    best = torch.where(better[:, None], pieces.start + middle[:, None] * pieces.along, pieces.best)
    return top + rise.clamp(min=0) + pieces.allowance, torch.maximum(top, pieces.value), best


def spread(question: Question) -> Tensor:
    """`sizes` over the whole polygons: halving pieces brings no bound nearer than the rounding that this stands for."""
    (x1, x2, y1, y2), (x0, y0) = question.polygons.boxes.unbind(1), question.anchors.abs().unbind(1)
    f = jet_range(question.first, x1, x2, jet(question.first, x1), jet(question.first, x2))
    g = jet_range(question.second, y1, y2, jet(question.second, y1), jet(question.second, y2))
    reach_x, reach_y = torch.maximum(x1.abs(), x2.abs()) + x0, torch.maximum(y1.abs(), y2.abs()) + y0
    return sizes(f, g, question.slopes[:, 0], question.slopes[:, 1], reach_x, reach_y)
