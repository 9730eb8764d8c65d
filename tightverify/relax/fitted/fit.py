"""The tightest planes above a function at given points: linear programs over samples, cut to convergence.

The plane `z + a (x - x0) + b (y - y0)` of least height z over the point (x0, y0) that is nowhere below the function supports
the function's concave envelope there. (Over the centroid, z less the function's mean is the mean distance, so that plane
has the least volume.) Over some samples of the polygon this is a linear program in three variables, and its value is at
most the wanted one; `proved_offset` for its slopes gives a valid plane, at least as high. The worst points found on the way
become the next program's samples, until the two meet. Where the plane is held by less than three points a program needs
many samples to see how the function bends; steps of `newton` go there at once.

`relax.fitted.cutting` has the programs, their scales and the lower bound. The function itself at p0 is a lower bound too.

Range of the slopes. Over a box, each slope of the plane lies in the range of that derivative: were it larger everywhere, the
plane could touch at one side of the box only, and p0 is inside. Over a polygon that argument fails where sides lean; there
slopes are kept to nine times that range about its middle, so that slivers do no harm: the tightest of *these* planes is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Symmetric
from tightverify.relax.fitted.cutting import BestSoFar, SlopeRange, fit_prove_cut
from tightverify.relax.fitted.newton import FitProblem, descend, inverse_of
from tightverify.relax.fitted.offsets import proved_offset
from tightverify.relax.fitted.pieces import Question, sizes
from tightverify.relax.polygons import Polygons, cross
from tightverify.relax.ranges import jet, jet_range
from tightverify.values import FUNCTION_ERROR

NEWTON_STEPS = 4
SLACK = 0.5e-9
"""what a proof may lose, relative to 1 + |f|"""
PORTION = 16384
"""planes that are worked on together, so that they fit the processor's cache"""


@dataclass(frozen=True, eq=False)
class Query:
    """N planes that are wanted: above F(x) G(y) for sign 1, above its negation for sign -1, at points inside polygons."""

    first: Symmetric
    second: Symmetric
    sign: Tensor
    """(N,)"""
    points: Tensor
    """(N, 2)"""
    polygons: Polygons

    def __len__(self) -> int:
        return len(self.sign)

    def __getitem__(self, chosen: Tensor | slice) -> Query:
        return Query(self.first, self.second, self.sign[chosen], self.points[chosen], self.polygons[chosen])

    def value(self, places: Tensor) -> Tensor:
        """(N, M): the function at places (N, M, 2)."""
        return self.sign[:, None] * self.first.value(places[..., 0]) * self.second.value(places[..., 1])


@dataclass(frozen=True, eq=False)
class Fitted:
    """For each of N planes: slopes (N, 2), the proved height over its point, and a proved lower bound on that height."""

    slopes: Tensor
    height: Tensor
    least: Tensor


def fit(query: Query, solver: str = "highs", tolerance: float = 1e-6, once: bool = False) -> Fitted:
    """The tightest planes at the points, to a gap of `tolerance` times the mean distance, or what rounding allows.

    With `once`, what one program over the first samples gives, and its proof.
    """
    one = _fit_once if once else _fit
    found = [one(query[start : start + PORTION], solver, tolerance) for start in range(0, max(1, len(query)), PORTION)]
    return Fitted(*(torch.cat(parts) for parts in zip(*(vars(part).values() for part in found), strict=True)))


def _fit_once(query: Query, solver: str, tolerance: float) -> Fitted:
    work = Work.of(query)
    best = work.nothing
    places = first_samples(query)
    answer = work.solved(places, solver)
    best.raise_least(work.which, work.lower_bound(places, answer.weights))
    work.prove(best, answer.slopes, torch.maximum(work.frame.floor, tolerance * answer.distance), answer.level)
    return Fitted(best.slopes, best.height, torch.minimum(best.least, best.height))


