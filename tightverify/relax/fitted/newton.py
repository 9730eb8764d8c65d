"""Newton's step towards the tightest plane, from the tops that its last proof found.

Let E be the function less the plane's slopes, as in `offsets`, and d a change of the slopes (all in coordinates relative to
the point p where the plane is to be low). The top m_i of E on an edge, at a corner or inside has the height
v_i(d) = v_i - (m_i - p) . d + d . C_i d / 2 + ..., where C_i = T (-T' H T)^-1 T' for the Hessian H and the directions T in
which the top may move: one on an edge, two inside, none at a corner. The plane's height over p is the largest of the
v_i(d). With the curvatures mixed as the multipliers are, M = sum l_i C_i, its least value is that of a quadratic program,

    min t + d . M d / 2  with  v_i - (m_i - p) . d <= t,

whose dual, max l . v - l . Q l / 2 over weights l, Q = G M^-1 G', is solved for the four highest tops by going through their 14
subsets. The samples' linear program needs many more of them where the plane is held by less than three tops. Whatever comes
of a step: it is only a proposal, whose height is proved like every other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tightverify.relax.curves import Symmetric
from tightverify.relax.ranges import jet

MAXIMA = 4
MIXINGS = 2
PAIRS = tuple(combinations(range(MAXIMA), 2))
TRIPLES = tuple(combinations(range(MAXIMA), 3))


@dataclass(frozen=True, eq=False)
class FitProblem:
    """N planes' surroundings: the function, where each is to be low, half widths, polygons, and limits of the slopes."""

    curves: tuple[Symmetric, Symmetric]
    sign: Tensor
    points: Tensor
    half: Tensor
    vertices: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Maxima:
    """The highest points of the edges and of the inside: in the operands' units, relative to p in half widths, E, and C."""

    places: Tensor
    offsets: Tensor
    heights: Tensor
    curvatures: Tensor


