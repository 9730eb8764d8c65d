"""The family of planes that hold F(x) G(y) over polygons: named kinds, each of one or several planes on both sides.

Each kind is a function from a `Domain` to `PlaneSet`, and one line in `KINDS`. Every plane is valid on the whole polygon: those
of a fit by its own proof, all others by `proved_offset` for their slopes. Where several kinds are asked for that support the
envelopes `At` points, all their planes are fitted together: a fit is thousands of small steps, which cost about the same for
many planes as for few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightverify.relax.curves import One, Symmetric
from tightverify.relax.fitted.fit import Query, fit
from tightverify.relax.fitted.offsets import proved_offset
from tightverify.relax.fitted.pieces import Question
from tightverify.relax.fitted.programs import programs
from tightverify.relax.lines import chord_slope
from tightverify.relax.polygons import Polygons
from tightverify.relax.products import upper_plane
from tightverify.relax.ranges import jet
from tightverify.values import UNIT_ROUNDOFF, Interval, above

SLACK = 1e-9
R2_SAMPLES = 100
AXES = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
DIAGONALS = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))


@dataclass(frozen=True, eq=False)
class Domain:
    """What planes are made over: the function F(x) G(y) and N polygons; and how to look for them."""

    first: Symmetric
    second: Symmetric
    polygons: Polygons
    solver: str = "highs"
    tolerance: float = 1e-6
    once: bool = False
    """whether one program over a few samples is enough for each plane"""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PlaneSet:
    """K planes a x + b y + c below and above each of N functions, (N, K, 3), and how much tighter they might be.

    `gap` (N, K, 2) bounds by how much the height of each over its point, (lower, upper), is more than need be; NaN for planes
    that were not fitted at a point.
    """

    lower: Tensor
    upper: Tensor
    gap: Tensor


Kind = Callable[[Domain], PlaneSet]


def fitted(domain: Domain, points: Tensor) -> PlaneSet:
    """The planes that support the function's envelopes at points (N, K, 2) inside the polygons."""
    vertices = domain.polygons.vertices
    count, per = points.shape[:2]
    keys = torch.cat([vertices.repeat_interleave(per, 0).flatten(1), points.reshape(-1, 2)], dim=1)
    chosen, back = distinct(keys)
    places, corners = points.reshape(-1, 2)[chosen], vertices.repeat_interleave(per, 0)[chosen]
    sign = torch.ones(len(chosen), dtype=vertices.dtype, device=vertices.device)
    query = Query(domain.first, domain.second, torch.cat([sign, -sign]), places.repeat(2, 1), Polygons(corners.repeat(2, 1, 1)))
    found = fit(query, domain.solver, domain.tolerance, domain.once)
    upper, lower = through(found.slopes, found.height, query.points)[:, None].chunk(2)
    gap = torch.stack((found.height - found.least).chunk(2)[::-1], dim=1)

    def spread(values: Tensor) -> Tensor:
        return values[back].view(count, per, values.shape[-1])

    return PlaneSet(-spread(lower), spread(upper), spread(gap))


def offered(domain: Domain, lower: Tensor, upper: Tensor, slack: float = SLACK) -> PlaneSet:
    """The planes with given slopes, (N, K, 2) for either side, as near to the function as they can be."""
    count, per = upper.shape[:2]
    slopes = torch.cat([upper, -lower]).reshape(-1, 2)
    polygons = Polygons(domain.polygons.vertices.repeat_interleave(per, 0).repeat(2, 1, 1))
    sign = torch.ones(count * per, dtype=upper.dtype, device=upper.device)
    anchors = polygons.middle
    question = Question(domain.first, domain.second, torch.cat([sign, -sign]), slopes, anchors, polygons)
    height = proved_offset(question, torch.full_like(question.sign, slack)).offset
    above_it, below_it = through(slopes, height, anchors).view(2, count, per, 3)
    return PlaneSet(-below_it, above_it, torch.full_like(above_it[..., :2], torch.nan))


def through(slopes: Tensor, height: Tensor, points: Tensor) -> Tensor:
    """(N, 3): a, b, c of planes over points, c rounded up."""
    shift = slopes * points
    size = height.abs() + shift.abs().sum(1)
    return torch.cat([slopes, above(height - shift.sum(1), 4 * UNIT_ROUNDOFF * size)[:, None]], dim=1)


def distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are the first of their kind, and for each row its place among those."""
    rows = np.ascontiguousarray((keys + 0.0).cpu().numpy())
    _, chosen, back = np.unique(rows.view([("", rows.dtype)] * rows.shape[1]).ravel(), return_index=True, return_inverse=True)
    return torch.from_numpy(chosen).to(keys.device), torch.from_numpy(back).to(keys.device)


@dataclass(frozen=True)
class At:
    """The planes that support the envelopes at certain points (N, K, 2)."""

    points: Callable[[Domain], Tensor]

    def __call__(self, domain: Domain) -> PlaneSet:
        return fitted(domain, self.points(domain))


def towards(directions: Sequence[tuple[float, float]], share: float) -> At:
    """At points so far from the centroid towards the border."""

    def points(domain: Domain) -> Tensor:
        chosen = AXES[::2] if isinstance(domain.second, One) else directions
        steps = torch.tensor(chosen, dtype=torch.float64, device=domain.polygons.vertices.device)
        return domain.polygons.towards(steps, share)

    return At(points)


tightest = At(lambda domain: domain.polygons.centroids[:, None])
"""The planes of the least volume."""


def constant(domain: Domain) -> PlaneSet:
    """The function's range."""
    nothing = torch.zeros_like(domain.polygons.vertices[:, :1])
    return offered(domain, nothing, nothing)


