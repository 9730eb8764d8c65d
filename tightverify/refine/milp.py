"""A row of one input decided by mixed-integer programs, refined where they err.

The program with binaries (`refine.mixed`) first has those alone with which functions of straight pieces are exact: for networks
of ReLU, clamps and maxima it is the network itself. A tree whose every leaf is proved by itself (`solvers.leaves`) goes down to
where all leaves are above `enough`: that is a proof, and the only one. Every point on the way is an input that the caller may
replay. A leaf with whole binaries whose bound is not above `enough` ends the tree:

* if no operation is off at its point, the point's value is the network's: a counterexample, or next to one. The optimum is then
  proved as far as the solver claims it, for those who want bounds;
* else the operations that the point misses by most, weighed by their multipliers, are cut there, one operand of each, and the
  program is made anew.

A tree that grows beyond the number of binaries is dropped once: intervals are narrowed where the row is at most a little above
`enough` (`refine.cutoff_tightening`), and it is grown anew. One that grows beyond `first_leaves` asks the solver for its own
answer: if it has a point that is not above `enough`, the tree need not go on. The bounds found on the way are all proved; the
best counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

import solvers
from solvers.leaves import ProofTree, tree_solver
from tightverify.budget import UNLIMITED, Budget
from tightverify.graph import Apply
from tightverify.refine.converge import Converged
from tightverify.refine.cutoff_tightening import LIMIT, CutoffTightened, cutoff_tightened
from tightverify.refine.mixed import Breaks, MixedProgram, breakpoints, mixed_program
from tightverify.refine.network_lp import Floats, NetworkProgram, places_of
from tightverify.refine.relaxed import Relaxed

NEAR = 0.1
"""A breakpoint is no nearer to the ends of its piece than this share of it: else it is the piece's middle."""
LITTLE = 1e-6
"""The least that a neuron is taken to be worth."""
LEAST_SECONDS = 0.1
CLOSE = 1e-7
"""How far below its claim, relative to its size, the optimum of an exact program is proved."""
EXACT = 1e-7
"""How far a neuron may be from its function's value and still count as there: steers the refining, proves nothing."""


@dataclass(frozen=True)
class Deciding:
    """The solver, its seconds for one program, the leaves to take before it is asked and at most, the operations to cut."""

    solver: str = "highs"
    seconds: float = 30.0
    first_leaves: int = 2000
    share: float = 0.25
    """the most that asking may take, of what the tree has taken until then"""
    leaves: int = 1_000_000
    cuts: int = 8
    keep: bool = False
    """whether trees keep their leaves, to show them"""
    patience: float = 1.0
    """leaves for each binary before intervals are narrowed: 0 at once, infinity never"""

    def tree(self, mixed: MixedProgram, wanted: float) -> ProofTree:
        """A tree that is to prove the program's optimum to be above a value, by a solver that suits trees."""
        return ProofTree(mixed.problem, wanted, tree_solver(self.solver), deep=True, keep=self.keep)


@dataclass(frozen=True, eq=False)
class Grown:
    """A tree as it grows over a program, and the limit of its output constraint there."""

    mixed: MixedProgram
    tree: ProofTree
    limit: float = math.inf

    @property
    def bound(self) -> float:
        return min(self.tree.bound, self.limit)


@dataclass(eq=False)
class Best:
    """The best bound by now: one that was proved otherwise, or that of the best tree."""

    known: float
    grown: Grown | None = None

    @property
    def bound(self) -> float:
        return self.known if self.grown is None else max(self.known, self.grown.bound)

    def after(self, grown: Grown) -> float:
        """The bound, once a tree has grown on."""
        if grown.bound > self.bound:
            self.grown = grown
        return self.bound


