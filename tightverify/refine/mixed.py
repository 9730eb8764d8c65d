"""The network's program with binaries: operands' intervals cut at breakpoints, and in each piece planes that hold there alone.

Of a variable v with breakpoints t_0 < t_1 < ... < t_m, its interval's ends among them, z_i says that it lies in the i-th piece:
z_2, ..., z_m are binaries, z_1 stands for 1 - z_2 - ... - z_m >= 0, and sum t_(i-1) z_i <= v <= sum t_i z_i. A cell of an
operation's operands is a piece for each of those that are cut, K of them. A plane `y >= a @ p + c` that holds over the cell is
written

    y - a @ p - M sum z >= c - M K,   z of the cell's pieces,

where `a @ p + c - M` holds over the whole box: with one z missing the row says no more than that. Functions of straight pieces
cut at their breakpoints are thus exact, and so is max(u, v) with one binary that chooses. The rows of the program over the
whole hulls stay, and with them the relaxation is at least as tight. What the network does at an input has binaries that satisfy
all rows, so that a lower bound of the mixed-integer program is one of the network's.

A function with one breakpoint in its interval (`exact_neurons`), as ReLU, is held by its four planes over cells alone, two of
which hold everywhere: for l < 0 < u

    y >= 0,   y >= v,   y <= u z,   y <= v - l (1 - z),

of which its convex hull is a mixture, y <= u (v - l) / (u - l); and either z leaves no v but those of its piece. So the rows
that hold it in the program over hulls are left out, and none tie z to v: programs of ReLU networks are three times smaller.
Where there is no breakpoint two planes hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

import solvers
from tightverify.evidence import PIECES, PLANE
from tightverify.graph import Apply
from tightverify.refine.cells import cell_planes
from tightverify.refine.network_lp import Floats, NetworkProgram, Places, places_of
from tightverify.refine.relaxed import Relaxed
from tightverify.relax.traits import Choice
from tightverify.values import UNIT_ROUNDOFF

Breaks = Mapping[int, tuple[float, ...]]
"""Of each variable that is cut, the breakpoints inside its interval, ascending."""


@dataclass(frozen=True, eq=False)
class MixedProgram:
    """The program with binaries after the network's own variables; `origins`, `held`: as in `NetworkProgram`."""

    problem: solvers.Problem
    network: NetworkProgram
    breaks: Breaks
    origins: Places
    held: Places

    @property
    def binaries(self) -> int:
        return int(self.problem.integer.sum())


def breakpoints(relaxed: Relaxed, program: NetworkProgram) -> dict[int, tuple[float, ...]]:
    """The breakpoints with which all functions of straight pieces are exact."""
    found: dict[int, set[float]] = {}
    for number, node in enumerate(relaxed.graph.nodes):
        if isinstance(node, Apply) and number in program.columns and node.op.traits.breakpoints:
            for column in places_of(program.columns, node.operands[0]).tolist():
                if not np.isfinite([program.lower[column], program.upper[column]]).all():
                    continue
                bends = [
                    breakpoint
                    for breakpoint in node.op.traits.breakpoints
                    if program.lower[column] < breakpoint < program.upper[column]
                ]
                if bends:
                    found.setdefault(column, set()).update(bends)
    return {column: tuple(sorted(bends)) for column, bends in found.items()}


def mixed_program(
    relaxed: Relaxed, program: NetworkProgram, problem: solvers.Problem, breaks: Breaks, primal: Floats | None = None
) -> MixedProgram:
    """The program `problem` (of `program`, with its cost) with binaries; cells are fitted in the middle and near `primal`."""
    sheet = Sheet(program, breaks, exact_neurons(relaxed, program, breaks))
    for column in breaks:
        sheet.pieces(column)
    for number, node in enumerate(relaxed.graph.nodes):
        if isinstance(node, Apply) and number in program.columns:
            if node.op.traits.choice is not None:
                sheet.choice(number, node, node.op.traits.choice)
            else:
                sheet.cells(number, node, relaxed.sane(number).tolist(), primal)
    return sheet.together(program.widened(problem))


