"""The tightest planes above a function at given points: linear programs over samples, cut to convergence.

The plane `z + a (x - x0) + b (y - y0)` of least height z over the point (x0, y0) that is nowhere below the function supports
the function's concave envelope there. (Over the centroid, z less the function's mean is the mean distance, so that plane
has the least volume.) Over some samples of the polygon this is a linear program in three variables, and its value is at
most the wanted one; `proved_offset` for its slopes gives a valid plane, at least as high. The worst points found on the way
become the next program's samples, until the two meet. Where the plane is held by less than three points a program needs
many samples to see how the function bends; steps of `newton` go there at once.

Lower bound. Weights w >= 0 of sum 1 over samples p_i give z >= sum w_i f(p_i) - (a, b) . (sum w_i p_i - p0) for every valid
plane. The last term is 0 if the weights are exact; else it is at most what the slopes' range makes of it. The function
itself at p0 is a lower bound too.

Range of the slopes. Over a box, each slope of the plane lies in the range of that derivative: were it larger everywhere, the
plane could touch at one side of the box only, and p0 is inside. Over a polygon that argument fails where sides lean; there
slopes are kept to nine times that range about its middle, so that slivers do no harm: the tightest of *these* planes is found.

Scales. The programs are about what is left of the function without its tangent plane at p0, divided by its largest
sample, over coordinates divided by the half widths: thin boxes thus keep their digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Symmetric
from tightverify.relax.fitted.newton import FitProblem, descend, inverse_of
from tightverify.relax.fitted.offsets import Question, proved_offset, sizes
from tightverify.relax.fitted.programs import programs
from tightverify.relax.polygons import Polygons, cross
from tightverify.relax.ranges import jet, jet_range
from tightverify.values import FUNCTION_ERROR, UNIT_ROUNDOFF

MOST_ROUNDS = 30
NEWTON_STEPS = 4
MOST_SLOPE = 1e4
"""in scaled coordinates"""
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
    frame = Frame.of(query)
    best = BestSoFar.empty(frame)
    work = Work(query, frame, torch.arange(len(query), device=query.sign.device))
    places = first_samples(query)
    answer = solved(query, frame, places, solver)
    best.raise_least(work, lower_bound(query, frame, places, answer.weights))
    best.prove(work, answer.slopes, torch.maximum(frame.floor, tolerance * answer.distance), answer.level)
    return Fitted(best.slopes, best.height, torch.minimum(best.least, best.height))


def _fit(query: Query, solver: str, tolerance: float) -> Fitted:
    frame = Frame.of(query)
    best = BestSoFar.empty(frame)
    work = Work(query, frame, torch.arange(len(query), device=query.sign.device))
    places = first_samples(query)
    slopes, misfit = corner_plane(query, frame)
    best.prove(
        work, slopes, torch.maximum(frame.floor, torch.minimum(tolerance / 4 * misfit, SLACK * (1 + frame.at_point.abs())))
    )
    for _ in range(MOST_ROUNDS):
        answer = solved(work.query, work.frame, places, solver)
        best.raise_least(work, lower_bound(work.query, work.frame, places, answer.weights))
        wanted = torch.maximum(2 * work.frame.floor, tolerance * answer.distance)
        left = best.open(work, wanted)
        work, places, answer, wanted = work[left], places[left], answer[left], wanted[left]
        if not len(left):
            break
        room = torch.minimum(wanted / 4, torch.maximum(work.frame.floor, SLACK * (1 + work.frame.at_point.abs())))
        worst = best.prove(work, answer.slopes, room, answer.level)
        slopes, maxima, weights = descend(work.problem, answer.slopes, worst, NEWTON_STEPS)
        maxima, worst = (torch.where(torch.isnan(new), work.query.points[:, None], new) for new in (maxima, worst))
        best.prove(work, slopes, room, answer.level)
        best.raise_least(work, lower_bound(work.query, work.frame, maxima, weights))
        left = best.open(work, wanted)
        work, places = work[left], torch.cat([places, worst, maxima], dim=1)[left]
        if not len(left):
            break
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
class Work:
    """The planes that are still worked on, and which of all they are."""

    query: Query
    frame: Frame
    which: Tensor

    def __getitem__(self, chosen: Tensor) -> Work:
        return Work(self.query[chosen], self.frame[chosen], self.which[chosen])

    @property
    def problem(self) -> FitProblem:
        query, frame = self.query, self.frame
        curves = query.first, query.second
        return FitProblem(curves, query.sign, query.points, frame.half, query.polygons.vertices, frame.low, frame.high)


@dataclass(frozen=True, eq=False)
class BestSoFar:
    """The best plane and the best lower bound found for each; changed in place."""

    slopes: Tensor
    height: Tensor
    least: Tensor

    @staticmethod
    def empty(frame: Frame) -> BestSoFar:
        return BestSoFar(frame.tangent.clone(), torch.full_like(frame.at_point, torch.inf), frame.at_point - frame.floor)

    def prove(self, work: Work, slopes: Tensor, room: Tensor, level: Tensor | None = None) -> Tensor:
        """Take planes with these slopes where they are lower; hands back the points that hold them up."""
        query, which = work.query, work.which
        answer = proved_offset(
            Question(query.first, query.second, query.sign, slopes, query.points, query.polygons), room, level
        )
        better = answer.offset < self.height[which]
        self.height[which] = torch.where(better, answer.offset, self.height[which])
        self.slopes[which] = torch.where(better[:, None], slopes, self.slopes[which])
        return answer.places

    def raise_least(self, work: Work, bound: Tensor) -> None:
        self.least[work.which] = torch.maximum(self.least[work.which], bound)

    def open(self, work: Work, wanted: Tensor) -> Tensor:
        """The places in `work` of the planes whose gap is still too large."""
        return torch.nonzero(self.height[work.which] - self.least[work.which] > wanted).flatten()


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


@dataclass(frozen=True, eq=False)
class Programmed:
    """The programs' slopes, the samples' multipliers, the heights, and half of about the mean distances."""

    slopes: Tensor
    weights: Tensor
    level: Tensor
    distance: Tensor

    def __getitem__(self, chosen: Tensor) -> Programmed:
        return Programmed(*(part[chosen] for part in vars(self).values()))


def solved(query: Query, frame: Frame, places: Tensor, solver: str) -> Programmed:
    """State and solve the programs over samples at places (N, M, 2)."""
    offsets = places - query.points[:, None]
    steps = offsets / frame.half[:, None]
    left_over = query.value(places) - frame.at_point[:, None] - (offsets * frame.tangent[:, None]).sum(-1)
    scale = left_over.abs().amax(1)
    scale = torch.where(scale > 0, scale, 1.0)
    target = left_over / scale[:, None]
    rows = torch.cat([steps, torch.ones_like(steps[..., :1])], dim=-1)
    unit = scale[:, None] / frame.half
    least = -torch.ones_like(scale)[:, None]  # the point itself is a sample, of height 0
    low = torch.cat([((frame.low - frame.tangent) / unit).clamp(-MOST_SLOPE, 0), least], dim=1)
    high = torch.cat([((frame.high - frame.tangent) / unit).clamp(0, MOST_SLOPE), least + 4 * MOST_SLOPE], dim=1)
    found = programs(rows.cpu().numpy(), target.cpu().numpy(), low.cpu().numpy(), high.cpu().numpy(), solver)
    plane, weights = (torch.from_numpy(part).to(steps) for part in found)
    slopes = torch.minimum(torch.maximum(frame.tangent + plane[:, :2] * unit, frame.low), frame.high)
    level = frame.at_point + plane[:, 2] * scale
    over_centre = level + (slopes * (frame.centroid - query.points)).sum(-1)
    return Programmed(slopes, weights, level, ((over_centre - frame.mean) / 2).clamp(min=0))


def rough_mean(query: Query, centroids: Tensor) -> Tensor:
    """(N,): the function's mean over the polygons, exact for quadratic ones: the edges' middles of the triangles to them."""
    corners, centre = query.polygons.vertices, centroids[:, None]
    after = corners.roll(-1, 1)
    inner, outer = query.value((corners + centre) / 2), query.value((corners + after) / 2)
    areas = cross(corners - centre, after - centre).clamp(min=0)
    areas = torch.where(areas.sum(1, keepdim=True) > 0, areas, 1.0)
    return (areas * (inner + inner.roll(-1, 1) + outer)).sum(1) / (3 * areas.sum(1))


def lower_bound(query: Query, frame: Frame, places: Tensor, weights: Tensor) -> Tensor:
    """The module's lower bound on the height of every valid plane, (N,); -inf where the weights say nothing."""
    share = weights / weights.sum(1, keepdim=True)
    missed = (share[..., None] * (places - query.points[:, None])).sum(1)
    rounding = 16 * UNIT_ROUNDOFF * query.polygons.vertices.abs().amax(1)
    steepest = torch.maximum(frame.low.abs(), frame.high.abs())
    cost = (torch.maximum(missed * frame.low, missed * frame.high) + rounding * steepest).sum(1)
    bound = (share * query.value(places)).sum(1) - cost - FUNCTION_ERROR * frame.size
    return torch.nan_to_num(bound, nan=-torch.inf)
