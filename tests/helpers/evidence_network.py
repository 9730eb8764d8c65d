"""A network of evidence, replayed in NumPy: its weights, what a bounding pass has by now, and what its nodes can be there."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.helpers.evidence_arithmetic import (
    DOMAINS,
    Floats,
    Quadratics,
    function_of,
    least,
    least_moved,
    moved,
    range_of,
    reached,
)
from tightverify.evidence import BoundingPass, Polygon, Program, Question

NEAR = 1e-9
"""What float64 may put between two ways of working out the same."""


class Refused(Exception):
    """What is wrong with evidence."""


def demand(condition: Any, what: str) -> None:
    if not np.all(condition):
        raise Refused(what)


def matrix_of(linear: Any) -> Floats:
    """A linear map's matrix, by its name, its parameters and its weights."""
    weights = linear.weights.numpy()
    match linear.name:
        case "identity":
            return np.eye(linear.shape[0])
        case "diagonal":
            return np.diag(weights)
        case "dense":
            return np.asarray(weights)
    demand(linear.name == "convolution", f"a linear map has the unknown name {linear.name}")
    axes, groups = linear.parameters["axes"], linear.parameters["groups"]
    filters, channels = weights.shape[:2]
    lengths, positions, taps = (tuple(axis[name] for axis in axes) for name in ("length", "positions", "taps"))
    matrix = np.zeros((*positions, filters, *lengths, channels * groups))
    for position, tap in product(np.ndindex(*positions), np.ndindex(*taps)):
        there = tuple(p * a["stride"] + t * a["dilation"] + a["start"] for p, t, a in zip(position, tap, axes, strict=True))
        if all(0 <= place < length for place, length in zip(there, lengths, strict=True)):
            for own, filter_ in enumerate(weights[(slice(None), slice(None), *tap)]):
                first = own // (filters // groups) * channels
                matrix[(*position, own, *there, slice(first, first + channels))] = filter_
    return matrix.reshape(linear.shape)


@dataclass
class Numbers:
    """A network's weights: for each node of a graph its bias, and its terms' matrices (2-d) in the order of its operands."""

    biases: list[Floats]
    matrices: list[list[Floats]]
    quadratics: dict[int, Quadratics]

    @classmethod
    def of(cls, graph: Any) -> Numbers:
        """From the package's graph, as arrays."""
        biases, matrices = [], []
        for node in graph.nodes:
            bias = getattr(node, "bias", None)
            biases.append(np.zeros(0) if bias is None else bias.numpy())
            matrices.append([matrix_of(term.map) for term in getattr(node, "terms", ())])
        forms = {number: node.forms for number, node in enumerate(graph.nodes) if hasattr(node, "forms")}
        quadratics = {k: Quadratics(*(part.numpy() for part in (f.matrix, f.shift, f.weights))) for k, f in forms.items()}
        return cls(biases, matrices, quadratics)


@dataclass
class State:
    """What a bounding pass has by now, and what may be said of its nodes and of the property's rows."""

    whole: bool
    intervals: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    said: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    pairs: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    polygons: dict[int, Polygon] = field(default_factory=dict)
    cuts: dict[int, tuple[Polygon, ...]] = field(default_factory=dict)
    operands: dict[int, tuple[dict[int, Floats], Floats]] = field(default_factory=dict)
    rows: Floats = field(default_factory=lambda: np.zeros(0))
    output_constraint: dict[int, float] = field(default_factory=dict)
    shares: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    empty: bool = False


@dataclass(frozen=True, eq=False)
class CutoffTightened:
    """The ends of a program's variables, nodes' neurons one node after the other, where its row is at most a limit."""

    bounding_pass: int
    row: int
    limit: float
    members: list[int]
    lower: Floats
    upper: Floats