def exact_neurons(relaxed: Relaxed, program: NetworkProgram, breaks: Breaks) -> dict[int, int]:
    """The variables of neurons whose functions have at most one breakpoint in their operand's interval; and the operands'."""
    found: dict[int, int] = {}
    for number, node in enumerate(relaxed.graph.nodes):
        if isinstance(node, Apply) and number in program.columns and node.op.traits.breakpoints:
            sane = relaxed.sane(number).tolist()
            for neuron, column in enumerate(places_of(program.columns, node.operands[0]).tolist()):
                inside = {
                    breakpoint
                    for breakpoint in node.op.traits.breakpoints
                    if program.lower[column] < breakpoint < program.upper[column]
                }
                if sane[neuron] and len(inside) < 2 and inside == set(breaks.get(column, ())):
                    found[program.columns[number].start + neuron] = column
    return found


class Sheet:
    """Rows over the network's variables and the binaries after them, as they are written.

    Of a variable's pieces, only those after the first have a binary. `exact` neurons need no rows but those of their cells, and
    their operands none that tie binaries to them.
    """

    def __init__(self, program: NetworkProgram, breaks: Breaks, exact: Mapping[int, int]) -> None:
        self._program = program
        self._count = len(program.lower)
        self._breaks = breaks
        self._exact = exact
        self._tied = set(exact.values())
        self._binaries: dict[int, int] = {}
        self._width = self._count
        self._rows: list[tuple[list[int], list[float], float, float, int, int]] = []
        for column, bends in breaks.items():
            self._binaries[column] = self._width
            self._width += len(bends)

    def ends(self, column: int) -> list[float]:
        """The breakpoints of a variable, its interval's ends among them."""
        return [float(self._program.lower[column]), *self._breaks.get(column, ()), float(self._program.upper[column])]

    def pieces(self, column: int) -> None:
        """`v >= t_0 + sum (t_(i-1) - t_0) z_i` and `v <= t_1 + sum (t_i - t_1) z_i`, over the pieces after the first."""
        if column in self._tied:
            return
        ends, mine = self.ends(column), self._of(column)
        if len(mine) > 1:
            self._write(mine, [1.0] * len(mine), 0.0, 1.0, column, PIECES)
        least = [float(np.nextafter(ends[0] - end, np.inf)) for end in ends[1:-1]]
        most = [float(np.nextafter(ends[1] - end, -np.inf)) for end in ends[2:]]
        self._write([column, *mine], [1.0, *least], ends[0], np.inf, column, PIECES)
        self._write([column, *mine], [1.0, *most], -np.inf, ends[1], column, PIECES)

    def _of(self, column: int) -> list[int]:
        first = self._binaries[column]
        return list(range(first, first + len(self._breaks[column])))

    def choice(self, number: int, node: Apply, choice: Choice) -> None:
        """The rows that hold an operation exactly, each neuron's with a binary of its own if bounds leave it one."""
        operands = [places_of(self._program.columns, operand).tolist() for operand in node.operands]
        for neuron, columns in enumerate(zip(*operands, strict=True)):
            y = self._program.columns[number].start + neuron
            rows = choice.rows([(float(self._program.lower[c]), float(self._program.upper[c])) for c in columns])
            for row in rows:
                entries, values = [y], [1.0]
                for column, value in zip(columns, row.operands, strict=True):
                    if value:
                        entries.append(column)
                        values.append(value)
                if row.binary is not None:
                    entries.append(self._width)
                    values.append(row.binary)
                self._write(entries, values, row.low, row.high, y)
            self._width += any(row.binary is not None for row in rows)

    def cells(self, number: int, node: Apply, sane: list[bool], primal: Floats | None) -> None:
        """The planes of all cells of an operation whose operands are cut; one that has none over cells stays as it is."""
        if node.op.traits.cells is None:
            return
        operands = [places_of(self._program.columns, operand).tolist() for operand in node.operands]
        which: list[tuple[int, list[int], list[tuple[int, int]]]] = []
        cells: list[list[float]] = []
        boxes: list[list[float]] = []
        for neuron, columns in enumerate(zip(*operands, strict=True)):
            y = self._program.columns[number].start + neuron
            cut = y in self._exact or (sane[neuron] and any(column in self._breaks for column in columns))
            if not cut or len(set(columns)) < len(columns):
                continue
            each = [list(enumerate(zip(self.ends(c)[:-1], self.ends(c)[1:], strict=True))) for c in columns]
            for pieces in product(*each):
                chosen = [(c, k) for c, (k, _) in zip(columns, pieces, strict=True) if c in self._breaks]
                which.append((y, list(columns), chosen))
                cells.append([end for _, ends in pieces for end in ends])
                boxes.append([end for c in columns for end in (float(self._program.lower[c]), float(self._program.upper[c]))])
        if not cells:
            return
        over, around = torch.tensor(cells, dtype=torch.float64), torch.tensor(boxes, dtype=torch.float64)
        points = [(over[:, 0::2] + over[:, 1::2]) / 2]
        if primal is not None and not node.op.traits.straight:
            points.append(torch.from_numpy(primal[np.array([columns for _, columns, _ in which])]))
        for at in points:
            found = cell_planes(node.op.traits.cells, over, around, at)
            below = lists(found.lower, found.lower_offset, found.lower_everywhere)
            above = lists(found.upper, found.upper_offset, found.upper_everywhere)
            for sign, planes in ((1.0, below), (-1.0, above)):
                for (y, inputs, chosen), slopes, here, everywhere in zip(which, *planes, strict=True):
                    self._plane(y, inputs, chosen, slopes, here, everywhere, sign)

    def _plane(
        self,
        y: int,
        columns: list[int],
        chosen: list[tuple[int, int]],
        slopes: list[float],
        here: float,
        everywhere: float,
        sign: float,
    ) -> None:
        """`sign y >= sign (slopes @ columns + here)` in all the `chosen` pieces, the same with `everywhere` elsewhere."""
        here, everywhere = sign * here, sign * everywhere
        if not np.isfinite([*slopes, here, everywhere]).all():
            return
        forgiven = max(0.0, float(np.nextafter(here - everywhere, np.inf))) if here > everywhere else 0.0
        entries, values, total = [y, *columns], [sign, *(-sign * slope for slope in slopes)], 0.0
        if forgiven > 0:
            for column, piece in chosen:
                mine = self._of(column)
                entries += [mine[piece - 1]] if piece else mine
                values += [-forgiven] if piece else [forgiven] * len(mine)
                total += forgiven if piece else 0.0
        bound = here - total - 8 * UNIT_ROUNDOFF * (abs(here) + total) - 1e-290
        self._write(entries, values, bound, np.inf, y)

    def _write(self, columns: list[int], values: list[float], low: float, high: float, held: int, origin: int = PLANE) -> None:
        self._rows.append((columns, values, low, high, origin, held))

    def together(self, problem: solvers.Problem) -> MixedProgram:
        """The problem's rows, and these below them."""
        height, more = problem.shape[0], self._width - self._count
        lengths = [len(columns) for columns, *_ in self._rows]
        places = np.array([column for columns, *_ in self._rows for column in columns], dtype=np.int64)
        values = np.array([value for _, row, *_ in self._rows for value in row], dtype=np.float64)
        which = np.repeat(np.arange(len(self._rows)), lengths)
        below = sparse.csr_array(sparse.coo_array((values, (which, places)), shape=(len(self._rows), self._width)))
        above = sparse.hstack([problem.rows, sparse.csr_array((height, more))], format="csr")
        origins, held = self._program.origins[:height], self._program.held[:height]
        kept = ~np.isin(self._program.neuron[:height], list(self._exact))
        nothing, one = np.zeros(more), np.ones(more)
        joined = solvers.Problem(
            np.concatenate([problem.cost, nothing]),
            sparse.vstack([above[kept], below], format="csr"),
            np.concatenate([problem.row_lower[kept], [low for _, _, low, *_ in self._rows]]),
            np.concatenate([problem.row_upper[kept], [high for *_, high, _, _ in self._rows]]),
            np.concatenate([problem.lower, nothing]),
            np.concatenate([problem.upper, one]),
            np.concatenate([np.zeros(self._count, dtype=np.bool_), one.astype(np.bool_)]),
        )
        mine = np.array([row[-2:] for row in self._rows], dtype=np.int64).reshape(-1, 2)
        every = np.concatenate([np.stack([origins, held], axis=1)[kept], mine])
        return MixedProgram(joined, self._program, self._breaks, *every.T)


def lists(slopes: Tensor, here: Tensor, everywhere: Tensor) -> tuple[list[list[float]], list[float], list[float]]:
    return slopes.tolist(), here.tolist(), everywhere.tolist()