def descend(problem: FitProblem, slopes: Tensor, maxima: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes after some steps that lower the highest of the tops; the four highest, and their multipliers.

    Starts from the best points of a proof, (N, V + 1, 2).
    """
    found = maxima_at(problem, slopes, maxima)
    for _ in range(steps):
        step = torch.nan_to_num(newton_step(found)[0] / problem.half)
        room = torch.where(step > 0, problem.high - slopes, slopes - problem.low) / step.abs()
        step = step * torch.nan_to_num(room, nan=1.0).amin(1, keepdim=True).clamp(0, 1)
        trial = torch.minimum(torch.maximum(slopes + step, problem.low), problem.high)
        there = maxima_at(problem, trial, found.places)
        better = there.heights.amax(1) < found.heights.amax(1)
        slopes = torch.where(better[:, None], trial, slopes)
        parts = zip(vars(found).values(), vars(there).values(), strict=True)
        found = Maxima(*(torch.where(better.view(-1, *[1] * (old.dim() - 1)), new, old) for old, new in parts))
    _, order, weights = newton_step(found)
    return slopes, torch.gather(found.places, 1, order[..., None].expand(-1, -1, 2)), weights


def newton_step(maxima: Maxima) -> tuple[Tensor, Tensor, Tensor]:
    """The change of the slopes in scaled coordinates, (N, 2); which tops it counts with, (N, 4), and their multipliers."""
    short = max(0, MAXIMA - maxima.heights.shape[1])
    values, order = pad(maxima.heights, (0, short), value=-torch.inf).topk(MAXIMA, dim=1)
    order = order.clamp(max=maxima.heights.shape[1] - 1)
    places = torch.gather(maxima.offsets, 1, order[..., None].expand(-1, -1, 2))
    curvature = torch.gather(maxima.curvatures, 1, order[..., None, None].expand(-1, -1, 2, 2))
    values = (values - values[:, :1]).clamp(min=-1e100)
    weights = torch.zeros_like(values)
    weights[:, 0] = 1
    identity = torch.eye(2, dtype=values.dtype, device=values.device)
    step = torch.zeros_like(places[:, 0])
    for _ in range(MIXINGS):
        mixed = (weights[..., None, None] * curvature).sum(1)
        size = curvature.diagonal(dim1=-2, dim2=-1).sum(-1).amax(1).clamp(min=1e-12)
        moved = places @ inverse_of(mixed + (1e-7 * size)[:, None, None] * identity)
        weights = best_weights(values, moved @ places.mT)
        step = (weights[..., None] * moved).sum(1)
    return step, order, weights


def maxima_at(problem: FitProblem, slopes: Tensor, maxima: Tensor) -> Maxima:
    """The tops near some points (N, V + 1, 2), one on each edge and one inside; NaN for none."""
    curves, sign, points, half = problem.curves, problem.sign, problem.points, problem.half
    vertices = problem.vertices
    width = vertices.shape[1]
    along = vertices.roll(-1, 1) - vertices
    length = (along * along).sum(-1)
    share = torch.nan_to_num(((maxima[:, :width] - vertices) * along).sum(-1) / length.clamp(min=1e-300)).clamp(0, 1)
    for _ in range(2):
        gradient, hessian = derivatives(curves, sign, slopes, vertices + share[..., None] * along)
        slope, bend = (gradient * along).sum(-1), (along[..., None, :] @ hessian @ along[..., None])[..., 0, 0]
        share = torch.where(bend < 0, (share - slope / bend.clamp(max=-1e-300)).clamp(0, 1), share)
    on_edges = vertices + share[..., None] * along
    free = (share > 0) & (share < 1) & (bend < 0)
    direction = along / half[:, None]
    edge_curvature = torch.where(
        free[..., None, None], direction[..., None] * direction[..., None, :] / (-bend).clamp(min=1e-300)[..., None, None], 0.0
    )
    low, high = vertices.amin(1), vertices.amax(1)
    inner = torch.where(torch.isnan(maxima[:, -1]), points, maxima[:, -1])
    for _ in range(2):
        gradient, hessian = derivatives(curves, sign, slopes, inner[:, None])
        step = (inverse_of(-hessian) @ gradient[..., None])[:, 0, :, 0]
        definite = is_definite(-hessian[:, 0])
        inner = torch.where(definite[:, None], torch.minimum(torch.maximum(inner + step, low), high), inner)
    _, hessian = derivatives(curves, sign, slopes, inner[:, None])
    free = is_definite(-hessian[:, 0]) & ~torch.isnan(maxima[:, -1, 0])
    scaled = half[:, :, None] * half[:, None, :] * -hessian[:, 0]
    inner_curvature = torch.where(free[:, None, None], inverse_of(scaled), 0.0)
    places = torch.cat([on_edges, vertices, inner[:, None]], dim=1)
    offsets = places - points[:, None]
    heights = sign[:, None] * curves[0].value(places[..., 0]) * curves[1].value(places[..., 1])
    heights = heights - (slopes[:, None] * offsets).sum(-1)
    none = torch.zeros_like(heights, dtype=torch.bool)
    none[:, :width] = (share <= 0) | (share >= 1)  # those are corners
    none[:, -1] = torch.isnan(maxima[:, -1, 0])
    curvature = torch.cat([edge_curvature, torch.zeros_like(edge_curvature), inner_curvature[:, None]], dim=1)
    places[:, -1] = torch.where(none[:, -1:], torch.nan, inner)
    return Maxima(places, offsets / half[:, None], heights.masked_fill(none, -torch.inf), curvature)


def derivatives(curves: tuple[Symmetric, Symmetric], sign: Tensor, slopes: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """E's gradient (N, W, 2) and Hessian (N, W, 2, 2)."""
    f, g = jet(curves[0], places[..., 0]), jet(curves[1], places[..., 1])
    s = sign[:, None]
    gradient = torch.stack([s * f.first * g.value, s * f.value * g.first], dim=-1) - slopes[:, None]
    mixed = s * f.first * g.first
    rows = [torch.stack([s * f.second * g.value, mixed], -1), torch.stack([mixed, s * f.value * g.second], -1)]
    return gradient, torch.stack(rows, dim=-2)


def inverse_of(matrix: Tensor) -> Tensor:
    """Of 2 x 2 matrices; huge where they are singular."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    determinant = a * d - b * c
    determinant = torch.where(determinant.abs() < 1e-300, 1e-300, determinant)
    rows = [torch.stack([d, -b], -1), torch.stack([-c, a], -1)]
    return torch.stack(rows, dim=-2) / determinant[..., None, None]


def is_definite(matrix: Tensor) -> Tensor:
    a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    return (a > 0) & (a * d > b * b * (1 + 1e-9))


def best_weights(values: Tensor, quadratic: Tensor) -> Tensor:
    """(N, 4): the weights l >= 0 of sum 1 that make l . v - l . Q l / 2 largest, by all subsets of at most three."""
    unit = torch.eye(MAXIMA, dtype=values.dtype, device=values.device)
    own = quadratic.diagonal(dim1=-2, dim2=-1)
    i, j = (list(part) for part in zip(*PAIRS, strict=True))
    cross = quadratic[:, i, j]
    share = (values[:, i] - values[:, j] + own[:, j] - cross) / (own[:, i] + own[:, j] - 2 * cross)
    of_two = share[..., None] * unit[i] + (1 - share)[..., None] * unit[j]
    # With l_h = 1 - l_i - l_j a problem in two variables.
    i, j, h = (list(part) for part in zip(*TRIPLES, strict=True))
    ih, jh = quadratic[:, i, h], quadratic[:, j, h]
    ii, jj = own[:, i] - 2 * ih + own[:, h], own[:, j] - 2 * jh + own[:, h]
    ij = quadratic[:, i, j] - ih - jh + own[:, h]
    to_i, to_j = values[:, i] - values[:, h] - ih + own[:, h], values[:, j] - values[:, h] - jh + own[:, h]
    determinant = ii * jj - ij * ij
    one, other = ((jj * to_i - ij * to_j) / determinant)[..., None], ((ii * to_j - ij * to_i) / determinant)[..., None]
    of_three = one * unit[i] + other * unit[j] + (1 - one - other) * unit[h]
    candidates = torch.cat([unit.expand(len(values), MAXIMA, MAXIMA), of_two, of_three], dim=1)
    feasible = (candidates >= 0).all(-1) & torch.isfinite(candidates).all(-1)
    candidates = torch.nan_to_num(candidates, nan=0.0, posinf=0.0, neginf=0.0)
    gain = (candidates * values[:, None]).sum(-1) - ((candidates @ quadratic) * candidates).sum(-1) / 2
    chosen = gain.masked_fill(~feasible, -torch.inf).argmax(1)
    return torch.gather(candidates, 1, chosen[:, None, None].expand(-1, 1, MAXIMA))[:, 0]
