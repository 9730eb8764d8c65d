"""One form of a graph that does not tell how a cell is spelt, so that two networks of the same kind can be laid side by side.

A network's gates are one operation where its activations are sigmoid and tanh, several nodes where one of them is another;
layers cut their gates from one sum or have a sum for each. In the plain form

* each operation reads all neurons of nodes made for it alone, in order: what is cut from a node is made from the start;
* sums of sums are one;
* products have their activations before them, and a GRU's update is the mean of two states by a weight (`WeightedMean`).

`lined_up` has two such graphs in one order, where they have the same structure: from the outputs down, factors of a product
in either order, and summands in any. `gates_joined` makes gates single operations again. All are identities of real numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tightverify.graph import Affine, Apply, Graph, Input, Node, Operand, Quadratic, Term
from tightverify.linear_map import LinearMap
from tightverify.models.rewrite import Rewriting, add_biases, ordered
from tightverify.ops import MULTIPLY, GruUpdate, Operation, Sigmoid, Tanh, WeightedMean
from tightverify.ops.product import Product
from tightverify.relax import curves
from tightverify.values import Interval, as_index

ACTIVATIONS: dict[type[curves.Curve], Operation | None] = {
    curves.Identity: None,
    curves.Sigmoid: Sigmoid(),
    curves.Tanh: Tanh(),
}
ROUNDED = 1e-9
"""How far an interval may go beyond its values."""


def plain_form(graph: Graph) -> Graph | None:
    """The graph in the plain form; None where it has sums of squares or filters that slide, which are left as they are."""
    maps = [term.map for node in graph.nodes if isinstance(node, Affine) for term in node.terms]
    if any(isinstance(node, Quadratic) for node in graph.nodes) or not all(map.elementwise or map.joins for map in maps):
        return None
    written = Plain(graph)
    written.demand(graph.output, torch.arange(graph.output_size))
    partial = [k for k, node in enumerate(graph.nodes) if isinstance(node, Apply) and node.op.partial]
    for number in partial:
        written.demand(number, torch.arange(graph.nodes[number].size))
    written.write()
    output = written.of(graph.output, torch.arange(graph.output_size)).source
    kept = [written.of(k, torch.arange(graph.nodes[k].size)).source for k in partial]
    return ordered(written.nodes, output, [output, *kept], graph.input_shape)


class Plain:
    """Neurons are demanded from the outputs down, then written from the inputs up."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._demands: list[dict[bytes, Tensor]] = [{} for _ in graph.nodes]
        self._made: dict[tuple[int, bytes], Operand] = {}
        self._activated: dict[tuple[int, str], Operand] = {}
        self._maps: dict[tuple[int, bytes], tuple[LinearMap, LinearMap, Tensor]] = {}
        self._inputs: dict[int, int] = {}
        self.nodes: list[Node] = []

    def demand(self, number: int, places: Tensor) -> None:
        self._demands[number][key_of(places)] = places

    def of(self, number: int, places: Tensor) -> Operand:
        return self._made[number, key_of(places)]

    def write(self) -> None:
        nodes = self._graph.nodes
        for number in reversed(range(len(nodes))):
            for places in list(self._demands[number].values()):
                for operand, needed in self._needs(nodes[number], places):
                    self.demand(operand.source, needed)
        for number, node in enumerate(nodes):
            for key, places in self._demands[number].items():
                self._made[number, key] = self._written(number, node, places)

    def _needs(self, node: Node, places: Tensor) -> list[tuple[Operand, Tensor]]:
        match node:
            case Apply():
                return [(operand, self._places(operand)[places]) for operand in node.operands]
            case Affine():
                return [(term.operand, self._places(term.operand)[self._rows(term.map, places)[1]]) for term in node.terms]
            case _:
                return []

    def _places(self, operand: Operand) -> Tensor:
        return torch.arange(self._graph.nodes[operand.source].size)[operand.index]

    def _rows(self, map: LinearMap, places: Tensor) -> tuple[LinearMap, Tensor]:
        """Some of a map's values: the map, the same one at each time step, and the numbers that it takes."""
        key = id(map), key_of(places)
        if key not in self._maps:
            every = torch.arange(map.shape[1])
            if torch.equal(places, torch.arange(map.shape[0])):
                self._maps[key] = map, map, every
            else:
                needed, part = map.select(as_index(places))
                self._maps[key] = map, part, every[needed]
        return self._maps[key][1:]

    def _written(self, number: int, node: Node, places: Tensor) -> Operand:
        match node:
            case Affine():
                return self._add(self._sum(node, places))
            case Apply():
                read = [self.of(operand.source, self._places(operand)[places]) for operand in node.operands]
                return self._applied(node.op, read, len(places))
        if number not in self._inputs:
            self._inputs[number] = self._add(node).source
        return Operand(self._inputs[number], as_index(places))

    def _sum(self, node: Affine, places: Tensor) -> Affine:
        terms: list[Term] = []
        bias, size = node.bias[places], node.bias_size[places]
        for term in node.terms:
            map, needed = self._rows(term.map, places)
            operand = self.of(term.operand.source, self._places(term.operand)[needed])
            inner = self.nodes[operand.source]
            if map.sign == 1 and isinstance(inner, Affine):
                terms.extend(inner.terms)
                bias, size = add_biases(bias, size, inner.bias, inner.bias_size)
            else:
                terms.append(Term(operand, map))
        return Affine(tuple(terms), bias, size)

    def _applied(self, op: Operation, read: Sequence[Operand], size: int) -> Operand:
        if isinstance(op, Product):
            kinds = type(op.first), type(op.second)
            factors = [self._factor(kind, operand, size) for kind, operand in zip(kinds, read, strict=True)]
            return self._add(Apply(MULTIPLY, tuple(factors), size))
        if isinstance(op, GruUpdate):
            gate, new, old = read
            return self._add(Apply(WeightedMean(), (self._activation(Sigmoid(), gate, size), new, old), size))
        return self._activation(op, read[0], size) if op.arity == 1 else self._add(Apply(op, tuple(read), size))

    def _factor(self, kind: type[curves.Curve], operand: Operand, size: int) -> Operand:
        """An activation's value; that of sigmoid at a negated neuron is what the other leaves, which is how gates share one."""
        op = ACTIVATIONS[kind]
        if op is None:
            return operand
        node = self.nodes[operand.source]
        negated = isinstance(node, Affine) and len(node.terms) == 1 and node.terms[0].map.sign == -1
        if isinstance(op, Sigmoid) and isinstance(node, Affine) and negated and not bool(node.bias_size.any()):
            gate = self._activation(op, node.terms[0].operand, size)
            one = torch.ones(size, dtype=torch.float64)
            return self._add(Affine((Term(gate, node.terms[0].map),), one, one))
        return self._activation(op, operand, size)

    def _activation(self, op: Operation, operand: Operand, size: int) -> Operand:
        if not isinstance(operand.index, slice) or operand.index != slice(None):
            return self._add(Apply(op, (operand,), size))
        key = operand.source, f"{op.name}{op.parameters}"
        if key not in self._activated:
            self._activated[key] = self._add(Apply(op, (operand,), size))
        return self._activated[key]

    def _add(self, node: Node) -> Operand:
        self.nodes.append(node)
        return Operand(len(self.nodes) - 1)


