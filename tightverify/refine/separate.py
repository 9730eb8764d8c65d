"""Supporting planes of an operation's envelopes at given points: what cuts a point of a program off.

A program's point gives each neuron y and its operands p. Over the box or polygon D that p surely lies in, the convex hull of
the operation's graph lies between its lower convex and its upper concave envelope. As the function f itself lies between the
two, only one side can be violated: the upper one where y > f(p), the lower one where y < f(p). The plane that supports that
envelope at p is, of all that hold f over D, the one nearest to y: if it does not cut y off, nothing does.

* F(x) G(y) for smooth curves: `relax.fitted.fit`, over the polygon; p is first moved a little inside.
* GRU's update: `relax.fitted.gru_update`, over the box.
* A curve f(x) of one operand: any slope becomes a valid line by `relax.lines.upper_offset`. A function of straight pieces has
  envelopes whose slopes are all among those of the chords between its kinks and ends; a convex or concave one has its chord on
  one side, and its own slope at p on the other.
* max(x, y) is convex: an upper plane is valid if it is so at the box's four corners, and the upper envelope is made of planes
  through three of them; the lower one of x and y themselves.

Whatever the slopes, the offsets are proved over all of D; a bad point or slope gives a plane that cuts nothing off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from tightverify.graph import Apply
from tightverify.ops import GruUpdate, Maximum
from tightverify.refine.relaxed import Relaxed
from tightverify.relax.curves import Curve, Symmetric
from tightverify.relax.fitted.family import through
from tightverify.relax.fitted.fit import Query, fit
from tightverify.relax.fitted.gru_update import fitted_update
from tightverify.relax.lines import chord_slope, upper_offset
from tightverify.relax.polygons import Polygons
from tightverify.values import TINY, UNIT_ROUNDOFF, Interval, above

INSIDE = 1 - 1e-3
"""How far towards the border a point may lie when planes are fitted at it."""
TOLERANCE = 1e-4
"""How near to the tightest a fitted plane is, relative to its mean distance."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Some neurons `which` (m,) of an operation, their operands' points (m, k), and on which side a plane is wanted (m,)."""

    number: int
    which: Tensor
    points: Tensor
    upper: Tensor
    values: Tensor
    """(m,): what the planes are to cut off"""

    @property
    def sign(self) -> Tensor:
        return torch.where(self.upper, 1.0, -1.0).to(self.points)


@dataclass(frozen=True, eq=False)
class Support:
    """Planes (m, k + 1), slopes and offset, of m neurons, and what any plane of theirs has at its point at the best.

    `best` (m,) is the plane's own value there for functions whose envelope it is; for fitted planes a bound beyond it.
    """

    planes: Tensor
    best: Tensor

    def excess(self, asked: Asked) -> Tensor:
        """(m,): by how much the planes cut the values off."""
        return asked.sign * (asked.values - (self.planes[:, :-1] * asked.points).sum(1) - self.planes[:, -1])

    def beyond(self, asked: Asked) -> Tensor:
        """(m,): by how much the values lie outside the envelopes, at the most."""
        return (asked.sign * (asked.values - self.best)).clamp(min=0)


def supporting(relaxed: Relaxed, every: Sequence[Asked], least_cut: float, solver: str = "batched") -> list[Support | None]:
    """The planes for each that is asked; None where nothing is known to support the operation.

    Gates of the same function are fitted together: first quickly; then, where that cuts less than `least_cut` off and the
    tightest plane might cut more, as tightly as can be.
    """
    found: list[Support | None] = [None] * len(every)
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, asked in enumerate(every):
        node = relaxed.graph.nodes[asked.number]
        assert isinstance(node, Apply)
        if asked.number in relaxed.polygons and node.op.curves is not None:
            width = relaxed.polygons[asked.number].vertices.shape[1]
            alike.setdefault((node.op.curves, node.op.arity, width), []).append(place)
        else:
            found[place] = alone(node, [box[asked.which] for box in relaxed.boxes(asked.number)], asked, solver)
    for (curves, *_), places in alike.items():
        together = fitted_supports(relaxed, curves, [every[k] for k in places], least_cut, solver)  # type: ignore[arg-type]
        for place, support in zip(places, together, strict=True):
            found[place] = support
    return found


def alone(node: Apply, boxes: list[Interval], asked: Asked, solver: str) -> Support | None:
    if isinstance(node.op, GruUpdate):
        return update_support(boxes, asked.points, asked.upper, solver)
    if isinstance(node.op, Maximum):
        return maximum_support(boxes[0], boxes[1], asked.points, asked.upper)
    if node.op.curve is not None:
        return curve_support(node.op.curve, boxes[0], asked.points[:, 0], asked.upper)
    return None


Curves = tuple[Symmetric, Symmetric]


def fitted_supports(relaxed: Relaxed, curves: Curves, every: Sequence[Asked], least_cut: float, solver: str) -> list[Support]:
    """Supports of several operations F(x) G(y) of the same two curves, over polygons of as many vertices."""
    polygons = Polygons(torch.cat([relaxed.polygons[asked.number].vertices[asked.which] for asked in every]))
    parts = ("which", "points", "upper", "values")
    joined = Asked(-1, *(torch.cat([getattr(asked, name) for asked in every]) for name in parts))
    support = fitted_support(curves, polygons, joined, solver, once=True)
    planes, best = support.planes, support.best
    doubtful = torch.nonzero((support.excess(joined) <= least_cut) & (support.beyond(joined) > least_cut)).flatten()
    if len(doubtful):
        left = Asked(-1, *(getattr(joined, name)[doubtful] for name in parts))
        finer = fitted_support(curves, polygons[doubtful], left, solver, once=False)
        planes, best = planes.index_copy(0, doubtful, finer.planes), best.index_copy(0, doubtful, finer.best)
    sizes = [len(asked.which) for asked in every]
    return [Support(*pair) for pair in zip(torch.split(planes, sizes), torch.split(best, sizes), strict=True)]


