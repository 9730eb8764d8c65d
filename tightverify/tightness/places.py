"""Where the bounded neurons of a network are: in which layer, in what role, at which frame.

A graph knows nothing of layers: they are read off it. Nodes that multiply by the same matrix belong to the same weights, and
weights whose nodes meet in one operation, or in a sum of operations, to the same layer: the gates of a cell meet in its
state. The frame of a node is the number of times that its layer's weights were used before it, those that were used the most
often, in the order in which the layer reads its frames. All this names columns of a table; nothing else hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tightverify.graph import Affine, Apply, Graph
from tightverify.ops import Operation


@dataclass(frozen=True)
class Place:
    """A bounded node. `layer` counts from 1, 0 being before any; `frame` from 0."""

    node: int
    layer: int
    role: str
    frame: int
    neurons: int


def places(graph: Graph) -> tuple[Place, ...]:
    """The places of all bounded nodes."""
    outline = Outline(graph)
    return tuple(outline.place(number) for number in graph.bounded)


class Outline:
    """A graph's layers, and what reads its nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights = weights_of(graph)
        self.readers = readers_of(graph)
        self.read_by_affine = {o.source for node in graph.nodes if isinstance(node, Affine) for o in node.operands}
        reached = self._reached()
        joined = Joined(self.weights.values())
        for groups in reached:
            joined.join(groups)
        self.layers = [joined.root(min(groups)) if groups else -1 for groups in reached]
        order = dict.fromkeys(layer for layer in self.layers if layer >= 0)
        self.numbers = {layer: number for number, layer in enumerate(order, start=1)}
        self.masks: dict[int, list[int]] = {layer: [] for layer in order}
        for weights in dict.fromkeys(self.weights.values()):
            mask = sum(1 << number for number, own in self.weights.items() if own == weights)
            self.masks[joined.root(weights)].append(mask)
        self.before = self._before()

    def _reached(self) -> list[set[int]]:
        """For each node the weights that it is made of, back to the nearest."""
        reached: list[set[int]] = []
        for number, node in enumerate(self.graph.nodes):
            own = {self.weights[number]} if number in self.weights else set()
            reached.append(own or {group for operand in node.operands for group in reached[operand.source]})
        return reached

    def _before(self) -> list[int]:
        """For each node those that it hangs on and itself, one bit for each."""
        before: list[int] = []
        for number, node in enumerate(self.graph.nodes):
            bits = 1 << number
            for operand in node.operands:
                bits |= before[operand.source]
            before.append(bits)
        return before

    def place(self, number: int) -> Place:
        layer, node = self.layers[number], self.graph.nodes[number]
        curves = sorted({read_as(op, k) for _, op, k in self.readers[number]} - {""})
        if number in self.weights:
            kind, counted = "pre-activation", [reader for reader, _, _ in self.readers[number]]
        else:
            kind, counted = "state" if curves or number in self.read_by_affine else "factor", [number]
        within = f" ({' + '.join(curves)})" if curves else " (factor)" if kind == "pre-activation" else ""
        uses = min(max((self.before[one] & mask).bit_count() for mask in self.masks.get(layer, [0])) for one in counted)
        return Place(number, self.numbers.get(layer, 0), kind + within, max(0, uses - 1), node.size)


class Joined:
    """Groups of numbers that have been put together; each is called by its least number."""

    def __init__(self, members: Iterable[int]) -> None:
        self._above = {member: member for member in members}

    def root(self, member: int) -> int:
        while self._above[member] != member:
            member = self._above[member]
        return member

    def join(self, members: set[int]) -> None:
        roots = {self.root(member) for member in members}
        for root in roots:
            self._above[root] = min(roots)


def weights_of(graph: Graph) -> dict[int, int]:
    """For each node that multiplies by matrices, the first node that multiplies by one of the same."""
    made: dict[int, int] = {}
    found: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        matrices = [id(term.map) for term in node.terms if not term.map.elementwise] if isinstance(node, Affine) else []
        if matrices:
            found[number] = min([made[matrix] for matrix in matrices if matrix in made], default=number)
            for matrix in matrices:
                made.setdefault(matrix, found[number])
    return found


def readers_of(graph: Graph) -> list[list[tuple[int, Operation, int]]]:
    """For each node the operations that read it, as what operand; scaled and shifted numbers count as they were."""
    readers: list[list[tuple[int, Operation, int]]] = [[] for _ in graph.nodes]
    for number, node in enumerate(graph.nodes):
        if isinstance(node, Apply):
            for k, operand in enumerate(node.operands):
                readers[graph.origin(operand.source)].append((number, node.op, k))
    return readers


def read_as(op: Operation, operand: int) -> str:
    """What an operation does to an operand first, "" for nothing."""
    return op.traits.roles[operand] if op.traits.roles else op.name