def key_of(places: Tensor) -> bytes:
    return places.numpy().tobytes()


def lined_up(first: Graph, second: Graph) -> Graph | None:
    """The second graph with its nodes and what they read in the order of the first; None where their structures differ."""
    kinds: dict[Hashable, int] = {}
    ones, others = (signatures(graph, kinds) for graph in (first, second))
    found: dict[int, int] = {}
    taken: set[int] = set()
    reads: dict[int, list[Operand]] = {}
    orders: dict[int, list[int]] = {}
    waiting = [(first.output, second.output)]
    while waiting:
        one, other = waiting.pop()
        if one in found:
            if found[one] != other:
                return None
            continue
        if other in taken or ones[one] != others[other]:
            return None
        found[one] = other
        taken.add(other)
        mine, its = first.nodes[one], second.nodes[other]
        orders[one] = order_of(first, mine, second, its, ones, others)
        reads[one] = [its.operands[k] for k in orders[one]]
        waiting.extend((a.source, b.source) for a, b in zip(mine.operands, reads[one], strict=True))
    if len(found) < len(first.nodes) or len(found) < len(second.nodes):
        return None
    places = {other: one for one, other in found.items()}

    def placed(operand: Operand) -> Operand:
        return replace(operand, source=places[operand.source])

    nodes: list[Node] = []
    for one in range(len(first.nodes)):
        node = second.nodes[found[one]]
        if isinstance(node, Affine):
            node = replace(node, terms=tuple(Term(placed(node.terms[k].operand), node.terms[k].map) for k in orders[one]))
        elif isinstance(node, Apply):
            node = replace(node, operands=tuple(placed(operand) for operand in reads[one]))
        nodes.append(node)
    return Graph(tuple(nodes), first.output, second.input_shape)


