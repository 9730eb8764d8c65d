"""A proved bound for mixed-integer problems: a tree whose every leaf is proved by itself.

A solver's own tree bound cannot be checked: its cuts and its pruning are not shown. So a small tree is grown again: a node is
the relaxation under narrower bounds of the whole variables; it is split at a variable whose value v in its relaxation is not
whole, into x_j <= floor(v) and x_j >= floor(v) + 1, which together hold every whole x_j. At any time the open nodes and the
leaves cover all feasible points, so that the least of their bounds, each a `safe.safe_bound` of that node's relaxation (+inf
where infeasibility is proved), bounds the optimum. A node whose bound is above what is `wanted` is left alone: for
`leaf_bound` a little less than the solver's claim, for those who only ask whether the optimum is above some value, just that.

Which variable to split is guessed from what splits have gained before (pseudo-costs): per unit that the value had to move, on
either side; the product of both sides' expected gains counts, so that both halves are likely to be done soon.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from solvers.base import Options, Session
from solvers.problem import Floats, Problem
from solvers.registry import backend
from solvers.safe import proves_infeasible, safe_bound
from solvers.solution import Solution

WHOLE = 1e-6
"""How far a value may be from a whole number and still be taken for one: steers the search, proves nothing."""
CLOSE = 1e-7
"""How far below the claim, relative to its size, a node's bound may be to be left alone."""
LITTLE = 1e-6
"""The least gain that is expected of a split."""


@dataclass(frozen=True, eq=False)
class Node:
    """An open node: the bound of the node that it came from, the bounds of its variables, and the split that made it.

    `multipliers` prove that bound, if the tree keeps them.
    """

    known: float
    lower: Floats
    upper: Floats
    multipliers: Floats | None = None
    depth: int = 0
    variable: int = -1
    side: int = 0
    distance: float = 1.0


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf as it can be checked: bounds of the whole variables, multipliers, and the bound that they prove.

    It is +inf where the multipliers prove that no point is feasible.
    """

    lower: Floats
    upper: Floats
    multipliers: Floats
    bound: float


@dataclass(eq=False)
class ProofTree:
    """The tree of a problem as it grows, node by node; `deep` goes down one branch first, else the least bound is first.

    To prove that the optimum is above `wanted`, all nodes that are not must be split in any order: going down keeps the open
    nodes few, and each relaxation near the last one. On request the tree will `keep` its leaves, and all multipliers.
    """

    problem: Problem
    wanted: float = math.inf
    solver: str = "highs"
    deep: bool = False
    solved: int = 0
    settled: float = math.inf
    """the least bound of a leaf"""
    keep: bool = False
    leaves: list[Leaf] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._session: Session = backend(self.solver).load(self.problem.relaxed(), Options())
        lower = np.where(self.problem.integer, np.ceil(self.problem.lower), self.problem.lower)
        upper = np.where(self.problem.integer, np.floor(self.problem.upper), self.problem.upper)
        self._order = 0
        self._heap: list[tuple[float, int, Node]] = []
        self._gains = Gains.of(self.problem.shape[1])
        self._push(Node(-math.inf, lower, upper))

    @property
    def bound(self) -> float:
        """A proved lower bound on the optimum, at any time."""
        return min(self.settled, min((node.known for _, _, node in self._heap), default=math.inf))

    @property
    def open(self) -> int:
        return len(self._heap)

    def cover(self) -> list[Leaf]:
        """The leaves that were kept and the open nodes: together they hold all feasible points."""
        whole, none = self.problem.integer, np.zeros(self.problem.shape[0])
        nodes = [node for _, _, node in self._heap]
        proofs = [none if node.multipliers is None else node.multipliers for node in nodes]
        parts = [Leaf(n.lower[whole], n.upper[whole], y, n.known) for n, y in zip(nodes, proofs, strict=True)]
        return [*self.leaves, *parts]

    def step(self) -> Solution | None:
        """Solve one open node and split it, or make it a leaf; None if it needed no solve."""
        _, _, node = self._heap[0]
        if (node.lower > node.upper).any():
            heapq.heappop(self._heap)
            return None
        if node.known > self.wanted:
            heapq.heappop(self._heap)
            self.settled = min(self.settled, node.known)
            return None
        solution = self._session.solve(lower=node.lower, upper=node.upper)
        heapq.heappop(self._heap)  # only now: a node whose solve fails is open still
        self.solved += 1
        bound = max(node.known, safe_bound_of(solution))
        multipliers = self._multipliers(node, solution) if self.keep else None
        self._gains.learn(node, bound)
        split = None if bound > self.wanted else self._split(node, solution)
        if split is None:
            self.settled = min(self.settled, bound)
            if multipliers is not None:
                whole = self.problem.integer
                self.leaves.append(Leaf(node.lower[whole], node.upper[whole], multipliers, bound))
            return solution
        variable, value = split
        down = value - math.floor(value)
        halves_of = halves(node.lower, node.upper, variable, value)
        for side, distance, (lower, upper) in zip((0, 1), (down, 1 - down), halves_of, strict=True):
            self._push(Node(bound, lower, upper, multipliers, node.depth + 1, variable, side, max(distance, LITTLE)))
        return solution

    def _multipliers(self, node: Node, solution: Solution) -> Floats:
        """What proves the bound of a node: its relaxation's answer, or what it came with, if that is better."""
        multipliers, own = proof(solution)
        return multipliers if node.multipliers is None or not own < node.known else node.multipliers

    def _push(self, node: Node) -> None:
        self._order += 1
        heapq.heappush(self._heap, (-node.depth if self.deep else node.known, self._order, node))

    def _split(self, node: Node, solution: Solution) -> tuple[int, float] | None:
        """Where to split; without a point of the relaxation, in the middle of the first variable that is not fixed."""
        if solution.primal is not None and np.isfinite(solution.primal).all():
            return self._gains.best(self.problem, solution.primal)
        free = np.flatnonzero(self.problem.integer & (node.lower < node.upper) & np.isfinite(node.upper - node.lower))
        return (int(free[0]), float(node.lower[free[0]] + node.upper[free[0]]) / 2) if len(free) else None


