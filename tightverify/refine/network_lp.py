"""The relaxed network as one linear program: every plane of every operation at once, exactly.

The variables are the input's coordinates x and every neuron y that a row c reads, directly or through others:

    minimise  sum over nodes of c @ y
    subject to  x in the region's box,
                y = sum of A z + b                      for an affine node with operands z, each neuron a row,
                l_k @ z + m_k <= y <= u_k @ z + n_k     for an operation or energy of operands z, for all its planes k at once,
                y in the interval that is known of it   (`boxed`).

What the network does at any x of the region is feasible, so the optimum is a lower bound of the row, and so is what any
multipliers prove by weak duality (`solvers.safe`).

Duality. Let p_k, q_k >= 0 be the multipliers of a neuron's lower and upper planes. That y drops out of the Lagrangian says
sum p - sum q = c, the coefficient with which back-substitution arrives at y; and what is handed on to the operands is
sum p_k l_k - sum q_k u_k. If only one side is used, say c = sum p > 0, this is c times the convex combination of lower planes
with weights p_k / c: multipliers divided by their sum are mixtures, each row having its own, and the dual value is the value
of a backward pass with these mixtures. So without `boxed` every such pass with mixed planes is a feasible dual point, and the
optimum is a limit that no mixture exceeds (`bounds.mixtures`). The program may lie above the best mixture for two reasons: the
intervals of neurons are constraints of their own (`boxed`); and a neuron may use planes of both sides, p and q together,
which adds min(sum p, sum q) times the gap between a lower and an upper plane at the primal point. That pays where
the planes have crossed there, which they do outside the operands' box alone: with `boxed` it never does for operands that
go through their whole box.

Rounding. Planes are already moved apart for it, and hold the operation exactly. The numbers of an affine node may be off by a
few units in their last place, so `proved` counts its equations as ranges: the right-hand side up or down by
`graph.rounding` times the node's scale (`bounds.linear`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

import solvers
from solvers.safe import safe_bound
from tightverify.bounds.interval import undefined
from tightverify.bounds.result import LinearBounds
from tightverify.errors import UsageError
from tightverify.evidence import EDGE, EQUATION, PLANE
from tightverify.graph import Affine, Apply, Graph, Input, Operand, Quadratic
from tightverify.relax.fitted.programs import check_solver
from tightverify.relax.planes import Plane
from tightverify.values import TINY, UNIT_ROUNDOFF

SMALL = 1e-9
"""Solvers take a coefficient smaller than this for 0 and then find no point where planes lie close together."""
LOOSENING = 1e-12
"""more than what the sum of a row's small terms and its bound is off by, relative to their size, for up to 2000 terms"""
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NetworkProgram:
    """The program, which variables are which node's neurons, and what is known beside it of the true network."""

    problem: solvers.Problem
    columns: dict[int, slice]
    """the variables that are the neurons of a node, input blocks among them"""
    lower: Floats
    upper: Floats
    """bounds of all variables that the network keeps on the region, whether or not the program is `boxed`"""
    slack: Floats
    """how far each row's bounds may be off by the rounding of the network's own numbers; rows added later are exact"""
    origins: Places
    """why each row holds (`evidence.entries`): an equation, a plane, a polygon's edge"""
    held: Places
    """the variable that each row is about"""
    equations: dict[int, slice]
    """the rows that say what an affine node's neurons are"""

    @property
    def neuron(self) -> Places:
        """For each row that is a plane, the variable of the neuron that it holds; -1 for other rows."""
        return np.where(self.origins == PLANE, self.held, -1)

    def cost(self, rows: Mapping[int, Tensor]) -> Floats:
        """The cost of a row over nodes of the program: with it the same program bounds another row."""
        cost = np.zeros(self.problem.shape[1])
        for number, row in rows.items():
            cost[self.columns[number]] += numbers(row)
        return cost

    def neurons(self, primal: Floats, number: int) -> Floats:
        """A node's neurons at a point of the program."""
        return primal[self.columns[number]]

    def proved(self, solution: solvers.Solution) -> float:
        """A lower bound of the row, proved by a solution's multipliers for the network itself, rounding and all."""
        problem = solution.problem
        dual = np.zeros(problem.shape[0]) if solution.dual is None else solution.dual
        return safe_bound(self.widened(problem), dual, self.lower, self.upper)

    def widened(self, problem: solvers.Problem) -> solvers.Problem:
        """A problem of these rows, and maybe more, that holds the true network, rounding and all."""
        slack = np.zeros(problem.shape[0])
        slack[: len(self.slack)] = self.slack
        low, high = np.nextafter(problem.row_lower - slack, -np.inf), np.nextafter(problem.row_upper + slack, np.inf)
        return problem.changed(row_lower=low, row_upper=high)

    def with_rows(self, more: Rows) -> tuple[NetworkProgram, tuple[sparse.csr_array, Floats, Floats]]:
        """The same program with more planes, and what to tell a session of them."""
        matrix, low, high, slack = more.together(self.lower, self.upper)
        low, high = np.nextafter(low - slack, -np.inf), np.nextafter(high + slack, np.inf)
        problem = self.problem.with_rows(matrix, low, high)
        origins, held = np.concatenate([self.origins, more.origins]), np.concatenate([self.held, more.held])
        return replace(self, problem=problem, origins=origins, held=held), (matrix, low, high)


