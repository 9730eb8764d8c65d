"""Planes fitted by linear programs over what the operands of a gate can be together: a polygon, not only a box.

Before a gate F(x) G(y) is relaxed, sums and differences of its operands, each in units of its half width, are bounded by
back-substitution like any other row; what is left of the box is a polygon, over which planes are fitted and proved. The
directions lie evenly between the axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.bounds.bounding_pass import BoundingPass, Relaxation
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.pairing import may_be_paired, over_polygons, pairs_for
from tightverify.bounds.recorder import NOBODY, Recorder
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import NodeBounds, operand_boxes
from tightverify.bounds.window import further
from tightverify.budget import UNLIMITED, Budget
from tightverify.graph import Apply, Graph, Operand
from tightverify.ops import Operation
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.polygons import Polygons
from tightverify.relax.traits import FittedPlanes, OperandSet, Search
from tightverify.values import Interval

WORTH = 0.85
"""A box that keeps more than this of each width keeps the planes that were made for it before it shrank."""
MOST = 1e6
"""Operands that may be larger than this, infinite ones among them, keep the closed form alone."""


@dataclass(frozen=True)
class Fitting:
    """How planes are fitted: which kinds of `relax.fitted.family`, over how many directions' polygons, by which solver, how
    near.

    In a network the last percent of a plane's volume is worth nothing: one program for each (`once`) is enough.
    """

    kinds: tuple[str, ...] = ("tightest",)
    directions: int = 2
    solver: str = "batched"
    tolerance: float = 3e-2
    once: bool = True
    pairs: bool = False
    """whether neurons of one operand are taken two and two as well, where nobody reads evidence: it has no place for that"""

    @property
    def search(self) -> Search:
        return Search(self.solver, self.tolerance, self.once)

    @property
    def relaxation(self) -> Relaxation:
        def relax(bounds: BoundingPass, node: Apply) -> tuple[Planes, ...]:
            return fitted_planes(bounds, node, self)

        return relax


@dataclass(frozen=True)
class Effort:
    """How planes are fitted and mixed: `steps` for intermediate bounds, `last_steps` for the rows that are wanted.

    A further round bounds only that `part` of the neurons anew, by how much what is wanted depends on them.
    """

    fitting: Fitting
    steps: int
    last_steps: int
    part: float = 1.0


def fitted_bounds(
    graph: Graph,
    region: Region,
    fitting: Fitting,
    budget: Budget = UNLIMITED,
    recorder: Recorder = NOBODY,
    window: int | None = None,
) -> LinearBounds:
    """A bounding pass with closed-form planes, and one with fitted planes over the intervals that it found."""
    first = linear_bounds(graph, region, budget, recorder=recorder, window=further(window))
    return linear_bounds(graph, region, budget, fitting.relaxation, first.intervals, recorder=recorder, window=window)


def combined_bounds(
    graph: Graph,
    region: Region,
    effort: Effort,
    known: Sequence[Interval],
    budget: Budget = UNLIMITED,
    recorder: Recorder = NOBODY,
    window: int | None = None,
) -> LinearBounds:
    """A bounding pass in which every bound is that of its own best mixture of planes."""
    return linear_bounds(graph, region, budget, effort.fitting.relaxation, known, effort.steps, recorder, window)


def fitted_planes(bounds: BoundingPass, node: Apply, fitting: Fitting) -> tuple[Planes, ...]:
    """The closed form first, then the fitted ones."""
    closed = closed_planes(bounds, node.op, operand_boxes(bounds, node))
    own = node.op.traits.fitted
    if own is None:
        return (closed,)
    shape = closed.upper.offset.shape
    ends, sane = flat_ends(bounds, node)
    all_sane = bool(sane.all())
    polygons = polygons_for(bounds, node, ends, all_sane, fitting.directions) if own.planar else None
    if polygons is not None and node.op.arity == 2:
        everything = torch.arange(node.size, device=ends.device).expand(shape)
        bounds.recorder.polygons(len(bounds.intervals) - 1, polygons, sane.view(shape), everything)
    fitted = fitted_over(own, OperandSet(ends, polygons), shape, fitting)
    if not all_sane:
        fitted = [kept(pair, closed, sane.view(shape)) for pair in fitted]
    elif fitting.pairs and may_be_paired(bounds, node):
        bounds.pairs[len(bounds.intervals) - 1] = pairs_for(bounds, node, fitted[0])
    return closed, *fitted


def closed_planes(bounds: NodeBounds, op: Operation, boxes: list[Interval]) -> Planes:
    """The closed form; for mixtures the last of its alternatives, as the tightest one is fitted anyway."""
    others = op.alternatives(*boxes) if bounds.mixtures else ()
    return (others or (op.relax(*boxes),))[-1]


def refitted_planes(
    bounds: BoundingPass,
    number: int,
    fitting: Fitting,
    old: tuple[Planes, ...],
    before: Sequence[Interval],
    anew: Tensor | None = None,
) -> tuple[Planes, ...]:
    """The same for smaller boxes than planes are at hand for: fitted anew only where a box has shrunk enough to be worth it.

    Where `anew` (B, n) says so, sums and differences of the operands are bounded again first. There may be fewer kinds than
    planes are at hand of; the last ones are kept as they are then.
    """
    node = bounds.graph.nodes[number]
    assert isinstance(node, Apply)
    boxes = operand_boxes(bounds, node)
    closed = closed_planes(bounds, node.op, boxes)
    own = node.op.traits.fitted
    if own is None:
        return (closed,)
    ends, sane = flat_ends(bounds, node)
    if number in bounds.pairs:
        bounds.pairs[number] = over_polygons(bounds, node, bounds.pairs[number].members, bounds.pairs[number].polygons)
    elif fitting.pairs and may_be_paired(bounds, node) and bool(sane.all()):
        bounds.pairs[number] = pairs_for(bounds, node, closed)
    left = [torch.where(was.width > 0, box.width / was.width, 1.0) for box, was in zip(boxes, before, strict=True)]
    worth = torch.stack(left).amin(0) < WORTH
    if anew is not None:
        recut(bounds, number, ends, anew, fitting.directions)
        worth = worth | anew
    chosen = torch.nonzero(worth.flatten() & sane).flatten()
    if not len(chosen):
        return closed, *old[1:]
    some = ends[chosen]
    if node.op.arity == 2 and number in bounds.polygons:
        polygons: Polygons | None = bounds.polygons[number][chosen].cut_to(some)
    else:
        polygons = Polygons.of_operands(some)
    fitted = fitted_over(own, OperandSet(some, polygons), chosen.shape, fitting)

    def renewed(was: Tensor, now: Tensor) -> Tensor:
        return was.flatten().index_copy(0, chosen, now).view(was.shape)

    old = (*old, *[old[-1]] * (1 + len(fitted) - len(old)))
    new = [
        Planes(
            *(
                Plane(
                    tuple(renewed(a, b) for a, b in zip(was.slopes, now.slopes, strict=True)), renewed(was.offset, now.offset)
                )
                for was, now in ((mine.lower, pair.lower), (mine.upper, pair.upper))
            )
        )
        for mine, pair in zip(old[1:], fitted, strict=False)
    ]
    return closed, *new, *old[1 + len(new) :]


def recut(bounds: BoundingPass, number: int, ends: Tensor, anew: Tensor, directions: int) -> None:
    """Polygons of some of an operation's neurons, (B, n), as many for each input, in place of those in the bounds."""
    if number not in bounds.polygons or not directions or not bool(anew.any()):
        return
    chosen = torch.nonzero(anew)[:, 1].view(len(anew), -1)
    some = ends.view(*anew.shape, -1).gather(1, chosen[..., None].expand(-1, -1, ends.shape[-1])).flatten(0, 1)
    found = polygons_of(bounds, number, some, directions, chosen)
    bounds.recorder.polygons(number, found, torch.ones_like(chosen, dtype=torch.bool), chosen)
    now = found.vertices
    was = bounds.polygons[number].vertices
    vertices = as_many(was, now).index_copy(0, torch.nonzero(anew.flatten()).flatten(), as_many(now, was))
    bounds.polygons[number] = Polygons(vertices)


