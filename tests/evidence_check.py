"""A check of evidence that has nothing of the package but the file's entries and the network's numbers: NumPy alone.

It replays the entries in their order: intervals are only ever narrowed to what interval arithmetic, a walk, a split or an
earlier sweep says; planes hold their operation at dense samples; walks are walked again; the tree covers the region.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
from evidence_arithmetic import (
    FUNCTIONS,
    Energies,
    Floats,
    dense,
    inside,
    least,
    least_moved,
    matrix_of,
    moved,
    put,
    reached,
    samples_of,
    weak_duality,
)
from numpy.typing import NDArray

from tightverify.evidence import (
    PROPERTY,
    SHARE,
    Bounded,
    Branch,
    Empty,
    Ending,
    Leaves,
    Narrowing,
    Pairs,
    Polygon,
    Program,
    Question,
    Resumed,
    Sweep,
    Walk,
)

NEAR = 1e-9
"""What float64 may put between two ways of working out the same."""
SAMPLES = {1: 41, 2: 13, 3: 7}


class Refused(Exception):
    """What is wrong with evidence."""


def demand(condition: Any, what: str) -> None:
    if not np.all(condition):
        raise Refused(what)


@dataclass
class Numbers:
    """A network's weights: for each node of a graph its bias, and its terms' matrices (2-d) in the order of its operands."""

    biases: list[Floats]
    matrices: list[list[Floats]]
    energies: dict[int, Energies]

    @classmethod
    def of(cls, graph: Any) -> Numbers:
        """From the package's graph, as arrays."""
        biases, matrices = [], []
        for node in graph.nodes:
            bias = getattr(node, "bias", None)
            biases.append(np.zeros(0) if bias is None else bias.numpy())
            matrices.append([dense(term.matrix, node.size) for term in getattr(node, "terms", ())])
        forms = {number: node.forms for number, node in enumerate(graph.nodes) if hasattr(node, "forms")}
        energies = {k: Energies(*(part.numpy() for part in (f.matrix, f.shift, f.weights))) for k, f in forms.items()}
        return cls(biases, matrices, energies)


@dataclass
class State:
    """What a sweep has by now, and what may be said of its nodes and of the property's rows."""

    whole: bool
    intervals: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    said: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    pairs: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    polygons: dict[int, Polygon] = field(default_factory=dict)
    cuts: dict[int, tuple[Polygon, ...]] = field(default_factory=dict)
    operands: dict[int, tuple[dict[int, Floats], Floats]] = field(default_factory=dict)
    rows: Floats = field(default_factory=lambda: np.zeros(0))
    supposed: dict[int, float] = field(default_factory=dict)
    shares: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    empty: bool = False