def network_lp(bounds: LinearBounds, number_of_input: int, rows: Mapping[int, Tensor], boxed: bool = True) -> NetworkProgram:
    """The program for one input and a row (n,) over some nodes; `boxed` gives it the intervals of hidden neurons too."""
    check(bounds, number_of_input)
    graph = bounds.graph
    columns = numbered(graph, rows)
    count = sum(graph.nodes[number].size for number in columns)
    lower, upper = np.empty(count), np.empty(count)
    fixed = np.zeros(count, dtype=np.bool_)
    written = Rows(columns)
    for number, place in columns.items():
        interval = bounds.intervals[number].map(lambda ends: ends[number_of_input])
        lower[place], upper[place] = numbers(interval.lower), numbers(interval.upper)
        match graph.nodes[number]:
            case Input():
                fixed[place] = True
            case Affine() as node:
                written.affine(number, node, graph.rounding * numbers(bounds.scales[number][number_of_input]))
            case Apply() as node:
                for pair in bounds.planes[number]:
                    mine = pair.map(lambda part: part[number_of_input])
                    written.plane(number, node, mine.lower, below=True)
                    written.plane(number, node, mine.upper, below=False)
            case Quadratic() as node:
                for pair in bounds.planes[number]:
                    mine = pair.map(lambda part: part[number_of_input])
                    written.quadratic(number, node, mine.lower, below=True)
                    written.quadratic(number, node, mine.upper, below=False)
    matrix, row_lower, row_upper, slack = written.together(lower, upper)
    rests = (slack, written.origins, written.held, written.equations)
    asked = fixed | boxed
    problem = solvers.Problem(
        np.zeros(count), matrix, row_lower, row_upper, np.where(asked, lower, -np.inf), np.where(asked, upper, np.inf)
    )
    program = NetworkProgram(problem, columns, lower, upper, *rests)
    return replace(program, problem=problem.changed(cost=program.cost(rows)))


def check_program_solver(name: str) -> None:
    """Say why a solver cannot be given programs of networks, if it cannot."""
    check_solver(name)
    if name == "batched":
        raise UsageError("batched solves tiny programs only; give highs, gurobi or another solver for programs of networks")


def check(bounds: LinearBounds, number_of_input: int) -> None:
    if not bounds.region.separable:
        raise UsageError(
            f"the region is {bounds.region.words}, which is no box: a linear program needs a box; "
            "use LinfBall or Box, or a method without linear programs of whole networks"
        )
    if not 0 <= number_of_input < len(bounds.region):
        raise UsageError(f"input {number_of_input} was asked for; the batch has inputs 0 to {len(bounds.region) - 1}")
    if not defined(bounds, number_of_input):
        raise UsageError(
            f"on the region of input {number_of_input} the network may have no value (a logarithm of 0 or less): nothing can "
            "be bounded there; give a smaller region"
        )


def defined(bounds: LinearBounds, number_of_input: int) -> bool:
    """Whether the network surely has a value on all of an input's region."""
    nowhere = undefined(bounds.graph, bounds.intervals)
    return nowhere is None or not bool(nowhere[number_of_input])


def numbered(graph: Graph, rows: Mapping[int, Tensor]) -> dict[int, slice]:
    """The variables of the nodes that the rows depend on, in the order of the nodes."""
    wanted = set(rows)
    for number in range(max(rows), -1, -1):
        if number in wanted:
            wanted.update(operand.source for operand in graph.nodes[number].operands)
    found: dict[int, slice] = {}
    start = 0
    for number in sorted(wanted):
        found[number] = slice(start, start + graph.nodes[number].size)
        start = found[number].stop
    return found


def numbers(values: Tensor) -> Floats:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)


def places_of(columns: Mapping[int, slice], operand: Operand) -> Places:
    """The variables that an operand reads, in order."""
    mine = columns[operand.source]
    every = np.arange(mine.start, mine.stop)
    index = operand.index
    return every[index if isinstance(index, slice) else index.cpu().numpy()]


