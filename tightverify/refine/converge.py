"""The program of a relaxed network, cut to convergence: the optimum over all operations' convex hulls at once.

From few planes per operation the program is solved; at its solution the envelope that a neuron violates gives its supporting
plane (`refine.separate`), and where the operands of a gate have left their polygon, its edges are rows of their own. What cuts
by more than `least_cut` is added, and the program solved again from where it ended, until nothing cuts: then the solution lies
in every operation's convex hull, up to `violation`, and its value is the optimum over all of them, which no planes can pass.

Every row holds what the network does, so that any solution's multipliers prove a bound (`NetworkProgram.proved`); the best of
them counts. A value that has been proved above `enough` ends the search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import solvers
from tightverify.budget import UNLIMITED, Budget
from tightverify.graph import Apply
from tightverify.refine.network_lp import Floats, NetworkProgram, Rows, network_lp, numbers
from tightverify.refine.relaxed import Relaxed
from tightverify.refine.separate import Asked, supporting
from tightverify.relax.planes import Plane
from tightverify.relax.traits import Support
from tightverify.values import UNIT_ROUNDOFF

STALLED = 3
"""Rounds that must have gained next to nothing before the search ends."""
FIRST_PLANES = 2
"""The closed form, and the planes of the least volume."""


@dataclass(frozen=True)
class Cutting:
    """How far to cut: rounds at most, the least violation that is worth a row, and what a plane must have gained at last.

    It ends after STALLED rounds that raised the value by less than `least_gain` together. A single one says little: where the
    optimum is not unique, or the row's own interval is what holds it, a cut may gain nothing and the next ones much.
    """

    rounds: int = 20
    least_cut: float = 1e-5
    least_gain: float = 1e-4
    solver: str = "highs"
    fits: str = "batched"


@dataclass(frozen=True)
class Round:
    """One solve: the solver's claim and what is proved, the rows added after it, the largest violation that it showed."""

    value: float
    proved: float
    cuts: int
    violation: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Converged:
    """The best bound proved, how it came about, and the last solution: rows, multipliers and point are all in it.

    `violation` is by how much, at the most, the solution's neurons lie outside their operations' convex hulls; `settled` says
    whether nothing was left that cuts, or gains.
    """

    proved: float
    program: NetworkProgram
    solution: solvers.Solution | None
    rounds: tuple[Round, ...]
    settled: bool
    ended: bool = True
    """whether no round comes after this"""
    best: solvers.Solution | None = None
    """the solution whose multipliers prove the bound"""

    @property
    def violation(self) -> float:
        return self.rounds[-1].violation if self.rounds else np.inf

    @property
    def point(self) -> Floats | None:
        """All neurons at the program's solution."""
        return None if self.solution is None else self.solution.primal


Dump = Callable[[solvers.Problem, str], None]
"""Told a problem and a name for it."""


def undumped(_problem: solvers.Problem, _name: str) -> None:
    """Writes nothing."""