class Check:
    """Replays the entries of one file; raises `Refused` for what does not follow."""

    def __init__(self, entries: Any, numbers: Numbers) -> None:
        demand(isinstance(entries[0], Question), "it does not begin with what is asked")
        self.question: Question = entries[0]
        self.numbers = numbers
        self.states: dict[int, State] = {}
        self.rows = np.full(len(self.question.rows), -np.inf)
        self.branches = [entry for entry in entries if isinstance(entry, Branch)]
        self.split: dict[int, Sweep] = {}
        self.known: dict[int, tuple[Floats, Floats]] = {}
        self.program: Program | None = None
        self.narrowed: tuple[int, float, Floats, Floats] | None = None
        self.walks = self.programs = 0
        for entry in entries[1:]:
            self.enter(entry)

    def enter(self, entry: Any) -> None:
        match entry:
            case Sweep():
                self.sweep(entry)
            case Resumed():
                self.resumed(entry)
            case Bounded():
                self.bounded(entry)
            case Pairs():
                self.pairs(entry)
            case Polygon():
                self.polygon(entry)
            case Walk():
                self.walk(entry)
            case Empty():
                self.empty(entry)
            case Program():
                self.whole_program(entry)
            case Narrowing():
                self.narrowing(entry)
            case Leaves():
                self.leaves(entry)
            case Ending():
                self.ending(entry)

    # Nodes.

    def reads(self, node: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Of each operand its node, and its neurons' places."""
        found = []
        for operand in self.question.nodes[node]["reads"]:
            source = operand["node"]
            every = np.arange(self.question.nodes[source]["size"])
            places = every[slice(*operand["slice"])] if "slice" in operand else every[operand["places"]]
            found.append((source, places))
        return found

    def boxes(self, state: State, node: int) -> list[tuple[Floats, Floats]]:
        """The intervals of a node's operands."""
        return [tuple(end[places] for end in state.intervals[source]) for source, places in self.reads(node)]  # type: ignore[misc]

    def function(self, node: int) -> Any:
        return FUNCTIONS[self.question.nodes[node]["name"]]

    def forward(self, state: State, node: int) -> tuple[Floats, Floats]:
        """A node's interval by those of its operands."""
        kind, boxes = self.question.nodes[node], self.boxes(state, node)
        if kind["kind"] == "input":
            block = slice(kind["start"], kind["start"] + kind["size"])
            lower, upper = self.hull(state)
            return lower[block], upper[block]
        if kind["kind"] == "affine":
            lower = upper = self.numbers.biases[node]
            for matrix, (low, high) in zip(self.numbers.matrices[node], boxes, strict=True):
                up, down = matrix.clip(min=0), matrix.clip(max=0)
                lower, upper = lower + up @ low + down @ high, upper + up @ high + down @ low
            return lower, upper
        if kind["kind"] == "energy":
            return self.energies_over(state, node, boxes)
        corners = [self.function(node)(*ends) for ends in product(*boxes)]
        return np.min(corners, 0), np.max(corners, 0)

    def energies_over(self, state: State, node: int, boxes: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        """Energies' intervals over the operands' box, and by what their forms can be on the region, if these are inputs."""
        energies = self.numbers.energies[node]
        lower, upper = energies.over(*(np.concatenate(ends) for ends in zip(*boxes, strict=True)))
        if (places := self.inputs_of(node)) is not None:
            rows = np.zeros((len(energies.matrix), len(self.question.centre)))
            rows[:, places] = energies.matrix
            low, high = self.least_of(state, rows) + energies.shift, -self.least_of(state, -rows) + energies.shift
            other = energies.of_forms(low, high)
            lower, upper = np.maximum(lower, other[0]), np.minimum(upper, other[1])
        return lower, upper

    def inputs_of(self, node: int) -> NDArray[np.int64] | None:
        """Which coordinates of the input a node's operands are; None if it reads anything else."""
        nodes = self.question.nodes
        if any(nodes[source]["kind"] != "input" for source, _ in self.reads(node)):
            return None
        return np.concatenate([nodes[source]["start"] + places for source, places in self.reads(node)])

    def least_of(self, state: State, rows: Floats) -> Floats:
        """The least values of rows over the input, on the part that a sweep is about."""
        if len(self.question.slack):
            return least_moved(self.question, rows, state.shares)
        return least(self.question, rows, *self.part(state))

    def hull(self, state: State) -> tuple[Floats, Floats]:
        """What each coordinate of the input can be on the part that a sweep is about."""
        if not len(self.question.slack):
            return reached(self.question, *self.part(state))
        centre, generators, slack = moved(self.question, state.shares)
        reach = np.abs(generators).sum(0) + slack
        return centre - reach, centre + reach

    def part(self, state: State) -> tuple[Floats, Floats]:
        """The box of the region's part that a sweep is about."""
        lower, upper = self.question.lower.copy(), self.question.upper.copy()
        for number, kind in enumerate(self.question.nodes):
            if kind["kind"] == "input" and number in state.intervals:
                block = slice(kind["start"], kind["start"] + kind["size"])
                lower[block], upper[block] = state.intervals[number]
        return lower, upper

    # Sweeps and intervals.

    def sweep(self, entry: Sweep) -> None:
        if entry.parent < 0:
            shares = np.tile([-1.0, 1.0], (len(self.question.generators), 1))
            self.states[entry.sweep] = State(True, rows=self.rows.copy(), shares=shares)
            return
        self.split[entry.sweep] = entry
        old = self.states[entry.parent]
        copies = (dict(part) for part in (old.intervals, old.said, old.pairs, old.polygons, old.cuts, old.operands))
        supposed = dict(old.supposed)
        if entry.node == PROPERTY:
            demand(not entry.above and entry.value > 0, "what is supposed of a row is not that it fails")
            supposed[entry.neuron] = entry.value
        shares = old.shares.copy()
        if entry.node == SHARE:
            low, high = shares[entry.neuron]
            shares[entry.neuron] = (max(low, entry.value), high) if entry.above else (low, min(high, entry.value))
        self.states[entry.sweep] = State(False, *copies, old.rows.copy(), supposed, shares)

    def resumed(self, entry: Resumed) -> None:
        """Another run goes on with a part, with the planes of the whole region that it found itself."""
        state, whole = self.states[entry.sweep], self.states[entry.whole]
        demand(whole.whole, "a part goes on with planes that may not hold on it")
        state.pairs, state.polygons, state.cuts = dict(whole.pairs), dict(whole.polygons), dict(whole.cuts)
        state.operands = dict(whole.operands)

    def allowed(self, state: State, sweep: int, node: int) -> tuple[Floats, Floats]:
        """The narrowest interval that follows from what came before."""
        some = [self.forward(state, node)]
        some.extend(part[node] for part in (self.known, state.intervals, state.said) if node in part)
        lower, upper = np.max([low for low, _ in some], 0), np.min([high for _, high in some], 0)
        split = self.split.get(sweep)
        if split is not None and split.node == node:
            end = (lower if split.above else upper)[split.neuron : split.neuron + 1]
            end[:] = max(end[0], split.value) if split.above else min(end[0], split.value)
        return lower, upper

    def bounded(self, entry: Bounded) -> None:
        state = self.states[entry.sweep]
        lower, upper = self.allowed(state, entry.sweep, entry.node)
        demand(entry.lower <= lower + NEAR, f"sweep {entry.sweep}: node {entry.node} has a lower end that does not follow")
        demand(entry.upper >= upper - NEAR, f"sweep {entry.sweep}: node {entry.node} has an upper end that does not follow")
        state.intervals[entry.node] = entry.lower, entry.upper
        if state.whole:
            old = self.known.get(entry.node, (entry.lower, entry.upper))
            self.known[entry.node] = np.maximum(old[0], entry.lower), np.minimum(old[1], entry.upper)
        if entry.node == self.question.output:
            rows = self.question.rows
            self.proved(state, rows.clip(min=0) @ entry.lower + rows.clip(max=0) @ entry.upper + self.question.offsets)

    def empty(self, entry: Empty) -> None:
        state = self.states[entry.sweep]
        demand(not state.whole, "a whole region came out empty")
        lower, upper = self.allowed(state, entry.sweep, entry.node)
        demand(entry.lower <= lower + NEAR, "an interval that does not follow made a part empty")
        demand(entry.upper >= upper - NEAR, "an interval that does not follow made a part empty")
        here = state.intervals[entry.node]
        state.empty = bool(((entry.lower > here[1]) | (entry.upper < here[0]) | (entry.lower > entry.upper)).any())
        demand(state.empty, "intervals that do not contradict one another made a part empty")

    def proved(self, state: State, margins: Floats) -> None:
        """The rows' margins on what a sweep is about."""
        state.rows = np.maximum(state.rows, margins)
        if state.whole:
            self.rows = np.maximum(self.rows, margins)

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
        state = self.states[entry.sweep]
        if entry.node in self.numbers.energies:
            self.energy_planes(state, entry)
            return
        points, kept = self.places(state, entry.node, SAMPLES[len(self.reads(entry.node))])
        value = self.function(entry.node)(*points)
        for planes, sign in ((entry.lower, 1), (entry.upper, -1)):
            at = planes[:, None, :, -1] + sum(planes[:, None, :, k] * p for k, p in enumerate(points))
            demand((sign * (value - at) >= -NEAR * 1e-3) | ~kept, f"a plane of node {entry.node} does not hold its operation")
        state.pairs[entry.node] = entry.lower, entry.upper

    def energy_planes(self, state: State, entry: Pairs) -> None:
        """They hold at samples of the operands' box, or of the region's part, if those are inputs."""
        places = self.inputs_of(entry.node)
        if places is None:
            lower, upper = (np.concatenate(ends) for ends in zip(*self.boxes(state, entry.node), strict=True))
            points = lower + np.random.default_rng(0).random((400, len(lower))) * (upper - lower)
        else:
            points = samples_of(self.question, *self.part(state), state.shares)[:, places]
        value = self.numbers.energies[entry.node].at(points)
        for planes, sign in ((entry.lower, 1), (entry.upper, -1)):
            at = points @ planes[..., :-1].swapaxes(1, 2) + planes[:, None, :, -1]
            demand(sign * (value - at) >= -NEAR * 1e-3, f"a plane of node {entry.node} does not hold its energies")
        state.pairs[entry.node] = entry.lower, entry.upper

    def polygon(self, entry: Polygon) -> None:
        """Every corner of what the boxes and the last walk leave lies in the polygon."""
        state = self.states[entry.sweep]
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

    def directions(self, walk: tuple[dict[int, Floats], Floats], entry: Polygon) -> tuple[Floats, Floats]:
        """Normals (k, D, 2) of a walk about the operands of an operation's neurons, and what it proved of them (k, D)."""
        rows, proved = walk
        of = entry.neurons.repeat(len(proved) // len(entry.neurons))
        normals = np.stack([rows[source][np.arange(len(of)), places[of]] for source, places in self.reads(entry.node)], -1)
        left = sum(np.abs(row).sum(1) for row in rows.values()) - np.abs(normals).sum(1)
        demand(np.abs(left) < 1e-12, "a row about operands is over others too")
        return normals.reshape(len(entry.neurons), -1, 2), proved.reshape(len(entry.neurons), -1)

    # Walks.

    def walk(self, entry: Walk) -> None:
        state = self.states[entry.sweep]
        rows = self.gathered(entry.places, entry.weights, len(entry.bound))
        multipliers = self.gathered(entry.multiplied, entry.multipliers, len(entry.bound))
        given = {node: row.copy() for node, row in rows.items()}
        total = np.zeros(len(entry.bound))
        for node, m in multipliers.items():
            if node == PROPERTY:
                limits = np.array([state.supposed.get(k, np.inf) for k in range(m.shape[1])])
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
        demand(entry.bound <= found + NEAR * (1 + np.abs(found)), "a walk does not give its bound")
        self.walks += 1
        self.learn(state, entry, given)

    def gathered(self, places: Any, values: Floats, count: int) -> dict[int, Floats]:
        found: dict[int, Floats] = {}
        for node in np.unique(places[:, 1]).tolist():
            here = places[:, 1] == node
            size = len(self.question.rows) if node == PROPERTY else self.question.nodes[node]["size"]
            found[node] = np.zeros((count, size))
            found[node][places[here, 0], places[here, 2]] = values[here]
        return found

    def back(self, state: State, rows: dict[int, Floats], entry: Walk) -> Floats:
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
                if node in self.numbers.energies:
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
        np.add.at(into, (slice(None), places), values)

    def planes(self, state: State, entry: Walk, node: int) -> list[Floats]:
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
                demand(last == 0, "an operation that has a choice is not among those of a walk")
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

    def learn(self, state: State, entry: Walk, rows: dict[int, Floats]) -> None:
        """What a walk says of neurons, of an operation's operands, or of the property's rows."""
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

    # Programs.

    def whole_program(self, entry: Program) -> None:
        self.program = entry
        members = entry.members.tolist()
        place = members.index(self.question.output if entry.node == PROPERTY else entry.node)
        wanted = np.zeros_like(entry.cost)
        mine = wanted[entry.columns[place] : entry.columns[place + 1]]
        if entry.node == PROPERTY:
            mine[:] = self.question.rows[entry.row]
        else:
            mine[entry.row] = np.sign(entry.cost[entry.columns[place] + entry.row])
            demand(mine[entry.row] != 0 and self.states[entry.sweep].whole, "a program is about no neuron")
        demand(entry.cost == wanted, "a program is about another row")
        held = None
        if np.isfinite(entry.limit):
            demand(self.narrowed is not None and self.narrowed[:2] == (entry.row, entry.limit), "nothing was narrowed")
            held = self.narrowed
        for node, start, stop in zip(members, entry.columns[:-1], entry.columns[1:], strict=True):
            lower, upper = self.states[entry.sweep].intervals[node]
            if held is not None:
                lower, upper = np.maximum(lower, held[2][start:stop]), np.minimum(upper, held[3][start:stop])
            demand(entry.lower[start:stop] <= lower, "a program has a variable that is held too close")
            demand(entry.upper[start:stop] >= upper, "a program has a variable that is held too close")
        self.network_satisfies(entry)
        if not len(entry.breaks) and entry.columns[-1] == len(entry.cost):
            found = weak_duality(
                entry.cost, matrix_of(entry), entry.row_lower, entry.row_upper, entry.dual, entry.lower, entry.upper
            )
            demand(entry.bound <= found + NEAR * (1 + abs(found)), "multipliers do not prove a program's bound")
            if entry.node == PROPERTY:
                self.rows[entry.row] = max(self.rows[entry.row], entry.bound + self.question.offsets[entry.row])
            else:
                self.neuron(entry, mine[entry.row])
        self.programs += 1

    def neuron(self, entry: Program, sign: float) -> None:
        """A neuron's end, on the whole region, by a program that proves it."""
        none = np.full(self.question.nodes[entry.node]["size"], np.inf)
        lower, upper = (end.copy() for end in self.known.get(entry.node, (-none, none)))
        if sign > 0:
            lower[entry.row] = max(lower[entry.row], entry.bound)
        else:
            upper[entry.row] = min(upper[entry.row], -entry.bound)
        self.known[entry.node] = lower, upper

    def network_satisfies(self, entry: Program) -> None:
        """The network's own values at samples of the region, and which pieces they are in, satisfy every row.

        Where only inputs with a low value are held, the lowest of them.
        """
        draw = np.random.default_rng(0).random((200 if np.isinf(entry.limit) else 5000, len(self.question.centre)))
        points = self.question.lower + draw * (self.question.upper - self.question.lower)
        values: list[Floats] = []
        for node, kind in enumerate(self.question.nodes):
            operands = [values[source][:, places] for source, places in self.reads(node)]
            if kind["kind"] == "input":
                values.append(points[:, kind["start"] : kind["start"] + kind["size"]])
            elif kind["kind"] == "affine":
                terms = [o @ matrix.T for o, matrix in zip(operands, self.numbers.matrices[node], strict=True)]
                values.append(self.numbers.biases[node] + sum(terms))
            else:
                values.append(self.function(node)(*operands))
        every = [np.concatenate([values[node] for node in entry.members.tolist()], axis=1)]
        every[0] = every[0][every[0] @ entry.cost[: every[0].shape[1]] <= entry.limit]
        for variable in dict.fromkeys(entry.breaks[:, 0].astype(int).tolist()):
            bends = entry.breaks[entry.breaks[:, 0] == variable, 1]
            every.append(np.eye(len(bends) + 1)[np.searchsorted(bends, every[0][:, variable]), 1:])
        sums = np.concatenate(every, axis=1) @ matrix_of(entry).T
        demand(sums >= entry.row_lower - NEAR, "a program has a row that the network breaks")
        demand(sums <= entry.row_upper + NEAR, "a program has a row that the network breaks")

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
            self.rows[program.row] = max(self.rows[program.row], entry.limit + self.question.offsets[program.row])

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
        for i, j in combinations(range(len(entry.bounds)), 2):
            apart = (entry.lower[i] > entry.upper[j]) | (entry.lower[j] > entry.upper[i])
            demand(apart.any(), "leaves lie in one another")
        shares = 2.0 ** -(entry.upper == entry.lower).sum(1)
        demand(abs(shares.sum() - 1) < NEAR, "the leaves do not cover all choices")
        best = min(float(np.where(entry.infeasible, np.inf, entry.bounds).min()), program.limit)
        self.rows[program.row] = max(self.rows[program.row], best + self.question.offsets[program.row])

    # The end.

    def tree(self) -> tuple[Floats, bool]:
        """What is proved of the rows, and whether the property is, on all leaves of a tree that covers the region."""
        by_number = {branch.number: branch for branch in self.branches}
        halves: dict[int, list[Sweep]] = {}
        for branch in self.branches:
            if branch.number:
                split = self.split[branch.sweep]
                halves.setdefault(branch.parent, []).append(split)
                demand(split.parent == by_number[branch.parent].sweep, "a part of a region is not of its parent")
        margins, all_proved = np.full(len(self.rows), np.inf), True
        for number, branch in by_number.items():
            state = self.states[branch.sweep]
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
            if state.empty and not state.supposed:
                continue
            here = np.maximum(state.rows, self.rows)
            for row, value in state.supposed.items():  # of other rows their own parts speak
                nothing = state.empty or state.rows[row] > value
                here = np.where(np.arange(len(here)) == row, value if nothing else state.rows[row], np.inf)
            demand(branch.margins <= here + NEAR, f"branch {number} has margins that do not follow")
            margins = np.minimum(margins, here)
            all_proved &= int((here > 0).sum()) >= self.question.needed
            demand(branch.closed == "" or (here > 0).sum() >= self.question.needed, f"branch {number} is not proved")
        return margins, all_proved

    def all_open_rows(self, state: State, parts: list[Sweep]) -> Floats:
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
        rows, proved = self.rows, False
        if self.branches:
            root = self.branches[0]
            demand(root.number == 0 and self.states[root.sweep].whole, "the tree has no root")
            margins, proved = self.tree()
            rows = np.maximum(rows, margins)
        demand(entry.margins <= rows + NEAR, "the margins do not follow")
        proved = proved or int((rows > 0).sum()) >= self.question.needed
        demand(entry.verdict != "ROBUST" or proved, "it is not proved")