@dataclass(frozen=True, eq=False)
class Progress:
    """Where the search stands: the best bound proved, a point to replay, the leaves solved, the program at work.

    `exact` says that no operation of the program is off at its worst point: then that point's value is the network's, the bound
    next to its optimum, and no refining raises it.
    """

    bound: float
    point: Floats | None
    leaves: int
    mixed: MixedProgram
    best: Best
    """whose the bound is"""
    exact: bool = False
    cutoff_tightened: CutoffTightened | None = None
    """what the program's intervals have just been narrowed to"""


def decide(
    relaxed: Relaxed,
    start: Converged,
    problem: solvers.Problem,
    enough: float,
    deciding: Deciding,
    budget: Budget = UNLIMITED,
) -> Iterator[Progress]:
    """From a converged program and its problem: bounds, until one is above `enough`, or a program is exact, or cut no more.

    The `budget` is looked at between solves; the solver's own search may take what is left of its time at the most.
    """
    limit = enough + LIMIT * (enough - start.proved)
    domain = CutoffTightened(start.program, breakpoints(relaxed, start.program))
    patience = deciding.patience if math.isfinite(limit) else math.inf
    point, leaves, best = start.point, 0, Best(start.proved)
    while True:
        budget.check()
        mixed = mixed_program(relaxed, domain.program, domain.holds(problem), domain.breaks, point)
        tree, began = deciding.tree(mixed, enough), time.monotonic()
        grown = Grown(mixed, tree, domain.limit)
        worst: Floats | None = None
        asked = hard = False
        while tree.open and tree.solved < deciding.leaves and worst is None and not hard:
            budget.check()
            if tree.solved >= deciding.first_leaves and not asked:
                asked, taken = True, time.monotonic() - began
                claim = claimed(mixed, deciding, min(budget.left, deciding.share * taken))
                yield Progress(best.after(grown), claim.primal, leaves, mixed, best)
                worst = claim.primal if claim.primal is not None and not claim.objective > enough else None
                continue
            solution = tree.step()
            if solution is not None:
                leaves += 1
                worst = None if tree.settled > enough else solution.primal
                yield Progress(best.after(grown), solution.primal, leaves, mixed, best)
            hard = tree.solved >= patience * mixed.binaries
        if best.after(grown) > enough or (worst is None and not hard):
            yield Progress(best.bound, None, leaves, mixed, best)
            return
        if worst is None:
            patience, domain = math.inf, cutoff_tightened(mixed, limit, budget, tree_solver(deciding.solver))
            if domain.nothing:
                best = Best(limit)
            yield Progress(best.bound, None, leaves, mixed, best, cutoff_tightened=domain)
            if domain.nothing:
                return
            continue
        point = worst
        if max(missed(relaxed, mixed.network, point).values(), default=0.0) <= EXACT:  # of smooth functions: others are exact
            tree, found = optimum(mixed, deciding, budget)
            bound = best.after(Grown(mixed, tree, domain.limit))
            yield Progress(bound, point if found is None else found, leaves, mixed, best, exact=True)
            return
        finer = refined(relaxed, mixed, start, point, deciding.cuts)
        if finer == domain.breaks:
            yield Progress(best.bound, point, leaves, mixed, best)
            return
        domain = replace(domain, breaks=finer)


def optimum(mixed: MixedProgram, deciding: Deciding, budget: Budget) -> tuple[ProofTree, Floats | None]:
    """A tree whose bound is next to what the solver claims is the optimum, and the solver's point."""
    claim = claimed(mixed, deciding, budget.left)
    wanted = claim.claimed_bound - CLOSE * max(1.0, abs(claim.claimed_bound))
    tree = deciding.tree(mixed, wanted)
    while tree.open and tree.solved < deciding.leaves:
        budget.check()
        tree.step()
    return tree, claim.primal


def claimed(mixed: MixedProgram, deciding: Deciding, left: float) -> solvers.Solution:
    """What the solver says of the program in its time; one without whole variables is left to HiGHS."""
    able = solvers.backend(deciding.solver).capabilities.mixed_integer
    return solvers.load(
        mixed.problem, deciding.solver if able else "highs", time_limit=max(LEAST_SECONDS, min(deciding.seconds, left))
    ).solve()