def _fit(query: Query, solver: str, tolerance: float) -> Fitted:
    everything = Work.of(query)
    best, frame = everything.nothing, everything.frame
    slopes, misfit = corner_plane(query, frame)
    room = torch.maximum(frame.floor, torch.minimum(tolerance / 4 * misfit, SLACK * (1 + frame.at_point.abs())))
    everything.prove(best, slopes, room)

    def one_round(work: Work, places: Tensor) -> tuple[Work, Tensor]:
        answer = work.solved(places, solver)
        best.raise_least(work.which, work.lower_bound(places, answer.weights))
        wanted = torch.maximum(2 * work.frame.floor, tolerance * answer.distance)
        left = best.open(work.which, wanted)
        work, places, answer, wanted = work[left], places[left], answer[left], wanted[left]
        if not len(left):
            return work, places
        room = torch.minimum(wanted / 4, torch.maximum(work.frame.floor, SLACK * (1 + work.frame.at_point.abs())))
        worst = work.prove(best, answer.slopes, room, answer.level)
        slopes, maxima, weights = descend(work.problem, answer.slopes, worst, NEWTON_STEPS)
        maxima, worst = (torch.where(torch.isnan(new), work.query.points[:, None], new) for new in (maxima, worst))
        work.prove(best, slopes, room, answer.level)
        best.raise_least(work.which, work.lower_bound(maxima, weights))
        left = best.open(work.which, wanted)
        return work[left], torch.cat([places, worst, maxima], dim=1)[left]

    fit_prove_cut(everything, first_samples(query), one_round)
    return Fitted(best.slopes, best.height, torch.minimum(best.least, best.height))


