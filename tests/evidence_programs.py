"""A check of evidence's programs: rows that the network satisfies, multipliers that prove, trees that cover every choice."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from evidence_arithmetic import Floats, matrix_of, weak_duality
from evidence_network import NEAR, Network, demand

from tightverify.evidence import PROPERTY, Leaves, Narrowing, Program

Narrowed = tuple[int, float, Floats, Floats]


def breaks_of(entry: Program) -> dict[int, Floats]:
    """Of each variable that is cut, where."""
    variables = dict.fromkeys(entry.breaks[:, 0].astype(int).tolist())
    return {variable: entry.breaks[entry.breaks[:, 0] == variable, 1] for variable in variables}


def pieces(values: Floats, bends: Floats) -> Floats:
    """(S, K): the variables of 0 or 1 that say in which piece values (S,) are, none of them for the first."""
    return np.asarray(np.eye(len(bends) + 1)[np.searchsorted(bends, values), 1:])


def all_over(held: Narrowed, variables: list[int]) -> Floats:
    """Points (S, k) all over what is held of variables."""
    low, high = (ends[variables] for ends in held[2:])
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 33)] * len(variables)), -1).reshape(-1, len(variables))
    return np.asarray(low + grid * (high - low))


def holds_over(entry: Program, row: int, weights: Floats, variables: list[int], values: Floats) -> bool:
    """Whether a row over these variables and their pieces, and no others, holds at their values (S, k)."""
    weights = weights.copy()
    sums = values @ weights[variables]
    weights[variables] = 0
    first = int(entry.columns[-1])
    for variable, bends in breaks_of(entry).items():
        mine = slice(first, first + len(bends))
        if variable in variables:
            sums = sums + pieces(values[:, variables.index(variable)], bends) @ weights[mine]
            weights[mine] = 0
        first += len(bends)
    inside = (sums >= entry.row_lower[row] - NEAR) & (sums <= entry.row_upper[row] + NEAR)
    return bool(inside.all() and not weights.any())


class Programs(Network):
    """What programs prove of rows and neurons."""

    def whole_program(self, entry: Program) -> None:
        self.program = entry
        demand(self.states[entry.sweep].whole, "a program is about a part")
        members = entry.members.tolist()
        place = members.index(self.question.output if entry.node == PROPERTY else entry.node)
        wanted = np.zeros_like(entry.cost)
        mine = wanted[entry.columns[place] : entry.columns[place + 1]]
        if entry.node == PROPERTY:
            mine[:] = self.question.rows[entry.row]
        else:
            mine[entry.row] = np.sign(entry.cost[entry.columns[place] + entry.row])
            demand(mine[entry.row] != 0, "a program is about no neuron")
        demand(entry.cost == wanted, "a program is about another row")
        held = None
        if np.isfinite(entry.limit):
            demand(entry.node == PROPERTY, "a neuron's program looks at some inputs only")
            demand(self.narrowed is not None and self.narrowed[:2] == (entry.row, entry.limit), "nothing was narrowed")
            held = self.narrowed
        for node, start, stop in zip(members, entry.columns[:-1], entry.columns[1:], strict=True):
            lower, upper = self.states[entry.sweep].intervals[node]
            if held is not None:
                lower, upper = np.maximum(lower, held[2][start:stop]), np.minimum(upper, held[3][start:stop])
            demand(entry.lower[start:stop] <= lower, "a program has a variable that is held too close")
            demand(entry.upper[start:stop] >= upper, "a program has a variable that is held too close")
        count = int(entry.columns[-1])
        demand((entry.lower[count:] == 0).all() and (entry.upper[count:] == 1).all(), "a choice is not between 0 and 1")
        self.network_satisfies(entry, held)
        if not len(entry.breaks) and entry.columns[-1] == len(entry.cost):
            found = weak_duality(
                entry.cost, matrix_of(entry), entry.row_lower, entry.row_upper, entry.dual, entry.lower, entry.upper
            )
            demand(entry.bound <= found + NEAR * (1 + abs(found)), "multipliers do not prove a program's bound")
            if entry.node == PROPERTY:
                self.row(entry, entry.bound)
            else:
                self.neuron(entry, mine[entry.row])
        self.programs += 1

    def row(self, entry: Program, bound: float) -> None:
        """A row's bound on the whole region: of inputs above its limit a program says nothing but that."""
        demand(entry.node == PROPERTY, "a neuron's program proves a row")
        demand(self.defined(self.states[entry.sweep]), "a program is about inputs at which an operation may have no value")
        self.rows[entry.row] = max(self.rows[entry.row], min(bound, entry.limit) + self.question.offsets[entry.row])

    def neuron(self, entry: Program, sign: float) -> None:
        """A neuron's end, on the whole region, by a program that proves it."""
        none = np.full(self.question.nodes[entry.node]["size"], np.inf)
        lower, upper = (end.copy() for end in self.known.get(entry.node, (-none, none)))
        if sign > 0:
            lower[entry.row] = max(lower[entry.row], entry.bound)
        else:
            upper[entry.row] = min(upper[entry.row], -entry.bound)
        self.known[entry.node] = lower, upper

    def network_satisfies(self, entry: Program, held: Narrowed | None) -> None:
        """The network's own values at samples of the region, and which pieces they are in, satisfy every row.

        Where only inputs with a low value are held, a row may be about those alone. As there may be none, it is held against
        its operation all over what is held of the operands.
        """
        draw = np.random.default_rng(0).random((600, len(self.question.centre)))
        draw[::2] = draw[::2].round()  # corners too
        values = self.values_at(self.question.lower + draw * (self.question.upper - self.question.lower))
        every = np.concatenate([values[node] for node in entry.members.tolist()], axis=1)
        whole = [pieces(every[:, variable], bends) for variable, bends in breaks_of(entry).items()]
        rows = matrix_of(entry)
        sums = np.concatenate([every, *whole], axis=1) @ rows.T
        kept = ((sums >= entry.row_lower - NEAR) & (sums <= entry.row_upper + NEAR)).all(0)
        demand(kept.all() or held is not None, "a program has a row that the network breaks")
        for row in np.flatnonzero(~kept).tolist():
            right = held is not None and self.operation_satisfies(entry, held, row, rows[row])
            demand(right, "a program has a row that the network breaks")

    def operation_satisfies(self, entry: Program, held: Narrowed, row: int, weights: Floats) -> bool:
        """Whether a row holds all over what is held of its operation's operands.

        It is over one operation's result, its operands and their pieces, or over one variable and its pieces.
        """
        over = np.flatnonzero(weights[: int(entry.columns[-1])]).tolist()
        result = max([*over, entry.held[row]])
        place = int(np.searchsorted(entry.columns, result, side="right")) - 1
        node, neuron = int(entry.members[place]), result - int(entry.columns[place])
        if len(over) == 1 and holds_over(entry, row, weights, over, all_over(held, over)):
            return True
        if self.question.nodes[node]["kind"] != "operation":
            return False
        start = dict(zip(entry.members.tolist(), entry.columns.tolist(), strict=False))
        operands = [start[source] + int(places[neuron]) for source, places in self.reads(node)]
        points = all_over(held, operands)
        values = np.column_stack([points, self.function(node)(*points.T)])
        return len({*operands}) == len(operands) and holds_over(entry, row, weights, [*operands, result], values)

    def narrowing(self, entry: Narrowing) -> None:
        """Each end follows from those before, by its multipliers, where the row is at most the limit."""
        program = self.program
        assert program is not None
        count = len(program.cost)
        demand(np.isinf(program.limit), "what is narrowed twice was not held")
        lower, upper = program.lower.copy(), program.upper.copy()
        dual = np.zeros((len(entry.ends), len(program.row_lower) + 1))
        dual[entry.places[:, 0], entry.places[:, 1]] = entry.dual
        rows = np.concatenate([matrix_of(program), program.cost[None]])
        low, high = np.append(program.row_lower, -np.inf), np.append(program.row_upper, entry.limit)
        nothing = False
        for variable, above, end, y in zip(entry.variables, entry.above, entry.ends, dual, strict=True):
            demand(not nothing, "there is nothing left to narrow")
            cost = (np.arange(count) == variable) * (-1.0 if above else 1.0)
            if np.isinf(end):
                demand(
                    weak_duality(0 * cost, rows, low, high, y, lower, upper) > 0,
                    "multipliers do not prove that nothing is left",
                )
                nothing = True
                continue
            found = weak_duality(cost, rows, low, high, y, lower, upper)
            demand((-end if above else end) <= found + NEAR * (1 + abs(found)), "multipliers do not prove a variable's end")
            (upper if above else lower)[variable] = end
            nothing = lower[variable] > upper[variable]
        self.narrowed = program.row, entry.limit, lower, upper
        if nothing:
            self.row(program, entry.limit)

    def leaves(self, entry: Leaves) -> None:
        """Each leaf's multipliers prove its bound, and the leaves hold every choice of whole variables."""
        program = self.program
        assert program is not None
        count = int(program.columns[-1])
        dual = np.zeros((len(entry.bounds), len(program.row_lower)))
        dual[entry.places[:, 0], entry.places[:, 1]] = entry.dual
        rows = matrix_of(program)
        for lower, upper, y, bound, infeasible in zip(
            entry.lower, entry.upper, dual, entry.bounds, entry.infeasible, strict=True
        ):
            ends = [np.concatenate([whole[:count], part]) for whole, part in ((program.lower, lower), (program.upper, upper))]
            cost = 0 * program.cost if infeasible else program.cost
            found = weak_duality(cost, rows, program.row_lower, program.row_upper, y, *ends)
            demand(found > 0 if infeasible else bound <= found + NEAR * (1 + abs(found)), "a leaf's multipliers prove nothing")
        choices = np.concatenate([entry.lower, entry.upper])
        demand(((choices == 0) | (choices == 1)).all() and (entry.lower <= entry.upper).all(), "leaves are about no choices")
        for i, j in combinations(range(len(entry.bounds)), 2):
            apart = (entry.lower[i] > entry.upper[j]) | (entry.lower[j] > entry.upper[i])
            demand(apart.any(), "leaves lie in one another")
        shares = 2.0 ** -(entry.upper == entry.lower).sum(1)
        demand(abs(shares.sum() - 1) < NEAR, "the leaves do not cover all choices")
        self.row(program, float(np.where(entry.infeasible, np.inf, entry.bounds).min()))