def tangent(domain: Domain) -> PlaneSet:
    """The function's own slopes at the centroid."""
    x, y = domain.polygons.centroids.unbind(1)
    f, g = jet(domain.first, x), jet(domain.second, y)
    slopes = torch.stack([f.first * g.value, f.value * g.first], dim=1)[:, None]
    return offered(domain, slopes, slopes)


def closed(domain: Domain) -> PlaneSet:
    """The slopes of the closed-form relaxation of the box: the planes of method `linear`, with proved offsets."""
    x1, x2, y1, y2 = domain.polygons.boxes.unbind(1)
    x, y = Interval(x1, x2), Interval(y1, y2)
    if isinstance(domain.second, One):
        slope = chord_slope(domain.first, x)
        slopes = torch.stack([slope, torch.zeros_like(slope)], dim=1)[:, None]
        return offered(domain, slopes, slopes)
    upper = torch.stack(upper_plane(domain.first, domain.second, x, y).slopes, dim=1)
    a, b = upper_plane(domain.first, domain.second, x, y.mirror()).slopes
    return offered(domain, torch.stack([-a, b], dim=1)[:, None], upper[:, None])


def mccormick(domain: Domain) -> PlaneSet:
    """Chords of F and G, and McCormick's two planes on either side of their product."""
    x1, x2, y1, y2 = domain.polygons.boxes.unbind(1)
    f, g = chord_slope(domain.first, Interval(x1, x2)), chord_slope(domain.second, Interval(y1, y2))
    s1, s2, t1, t2 = domain.first.value(x1), domain.first.value(x2), domain.second.value(y1), domain.second.value(y2)

    def pair(t: Tensor, s: Tensor, other_t: Tensor, other_s: Tensor) -> Tensor:
        return torch.stack([torch.stack([t * f, s * g], 1), torch.stack([other_t * f, other_s * g], 1)], dim=1)

    return offered(domain, pair(t1, s1, t2, s2), pair(t2, s1, t1, s2))


def r2(domain: Domain) -> PlaneSet:
    """R2's own: the least mean distance over random samples, by one linear program, and a shift that makes it valid."""
    polygons = domain.polygons
    generator = torch.Generator().manual_seed(domain.seed)
    share = torch.rand((len(polygons), R2_SAMPLES, 2), generator=generator, dtype=torch.float64).to(polygons.vertices.device)
    low, high = polygons.vertices.amin(1, keepdim=True), polygons.vertices.amax(1, keepdim=True)
    places, half = low + share * (high - low), torch.where(high > low, (high - low) / 2, 1.0)
    steps = (places - (low + high) / 2) / half
    mean = steps.mean(1, keepdim=True)
    rows = torch.cat([steps - mean, torch.ones_like(steps[..., :1])], dim=-1).cpu().numpy()
    values = domain.first.value(places[..., 0]) * domain.second.value(places[..., 1])
    sides = []
    for sign in (-1, 1):
        target = sign * values
        scale = target.abs().amax(1, keepdim=True).clamp(min=1e-300)
        limit = torch.full((len(polygons), 3), 1e6, dtype=torch.float64)
        found, _ = programs(rows, (target / scale).cpu().numpy(), -limit.numpy(), limit.numpy(), domain.solver)
        slopes = torch.from_numpy(found[:, :2]).to(places) * scale / half[:, 0]
        sides.append(sign * slopes[:, None])
    return offered(domain, sides[0], sides[1])


KINDS: dict[str, Kind] = {
    "tightest": tightest,
    "closed": closed,
    "constant": constant,
    "tangent": tangent,
    "mccormick": mccormick,
    "corners": towards(DIAGONALS, 0.8),
    "edges": towards(AXES, 0.8),
    "triangles": towards(AXES, 2 / 3),
    "ring": towards((*AXES, *DIAGONALS), 0.4),
    "r2": r2,
}
"""By name. `triangles` are R2's other fits: a mean distance over one of the four triangles that the diagonals cut a box into
is the distance at its centroid, two thirds of the way to an edge."""


def plane_set(domain: Domain, kinds: Sequence[str]) -> PlaneSet:
    """The planes of several kinds."""
    every = [KINDS[name] for name in kinds]
    points = [kind.points(domain) for kind in every if isinstance(kind, At)]
    at_points = iter(split(fitted(domain, torch.cat(points, dim=1)), [part.shape[1] for part in points]) if points else ())
    found = [next(at_points) if isinstance(kind, At) else kind(domain) for kind in every]
    return PlaneSet(*(torch.cat(parts, dim=1) for parts in zip(*(vars(part).values() for part in found), strict=True)))


def split(planes: PlaneSet, counts: list[int]) -> list[PlaneSet]:
    """So many planes each."""
    return [
        PlaneSet(*parts) for parts in zip(*(torch.split(part, counts, dim=1) for part in vars(planes).values()), strict=True)
    ]