def order_of(first: Graph, mine: Node, second: Graph, its: Node, ones: Sequence[int], others: Sequence[int]) -> list[int]:
    """Which operand of the second's node stands for each of the first's: where order is none, that of the same signature."""
    count = len(mine.operands)
    if isinstance(mine, Apply) and not commutes(mine.op):
        return list(range(count))
    left, order = list(range(count)), list[int]()
    for k in range(count):
        wanted = read_by(first, mine, k, ones)
        match = next((j for j in left if read_by(second, its, j, others) == wanted), left[0])
        left.remove(match)
        order.append(match)
    return order


def commutes(op: Operation) -> bool:
    return op.name == MULTIPLY.name


def read_by(graph: Graph, node: Node, k: int, kinds: Sequence[int]) -> tuple[Hashable, ...]:
    """What there is to say of a node's operand: what is read, which of its neurons, and by which kind of map."""
    operand = node.operands[k]
    places = key_of(torch.arange(graph.nodes[operand.source].size)[operand.index])
    shape = node.terms[k].map.shape if isinstance(node, Affine) else ()
    return kinds[operand.source], places, shape


def signatures(graph: Graph, kinds: dict[Hashable, int]) -> list[int]:
    """For each node a number that all nodes of the same structure have; activations and weights do not count."""
    found: list[int] = []
    for node in graph.nodes:
        read = [read_by(graph, node, k, found) for k in range(len(node.operands))]
        match node:
            case Input():
                key: tuple[Hashable, ...] = ("input", node.start, node.size)
            case Affine():
                key = ("affine", node.size, *sorted(read, key=repr))
            case Apply() if node.op.arity == 1:
                key = (family(node.op), node.size, *read)
            case Apply():
                key = (node.op.name, node.size, *(sorted(read, key=repr) if commutes(node.op) else read))
            case _:
                key = ("other", len(found))
        found.append(kinds.setdefault(key, len(kinds)))
    return found


def family(op: Operation) -> str:
    """What an activation may stand for, by its values: a gate's weight from 0 to 1, a state from -1 to 1, or anything."""
    infinite = torch.full((1, 1), torch.inf, dtype=torch.float64)
    every = op.interval(Interval(-infinite, infinite))
    least, most = float(every.lower), float(every.upper)
    if most > 1 + ROUNDED or not least >= -1 - ROUNDED:
        return "activation"
    return "weight" if least >= -ROUNDED else "state"


def gates_joined(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with each gate as one operation, where its activations are sigmoid and tanh; all keep their places."""
    rewriting = Rewriting(list(nodes))
    for number in range(len(nodes)):
        node = rewriting.nodes[number]
        if isinstance(node, Apply) and isinstance(node.op, WeightedMean):
            gate = rewriting.inside(node.operands[0], Sigmoid)
            if gate is not None:
                rewriting.nodes[number] = Apply(GruUpdate(), (gate, *node.operands[1:]), node.size)
        rewriting.gate(number)
    return rewriting.nodes