@dataclass(eq=False)
class Gains:
    """What splits at a variable have raised bounds by, down and up, per unit that its value had to move."""

    sums: Floats
    counts: Floats

    @classmethod
    def of(cls, count: int) -> Gains:
        return cls(np.zeros((2, count)), np.zeros((2, count)))

    def learn(self, node: Node, bound: float) -> None:
        gain = (bound - node.known) / node.distance
        if node.variable >= 0 and math.isfinite(gain):
            self.sums[node.side, node.variable] += gain
            self.counts[node.side, node.variable] += 1

    def best(self, problem: Problem, primal: Floats) -> tuple[int, float] | None:
        """The variable whose split is expected to gain most, and its value; None if all are whole."""
        distance = np.abs(primal - np.round(primal))
        places = np.flatnonzero(problem.integer & (distance > WHOLE))
        if not len(places):
            return None
        values = primal[places]
        down = values - np.floor(values)
        known = self.counts.sum(1)
        mean = np.where(known > 0, self.sums.sum(1) / np.maximum(known, 1), 1.0)[:, None]
        counts, sums = self.counts[:, places], self.sums[:, places]
        each = np.where(counts > 0, sums / np.maximum(counts, 1), mean)
        expected = np.maximum(each * np.stack([down, 1 - down]), LITTLE)
        chosen = int(np.argmax(expected[0] * expected[1]))
        return int(places[chosen]), float(values[chosen])


def leaf_bound(problem: Problem, claim: float = math.inf, leaves: int = 1000, solver: str = "highs") -> float:
    """A proved lower bound on the optimum, from at most so many leaves: about the claim, if it is right and they suffice."""
    wanted = claim - CLOSE * max(1.0, abs(claim)) if math.isfinite(claim) else math.inf
    tree = ProofTree(problem, wanted, solver)
    while tree.open and tree.solved < leaves:
        tree.step()
    return tree.bound


def tree_solver(solver: str) -> str:
    """The solver of a tree's relaxations: one that starts from the last and proves what it says, else HiGHS stands in."""
    able = backend(solver).capabilities
    return solver if able.warm_start and able.duals else "highs"


def proof(solution: Solution) -> tuple[Floats, float]:
    """The multipliers by which a relaxation's answer proves a bound, and that bound."""
    problem = solution.problem
    if solution.ray is not None and proves_infeasible(problem, solution.ray):
        return np.asarray(solution.ray, dtype=np.float64), math.inf
    dual = np.zeros(problem.shape[0]) if solution.dual is None else np.asarray(solution.dual, dtype=np.float64)
    return dual, safe_bound(problem, dual)


def halves(lower: Floats, upper: Floats, variable: int, value: float) -> list[tuple[Floats, Floats]]:
    """The bounds on either side of a value that is not whole."""
    below, above = upper.copy(), lower.copy()
    below[variable] = math.floor(value)
    above[variable] = math.floor(value) + 1
    return [(lower, below), (above, upper)]


def safe_bound_of(solution: Solution) -> float:
    """The best bound that a solver's answer proves; for mixed-integer problems by `leaf_bound`."""
    problem = solution.problem
    if problem.is_mixed_integer:
        return leaf_bound(problem, solution.claimed_bound)
    if solution.ray is not None and proves_infeasible(problem, solution.ray):
        return math.inf
    best = -math.inf if solution.dual is None else safe_bound(problem, solution.dual)
    return best if best > -math.inf else safe_bound(problem, np.zeros(problem.shape[0]))