def as_many(vertices: Tensor, others: Tensor) -> Tensor:
    """Polygons' vertices (N, V, 2), their last repeated until there are as many as the others have, if they have more."""
    missing = max(0, others.shape[1] - vertices.shape[1])
    return torch.cat([vertices, vertices[:, -1:].expand(-1, missing, -1)], dim=1)


def flat_ends(bounds: NodeBounds, node: Apply) -> tuple[Tensor, Tensor]:
    """The operands' boxes (B * n, 2 k), a point in place of each that is too large, and (B * n,) which are not."""
    boxes = operand_boxes(bounds, node)
    ends = torch.stack([end for box in boxes for end in (box.lower, box.upper)], dim=-1).view(-1, 2 * len(boxes))
    sane = (ends.abs() < MOST).all(1)
    return torch.where(sane[:, None], ends, 0.0), sane


def kept(pair: Planes, other: Planes, where: Tensor) -> Planes:
    return Planes(pair.lower.where(where, other.lower), pair.upper.where(where, other.upper))


def polygons_for(bounds: BoundingPass, node: Apply, ends: Tensor, sane: bool, directions: int) -> Polygons | None:
    """What the operands can be together. If none of the boxes (`sane`) stands for a larger one, it is kept in the bounds.

    What is kept is never replaced by what is cut from it: the rounding of one such cut is paid for.
    """
    number = len(bounds.intervals) - 1
    if number in bounds.polygons:
        return bounds.polygons[number].cut_to(ends)
    if node.op.arity != 2 or not directions:
        return Polygons.of_operands(ends)
    polygons = polygons_of(bounds, number, ends, directions)
    if sane:
        bounds.polygons[number] = polygons
    return polygons


