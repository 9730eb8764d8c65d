"""The inside of polygons, in rectangles: where in them E may have a top, and how high it is (`offsets` has the argument)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.relax.curves import Symmetric
from tightverify.relax.fitted.pieces import MOST_ROUNDS, NEWTON_STEPS, OpenPieces, Question, exhausted, halfway, sizes
from tightverify.relax.polygons import cross
from tightverify.relax.ranges import JetRange, Range, jet, jet_range, widened
from tightverify.values import FUNCTION_ERROR, TINY, UNIT_ROUNDOFF


def inner_pieces(question: Question, open_pieces: OpenPieces) -> None:
    """Rectangles that cover the polygons, cut where an operand is 0."""
    boxes = question.polygons.boxes
    count = len(boxes)
    owner = torch.arange(count, device=boxes.device).repeat(4)
    zeros = torch.zeros_like(boxes[:, 0])
    x1, x2, y1, y2 = boxes.unbind(1)
    x_cut, y_cut = torch.minimum(torch.maximum(zeros, x1), x2), torch.minimum(torch.maximum(zeros, y1), y2)
    quarters = [(x1, x_cut, y1, y_cut), (x_cut, x2, y1, y_cut), (x1, x_cut, y_cut, y2), (x_cut, x2, y_cut, y2)]
    cells = torch.stack([torch.cat(parts) for parts in zip(*quarters, strict=True)], dim=1)
    wanted = (cells[:, 1] > cells[:, 0]) & (cells[:, 3] > cells[:, 2])
    owner, cells = owner[wanted], cells[wanted]
    width, borders = open_pieces.values.shape[1], Borders.of(question.polygons.vertices)
    for last in range(MOST_ROUNDS + 1):
        ranges = CellRanges.of(question, cells)
        kept = torch.nonzero(may_hold_top(question, owner, ranges)).flatten()
        owner, cells = owner[kept], cells[kept]
        bound, top, value = inside(question, owner, cells, ranges[kept])
        within = torch.nonzero(holds(question.polygons.vertices[owner], top)).flatten()
        open_pieces.offer(owner[within] * width + width - 1, value[within], top[within])
        done = (bound <= open_pieces.enough[owner]) | exhausted(bound, last, count)
        open_pieces.settle(owner[done], bound[done])
        rest = torch.nonzero(~done).flatten()
        if not len(rest):
            return
        owner, cells = owner[rest].repeat(4), quartered(cells[rest])
        if question.polygons.vertices.shape[1] > 4:
            near = torch.nonzero(~borders.beyond(owner, cells)).flatten()
            owner, cells = owner[near], cells[near]


def curl_range(curve: Symmetric, low: Tensor, high: Tensor) -> Range:
    """Of F F'' / F'^2 on a piece that does not straddle 0."""
    one, other = curve.curl(low), curve.curl(high)
    least, most = torch.minimum(one, other), torch.maximum(one, other)
    return widened(least, most, 1 + torch.maximum(most, -least))


def quartered(cells: Tensor) -> Tensor:
    x1, x2, y1, y2 = cells.unbind(1)
    x, y = halfway(x1, x2), halfway(y1, y2)
    return torch.cat([torch.stack(part, dim=1) for part in ((x1, x, y1, y), (x, x2, y1, y), (x1, x, y, y2), (x, x2, y, y2))])


def holds(vertices: Tensor, points: Tensor) -> Tensor:
    """Whether points are in their polygons, roughly: this says where to look, and proves nothing."""
    edges = vertices.roll(-1, 1) - vertices
    return (cross(edges, points[:, None] - vertices) >= 0).all(1)


@dataclass(frozen=True, eq=False)
class Borders:
    """The edges of N polygons, as far as cells may be told to be outside by them.

    Rounding may have turned a very short edge about: only edges that have all vertices on their inner side count.
    """

    vertices: Tensor
    """(N, V, 2): where edges begin"""
    edges: Tensor
    """(N, V, 2)"""
    whole: Tensor
    """(N, V): which of them count"""
    reach: Tensor
    """(N, 2): the largest absolute values of the vertices"""

    @classmethod
    def of(cls, vertices: Tensor) -> Borders:
        edges = vertices.roll(-1, 1) - vertices
        whole = (cross(edges[:, :, None], vertices[:, None] - vertices[:, :, None]) >= 0).all(2)
        return cls(vertices, edges, whole, vertices.abs().amax(1))

    def beyond(self, owner: Tensor, cells: Tensor) -> Tensor:
        """Whether cells are surely outside their polygons: beyond one of the edges as a whole."""
        vertices = self.vertices[owner]
        x1, x2, y1, y2 = (part[:, None] - vertices[..., k] for part, k in zip(cells.unbind(1), (0, 0, 1, 1), strict=True))
        ex, ey = self.edges[owner].unbind(-1)
        most = torch.maximum(ex * y1, ex * y2) - torch.minimum(ey * x1, ey * x2)
        reach = torch.maximum(self.reach[owner], cells.abs().view(-1, 2, 2).amax(2))[:, None]
        margin = 64 * UNIT_ROUNDOFF * (ex.abs() + ey.abs() + reach.sum(-1)) * reach.sum(-1) + TINY
        return ((most < -margin) & self.whole[owner]).any(1)