@dataclass(eq=False)
class Cutter:
    """A program in a session, which gains rows as it is asked about one row of the network after the other."""

    relaxed: Relaxed
    program: NetworkProgram
    session: solvers.Session
    cutting: Cutting
    fresh: bool = field(default=True)

    @classmethod
    def over(cls, relaxed: Relaxed, rows: dict[int, Tensor], cutting: Cutting, boxed: bool = True) -> Cutter:
        """A program for rows (n,) over some nodes, with few planes; `boxed` as in `network_lp`."""
        program = network_lp(relaxed.with_first_planes(FIRST_PLANES).bounds, 0, rows, boxed)
        return cls(relaxed, program, solvers.load(program.problem, cutting.solver), cutting)

    def converge(
        self,
        rows: dict[int, Tensor],
        enough: float = np.inf,
        budget: Budget = UNLIMITED,
    ) -> Iterator[Converged]:
        """Bound the row from below, better from round to round; the budget is looked at between them."""
        self._asked(rows)
        best, history, solution = -np.inf, list[Round](), None
        proof: solvers.Solution | None = None
        for number in range(self.cutting.rounds + 1):
            budget.check()
            began = time.perf_counter()
            # A first solve, or one of another cost, is far from any basis: there an interior point method is faster.
            solution = self.session.solve(interior=number == 0)
            proved = self.program.proved(solution)
            if proved > best:
                best, proof = proved, solution
            cuts, violation = self._cut(solution)
            history.append(Round(solution.objective, proved, cuts, violation, time.perf_counter() - began))
            values = [each.value for each in history[-STALLED - 1 :]]
            stalled = len(values) > STALLED and values[-1] - values[0] < self.cutting.least_gain
            settled = cuts == 0 or stalled
            ended = settled or best > enough or solution.primal is None or number == self.cutting.rounds
            yield Converged(best, self.program, solution, tuple(history), settled, ended, proof)
            if ended:
                return

    def _asked(self, rows: dict[int, Tensor]) -> None:
        cost = self.program.cost(rows)
        if not np.array_equal(cost, self.session.problem.cost):
            self.session = solvers.load(self.session.problem.changed(cost=cost), self.cutting.solver)

    def _cut(self, solution: solvers.Solution) -> tuple[int, float]:
        """Add what cuts the solution off: how many rows, and the largest violation."""
        if solution.primal is None:
            return 0, np.inf
        more, worst = Rows(self.program.columns), 0.0
        every: list[Asked] = []
        for number, node in enumerate(self.relaxed.graph.nodes):
            if isinstance(node, Apply) and number in self.program.columns:
                operands = [self._values(o.source, solution.primal)[o.index] for o in node.operands]
                worst = max(worst, self._edges(number, node, torch.stack(operands, dim=1), more))
                every.append(self._asked_of(number, node, operands, self._values(number, solution.primal)))
        every = [asked for asked in every if len(asked.which)]
        for asked, support in zip(every, self._supporting(every), strict=True):
            if support is not None:
                worst = max(worst, self._write(asked, support, more))
        if len(more):
            self.program, added = self.program.with_rows(more)
            self.session.add_rows(*added)
        return len(more), worst

    def _values(self, number: int, primal: Floats) -> Tensor:
        return torch.from_numpy(primal[self.program.columns[number]].copy())

    def _supporting(self, every: list[Asked]) -> list[Support | None]:
        return supporting(self.relaxed, every, self.cutting.least_cut, self.cutting.fits)

    def _asked_of(self, number: int, node: Apply, operands: list[Tensor], values: Tensor) -> Asked:
        """The neurons that differ from the function's value, each on the side where it does."""
        off = values - node.op.forward(*operands)
        which = torch.nonzero(self.relaxed.sane(number) & (off.abs() > self.cutting.least_cut)).flatten()
        return Asked(number, which, torch.stack(operands, dim=1)[which], off[which] > 0, values[which])

    def _write(self, asked: Asked, support: Support, more: Rows) -> float:
        """Write the planes that cut; the largest violation."""
        node = self.relaxed.graph.nodes[asked.number]
        assert isinstance(node, Apply)
        cuts = asked.excess(support) > self.cutting.least_cut
        for side in (False, True):
            chosen = torch.nonzero(cuts & (asked.upper == side)).flatten()
            if len(chosen):
                plane = Plane(tuple(support.planes[chosen, :-1].unbind(1)), support.planes[chosen, -1])
                more.plane(asked.number, node, plane, below=not side, which=asked.which[chosen].numpy())
        return float(asked.beyond(support).max())

    def _edges(self, number: int, node: Apply, points: Tensor, more: Rows) -> float:
        """Write the polygons' edges that the operands lie beyond."""
        if number not in self.relaxed.polygons or node.op.arity != 2:
            return 0.0
        vertices = self.relaxed.polygons[number].vertices
        if vertices.shape[1] <= 4:
            return 0.0
        edges = vertices.roll(-1, 1) - vertices
        normals = torch.stack([-edges[..., 1], edges[..., 0]], dim=2)  # inward, for vertices go counter-clockwise
        length = torch.linalg.vector_norm(normals, dim=2, keepdim=True)
        normals = torch.where(length > 0, normals / length, 0.0)
        # Of all the polygon: any normal is valid with the least value that it takes at the vertices, rounded down.
        heights = torch.einsum("nek,nvk->nev", normals, vertices).amin(2)
        size = torch.einsum("nek,nvk->nev", normals.abs(), vertices.abs()).amax(2)
        least = heights - 8 * UNIT_ROUNDOFF * size - 1e-290
        short = least - (normals * points[:, None]).sum(2)
        worst, edge = short.max(1)
        worst = torch.where(self.relaxed.sane(number), worst, 0.0)
        which = torch.nonzero(worst > self.cutting.least_cut).flatten()
        if len(which):
            more.half_planes(
                number, node, which.numpy(), numbers(normals[which, edge[which]]), numbers(least[which, edge[which]])
            )
        return float(worst.clamp(min=0).max())
