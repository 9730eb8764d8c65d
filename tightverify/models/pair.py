"""Two networks as one graph, whose outputs are the first network's, and beside them by how much the second's differ.

Where two graphs have the same structure (the same kinds of node that read the same neurons of the same nodes, in order), the
graph of both has the first network's nodes y and, beside them, the differences d = y - y' to the second's, as DiffRNN
(Mohammadinejad et al. 2021) has them for LSTMs, ReluDiff (Paulsen et al. 2020) for ReLU networks. An affine node's is
`W' d + (W - W') y` and the biases' difference, an operation's is made by its rule (`models.difference_rules`). Bounds on the
differences then start from W - W', which is small, and never subtract one network's bounds from the other's. What is the same
in both networks has no difference, and no node. Where an operation has no rule, or another one without a rule of both stands
in its place, the second network's operation is applied to `y - d`, and both are subtracted. A cell may be spelt in other ways
in the second network, or have its gates' products apart from activations that are none of a gate's: `models.plain_form`.

Where structures differ, both networks are written down over one input, and their outputs are subtracted: sound, and tight in
the input alone.

Rounding. `W - W'` is within a unit roundoff of itself, which `Graph` allows every weight, if both weights are what the networks
have. That they are is plain of numbers that float32 can hold. Others an importer may have computed, within a few units in
*their* last place: of these both terms are kept, `W y - W' y`, whose rounding is paid for by the size of either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch
from torch import Tensor

from tightverify.errors import ModelError
from tightverify.graph import Affine, Apply, Graph, Input, Node, Operand, Quadratic, Term
from tightverify.linear_map import Dense, Diagonal, Identity, LinearMap
from tightverify.models.difference_rules import RULES, Difference, rule_of_others
from tightverify.models.model import Model
from tightverify.models.moving import moved
from tightverify.models.plain_form import gates_joined, lined_up, plain_form
from tightverify.models.rewrite import add_biases, ordered
from tightverify.models.second_input import behind, second_input
from tightverify.ops import Operation
from tightverify.values import Index

UNLIKE = "the networks differ in structure: their outputs are subtracted, which is less tight"


@dataclass(frozen=True)
class Layout:
    """What a pair reads and gives.

    With an `own_input` the second network's may be another one, and inputs are (x, x - x') (`models.second_input`). `all_three`
    has the second network's outputs between the first's and the differences.
    """

    own_input: bool = False
    all_three: bool = False


def pair(first: Model, second: Model, layout: Layout = Layout()) -> Model:
    """Both models as one, of outputs (y, y - y'); its `original` is made of both users' own."""
    refuse_unlike(first, second)
    graphs = side_by_side_forms(first.graph, second.graph)
    if graphs is None:
        return subtracted(first, second, layout)
    return of_both(first, second, differences(*graphs, layout.own_input), (), layout)


def subtracted(first: Model, second: Model, layout: Layout = Layout()) -> Model:
    """The same for any two, written down over one input: tighter where their weights have little in common."""
    notes = () if side_by_side_forms(first.graph, second.graph) else (UNLIKE,)
    return of_both(first, second, side_by_side(first.graph, second.graph, layout.own_input), notes, layout)


def of_both(first: Model, second: Model, graph: Graph, notes: tuple[str, ...], layout: Layout) -> Model:
    dtype = torch.float32 if torch.float32 in (first.dtype, second.dtype) else first.dtype

    def original(x: Tensor) -> Tensor:
        inputs = (x[:, 0], second_input(x)) if layout.own_input else (x, x)
        models = zip((first, second), inputs, strict=True)
        one, other = (model.original(given.to(model.dtype)).to(torch.float64) for model, given in models)
        return torch.cat([one, *([other] if layout.all_three else []), one - other], dim=1)

    shape = (2, *first.graph.input_shape) if layout.own_input else first.graph.input_shape
    graph = replace(with_second(graph) if layout.all_three else graph, input_shape=shape)
    return Model(graph, original, dtype, f"{first.source} and {second.source}", notes, first.narrow or second.narrow)


def with_second(graph: Graph) -> Graph:
    """The graph of outputs (y, y', d) of one of (y, d); y' is y - d, whose rounding is that of any other sum."""
    size = graph.output_size // 2
    one, zero = torch.eye(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    rows = torch.cat([torch.cat([one, zero], 1), torch.cat([one, -one], 1), torch.cat([zero, one], 1)])
    nothing = torch.zeros(3 * size, dtype=torch.float64)
    node = Affine((Term(Operand(graph.output), Dense(rows)),), nothing, nothing)
    return Graph((*graph.nodes, node), len(graph.nodes), graph.input_shape)


def refuse_unlike(first: Model, second: Model) -> None:
    """A `ModelError` where the two cannot be compared."""
    shapes = [model.graph.input_shape for model in (first, second)]
    if shapes[0] != shapes[1]:
        raise ModelError(f"{first.source} takes inputs of shape {shapes[0]}, {second.source} of {shapes[1]}; wanted the same")
    sizes = [model.graph.output_size for model in (first, second)]
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"{first.source} has {sizes[0]} outputs, {second.source} has {sizes[1]}; wanted the same, in one order"
        )
    if first.embedding is not None or second.embedding is not None:
        raise ModelError(
            "models that look numbers of words up are not compared, for a region lies behind one embedding; give the parts of "
            "both that take vectors"
        )


def side_by_side_forms(first: Graph, second: Graph) -> tuple[Graph, Graph] | None:
    """Both graphs in one structure: as they are, or in the plain form (`models.plain_form`); None where there is none."""
    if same_structure(first, second):
        return first, second
    plain = plain_form(first), plain_form(second)
    if plain[0] is None or plain[1] is None:
        return None
    other = lined_up(plain[0], plain[1])
    return None if other is None else (plain[0], other)


def same_structure(first: Graph, second: Graph) -> bool:
    """Whether each node has its like at its place; operations may differ, and maps, if not in shape."""

    def like(one: Node | None, other: Node | None) -> bool:
        if one is None or other is None or type(one) is not type(other) or one.size != other.size:
            return False
        if len(one.operands) != len(other.operands):
            return False
        return all(same_operand(first, second, a, b) for a, b in zip(one.operands, other.operands, strict=True))

    if first.output != second.output or first.input_shape != second.input_shape:
        return False
    blocks = [[node.block for node in graph.nodes if isinstance(node, Input)] for graph in (first, second)]
    return blocks[0] == blocks[1] and all(like(*nodes) for nodes in zip_longest(first.nodes, second.nodes))


def same_operand(first: Graph, second: Graph, one: Operand, other: Operand) -> bool:
    if one.source != other.source:
        return False
    sizes = [graph.nodes[one.source].size for graph in (first, second)]
    places = [torch.arange(size)[operand.index] for size, operand in zip(sizes, (one, other), strict=True)]
    return sizes[0] == sizes[1] and torch.equal(*places)


def differences(first: Graph, second: Graph, own_input: bool = False) -> Graph:
    """The graph of two of the same structure; with an `own_input` the inputs' differences come after the inputs."""
    written = Written(first.input_size if own_input else None)
    for one, other in zip(first.nodes, second.nodes, strict=True):
        written.node(one, other)
    return written.finish(first.output, first.input_shape)


@dataclass(frozen=True, eq=False)
class Matched:
    """The graph of two of one structure with all that was written down: the first's, and where its nodes are in the graph."""

    graph: Graph
    first: Graph
    both: list[Both]


def matched(first: Model, second: Model) -> Matched:
    """Two networks laid side by side as `pair` has them, with all that was written down; a `ModelError` if they cannot be."""
    refuse_unlike(first, second)
    graphs = side_by_side_forms(first.graph, second.graph)
    if graphs is None:
        raise ModelError(f"{first.source} and {second.source} differ in structure: no node of one has its like in the other")
    written = Written(None)
    for one, other in zip(*(graph.nodes for graph in graphs), strict=True):
        written.node(one, other)
    output = written.both[graphs[0].output].value
    return Matched(Graph(tuple(written.nodes), output, first.graph.input_shape), graphs[0], written.both)


def side_by_side(first: Graph, second: Graph, own_input: bool = False) -> Graph:
    """The graph of any two over the same input: the second's nodes after the first's, and the outputs' difference."""
    nodes, numbers = list(first.nodes), dict[int, int]()
    inputs = {(node.start, node.size): k for k, node in enumerate(nodes) if isinstance(node, Input)}
    for number, node in enumerate(second.nodes):
        if isinstance(node, Input) and (node.start, node.size) not in inputs:
            refuse_overlap(node, inputs)
        if isinstance(node, Input) and own_input:
            numbers[number] = behind(node, first.input_size, nodes, inputs)
            continue
        if isinstance(node, Input) and (node.start, node.size) in inputs:
            numbers[number] = inputs[node.start, node.size]
            continue
        numbers[number] = len(nodes)
        nodes.append(moved(node, numbers))
    size = first.output_size
    whole, minus = Identity(size), Diagonal(torch.full((size,), -1.0, dtype=torch.float64))
    zero = torch.zeros(size, dtype=torch.float64)
    terms = Term(Operand(first.output), whole), Term(Operand(numbers[second.output]), minus)
    nodes.append(Affine(terms, zero, zero))
    return joined(nodes, first.output, len(nodes) - 1, first.input_shape)


def refuse_overlap(node: Input, others: Iterable[tuple[int, int]]) -> None:
    """Two nodes that share some coordinates would be bounded as if they shared none."""
    if any(node.start < start + size and start < node.start + node.size for start, size in others):
        raise ModelError("the two models cut their inputs into frames differently; give models of the same input")


def joined(nodes: list[Node], first: int, difference: int | None, input_shape: tuple[int, ...]) -> Graph:
    """The graph of the outputs (y, d), and of all operations that may have no value."""
    size = nodes[first].size
    blocks = torch.eye(2 * size, dtype=torch.float64).split(size, dim=1)
    sources = [source for source in (first, difference) if source is not None]
    terms = tuple(Term(Operand(source), Dense(block.contiguous())) for source, block in zip(sources, blocks, strict=False))
    zero = torch.zeros(2 * size, dtype=torch.float64)
    nodes.append(Affine(terms, zero, zero))
    kept = [len(nodes) - 1, *(k for k, node in enumerate(nodes) if isinstance(node, Apply) and node.op.partial)]
    return ordered(nodes, len(nodes) - 1, kept, input_shape)


@dataclass(frozen=True, eq=False)
class Both:
    """Where a node of the first network is, and its difference to the second's, None where there is none."""

    value: int
    difference: int | None

    def read(self, index: Index) -> tuple[Operand, Difference]:
        return Operand(self.value, index), None if self.difference is None else Operand(self.difference, index)


class Written:
    """The nodes of both networks as they are written down, one after the other."""

    def __init__(self, own_input: int | None) -> None:
        """`own_input`: how many coordinates come before those of the inputs' differences, if these may differ."""
        self._own_input = own_input
        self.nodes: list[Node] = []
        self.both: list[Both] = []
        self._second: dict[int, int] = {}
        self._values: dict[tuple[int, tuple[int, ...]], Operand] = {}
        self._maps: dict[tuple[int, int], tuple[LinearMap, ...]] = {}

    def node(self, one: Node, other: Node) -> None:
        """Write down the node of the first network and, where it is not the same in the second, the difference."""
        match one, other:
            case Affine(), Affine():
                value = self._add(moved(one, self._places))
                self.both.append(Both(value, self._affine(one, other)))
            case Apply(), Apply():
                value = self._add(moved(one, self._places))
                self.both.append(Both(value, self._applied(value, one, other)))
            case Quadratic(), Quadratic():
                value = self._add(moved(one, self._places))
                self.both.append(Both(value, self._subtracted(value, other)))
            case Input(), _ if self._own_input is not None:
                self.both.append(Both(self._add(one), self._add(Input(self._own_input + one.start, one.size))))
            case _:
                self.both.append(Both(self._add(one), None))

    def finish(self, output: int, input_shape: tuple[int, ...]) -> Graph:
        both = self.both[output]
        return joined(gates_joined(self.nodes), both.value, both.difference, input_shape)

    # What rules write down

    def apply(self, op: Operation, *operands: Operand) -> Operand:
        return Operand(self._add(Apply(op, operands, self._width(operands[0]))))

    def sum(self, *summands: tuple[Operand | None, float]) -> Difference:
        live = [(operand, factor) for operand, factor in summands if operand is not None]
        if not live:
            return None
        if len(live) == 1 and live[0][1] == 1:
            return live[0][0]
        size = self._width(live[0][0])
        terms = tuple(Term(operand, scaled(factor, size)) for operand, factor in live)
        zero = torch.zeros(size, dtype=torch.float64)
        return Operand(self._add(Affine(terms, zero, zero)))

    def second(self, x: Operand, d: Difference) -> Operand:
        if d is None:
            return x
        places = torch.arange(self.nodes[x.source].size)[x.index]
        key = x.source, tuple(places.tolist())
        if key not in self._values:
            found = self.sum((x, 1.0), (d, -1.0))
            assert found is not None
            self._values[key] = found
        return self._values[key]

    # How a node's difference is made

    def _affine(self, one: Affine, other: Affine) -> int | None:
        """`W' d + (W - W') y`, and the biases' difference, whose rounding is paid for."""
        terms: list[Term] = []
        for mine, its in zip(one.terms, other.terms, strict=True):
            y, d = self.both[mine.operand.source].read(mine.operand.index)
            terms.extend(Term(y, part) for part in self._less(mine.map, its.map))
            if d is not None:
                terms.append(Term(d, its.map))
        same = torch.equal(one.bias, other.bias) and plain(one.bias) and plain(other.bias)
        if same and not terms:
            return None
        bias, size = add_biases(one.bias, one.bias_size, -other.bias, other.bias_size)
        if same:
            bias, size = torch.zeros_like(bias), torch.zeros_like(size)
        return self._add(Affine(tuple(terms), bias, size))

    def _less(self, one: LinearMap, other: LinearMap) -> tuple[LinearMap, ...]:
        """Maps whose sum is the first less the second, the same ones at each time step."""
        key = id(one), id(other)
        if key not in self._maps:
            self._maps[key] = less(one, other)
        return self._maps[key]

    def _applied(self, value: int, one: Apply, other: Apply) -> int | None:
        read = [self.both[operand.source].read(operand.index) for operand in one.operands]
        x, d = [value for value, _ in read], [difference for _, difference in read]
        same = type(one.op) is type(other.op) and (one.op.name, one.op.parameters) == (other.op.name, other.op.parameters)
        if same and all(part is None for part in d):
            return None
        rule = RULES.get(type(one.op)) if same else rule_of_others(one.op, other.op)
        if rule is None:
            return self._subtracted(value, other)
        made = rule(self, one.op, x, d)
        return None if made is None else self._alone(made, one.size)

    def _alone(self, operand: Operand, size: int) -> int:
        """A node that is all of the operand's neurons."""
        if isinstance(operand.index, slice) and self._width(operand) == self.nodes[operand.source].size:
            return operand.source
        zero = torch.zeros(size, dtype=torch.float64)
        return self._add(Affine((Term(operand, Identity(size)),), zero, zero))

    def _subtracted(self, value: int, other: Apply | Quadratic) -> int | None:
        """The difference to the second network's node, which is written down itself."""
        if isinstance(other, Quadratic) and all(self.both[o.source].difference is None for o in other.operands):
            first = self.nodes[value]
            if isinstance(first, Quadratic) and first.forms is other.forms:
                return None
        places = {operand.source: self._value_in_second(operand.source) for operand in other.operands}
        second = self._add(moved(other, places))
        found = self.sum((Operand(value), 1.0), (Operand(second), -1.0))
        return None if found is None else found.source

    def _value_in_second(self, number: int) -> int:
        """`y - d`: the second network's own value of a node."""
        both = self.both[number]
        if both.difference is None:
            return both.value
        if number not in self._second:
            found = self.sum((Operand(both.value), 1.0), (Operand(both.difference), -1.0))
            assert found is not None
            self._second[number] = found.source
        return self._second[number]

    @property
    def _places(self) -> dict[int, int]:
        return {number: both.value for number, both in enumerate(self.both)}

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _width(self, operand: Operand) -> int:
        return len(torch.arange(self.nodes[operand.source].size)[operand.index])


def scaled(factor: float, size: int) -> LinearMap:
    return Identity(size) if factor == 1 else Diagonal(torch.full((size,), factor, dtype=torch.float64))


def plain(weights: Tensor) -> bool:
    """Whether float32 can hold these numbers, so that nobody can have rounded them to float64."""
    return torch.equal(weights.to(torch.float32).to(torch.float64), weights)


def less(one: LinearMap, other: LinearMap) -> tuple[LinearMap, ...]:
    """Maps whose sum is the first less the second, none where they are the same; see the module on rounding."""
    known = plain(one.weights) and plain(other.weights)
    if known and one.equals(other):
        return ()
    if known and one.alike(other):
        return (one.of_weights(lambda weights: weights - other.weights),)
    minus = other.of_weights(torch.neg) if not other.elementwise else Diagonal(-other.entries()[2])
    return one, minus