@dataclass(frozen=True, eq=False)
class CellRanges:
    """The curves' ranges over rectangles, and that of the curls' product."""

    first: JetRange
    second: JetRange
    curl: Range

    @classmethod
    def of(cls, question: Question, cells: Tensor) -> CellRanges:
        x1, x2, y1, y2 = cells.unbind(1)
        f = jet_range(question.first, x1, x2, jet(question.first, x1), jet(question.first, x2))
        g = jet_range(question.second, y1, y2, jet(question.second, y1), jet(question.second, y2))
        return cls(f, g, curl_range(question.first, x1, x2) * curl_range(question.second, y1, y2))

    def __getitem__(self, chosen: Tensor) -> CellRanges:
        return CellRanges(self.first[chosen], self.second[chosen], self.curl[chosen])


def may_hold_top(question: Question, owner: Tensor, ranges: CellRanges) -> Tensor:
    """For rectangles: whether there may be a top inside."""
    f, g = ranges.first, ranges.second
    sign, (a, b) = question.sign[owner], question.slopes[owner].unbind(-1)
    to_x, to_y = (f.first * g.value).scaled(sign).plus(-a), (f.value * g.first).scaled(sign).plus(-b)
    xx, yy = (f.second * g.value).scaled(sign), (f.value * g.second).scaled(sign)
    rounding = FUNCTION_ERROR * torch.maximum(a.abs(), b.abs())
    flat = (to_x.low <= rounding) & (to_x.high >= -rounding) & (to_y.low <= rounding) & (to_y.high >= -rounding)
    return flat & (xx.low <= 0) & (yy.low <= 0) & ~(ranges.curl.high < 1 - FUNCTION_ERROR)


def inside(question: Question, owner: Tensor, cells: Tensor, ranges: CellRanges) -> tuple[Tensor, Tensor, Tensor]:
    """For rectangles: the bound, a high point, and E there."""
    sign, slopes, anchors = question.sign[owner], question.slopes[owner], question.anchors[owner]
    (a, b), (x0, y0) = slopes.unbind(-1), anchors.unbind(-1)
    x1, x2, y1, y2 = cells.unbind(1)
    f, g, curl = ranges.first, ranges.second, ranges.curl
    xx, xy, yy = (f.second * g.value).scaled(sign), f.first * g.first, (f.value * g.second).scaled(sign)

    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    for _ in range(NEWTON_STEPS):
        fm, gm = jet(question.first, x), jet(question.second, y)
        gx, gy = sign * fm.first * gm.value - a, sign * fm.value * gm.first - b
        hxx, hxy, hyy = sign * fm.second * gm.value, sign * fm.first * gm.first, sign * fm.value * gm.second
        determinant = (hxx * hyy - hxy * hxy).clamp(min=1e-300)
        step_x, step_y = (hyy * gx - hxy * gy) / determinant, (hxx * gy - hxy * gx) / determinant
        x = torch.minimum(torch.maximum(x - torch.nan_to_num(step_x), x1), x2)
        y = torch.minimum(torch.maximum(y - torch.nan_to_num(step_y), y1), y2)
    fm, gm = jet(question.first, x), jet(question.second, y)
    value = sign * fm.value * gm.value - a * (x - x0) - b * (y - y0)
    gx, gy = sign * fm.first * gm.value - a, sign * fm.value * gm.first - b
    wx, wy = torch.maximum(x - x1, x2 - x), torch.maximum(y - y1, y2 - y)
    definite = (curl.low > 1 + FUNCTION_ERROR) & (sign * fm.second * gm.value < 0)
    up = (xx.high.clamp(min=0) * wx * wx + yy.high.clamp(min=0) * wy * wy) / 2 + xy.size * wx * wy
    rise = gx.abs() * wx + gy.abs() * wy + torch.where(definite, 0.0, up)
    size = sizes(f, g, a, b, torch.maximum(x1.abs(), x2.abs()) + x0.abs(), torch.maximum(y1.abs(), y2.abs()) + y0.abs())
    return value + rise + FUNCTION_ERROR * size, torch.stack([x, y], dim=-1), value