class Rows:
    """The program's rows as they are written, a block for each term or plane: places (h, w) of variables, and coefficients."""

    def __init__(self, columns: Mapping[int, slice]) -> None:
        self._columns = columns
        nowhere, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        self._entries = [(nowhere, nowhere, nothing)]
        self._bounds = [(nothing, nothing, nothing)]
        self._origins = [nowhere]
        self._held = [nowhere]
        self._height = 0
        self.equations: dict[int, slice] = {}

    def __len__(self) -> int:
        return self._height

    @property
    def origins(self) -> Places:
        """Why each row holds."""
        return np.concatenate(self._origins)

    @property
    def held(self) -> Places:
        """The variable that each row is about."""
        return np.concatenate(self._held)

    def affine(self, number: int, node: Affine, slack: Floats) -> None:
        """`neuron - sum of terms = bias`"""
        every = np.arange(node.size)
        self._enter(every, self._places(Operand(number)), np.ones(node.size))
        for term in node.terms:
            rows, columns, values = (part.cpu().numpy() for part in term.map.entries())
            self._enter(rows, self._places(term.operand)[columns], -values)
        bias = numbers(node.bias)
        self.equations[number] = slice(self._height, self._height + node.size)
        self._close(bias, bias, slack, EQUATION, self._places(Operand(number)))

    def plane(self, number: int, node: Apply, plane: Plane, below: bool, which: Places | None = None) -> None:
        """`neuron - slopes @ operands >= offset` for a plane below, `<= offset` for one above; infinite ones say nothing.

        The planes are those of the neurons `which`, of all of them if not given.
        """
        slopes = [numbers(slope) for slope in plane.slopes]
        offset = numbers(plane.offset)
        sane = np.flatnonzero(np.isfinite(np.stack([*slopes, offset])).all(0))
        every, mine = np.arange(len(sane)), sane if which is None else which[sane]
        neurons = self._places(Operand(number))[mine]
        self._enter(every, neurons, np.ones(len(sane)))
        for operand, slope in zip(node.operands, slopes, strict=True):
            self._enter(every, self._places(operand)[mine], -slope[sane])
        nothing = np.full(len(sane), np.inf)
        low, high = (offset[sane], nothing) if below else (-nothing, offset[sane])
        self._close(low, high, np.zeros(len(sane)), PLANE, neurons)

    def half_planes(self, number: int, node: Apply, which: Places, normals: Floats, least: Floats) -> None:
        """`normals @ operands >= least` for the operands of some neurons, normals (len(which), k)."""
        every = np.arange(len(which))
        for operand, normal in zip(node.operands, normals.T, strict=True):
            self._enter(every, self._places(operand)[which], normal)
        self._close(least, np.full(len(which), np.inf), np.zeros(len(which)), EDGE, self._places(Operand(number))[which])

    def quadratic(self, number: int, node: Quadratic, plane: Plane, below: bool) -> None:
        """The same for an energy, each of whose planes has a slope for every operand's neuron."""
        slopes, offset = numbers(plane.slopes[0]), numbers(plane.offset)
        sane = np.flatnonzero(np.isfinite(slopes).all(1) & np.isfinite(offset))
        every = np.arange(len(sane))
        places = np.concatenate([self._places(operand) for operand in node.operands])
        neurons = self._places(Operand(number))[sane]
        self._enter(every, neurons, np.ones(len(sane)))
        self._enter(every.repeat(len(places)), np.tile(places, len(sane)), -slopes[sane].ravel())
        nothing = np.full(len(sane), np.inf)
        low, high = (offset[sane], nothing) if below else (-nothing, offset[sane])
        self._close(low, high, np.zeros(len(sane)), PLANE, neurons)

    def together(self, lower: Floats, upper: Floats) -> tuple[sparse.csr_array, Floats, Floats, Floats]:
        """The matrix, the rows' bounds and their slack; terms too small for a solver are bounded over [lower, upper]."""
        rows, places, values = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        low, high, slack = (np.concatenate(part) for part in zip(*self._bounds, strict=True))
        ends = np.stack([lower[places], upper[places]])
        small = (np.abs(values) < SMALL) & np.isfinite(ends).all(0)
        products = values[small] * ends[:, small]
        most, least, size = (
            np.bincount(rows[small], part, self._height) for part in (products.max(0), products.min(0), np.abs(products).max(0))
        )
        loosening = np.maximum(LOOSENING, 4 * UNIT_ROUNDOFF * (np.bincount(rows[small], minlength=self._height) + 2))
        side = np.where(np.isfinite(low), low, high)  # infinite where a row says nothing: 0 times that would be no number
        slack = slack + TINY * (size > 0) + loosening * (size + np.where(size > 0, np.abs(side), 0.0))
        kept = (values[~small], (rows[~small], places[~small]))
        matrix = sparse.csr_array(sparse.coo_array(kept, shape=(self._height, len(lower))))
        return matrix, low - most, high - least, slack

    def _places(self, operand: Operand) -> Places:
        return places_of(self._columns, operand)

    def _enter(self, rows: Places, places: Places, values: Floats) -> None:
        """Coefficients of the rows that are being written, counted from the first of them."""
        self._entries.append((rows + self._height, places, values))

    def _close(self, low: Floats, high: Floats, slack: Floats, origin: int, held: Places) -> None:
        self._bounds.append((low, high, slack))
        self._origins.append(np.full(len(low), origin))
        self._held.append(held)
        self._height += len(low)