def fitted_over(own: FittedPlanes, operands: OperandSet, shape: torch.Size, fitting: Fitting) -> list[Planes]:
    """Pairs of an operation's own planes, in the shape asked for."""
    return list(pairs(*own.planes(operands, fitting.kinds, fitting.search), shape))


def pairs(lower: Tensor, upper: Tensor, shape: torch.Size) -> Iterator[Planes]:
    """(B * n, K, k + 1), slopes and offset, as K pairs of planes over (B, n)."""
    for below, above in zip(lower.unbind(1), upper.unbind(1), strict=True):
        sides = []
        for side in (below, above):
            *slopes, offset = (part.reshape(shape) for part in side.unbind(-1))
            sides.append(Plane(tuple(slopes), offset))
        yield Planes(*sides)


def polygons_of(bounds: NodeBounds, number: int, ends: Tensor, directions: int, chosen: Tensor | None = None) -> Polygons:
    """What is left of boxes (B * k, 4) of chosen neurons (B, k), or of all, when so many directions are bounded too."""
    node = bounds.graph.nodes[number]
    assert isinstance(node, Apply)
    normals = normals_of(ends, directions)
    rows = direction_rows(bounds, node, normals.view(len(bounds.region), -1, 2 * directions, 2), chosen)
    least = bounds.lower(rows, quick=True, about=("operands", number))
    return Polygons.within(ends, normals, least.view(len(ends), -1))


def normals_of(ends: Tensor, directions: int) -> Tensor:
    """(N, 2 D, 2): directions between the axes and their opposites, in units of the boxes' half widths (of larger x)."""
    half_x, half_y = ((ends[:, 1::2] - ends[:, 0::2]) / 2).unbind(1)
    # One operand that does not move leaves nothing to be cut: any direction will do then.
    ratio = torch.where((half_x > 0) & (half_y > 0), half_x / half_y, 1.0)
    angles = [math.pi * (k + 1) / (directions + 2) for k in range(directions // 2)]
    angles = angles + [math.pi - angle for angle in angles]
    found: list[Tensor] = []
    for angle in angles:
        one = torch.stack([torch.full_like(ratio, math.cos(angle)), math.sin(angle) * ratio], dim=1)
        found.extend((one, -one))
    return torch.stack(found, dim=1)


def direction_rows(bounds: NodeBounds, node: Apply, normals: Tensor, chosen: Tensor | None = None) -> dict[int, Tensor]:
    """Rows (B, k * 2 D, .) over the operands' nodes, one for each neuron and normal (B, k, 2 D, 2)."""
    batch, size, count, _ = normals.shape
    rows: dict[int, Tensor] = {}
    for operand, weights in zip(node.operands, normals.unbind(-1), strict=True):
        width = bounds.graph.nodes[operand.source].size
        row = rows.setdefault(operand.source, weights.new_zeros((batch, size, count, width)))
        places = positions(operand, width, weights.device)
        where = places.expand(batch, -1) if chosen is None else places[chosen]
        row.scatter_add_(3, where[:, :, None, None].expand(-1, -1, count, 1), weights[..., None])
    return {source: row.view(batch, size * count, -1) for source, row in rows.items()}


def positions(operand: Operand, width: int, device: torch.device) -> Tensor:
    everything = torch.arange(width, device=device)
    return everything[operand.index]