@dataclass(frozen=True, eq=False)
class Frame:
    """The coordinates of a plane's programs: half widths, and the tangent plane at the point, which is taken off."""

    half: Tensor
    at_point: Tensor
    tangent: Tensor
    low: Tensor
    """(N, 2): the ranges of the slopes, `low` to `high`"""
    high: Tensor
    floor: Tensor
    """(N,): what rounding may cost a proof"""
    size: Tensor
    centroid: Tensor
    mean: Tensor
    """(N,): about the function's mean"""

    @staticmethod
    def of(query: Query) -> Frame:
        boxes = query.polygons.boxes
        x1, x2, y1, y2 = boxes.unbind(1)
        f = jet_range(query.first, x1, x2, jet(query.first, x1), jet(query.first, x2))
        g = jet_range(query.second, y1, y2, jet(query.second, y1), jet(query.second, y2))
        to_x, to_y = (f.first * g.value).scaled(query.sign), (f.value * g.first).scaled(query.sign)
        fp, gp = jet(query.first, query.points[:, 0]), jet(query.second, query.points[:, 1])
        tangent = torch.stack([fp.first * gp.value, fp.value * gp.first], dim=1) * query.sign[:, None]
        low, high = torch.stack([to_x.low, to_y.low], 1), torch.stack([to_x.high, to_y.high], 1)
        if query.polygons.vertices.shape[1] > 4:
            low, high = low - 4 * (high - low), high + 4 * (high - low)
        half = torch.stack([x2 - x1, y2 - y1], dim=1) / 2
        steepest = torch.maximum(low.abs(), high.abs())
        reach_x, reach_y = 2 * torch.maximum(x1.abs(), x2.abs()), 2 * torch.maximum(y1.abs(), y2.abs())
        size = sizes(f, g, steepest[:, 0], steepest[:, 1], reach_x, reach_y)
        at_point = query.sign * fp.value * gp.value
        centroid = query.polygons.centroids
        mean = rough_mean(query, centroid)
        half = torch.where(half > 0, half, 1.0)
        return Frame(half, at_point, tangent, low, high, 2 * FUNCTION_ERROR * size, size, centroid, mean)

    def __getitem__(self, chosen: Tensor) -> Frame:
        return Frame(*(part[chosen] for part in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Programmed:
    """The programs' slopes, the samples' multipliers, the heights, and half of about the mean distances."""

    slopes: Tensor
    weights: Tensor
    level: Tensor
    distance: Tensor

    def __getitem__(self, chosen: Tensor) -> Programmed:
        return Programmed(*(part[chosen] for part in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Work:
    """The planes that are still worked on, and which of all they are."""

    query: Query
    frame: Frame
    which: Tensor

    @staticmethod
    def of(query: Query) -> Work:
        return Work(query, Frame.of(query), torch.arange(len(query), device=query.sign.device))

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, chosen: Tensor) -> Work:
        return Work(self.query[chosen], self.frame[chosen], self.which[chosen])

    @property
    def nothing(self) -> BestSoFar:
        return BestSoFar.above(self.frame.tangent, self.frame.at_point - self.frame.floor)

    @property
    def problem(self) -> FitProblem:
        query, frame = self.query, self.frame
        curves = query.first, query.second
        return FitProblem(curves, query.sign, query.points, frame.half, query.polygons.vertices, frame.low, frame.high)

    @property
    def slopes(self) -> SlopeRange:
        return SlopeRange(self.frame.half, self.frame.tangent, self.frame.low, self.frame.high)

    def solved(self, places: Tensor, solver: str) -> Programmed:
        """State and solve the programs over samples at places (N, M, 2)."""
        query, frame = self.query, self.frame
        offsets = places - query.points[:, None]
        left_over = query.value(places) - frame.at_point[:, None] - (offsets * frame.tangent[:, None]).sum(-1)
        slopes, weights, above_tangent = self.slopes.best_over(offsets, left_over, solver)
        level = frame.at_point + above_tangent
        over_centre = level + (slopes * (frame.centroid - query.points)).sum(-1)
        return Programmed(slopes, weights, level, ((over_centre - frame.mean) / 2).clamp(min=0))

    def lower_bound(self, places: Tensor, weights: Tensor) -> Tensor:
        """What weights (N, M) of samples prove of every valid plane's height, (N,)."""
        query = self.query
        reach = query.polygons.vertices.abs().amax(1)
        return self.slopes.lower_bound(places - query.points[:, None], query.value(places), weights, reach, self.frame.size)

    def prove(self, best: BestSoFar, slopes: Tensor, room: Tensor, level: Tensor | None = None) -> Tensor:
        """Take planes with these slopes where they are lower; hands back the points that hold them up."""
        query = self.query
        asked = Question(query.first, query.second, query.sign, slopes, query.points, query.polygons)
        answer = proved_offset(asked, room, level)
        best.take(self.which, slopes, answer.offset, answer.offset)  # offsets are heights: they are over the points
        return answer.places


def corner_plane(query: Query, frame: Frame) -> tuple[Tensor, Tensor]:
    """The slopes of the plane that is nearest to the function at the corners, by least squares, and what it misses there.

    Where only two opposite corners hold the tightest plane, many are as tight, and this one is amid them.
    """
    offsets = (query.polygons.vertices - query.polygons.middle[:, None]) / frame.half[:, None]
    offsets = offsets - offsets.mean(1, keepdim=True)
    values = query.value(query.polygons.vertices)
    normal = offsets.mT @ offsets + 1e-12 * torch.eye(2, dtype=offsets.dtype, device=offsets.device)
    scaled = (inverse_of(normal) @ (offsets.mT @ values[..., None]))[..., 0]
    misfit = (values - values.mean(1, keepdim=True) - (offsets * scaled[:, None]).sum(-1)).abs().amax(1)
    return torch.minimum(torch.maximum(scaled / frame.half, frame.low), frame.high), misfit


def first_samples(query: Query) -> Tensor:
    """(N, M, 2): the point, the corners, the middles of the edges, and for boxes half way from the point to the corners."""
    corners, point = query.polygons.vertices, query.points[:, None]
    middles = (corners + corners.roll(-1, 1)) / 2
    if corners.shape[1] > 4:
        return torch.cat([point, corners, middles], dim=1)
    return torch.cat([point, corners, middles, (point + corners) / 2], dim=1)


def rough_mean(query: Query, centroids: Tensor) -> Tensor:
    """(N,): the function's mean over the polygons, exact for quadratic ones: the edges' middles of the triangles to them."""
    corners, centre = query.polygons.vertices, centroids[:, None]
    after = corners.roll(-1, 1)
    inner, outer = query.value((corners + centre) / 2), query.value((corners + after) / 2)
    areas = cross(corners - centre, after - centre).clamp(min=0)
    areas = torch.where(areas.sum(1, keepdim=True) > 0, areas, 1.0)
    return (areas * (inner + inner.roll(-1, 1) + outer)).sum(1) / (3 * areas.sum(1))
