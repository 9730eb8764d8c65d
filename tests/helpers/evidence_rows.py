"""A check of evidence's programs, row by row: each follows from the network, intervals and polygons, in rationals and balls.

A row says why it holds (`Program.origins`), and of which neuron it speaks; what else is in it has coefficients of 0. Variables
of 0 or 1 say in which piece an operand is, or which operand of a maximum is the larger one: a row holds if it does in each
piece, or either way, with the variables of that piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
from flint import fmpq

from tests.helpers.evidence_arithmetic import Floats, breaks_of, matrix_of
from tests.helpers.evidence_lines import Point, rational, rationals
from tests.helpers.evidence_network import Network, demand
from tests.helpers.evidence_proofs import Named, clipped, energy_keeps_above, hull, keeps_above
from tightverify.evidence import EDGE, EQUATION, PIECES, PLANE, Program

Weights = dict[int, fmpq]
Ends = tuple[fmpq, fmpq]


@dataclass(frozen=True, eq=False)
class Sheet:
    """A program's variables: which are a node's, what the network keeps them to, the pieces, and who uses a free choice."""

    entry: Program
    lower: Floats
    upper: Floats
    users: dict[int, int] = field(default_factory=dict)

    @property
    def start(self) -> dict[int, int]:
        return dict(zip(self.entry.members.tolist(), self.entry.columns.tolist(), strict=False))

    def neuron(self, variable: int) -> tuple[int, int]:
        """The node of a variable, and its place there."""
        demand(0 <= variable < self.entry.columns[-1], "a row is about no neuron")
        place = int(np.searchsorted(self.entry.columns, variable, side="right")) - 1
        return int(self.entry.members[place]), variable - int(self.entry.columns[place])

    def ends(self, variable: int) -> Ends:
        both = self.lower[variable], self.upper[variable]
        demand(np.isfinite(both), "a row is about a neuron that may be infinite")
        return rational(both[0]), rational(both[1])

    @property
    def choices(self) -> dict[int, range]:
        """Of each variable that is cut, those that say in which piece it is."""
        found, first = {}, int(self.entry.columns[-1])
        for variable, bends in breaks_of(self.entry).items():
            found[variable] = range(first, first + len(bends))
            first += len(bends)
        return found

    def pieces(self, variable: int) -> Iterator[tuple[Ends, int | None]]:
        """The ends of each piece, and the variable that says so; none does of the first."""
        low, high = self.ends(variable)
        bends = np.asarray(rationals(breaks_of(self.entry).get(variable, np.zeros(0)))).tolist()
        demand(all(a < b for a, b in pairwise(bends)), "pieces are not in their order")
        for choice, *ends in zip([None, *self.choices.get(variable, ())], [low, *bends], [*bends, high], strict=True):
            piece = max(ends[0], low), min(ends[1], high)
            if piece[0] <= piece[1]:
                yield piece, choice


class Rows(Network):
    """What makes the rows of programs hold."""

    def rows_follow(self, sheet: Sheet) -> None:
        entry = sheet.entry
        demand(len(entry.origins) == len(entry.held) == len(entry.row_lower), "rows do not say why they hold")
        demand(~np.isnan([entry.row_lower, entry.row_upper]), "a row has no bound")
        matrix = matrix_of(entry)
        for row, (origin, held) in enumerate(zip(entry.origins.tolist(), entry.held.tolist(), strict=True)):
            weights = {int(v): rational(matrix[row, v]) for v in np.flatnonzero(matrix[row])}
            for sign, side in ((1, entry.row_lower[row]), (-1, entry.row_upper[row])):
                if sign * side > -np.inf:
                    demand(np.isfinite(side), "a row has an infinite bound on the wrong side")
                    turned = {variable: sign * weight for variable, weight in weights.items()}
                    holds = self.row_follows(sheet, origin, held, turned, -sign * rational(side))
                    demand(holds, f"row {row} of a program is a row that the network may break")

    def row_follows(self, sheet: Sheet, origin: int, held: int, weights: Weights, constant: fmpq) -> bool:
        """Whether `weights @ v + constant >= 0` for that reason."""
        node, neuron = sheet.neuron(held)
        kind = self.question.nodes[node]["kind"]
        if origin == EQUATION and kind == "affine":
            return self.equation(sheet, held, weights, constant)
        if origin == PIECES:
            return all(
                self.exhausted(rest) and all(weight * end + level >= 0 for end in ends)
                for ends, choice in sheet.pieces(held)
                for weight, rest, level in [chosen(weights, held, sheet.choices.get(held, range(0)), choice, constant)]
            )
        if origin == PLANE and kind == "energy":
            return self.energy_plane(sheet, node, neuron, weights, constant)
        if (origin == PLANE or (origin == EDGE and held not in weights)) and kind == "operation":
            return self.plane(sheet, held, weights, constant)
        return False

    @staticmethod
    def exhausted(weights: Weights) -> bool:
        return not any(weights.values())

    def equation(self, sheet: Sheet, held: int, weights: Weights, constant: fmpq) -> bool:
        """With what the node makes of its operands in place of the neuron, over the operands' intervals."""
        node, neuron = sheet.neuron(held)
        left = dict(weights)
        share = left.pop(held, fmpq(0))
        constant += share * rational(self.numbers.biases[node][neuron])
        for matrix, (source, places) in zip(self.numbers.matrices[node], self.reads(node), strict=True):
            for k in np.flatnonzero(matrix[neuron]).tolist():
                variable = sheet.start[source] + int(places[k])
                left[variable] = left.get(variable, fmpq(0)) + share * rational(matrix[neuron, k])
        left = {variable: weight for variable, weight in left.items() if weight != 0}
        if any(variable >= sheet.entry.columns[-1] for variable in left):
            return False
        return constant + sum((min(w * end for end in sheet.ends(v)) for v, w in left.items()), fmpq(0)) >= 0

    def energy_plane(self, sheet: Sheet, node: int, neuron: int, weights: Weights, constant: fmpq) -> bool:
        left, quadratics = dict(weights), self.numbers.quadratics[node]
        k = left.pop(sheet.start[node] + neuron, fmpq(0))
        variables = [sheet.start[source] + int(place) for source, places in self.reads(node) for place in places]
        slopes = [left.pop(variable, fmpq(0)) for variable in variables]  # of one that is read twice, the first has all
        low, high = zip(*(sheet.ends(variable) for variable in variables), strict=True)
        forms = quadratics.matrix, quadratics.shift, quadratics.weights[neuron]
        return self.exhausted(left) and energy_keeps_above(forms, k, slopes, constant, low, high)

    def plane(self, sheet: Sheet, held: int, weights: Weights, constant: fmpq) -> bool:
        """Over every cell that the operands' pieces make; of a maximum with a free choice, on either side of it."""
        node, neuron = sheet.neuron(held)
        variables = [sheet.start[source] + int(places[neuron]) for source, places in self.reads(node)]
        distinct = list(dict.fromkeys(variables))
        op = self.named(node)
        somewhere = False
        cut = [v for v in distinct if any(choice in weights for choice in sheet.choices.get(v, ()))]
        for pieces in product(*(sheet.pieces(v) if v in cut else [(sheet.ends(v), None)] for v in distinct)):
            rest, level = dict(weights), constant
            for variable, (_, choice) in zip(distinct, pieces, strict=True):
                _, rest, level = chosen(rest, None, sheet.choices.get(variable, range(0)), choice, level)
            k = rest.pop(held, fmpq(0))
            slopes = tuple(
                rest.pop(variable, fmpq(0)) for variable in variables
            )  # of one that is read twice, the first has all
            boxes = dict(zip(distinct, (ends for ends, _ in pieces), strict=True))
            domain = self.domain(sheet, node, neuron, [boxes[v] for v in variables], len(distinct) < len(variables))
            if not self.over(sheet, held, op, (k, slopes, level), domain, rest):
                return False
            somewhere |= bool(domain)
        return somewhere

    def over(
        self, sheet: Sheet, held: int, op: Named, plane: tuple[fmpq, Point, fmpq], domain: list[Point], rest: Weights
    ) -> bool:
        """With the choices that are left in a row: one at most, of a maximum, and of no other neuron."""
        k, slopes, level = plane
        if not rest:
            return not domain or keeps_above(op, k, slopes, level, tuple(domain))
        ((choice, weight), *more) = rest.items()
        first = int(sheet.entry.columns[-1]) + len(sheet.entry.breaks)
        if more or op[0] != "maximum" or choice < first or sheet.users.setdefault(choice, held) != held:
            return False
        halves = [
            (clipped(domain, fmpq(1), fmpq(-1), fmpq(0)), level),
            (clipped(domain, fmpq(-1), fmpq(1), fmpq(0)), level + weight),
        ]
        return all(not half or keeps_above(op, k, slopes, height, tuple(half)) for half, height in halves)

    def named(self, node: int) -> Named:
        kind = self.question.nodes[node]
        parameters = {key: value for key, value in kind.items() if key not in ("kind", "size", "reads", "op")}
        plain = ((key, tuple(value) if isinstance(value, list) else value) for key, value in parameters.items())
        return kind["op"], tuple(sorted(plain))

    def domain(self, sheet: Sheet, node: int, neuron: int, boxes: list[Ends], same: bool) -> list[Point]:
        """What the operands can be together: opposite corners of a box, of two operands a polygon's."""
        low, high = (tuple(ends) for ends in zip(*boxes, strict=True))
        if len(boxes) != 2 or same:
            return [low, high]
        found = [low, (high[0], low[1]), high, (low[0], high[1])]
        state = self.states[sheet.entry.bounding_pass]
        if node in state.polygons and state.polygons[node].holds[neuron]:
            found = hull([tuple(rationals(vertex)) for vertex in state.polygons[node].vertices[neuron]])
            for axis, sign in product(range(2), (1, -1)):
                normal = [fmpq(sign) if k == axis else fmpq(0) for k in range(2)]
                found = clipped(found, *normal, sign * (low if sign > 0 else high)[axis])  # type: ignore[call-arg]
        return hull(found)


def chosen(
    weights: Weights, variable: int | None, choices: range, choice: int | None, constant: fmpq
) -> tuple[fmpq, Weights, fmpq]:
    """A variable's weight, the weights without it and these choices, and the constant once one of them is 1, or none."""
    left = dict(weights)
    weight = fmpq(0) if variable is None else left.pop(variable, fmpq(0))
    if choice is not None:
        constant += weights.get(choice, fmpq(0))
    return weight, {v: w for v, w in left.items() if v not in choices}, constant