class Network:
    """What entries said by now: the question, each bounding pass's state, what is proved of rows, and of nodes everywhere."""

    def __init__(self, question: Question, numbers: Numbers) -> None:
        self.question = question
        self.numbers = numbers
        self.states: dict[int, State] = {}
        self.rows = np.full(len(self.question.rows), -np.inf)
        self.split: dict[int, BoundingPass] = {}
        self.known: dict[int, tuple[Floats, Floats]] = {}
        self.program: Program | None = None
        self.cutoff_tightened: CutoffTightened | None = None
        self.back_substitutions = self.programs = 0

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

    def defined(self, state: State) -> bool:
        """Whether all operations surely have a value, also those that the output does not read."""
        for node, kind in enumerate(self.question.nodes):
            for source, places in self.reads(node) if kind.get("op") in DOMAINS else ():
                known = [part[source][0] for part in (self.known, state.intervals) if source in part]
                if not known or not DOMAINS[kind["op"]](np.max(known, 0)[places], 0).all():
                    return False
        return True

    def function(self, node: int) -> Any:
        return function_of(self.question.nodes[node])

    def values_at(self, points: Floats) -> list[Floats]:
        """Every node's values (S, n) at inputs (S, N)."""
        values: list[Floats] = []
        for node, kind in enumerate(self.question.nodes):
            operands = [values[source][:, places] for source, places in self.reads(node)]
            if kind["kind"] == "input":
                values.append(points[:, kind["start"] : kind["start"] + kind["size"]])
            elif kind["kind"] == "affine":
                terms = [o @ matrix.T for o, matrix in zip(operands, self.numbers.matrices[node], strict=True)]
                values.append(self.numbers.biases[node] + sum(terms))
            elif kind["kind"] == "energy":
                values.append(self.numbers.quadratics[node].at(np.concatenate(operands, 1)))
            else:
                values.append(self.function(node)(*operands))
        return values

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
        return range_of(kind, boxes)

    def energies_over(self, state: State, node: int, boxes: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        """Energies' intervals over the operands' box, and by what their forms can be on the region, if these are inputs."""
        quadratics = self.numbers.quadratics[node]
        lower, upper = quadratics.over(*(np.concatenate(ends) for ends in zip(*boxes, strict=True)))
        if (places := self.inputs_of(node)) is not None:
            rows = np.zeros((len(quadratics.matrix), len(self.question.centre)))
            rows[:, places] = quadratics.matrix
            low, high = self.least_of(state, rows) + quadratics.shift, -self.least_of(state, -rows) + quadratics.shift
            other = quadratics.of_forms(low, high)
            lower, upper = np.maximum(lower, other[0]), np.minimum(upper, other[1])
        return lower, upper

    def inputs_of(self, node: int) -> NDArray[np.int64] | None:
        """Which coordinates of the input a node's operands are; None if it reads anything else."""
        nodes = self.question.nodes
        if any(nodes[source]["kind"] != "input" for source, _ in self.reads(node)):
            return None
        return np.concatenate([nodes[source]["start"] + places for source, places in self.reads(node)])

    def least_of(self, state: State, rows: Floats) -> Floats:
        """The least values of rows over the input, on the part that a bounding pass is about."""
        if len(self.question.slack):
            return least_moved(self.question, rows, state.shares)
        return least(self.question, rows, *self.part(state))

    def hull(self, state: State) -> tuple[Floats, Floats]:
        """What each coordinate of the input can be on the part that a bounding pass is about."""
        if not len(self.question.slack):
            return reached(self.question, *self.part(state))
        centre, generators, slack = moved(self.question, state.shares)
        reach = np.abs(generators).sum(0) + slack
        return centre - reach, centre + reach

    def part(self, state: State) -> tuple[Floats, Floats]:
        """The box of the region's part that a bounding pass is about."""
        lower, upper = self.question.lower.copy(), self.question.upper.copy()
        for number, kind in enumerate(self.question.nodes):
            if kind["kind"] == "input" and number in state.intervals:
                block = slice(kind["start"], kind["start"] + kind["size"])
                lower[block], upper[block] = state.intervals[number]
        return lower, upper
