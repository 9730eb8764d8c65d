"""A check of evidence that has nothing of the package but the file's entries and the network's numbers: NumPy alone.

It replays the entries in their order: intervals are only ever narrowed to what interval arithmetic, a back-substitution, a
split or an earlier bounding pass says; planes hold their operation at dense samples; back-substitutions are done again;
the tree covers the region.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.helpers.evidence_arithmetic import Floats, factors, inside, put, samples_of
from tests.helpers.evidence_choices import every_sentence, is_a_sentence
from tests.helpers.evidence_network import NEAR, Numbers, Refused, State, demand
from tests.helpers.evidence_substitution import BackSubstitutions
from tightverify.evidence import (
    PROPERTY,
    SHARE,
    BackSubstitution,
    Bounded,
    BoundingPass,
    Branch,
    CutoffTightening,
    Empty,
    Ending,
    Leaves,
    Pairs,
    Points,
    Polygon,
    Program,
    Question,
    Resumed,
)

__all__ = ["Check", "Numbers", "Refused"]
OWN = 1e-4
"""What a network's own precision may put between its values and these."""
SAMPLES = {1: 41, 2: 13, 3: 7}


class Check(BackSubstitutions):
    """Replays the entries of one file; raises `Refused` for what does not follow."""

    def __init__(self, entries: Any, numbers: Numbers) -> None:
        demand(isinstance(entries[0], Question), "it does not begin with what is asked")
        super().__init__(entries[0], numbers)
        self.at_every_point = False
        self.branches = [entry for entry in entries if isinstance(entry, Branch)]
        for entry in entries[1:]:
            demand(not isinstance(entry, Question), "it asks twice")
            self.enter(entry)

    def with_entry(self, entry: Any) -> Check:
        """The check one entry later; this one stays as it is."""
        later = deepcopy(self, {id(self.numbers): self.numbers})
        later.enter(entry)
        return later

    def enter(self, entry: Any) -> None:
        match entry:
            case BoundingPass():
                self.bounding_pass(entry)
            case Resumed():
                self.resumed(entry)
            case Bounded():
                self.bounded(entry)
            case Pairs():
                self.pairs(entry)
            case Polygon():
                self.polygon(entry)
            case BackSubstitution():
                self.back_substitution(entry)
            case Empty():
                self.empty(entry)
            case Program():
                self.whole_program(entry)
            case CutoffTightening():
                self.cutoff_tightening(entry)
            case Leaves():
                self.leaves(entry)
            case Points():
                self.points(entry)
            case Ending():
                self.ending(entry)

    # Bounding passes and intervals.

    def bounding_pass(self, entry: BoundingPass) -> None:
        demand(entry.bounding_pass not in self.states, f"bounding pass {entry.bounding_pass} was declared before")
        if entry.parent < 0:
            shares = np.tile([-1.0, 1.0], (len(self.question.generators), 1))
            self.states[entry.bounding_pass] = State(True, rows=self.rows.copy(), shares=shares)
            return
        self.split[entry.bounding_pass] = entry
        old = self.states[entry.parent]
        copies = (dict(part) for part in (old.intervals, old.said, old.pairs, old.polygons, old.cuts, old.operands))
        output_constraint = dict(old.output_constraint)
        if entry.node == PROPERTY:
            demand(not entry.above and entry.value > 0, "what is supposed of a row is not that it fails")
            output_constraint[entry.neuron] = entry.value
        shares = old.shares.copy()
        if entry.node == SHARE:
            low, high = shares[entry.neuron]
            shares[entry.neuron] = (max(low, entry.value), high) if entry.above else (low, min(high, entry.value))
        self.states[entry.bounding_pass] = State(False, *copies, old.rows.copy(), output_constraint, shares)  # type: ignore[arg-type,call-arg]

    def resumed(self, entry: Resumed) -> None:
        """Another run goes on with a part, with the planes of the whole region that it found itself."""
        state, whole = self.states[entry.bounding_pass], self.states[entry.whole]
        demand(whole.whole, "a part goes on with planes that may not hold on it")
        state.pairs, state.polygons, state.cuts = dict(whole.pairs), dict(whole.polygons), dict(whole.cuts)
        state.operands = dict(whole.operands)

    def allowed(self, state: State, bounding_pass: int, node: int) -> tuple[Floats, Floats]:
        """The narrowest interval that follows from what came before."""
        some = [self.forward(state, node)]
        some.extend(part[node] for part in (self.known, state.intervals, state.said) if node in part)
        lower, upper = np.max([low for low, _ in some], 0), np.min([high for _, high in some], 0)
        split = self.split.get(bounding_pass)
        if split is not None and split.node == node:
            end = (lower if split.above else upper)[split.neuron : split.neuron + 1]
            end[:] = max(end[0], split.value) if split.above else min(end[0], split.value)
        return lower, upper

    def bounded(self, entry: Bounded) -> None:
        state = self.states[entry.bounding_pass]
        lower, upper = self.allowed(state, entry.bounding_pass, entry.node)
        demand(
            entry.lower <= lower + NEAR,
            f"bounding pass {entry.bounding_pass}: node {entry.node} has a lower end that does not follow",
        )
        demand(
            entry.upper >= upper - NEAR,
            f"bounding pass {entry.bounding_pass}: node {entry.node} has an upper end that does not follow",
        )
        lower, upper = np.minimum(entry.lower, lower), np.maximum(entry.upper, upper)  # what is near does not add up
        state.intervals[entry.node] = lower, upper
        if state.whole:
            old = self.known.get(entry.node, (lower, upper))
            self.known[entry.node] = np.maximum(old[0], lower), np.minimum(old[1], upper)
        if entry.node == self.question.output:
            rows = self.question.rows
            self.proved(state, rows.clip(min=0) @ lower + rows.clip(max=0) @ upper + self.question.offsets)

    def empty(self, entry: Empty) -> None:
        state = self.states[entry.bounding_pass]
        demand(not state.whole, "a whole region came out empty")
        lower, upper = self.allowed(state, entry.bounding_pass, entry.node)
        demand(entry.lower <= lower + NEAR, "an interval that does not follow made a part empty")
        demand(entry.upper >= upper - NEAR, "an interval that does not follow made a part empty")
        here = state.intervals[entry.node]
        state.empty = bool(((entry.lower > here[1]) | (entry.upper < here[0]) | (entry.lower > entry.upper)).any())
        demand(state.empty, "intervals that do not contradict one another made a part empty")

    # Planes.

    def places(self, state: State, node: int, samples: int) -> tuple[list[Floats], NDArray[np.bool_]]:
        """Operands (S, n) all over a node's boxes, and which of them lie in the polygons."""
        boxes = self.boxes(state, node)
        grids = np.meshgrid(*[np.linspace(0, 1, samples)] * len(boxes))
        points = [low + grid.ravel()[:, None] * (high - low) for grid, (low, high) in zip(grids, boxes, strict=True)]
        kept = np.ones_like(points[0], dtype=np.bool_)
        if node in state.polygons:
            polygon = state.polygons[node]
            size = max(len(points[0]), 1)
            weights = np.random.default_rng(0).dirichlet(np.full(polygon.vertices.shape[1], 0.3), size)
            inner = np.concatenate([np.einsum("sv,nvk->snk", weights, polygon.vertices), polygon.vertices.swapaxes(0, 1)])
            points = [np.concatenate([p, inner[..., k]]) for k, p in enumerate(points)]
            within = [(low <= p) & (p <= high) for p, (low, high) in zip(points, boxes, strict=True)]
            kept = np.all(within, 0)
            for cut in state.cuts[node]:  # the operands lie in each of them
                mine = inside(cut.vertices, np.stack(points, -1)[:, cut.neurons]) | ~cut.holds
                kept[:, cut.neurons] &= mine
        return points, kept

    def pairs(self, entry: Pairs) -> None:
        state = self.states[entry.bounding_pass]
        if entry.node in self.numbers.quadratics:
            self.quadratic_planes(state, entry)
            return
        points, kept = self.places(state, entry.node, SAMPLES[len(self.reads(entry.node))])
        value = self.function(entry.node)(*points)
        for planes, sign in ((entry.lower, 1), (entry.upper, -1)):
            at = planes[:, None, :, -1] + sum(planes[:, None, :, k] * p for k, p in enumerate(points))
            demand((sign * (value - at) >= -NEAR * 1e-3) | ~kept, f"a plane of node {entry.node} does not hold its operation")
        state.pairs[entry.node] = entry.lower, entry.upper

    def quadratic_planes(self, state: State, entry: Pairs) -> None:
        """They hold at samples of the operands' box, or of the region's part, if those are inputs."""
        places = self.inputs_of(entry.node)
        if places is None:
            lower, upper = (np.concatenate(ends) for ends in zip(*self.boxes(state, entry.node), strict=True))
            points = lower + np.random.default_rng(0).random((400, len(lower))) * (upper - lower)
        else:
            points = samples_of(self.question, *self.part(state), state.shares)[:, places]
        value = self.numbers.quadratics[entry.node].at(points)
        for planes, sign in ((entry.lower, 1), (entry.upper, -1)):
            at = points @ planes[..., :-1].swapaxes(1, 2) + planes[:, None, :, -1]
            demand(sign * (value - at) >= -NEAR * 1e-3, f"a plane of node {entry.node} does not hold its energies")
        state.pairs[entry.node] = entry.lower, entry.upper

    def polygon(self, entry: Polygon) -> None:
        """Every corner of what the boxes and the last back-substitution leave lies in the polygon."""
        state = self.states[entry.bounding_pass]
        boxes = self.boxes(state, entry.node)
        (x0, x1), (y0, y1) = [(low[entry.neurons], high[entry.neurons]) for low, high in boxes]
        one, none = np.ones_like(x0), np.zeros_like(x0)
        normals = np.stack([np.stack([one, none], -1), np.stack([-one, none], -1), np.stack([none, one], -1)], 1)
        normals = np.concatenate([normals, np.stack([none, -one], -1)[:, None]], 1)
        least = np.stack([x0, -x1, y0, -y1], 1)
        if entry.node in state.operands:
            more, bounds = self.directions(state.operands[entry.node], entry)
            normals, least = np.concatenate([normals, more], 1), np.concatenate([least, bounds], 1)
        count = normals.shape[1]
        for i, j in combinations(range(count), 2):
            a, b = normals[:, i], normals[:, j]
            cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
            with np.errstate(all="ignore"):
                x = (least[:, i] * b[:, 1] - a[:, 1] * least[:, j]) / cross
                y = (a[:, 0] * least[:, j] - least[:, i] * b[:, 0]) / cross
            points = np.nan_to_num(np.stack([x, y], -1), nan=np.inf, posinf=np.inf, neginf=np.inf)
            with np.errstate(all="ignore"):
                heights = (normals * points[:, None]).sum(-1) - least
            corner = (np.abs(cross) > 1e-12) & (heights >= -1e-12).all(1) & entry.holds
            known = inside(entry.vertices, np.where(corner[:, None], points, entry.vertices[:, 0])[None])[0]
            demand(known | ~corner, f"the polygon of node {entry.node} leaves something out")
        old = state.polygons.get(entry.node)
        state.polygons[entry.node] = entry if old is None else put(old, entry)
        state.cuts[entry.node] = (*state.cuts.get(entry.node, ()), entry)

    def directions(self, found: tuple[dict[int, Floats], Floats], entry: Polygon) -> tuple[Floats, Floats]:
        """Normals (k, D, 2) of a back-substitution about operands of an operation's neurons, and what it proved (k, D)."""
        rows, proved = found
        of = entry.neurons.repeat(len(proved) // len(entry.neurons))
        normals = np.stack([rows[source][np.arange(len(of)), places[of]] for source, places in self.reads(entry.node)], -1)
        left = sum(np.abs(row).sum(1) for row in rows.values()) - np.abs(normals).sum(1)
        demand(np.abs(left) < 1e-12, "a row about operands is over others too")
        return normals.reshape(len(entry.neurons), -1, 2), proved.reshape(len(entry.neurons), -1)

    def points(self, entry: Points) -> None:
        """All sentences of the region are there, and the rows are above their bounds at each."""
        state = self.states[entry.bounding_pass]
        demand(state.whole, "points of a part were tried in place of all")
        told = set(map(tuple, entry.numbers.tolist()))
        demand(told >= every_sentence(self.question), "not every sentence was tried")
        places = np.arange(len(self.question.vectors))
        sentences = self.question.vectors[places, entry.numbers].reshape(len(entry.numbers), -1)
        outputs = self.values_at(sentences)[self.question.output]
        rows = outputs @ self.question.rows.T + self.question.offsets
        demand(entry.proved <= rows + NEAR, "a bound at a sentence is above its value")
        self.proved(state, entry.proved.min(0))
        self.at_every_point |= bool(((entry.proved > 0).sum(1) >= self.question.needed).all())

    # The end.

    def trees(self) -> list[list[Branch]]:
        """Each begins with the whole region."""
        starts = [k for k, branch in enumerate(self.branches) if branch.number == 0]
        demand(starts[:1] == [0][: len(self.branches)], "the tree has no root")
        return [self.branches[start:stop] for start, stop in pairwise([*starts, len(self.branches)])]

    def tree(self, branches: list[Branch]) -> tuple[Floats, bool]:
        """What is proved of the rows, and whether the property is, on all leaves of a tree that covers the region."""
        demand(self.states[branches[0].bounding_pass].whole, "the tree has no root")
        by_number = {branch.number: branch for branch in branches}
        demand(len(by_number) == len(branches), "two branches have one number")
        halves: dict[int, list[BoundingPass]] = {}
        for branch in branches:
            if branch.number:
                split = self.split[branch.bounding_pass]
                halves.setdefault(branch.parent, []).append(split)
                demand(split.parent == by_number[branch.parent].bounding_pass, "a part of a region is not of its parent")
        margins, all_proved = np.full(len(self.rows), np.inf), True
        for number, branch in by_number.items():
            state = self.states[branch.bounding_pass]
            if number in halves:
                parts = halves[number]
                if parts[0].node == PROPERTY:
                    margins = np.minimum(margins, self.all_open_rows(state, parts))
                    continue
                demand(len(parts) == 2, f"branch {number} does not have both its halves")
                one, other = parts
                same = (one.node, one.neuron, one.value) == (other.node, other.neuron, other.value)
                demand(same and one.above != other.above, f"branch {number} does not have both its halves")
                continue
            demand(branch.closed != "empty" or state.empty, f"branch {number} is not empty")
            if state.empty and not state.output_constraint:
                continue
            here = np.maximum(state.rows, self.rows)
            for row, value in state.output_constraint.items():  # of other rows their own parts speak
                nothing = state.empty or state.rows[row] > value
                here = np.where(np.arange(len(here)) == row, value if nothing else state.rows[row], np.inf)
            demand(branch.margins <= here + NEAR, f"branch {number} has margins that do not follow")
            margins = np.minimum(margins, here)
            all_proved &= int((here > 0).sum()) >= self.question.needed
            demand(branch.closed == "" or (here > 0).sum() >= self.question.needed, f"branch {number} is not proved")
        return margins, all_proved

    def all_open_rows(self, state: State, parts: list[BoundingPass]) -> Floats:
        """Parts of a whole region, where one row each fails, hold all points at which the property does.

        What is proved of the other rows stands as it was.
        """
        demand(self.question.needed == len(self.rows), "rows were supposed to fail one by one where not all are needed")
        failing = [part.neuron for part in parts]
        demand(all(part.node == PROPERTY for part in parts) and len(set(failing)) == len(failing), "parts are not of rows")
        proved = np.maximum(state.rows, self.rows)
        proved[failing] = np.inf
        demand(proved > 0, "a row that was not proved was not supposed to fail")
        return proved

    def ending(self, entry: Ending) -> None:
        proved = self.at_every_point
        for branches in self.trees():
            margins, on_all_leaves = self.tree(branches)
            self.rows, proved = np.maximum(self.rows, margins), proved or on_all_leaves
        demand(entry.margins <= self.rows + NEAR, "the margins do not follow")
        proved = proved or int((self.rows > 0).sum()) >= self.question.needed
        demand(entry.verdict != "ROBUST" or proved, "it is not proved")
        if entry.verdict == "COUNTEREXAMPLE":
            self.counterexample(entry.point)

    def counterexample(self, point: Floats) -> None:
        """It lies in the region, and the network breaks the property there, or does but for what its own precision brings."""
        question = self.question
        step = point - question.centre
        demand((question.lower <= point) & (point <= question.upper), "a counterexample is not in the region")
        if len(question.vectors):
            demand(is_a_sentence(question, point), "a counterexample is not in the region")
        elif len(question.slack):
            shares = np.linalg.lstsq(question.generators.T, step, rcond=None)[0].clip(-1, 1)
            demand(
                np.abs(step - shares @ question.generators) <= question.slack + NEAR, "a counterexample is not in the region"
            )
        elif question.norm != "inf":
            for part, _ in factors(question):
                length = np.linalg.norm(step[part], ord=float(question.norm))
                demand(length <= question.radius, "a counterexample is not in the region")
        margins = question.rows @ self.values_at(point[None])[question.output][0] + question.offsets
        demand((margins >= OWN).sum() < question.needed, "a counterexample breaks nothing")
