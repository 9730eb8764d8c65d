"""Convex polygons of two operands: what is left of their box when sums and differences of them are bounded too.

A polygon is the closed curve through its vertices, counter-clockwise, in the operands' own units; vertices may repeat.
The four corners of a box are exact. Where half-planes cut a polygon, the new vertices are rounded, and so every polygon is
made a little too large first: with e = MARGIN |operand|, the box and each half-plane are moved out by what a ball of the
radii e (one for each operand) reaches over them.

A vertex's height above a line is the result of a few roundings, and wrong by less than a hundredth of what the ball reaches
over it. So is the height of a crossing, however badly its place along the edge is told: where an edge hardly crosses the line,
all of it is near the line. So a cut takes away nothing that is above its line by 1/64 of that reach, and moves what is left
by less than the ball of e / 64. Less than 64 cuts are made at once, each of a line that is the whole ball away from what the
polygon stands for, and of convex sets whose borders are less than a ball apart the larger one holds the smaller one with the
ball taken off. So a polygon holds what it stands for. Four of those cuts are kept for smaller boxes (`cut_to`), to which a
polygon may be cut once. A cut that rounding makes odd is not made: one that leaves nothing, meets the curve more than twice,
or has no number for a vertex.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.values import UNIT_ROUNDOFF

MARGIN = 1024 * UNIT_ROUNDOFF
MOST_CUTS = 59


@dataclass(frozen=True, eq=False)
class Polygons:
    """N polygons of up to V vertices, (N, V, 2)."""

    vertices: Tensor

    @classmethod
    def of_boxes(cls, boxes: Tensor) -> Polygons:
        """Boxes (N, 4) of (x_lower, x_upper, y_lower, y_upper)."""
        corners = [boxes[:, [0, 2]], boxes[:, [1, 2]], boxes[:, [1, 3]], boxes[:, [0, 3]]]
        return cls(torch.stack(corners, dim=1))

    @classmethod
    def of_intervals(cls, ends: Tensor) -> Polygons:
        """Intervals (N, 2) of one operand, as segments on the axis of the first."""
        return cls(torch.stack([ends, torch.zeros_like(ends)], dim=-1))

    @classmethod
    def of_operands(cls, ends: Tensor) -> Polygons | None:
        """Boxes (N, 2 k) of one or two operands; None for those of more."""
        if ends.shape[1] > 4:
            return None
        return cls.of_intervals(ends) if ends.shape[1] == 2 else cls.of_boxes(ends)

    def __len__(self) -> int:
        return len(self.vertices)

    def __getitem__(self, chosen: Tensor | slice) -> Polygons:
        return Polygons(self.vertices[chosen])

    @classmethod
    def within(cls, boxes: Tensor, normals: Tensor, least: Tensor) -> Polygons:
        """The points p of boxes (N, 4) with `normals @ p >= least`; normals (N or 1, D, 2), least (N, D).

        A cut that would leave nothing is left out. A point for which all half-planes hold is in the polygon, rounding and all.
        """
        if normals.shape[1] > MOST_CUTS:
            raise UsageError(f"{normals.shape[1]} half-planes were given; their rounding is paid for up to {MOST_CUTS}")
        corners = cls.of_boxes(boxes).vertices
        reach = corners.abs().amax(1) * MARGIN
        outward = corners.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        vertices = corners + outward * reach[:, None]
        for normal, bound in zip(normals.unbind(1), least.unbind(1), strict=True):
            moved = bound - (normal.abs() * reach).sum(-1) - MARGIN * bound.abs()
            vertices = clipped(vertices, normal, moved)
        return cls(vertices)

    def cut_to(self, boxes: Tensor) -> Polygons:
        """What of each lies in a box (N, 4)."""
        reach = self.vertices.abs().amax(1) * MARGIN
        vertices = self.vertices
        for k, sign in ((0, 1.0), (1, -1.0), (2, 1.0), (3, -1.0)):
            normal = vertices.new_zeros((1, 2))
            normal[0, k // 2] = sign
            bound = sign * boxes[:, k]
            vertices = clipped(vertices, normal, bound - reach[:, k // 2] - MARGIN * bound.abs())
        return Polygons(vertices)

    def slab(self, low: Tensor, high: Tensor) -> Polygons:
        """What of each has a second operand in [low, high] (N,): two more of the cuts that are paid for, made once."""
        normal = self.vertices.new_tensor([[0.0, 1.0]])
        vertices = self.vertices
        for sign, bound in ((1.0, low), (-1.0, -high)):
            reach = self.vertices[..., 1].abs().amax(1) * MARGIN
            vertices = clipped(vertices, sign * normal, bound - reach - MARGIN * bound.abs())
        return Polygons(vertices)

    @property
    def boxes(self) -> Tensor:
        """(N, 4): the least box around each."""
        low, high = self.vertices.amin(1), self.vertices.amax(1)
        return torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], dim=1)

    @property
    def areas(self) -> Tensor:
        return self._corner_areas(self.middle).sum(1)

    @property
    def middle(self) -> Tensor:
        """(N, 2): the middle of the box around it."""
        return (self.vertices.amin(1) + self.vertices.amax(1)) / 2

    @property
    def centroids(self) -> Tensor:
        """(N, 2): the centre of mass; of polygons without an area, the mean of the vertices."""
        start = self.middle
        weights = self._corner_areas(start).clamp(min=0)
        total = weights.sum(1, keepdim=True)
        offsets = self.vertices - start[:, None]
        thirds = (offsets + offsets.roll(-1, 1)) / 3
        return start + torch.where(total > 0, (weights[..., None] * thirds).sum(1) / total, offsets.mean(1))

    def _corner_areas(self, start: Tensor) -> Tensor:
        """(N, V): the areas of the triangles from a point over each edge."""
        one = self.vertices - start[:, None]
        other = one.roll(-1, 1)
        return (one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]) / 2

    def reach(self, points: Tensor, steps: Tensor) -> Tensor:
        """(N, K): how many steps, (N, K, 2), from points (N, 2) inside, to the border."""
        one = (self.vertices - points[:, None])[:, None]
        edge = one.roll(-1, 2) - one
        # point + r * step crosses the line one + t * edge where cross(one, edge) = r * cross(step, edge).
        hits = cross(one, edge) / cross(steps[:, :, None], edge)
        found = torch.where(hits >= 0, hits, torch.inf).amin(2)
        # A step along all of a segment crosses no edge: there its box is what ends it.
        ahead = torch.where(steps > 0, self.vertices.amax(1)[:, None], self.vertices.amin(1)[:, None]) - points[:, None]
        along = torch.where(steps != 0, ahead / steps, torch.inf).amin(2).clamp(min=0)
        found = torch.minimum(found, along)
        return torch.where(torch.isfinite(found), found, 0.0)

    def drawn_in(self, points: Tensor, share: float) -> Tensor:
        """Points (N, K, 2), those beyond so much of the way from the centroid to the border moved back to there."""
        centroids = self.centroids
        steps = points - centroids[:, None]
        return centroids[:, None] + (share * self.reach(centroids, steps)).clamp(max=1.0)[..., None] * steps

    def towards(self, directions: Tensor, share: float) -> Tensor:
        """(N, K, 2): the points that lie so far towards the border, from the centroid in directions (K, 2) of a unit box."""
        centroids = self.centroids
        steps = directions * (self.vertices.amax(1) - self.middle)[:, None]
        return centroids[:, None] + share * self.reach(centroids, steps)[..., None] * steps


def cross(one: Tensor, other: Tensor) -> Tensor:
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def clipped(vertices: Tensor, normal: Tensor, least: Tensor) -> Tensor:
    """The polygons (N, V, 2) without what lies below a line, (N, V + 1, 2)."""
    heights = (vertices * normal[:, None]).sum(-1) - least[:, None]
    after, beyond = heights.roll(-1, 1), vertices.roll(-1, 1)
    kept = heights >= 0
    crossed = kept != (after >= 0)
    share = torch.where(crossed, heights / (heights - after), 0.0)
    crossing = vertices + share[..., None] * (beyond - vertices)
    count, width = heights.shape
    points = torch.stack([vertices, crossing], dim=2).view(count, 2 * width, 2)
    valid = torch.stack([kept, crossed], dim=2).view(count, 2 * width)
    count_left = valid.sum(1, keepdim=True)
    # The valid points first, in their order; what is too few repeats the last of them.
    order = torch.argsort(~valid, dim=1, stable=True)[:, : width + 1]
    last = (count_left - 1).clamp(min=0)
    order = torch.gather(order, 1, torch.minimum(torch.arange(width + 1, device=order.device), last))
    found = torch.gather(points, 1, order[..., None].expand(-1, -1, 2))
    before = torch.cat([vertices, vertices[:, -1:]], dim=1)
    # Nearly straight corners may seem to cross the line more than twice: then there may be more points than there is room for.
    odd = (count_left == 0) | (crossed.sum(1, keepdim=True) > 2) | ~torch.isfinite(found).all(2).all(1, keepdim=True)
    return torch.where(odd[..., None], before, found)