def missed(relaxed: Relaxed, program: NetworkProgram, primal: Floats) -> dict[tuple[int, int], float]:
    """How far each neuron (node, neuron) of an operation is from its function's value at a point of the program.

    Functions of straight pieces are exact but for what the solver takes for whole, and are not asked, nor are those that have
    no planes over cells.
    """
    found: dict[tuple[int, int], float] = {}
    for number, node in enumerate(relaxed.graph.nodes):
        if isinstance(node, Apply) and number in program.columns and approximate(node):
            operands = [torch.from_numpy(primal[places_of(program.columns, operand)]) for operand in node.operands]
            off = torch.from_numpy(primal[program.columns[number]].copy()) - node.op.forward(*operands)
            found.update({(number, neuron): abs(value) for neuron, value in enumerate(off.tolist())})
    return found


def approximate(node: Apply) -> bool:
    """Whether binaries hold an operation ever better, and never exactly."""
    return node.op.traits.cells is not None and not node.op.traits.straight


def refined(relaxed: Relaxed, mixed: MixedProgram, start: Converged, point: Floats, cuts: int) -> Breaks:
    """The breakpoints, and new ones at the point: for the operations that it misses by most, one operand of each."""
    program, weights = mixed.network, worth(start)
    every = missed(relaxed, program, point)
    score = {key: error * weights[program.columns[key[0]].start + key[1]] for key, error in every.items() if error > EXACT}
    found = dict(mixed.breaks)
    for number, neuron in sorted(score, key=lambda key: (-score[key], key))[:cuts]:
        node = relaxed.graph.nodes[number]
        assert isinstance(node, Apply)
        columns = [int(places_of(program.columns, operand)[neuron]) for operand in node.operands]
        if len(set(columns)) < len(columns) or not bool(relaxed.sane(number)[neuron]):
            continue
        cells = [piece_of(program, found, column, float(point[column])) for column in columns]
        bends = [bend(node, cells, point[columns], which) for which in range(len(columns))]
        chosen = int(np.argmax(bends))
        column, (low, high) = columns[chosen], cells[chosen]
        at = float(np.clip(point[column], low + NEAR * (high - low), high - NEAR * (high - low)))
        if low < at < high:
            found[column] = tuple(sorted({*found.get(column, ()), at}))
    return found


def worth(start: Converged) -> Floats:
    """Of each variable that is an operation's neuron, the coefficient with which it enters the row, by the multipliers."""
    weights = np.zeros(len(start.program.lower))
    if start.solution is not None and start.solution.dual is not None:
        neuron = start.program.neuron[: len(start.solution.dual)]
        held = neuron >= 0
        np.add.at(weights, neuron[held], start.solution.dual[held])
    return np.abs(weights) + LITTLE


def piece_of(program: NetworkProgram, breaks: Breaks, column: int, value: float) -> tuple[float, float]:
    """The piece of a variable's interval that a value lies in."""
    ends = [float(program.lower[column]), *breaks.get(column, ()), float(program.upper[column])]
    place = int(np.clip(np.searchsorted(ends, value, side="right"), 1, len(ends) - 1))
    return ends[place - 1], ends[place]


def bend(node: Apply, cells: list[tuple[float, float]], values: Floats, which: int) -> float:
    """How far the function is from straight along one operand's piece, or how far that piece leans on another operand."""
    low, high = cells[which]

    def value(at: float, others: Floats) -> float:
        operands = [at if k == which else float(others[k]) for k in range(len(cells))]
        return float(node.op.forward(*(torch.tensor([operand], dtype=torch.float64) for operand in operands)))

    along = abs(value((low + high) / 2, values) - (value(low, values) + value(high, values)) / 2)
    ends = [np.array([pair[side] for pair in cells]) for side in (0, 1)]
    twisted = abs(value(high, ends[1]) - value(low, ends[1]) - value(high, ends[0]) + value(low, ends[0])) / 4
    return along + twisted
