"""A check of evidence's programs: rows that follow, multipliers that prove, trees that cover every choice."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tests.helpers.evidence_arithmetic import matrix_of, weak_duality
from tests.helpers.evidence_network import NEAR, CutoffTightened, demand
from tests.helpers.evidence_rows import Rows, Sheet
from tightverify.evidence import PROPERTY, CutoffTightening, Leaves, Program


class Programs(Rows):
    """What programs prove of rows and neurons."""

    def whole_program(self, entry: Program) -> None:
        self.program = entry
        demand(self.states[entry.bounding_pass].whole, "a program is about a part")
        members = entry.members.tolist()
        sizes = [self.question.nodes[node]["size"] for node in members]
        whole = len(set(members)) == len(members) and entry.columns.tolist() == [0, *np.cumsum(sizes).tolist()]
        demand(whole, "a program's variables are not its nodes' neurons")
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
            held = self.cutoff_tightened
            demand(held is not None and (held.row, held.limit) == (entry.row, entry.limit), "nothing was narrowed")
            assert held is not None
            demand(
                (held.bounding_pass, held.members) == (entry.bounding_pass, members),
                "variables of another program were narrowed",
            )
        count = int(entry.columns[-1])
        intervals = [self.states[entry.bounding_pass].intervals[node] for node in members]
        kept = [np.concatenate(ends) for ends in zip(*intervals, strict=True)]
        if held is not None:
            kept = [np.maximum(kept[0], held.lower[:count]), np.minimum(kept[1], held.upper[:count])]
        demand(entry.lower[:count] <= kept[0], "a program has a variable that is held too close")
        demand(entry.upper[:count] >= kept[1], "a program has a variable that is held too close")
        demand((entry.lower[count:] == 0).all() and (entry.upper[count:] == 1).all(), "a choice is not between 0 and 1")
        self.rows_follow(Sheet(entry, kept[0], kept[1]))
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
        demand(
            self.defined(self.states[entry.bounding_pass]), "a program is about inputs at which an operation may have no value"
        )
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

    def cutoff_tightening(self, entry: CutoffTightening) -> None:
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
        self.cutoff_tightened = CutoffTightened(
            program.bounding_pass, program.row, entry.limit, program.members.tolist(), lower, upper
        )
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