def fitted_support(curves: Curves, polygons: Polygons, asked: Asked, solver: str, once: bool) -> Support:
    arity = asked.points.shape[1]
    places = asked.points if arity == 2 else torch.cat([asked.points, torch.zeros_like(asked.points)], dim=1)
    inner = inside(polygons, places)
    found = fit(Query(*curves, asked.sign, inner, polygons), solver, TOLERANCE, once)
    planes = asked.sign[:, None] * through(found.slopes, found.height, inner)
    # The tightest plane at the inner point may be nearer there by height - least, and so at the point, but for its slopes.
    best = planes[:, 2] + (planes[:, :2] * places).sum(1) - asked.sign * (found.height - found.least)
    return Support(planes[:, [*range(arity), 2]], best)


def inside(polygons: Polygons, points: Tensor) -> Tensor:
    """Points (N, 2) drawn towards the centroids until they lie inside the polygons, a little away from the border."""
    centres = polygons.centroids
    steps = points - centres
    share = (INSIDE * polygons.reach(centres, steps[:, None])).clamp(max=1.0)
    return centres + share * steps


def update_support(boxes: list[Interval], points: Tensor, upper: Tensor, solver: str) -> Support:
    ends = torch.stack([end for box in boxes for end in (box.lower, box.upper)], dim=1)
    low, high = ends[:, 0::2], ends[:, 1::2]
    middle = (low + high) / 2
    places = middle + INSIDE * (torch.minimum(torch.maximum(points, low), high) - middle)
    found = fitted_update(ends, places[:, None], solver, TOLERANCE)
    planes = torch.where(upper[:, None], found.upper[:, 0], found.lower[:, 0])
    gap = torch.where(upper, -found.gap[:, 0, 1], found.gap[:, 0, 0])
    return Support(planes, planes[:, 3] + (planes[:, :3] * points).sum(1) + gap)


def curve_support(curve: Curve, box: Interval, points: Tensor, upper: Tensor) -> Support:
    """Lower lines are upper lines of the mirror image."""
    above_it = upper_line_at(curve, box, points)
    flipped = upper_line_at(curve.mirror, box.mirror(), -points)
    below_it = torch.stack([flipped[:, 0], -flipped[:, 1]], dim=1)
    planes = torch.where(upper[:, None], above_it, below_it)
    return Support(planes, planes[:, 0] * points + planes[:, 1])


def upper_line_at(curve: Curve, box: Interval, points: Tensor) -> Tensor:
    """(m, 2): of the lines with the slopes that the envelope may have, the lowest at the points."""
    slopes = [chord_slope(curve, box), curve.supergradient(points, torch.zeros_like(points))]
    if curve.breakpoints is not None:
        bends = [torch.full_like(points, breakpoint).clamp(box.lower, box.upper) for breakpoint in curve.breakpoints]
        slopes += [chord_slope(curve, Interval(low, high)) for low, high in combinations([box.lower, *bends, box.upper], 2)]
    every = torch.nan_to_num(torch.stack(slopes), nan=0.0, posinf=0.0, neginf=0.0)
    wide = Interval(box.lower.expand_as(every), box.upper.expand_as(every))
    offsets = upper_offset(curve, every, wide)
    lowest = (every * points + offsets).nan_to_num(nan=torch.inf).argmin(0, keepdim=True)
    return torch.stack([every.gather(0, lowest)[0], offsets.gather(0, lowest)[0]], dim=1)


def maximum_support(x: Interval, y: Interval, points: Tensor, upper: Tensor) -> Support:
    """Lower planes: the larger operand; upper ones: through three corners, moved up to what the fourth asks for."""
    first = points[:, 0] >= points[:, 1]
    below_it = torch.stack([first.to(points), (~first).to(points), torch.zeros_like(points[:, 0])], dim=1)
    width_x, width_y = x.width, y.width
    found = []
    for at_y in (y.lower, y.upper):
        for at_x in (x.lower, x.upper):
            a = (torch.maximum(x.upper, at_y) - torch.maximum(x.lower, at_y)) / width_x
            b = (torch.maximum(at_x, y.upper) - torch.maximum(at_x, y.lower)) / width_y
            a, b = torch.nan_to_num(a, 0.0, 0.0, 0.0), torch.nan_to_num(b, 0.0, 0.0, 0.0)
            corners = [torch.maximum(u, v) - a * u - b * v for u in (x.lower, x.upper) for v in (y.lower, y.upper)]
            size = 4 * (1 + a.abs() + b.abs()) * (x.magnitude + y.magnitude)
            offset = above(torch.stack(corners).amax(0), 8 * UNIT_ROUNDOFF * size + TINY)
            found.append(torch.stack([a, b, offset], dim=1))
    every = torch.stack(found)
    lowest = (every[..., :2] * points).sum(-1) + every[..., 2]
    above_it = every[lowest.argmin(0), torch.arange(len(points))]
    planes = torch.where(upper[:, None], above_it, below_it)
    return Support(planes, (planes[:, :2] * points).sum(1) + planes[:, 2])
