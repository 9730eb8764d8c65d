"""Back-substitutions of evidence, done again in NumPy from the rows, multipliers and planes that it names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.evidence_arithmetic import Floats
from tests.helpers.evidence_network import NEAR, State, demand
from tests.helpers.evidence_programs import Programs
from tightverify.evidence import (
    PROPERTY,
    BackSubstitution,
)


class BackSubstitutions(Programs):
    """What back-substitutions prove of neurons, of operands and of the property's rows."""

    def back_substitution(self, entry: BackSubstitution) -> None:
        state = self.states[entry.bounding_pass]
        rows = self.gathered(entry.places, entry.weights, len(entry.bound))
        multipliers = self.gathered(entry.multiplied, entry.multipliers, len(entry.bound))
        given = {node: row.copy() for node, row in rows.items()}
        total = np.zeros(len(entry.bound))
        for node, m in multipliers.items():
            if node == PROPERTY:
                limits = np.array([state.output_constraint.get(k, np.inf) for k in range(m.shape[1])])
                demand((m >= 0) & ((m == 0) | np.isfinite(limits)), "a row is used that was not supposed to fail")
                total -= m @ np.where(np.isfinite(limits), limits - self.question.offsets, 0.0)
                output = self.question.output
                rows[output] = rows.get(output, 0) + m @ self.question.rows
                continue
            lower, upper = state.intervals[node]
            total -= m.clip(min=0) @ upper + m.clip(max=0) @ lower
            rows[node] = rows.get(node, 0) + m
        found = self.back(state, rows, entry) + total
        demand(entry.proved <= entry.bound, "a bound is above what it came from")
        demand(entry.bound <= found + NEAR * (1 + np.abs(found)), "a back-substitution does not give its bound")
        self.back_substitutions += 1
        self.learn(state, entry, given)

    def gathered(self, places: Any, values: Floats, count: int) -> dict[int, Floats]:
        found: dict[int, Floats] = {}
        for node in np.unique(places[:, 1]).tolist():
            here = places[:, 1] == node
            size = len(self.question.rows) if node == PROPERTY else self.question.nodes[node]["size"]
            found[node] = np.zeros((count, size))
            found[node][places[here, 0], places[here, 2]] = values[here]
        return found

    def back(self, state: State, rows: dict[int, Floats], entry: BackSubstitution) -> Floats:
        total, at_input = np.zeros(len(entry.bound)), np.zeros((len(entry.bound), len(self.question.centre)))
        for node in range(max(rows, default=-1), -1, -1):
            if node not in rows:
                continue
            row, kind = rows.pop(node), self.question.nodes[node]
            if kind["kind"] == "input":
                at_input[:, kind["start"] : kind["start"] + kind["size"]] += row
            elif kind["kind"] == "affine":
                total += row @ self.numbers.biases[node]
                for matrix, (source, places) in zip(self.numbers.matrices[node], self.reads(node), strict=True):
                    self.hand_on(rows, source, places, row @ matrix)
            else:
                planes = self.planes(state, entry, node)
                plane = np.where(row[..., None] > 0, planes[0], planes[1])
                total += (row * plane[..., -1]).sum(1)
                if node in self.numbers.quadratics:
                    first = 0
                    passed = (row[..., None] * plane[..., :-1]).sum(1)
                    for source, places in self.reads(node):
                        self.hand_on(rows, source, places, passed[:, first : first + len(places)])
                        first += len(places)
                    continue
                for k, (source, places) in enumerate(self.reads(node)):
                    self.hand_on(rows, source, places, row * plane[..., k])
        return total + self.least_of(state, at_input)

    def hand_on(self, rows: dict[int, Floats], source: int, places: Any, values: Floats) -> None:
        into = rows.setdefault(source, np.zeros((len(values), self.question.nodes[source]["size"])))
        np.add.at(into, (slice(None), places), values)  # type: ignore[arg-type]

    def planes(self, state: State, entry: BackSubstitution, node: int) -> list[Floats]:
        """The lower and the upper planes (R, n, k + 1) that the rows take."""
        found = []
        neurons = np.arange(self.question.nodes[node]["size"])
        for side, planes in enumerate(state.pairs[node]):
            last = len(planes) - 1
            if not entry.mixed:
                found.append(planes[np.minimum(entry.steps, last)])
                continue
            start = np.broadcast_to(planes[min(entry.start, last)], (len(entry.bound), *planes.shape[1:]))
            if node not in entry.operations:
                demand(last == 0, "an operation that has a choice is not among those of a back-substitution")
                found.append(start)
                continue
            before = entry.operations[: entry.operations.index(node)]
            place = sum(self.question.nodes[n]["size"] for n in before)
            taken = entry.taken[side, :, :, place : place + len(neurons)]
            share = np.arange(1, len(taken) + 1)[:, None] * (np.arange(len(taken))[:, None] < entry.steps)
            share = share / np.maximum(share.sum(0), 1)
            mixed = np.zeros_like(start)
            for step, which in enumerate(taken):
                mixed += share[step][:, None, None] * planes[which, neurons]
            found.append(np.where((entry.steps > 0)[:, None, None], mixed, start))
        return found

    def learn(self, state: State, entry: BackSubstitution, rows: dict[int, Floats]) -> None:
        """What a back-substitution says of neurons, of an operation's operands, or of the property's rows."""
        if entry.about == "neurons":
            (row,) = rows.values()
            which = np.abs(row).argmax(1)
            sign = row[np.arange(len(row)), which]
            demand(np.abs(row).sum(1) == 1, "a row about a neuron is not that neuron's alone")
            demand(list(rows) == [entry.node], "rows about a node's neurons are over others")
            width = row.shape[1]
            old = state.said.get(entry.node, (np.full(width, -np.inf), np.full(width, np.inf)))
            lower, upper = (end.copy() for end in old)
            np.maximum.at(lower, which[sign > 0], entry.proved[sign > 0])
            np.minimum.at(upper, which[sign < 0], -entry.proved[sign < 0])
            state.said[entry.node] = lower, upper
        elif entry.about == "operands":
            state.operands[entry.node] = rows, entry.proved
        else:
            row = rows[self.question.output]
            demand(list(rows) == [self.question.output], "rows of the property are over the output")
            margins = np.full(len(self.rows), -np.inf)
            for r, wanted in enumerate(self.question.rows):
                mine = entry.proved[(row == wanted).all(1)]
                margins[r] = mine.max(initial=-np.inf) + self.question.offsets[r]
            self.proved(state, margins)

    def proved(self, state: State, margins: Floats) -> None:
        """The rows' margins on what a bounding pass is about, if all that the network computes there are numbers."""
        if not self.defined(state):
            return
        state.rows = np.maximum(state.rows, margins)
        if state.whole:
            self.rows = np.maximum(self.rows, margins)
