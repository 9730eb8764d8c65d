"""From the nodes as they were written to the graph that is bounded: gates recognised, sums merged, the rest put in order.

Gates. A product of `sigmoid(a)` with `tanh(b)` or with anything else becomes one operation on a and b, and so does GRU's
update, written as `(1 - z) * n + z * h`, `n + z * (h - n)`, `n - z * (n - h)` or `h + (1 - z) * (n - h)` with z = sigmoid(a):
however a cell is spelt, it is bounded the same. `1 - sigmoid(a)` counts as `sigmoid(-a)`.

A neuron times a share of itself is a GELU or the like: see `gated`. A ReLU less a share of a later one is a ramp: see `ramps`.
Sums of squares become energies, or one operation of two operands: see `quadratics`.

These are identities of real numbers, so the network's function stays what it was.

Nodes that nothing reads are dropped, but never an operation that has no value at some points, nor what it reads: 0 times a
logarithm of a negative number is no number either. Whatever became of its reader (a weight of 0, a mask, a rewritten sum), it
stays in the graph, and `bounds` claims nothing where it may have no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tightverify.graph import OTHER_ROUNDINGS, Affine, Apply, Graph, Node, Operand, Term
from tightverify.linear_map import Diagonal
from tightverify.models.gated import recognise_gated
from tightverify.models.moving import moved
from tightverify.models.quadratics import Quadratics
from tightverify.models.ramps import recognise_ramp
from tightverify.models.sizes import LARGEST
from tightverify.ops import (
    MULTIPLY,
    SIGMOID_TANH,
    SIGMOID_TIMES,
    TANH_TIMES,
    Clamp,
    GruUpdate,
    HardSigmoid,
    Operation,
    Sigmoid,
    Table,
    Tanh,
    WeightedMean,
)
from tightverify.values import Index, Interval, gamma


def finish(nodes: list[Node], output: int, input_shape: tuple[int, ...]) -> Graph:
    """The graph of one output node, and of all operations that may have no value."""
    rewriting = Rewriting(list(nodes))
    for number in range(len(nodes)):
        recognise_gated(rewriting, number)
        rewriting.gru_update(number)
        rewriting.mean(number)
    for number in range(len(nodes)):
        rewriting.gate(number)
        recognise_ramp(rewriting, number)
    partial = {k for k, node in enumerate(rewriting.nodes) if isinstance(node, Apply) and node.op.partial}
    kept = [output, *sorted(partial - rewriting.defined)]
    rewriting.merge(kept)
    quadratics = Quadratics(rewriting.nodes)
    for number in sorted(needed(rewriting.nodes, kept), reverse=True):
        quadratics.recognise(number)
    for number in needed(rewriting.nodes, kept):
        quadratics.pair(number)
    return ordered(rewriting.nodes, output, kept, input_shape)


Signed = tuple[Operand, int]
"""A gate's operand, and 1, or -1 for what the gate leaves."""
Update = tuple[Signed, Operand, Operand | None]
"""GRU's gate, new state and old state, None for 0."""
WEIGHTS = HardSigmoid, Clamp, Table
"""Operations that stand in a gate's place, where their values are those of one."""


class Rewriting:
    """A list of nodes under change; new nodes go to its end."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.defined: set[int] = set()
        """operations that have a value everywhere, though others of their kind have not"""

    def select(self, operand: Operand, index: Index) -> Operand:
        """Some of an operand's neurons."""
        positions = torch.arange(self.nodes[operand.source].size)[operand.index][index]
        steps = bool((positions == torch.arange(int(positions[0]), int(positions[0]) + len(positions))).all())
        return Operand(operand.source, slice(int(positions[0]), int(positions[0]) + len(positions)) if steps else positions)

    def same(self, first: Operand, second: Operand) -> bool:
        if first.source != second.source:
            return False
        every = torch.arange(self.nodes[first.source].size)
        return torch.equal(every[first.index], every[second.index])

    def covers(self, operand: Operand) -> bool:
        """Whether the operand has all neurons of its node."""
        every = torch.arange(self.nodes[operand.source].size)
        return len(torch.unique(every[operand.index])) == len(every)

    def inside(self, operand: Operand, op: type[Operation]) -> Operand | None:
        """If the operand is this one-input operation of something, that something."""
        node = self.nodes[operand.source]
        if isinstance(node, Apply) and isinstance(node.op, op):
            return self.select(node.operands[0], operand.index)
        return None

    def weight(self, operand: Operand) -> Operand | None:
        """The operand itself, if it is the value of an operation that stays between 0 and 1 as a gate does."""
        node = self.nodes[operand.source]
        return operand if isinstance(node, Apply) and isinstance(node.op, WEIGHTS) and between_0_and_1(node.op) else None

    def signed_sigmoid(self, operand: Operand) -> Signed | None:
        """(a, 1) for sigmoid(a), (a, -1) for 1 - sigmoid(a)."""
        return self.signed_gate(operand, lambda gate: self.inside(gate, Sigmoid))

    def signed_weight(self, operand: Operand) -> Signed | None:
        """(z, 1) for a `weight` z, (z, -1) for 1 - z."""
        return self.signed_gate(operand, self.weight)

    def signed_gate(self, operand: Operand, gate: Callable[[Operand], Operand | None]) -> Signed | None:
        plain = gate(operand)
        if plain is not None:
            return plain, 1
        node = self.nodes[operand.source]
        if not isinstance(node, Affine) or len(node.terms) != 1 or node.terms[0].map.sign != -1:
            return None
        if not bool(((node.bias == 1) & (node.bias_size == 1)).all()):
            return None
        negated = self.signed_gate(self.select(node.terms[0].operand, operand.index), gate)
        return None if negated is None else (negated[0], -negated[1])

    def signed(self, operand: Operand, sign: int) -> Operand:
        """The operand, or a new node of its negation."""
        if sign == 1:
            return operand
        size = len(torch.arange(self.nodes[operand.source].size)[operand.index])
        zero = torch.zeros(size, dtype=torch.float64)
        self.nodes.append(Affine((Term(operand, Diagonal(zero - 1)),), zero, zero))
        return Operand(len(self.nodes) - 1)

    def gate(self, number: int) -> None:
        """A product of sigmoid or tanh with something becomes one operation."""
        node = self.nodes[number]
        if not isinstance(node, Apply) or node.op is not MULTIPLY:
            return
        for x, y in (node.operands, node.operands[::-1]):
            found = self.signed_sigmoid(x)
            if found is not None:
                self.nodes[number] = self.gated(*found, y, node.size)
                return
        for x, y in (node.operands, node.operands[::-1]):
            inner = self.inside(x, Tanh)
            if inner is not None:
                self.nodes[number] = Apply(TANH_TIMES, (inner, y), node.size)
                return

    def gated(self, gate: Operand, sign: int, other: Operand, size: int) -> Apply:
        """A sigmoid times something."""
        inner = self.inside(other, Tanh)
        op, second = (SIGMOID_TIMES, other) if inner is None else (SIGMOID_TANH, inner)
        return Apply(op, (self.signed(gate, sign), second), size)

    def gru_update(self, number: int) -> None:
        """A sum that is GRU's update becomes one operation of three operands, or of two where the old state is 0."""
        size = self.nodes[number].size
        found = self.update_of(number, self.signed_sigmoid)
        if found is not None:
            (gate, way), new, old = found
            if old is None:
                self.nodes[number] = self.gated(gate, -way, new, size)
            else:  # The share of the one is what the other leaves.
                self.nodes[number] = Apply(GruUpdate(), (gate, new, old) if way == 1 else (gate, old, new), size)

    def mean(self, number: int) -> None:
        """The same of a weight that is no sigmoid."""
        size = self.nodes[number].size
        found = self.update_of(number, self.signed_weight)
        if found is not None:
            (gate, way), new, old = found
            if old is None:
                self.nodes[number] = Apply(MULTIPLY, (self.left(gate, way), new), size)
            else:
                self.nodes[number] = Apply(WeightedMean(), (gate, new, old) if way == 1 else (gate, old, new), size)

    def left(self, gate: Operand, way: int) -> Operand:
        """`1 - z` for a way of 1, z itself for -1."""
        if way == -1:
            return gate
        one = torch.ones(len(torch.arange(self.nodes[gate.source].size)[gate.index]), dtype=torch.float64)
        self.nodes.append(Affine((Term(gate, Diagonal(-one)),), one, one))
        return Operand(len(self.nodes) - 1)

    def update_of(self, number: int, signed: Callable[[Operand], Signed | None]) -> Update | None:
        """What a sum is made of that is a GRU's update with such gates."""
        terms = self.signed_terms(Operand(number))
        if len(terms) != 2:
            return None
        for (x, first), (y, sign) in (terms, terms[::-1]):
            if first == 1:
                found = self.mean_of_products(x, y, signed) if sign == 1 else None
                found = found or self.step_towards(x, y, sign, signed)
                if found is not None:
                    return found
        return None

    def signed_terms(self, operand: Operand) -> list[tuple[Operand, int]]:
        """If the operand is a sum of neurons, each as it is or negated: those and their signs."""
        node = self.nodes[operand.source]
        if not isinstance(node, Affine) or bool(node.bias_size.any()):
            return []
        if not all(term.map.sign for term in node.terms):
            return []
        return [(self.select(term.operand, operand.index), term.map.sign) for term in node.terms]

    def factors(self, operand: Operand, signed: Callable[[Operand], Signed | None]) -> list[tuple[Signed, Operand]]:
        """If the operand is a product with a gate: (the gate and its sign, the other factor), both ways round."""
        node = self.nodes[operand.source]
        if not isinstance(node, Apply) or node.op is not MULTIPLY:
            return []
        x, y = (self.select(o, operand.index) for o in node.operands)
        pairs = ((signed(a), b) for a, b in ((x, y), (y, x)))
        return [(gate, other) for gate, other in pairs if gate is not None]

    def mean_of_products(self, x: Operand, y: Operand, signed: Callable[[Operand], Signed | None]) -> Update | None:
        """`(1 - z) * n + z * h`."""
        for (a, sign_a), new in self.factors(x, signed):
            for (b, sign_b), old in self.factors(y, signed):
                if sign_a == -sign_b and self.same(a, b):
                    return (b, sign_b), new, old
        return None

    def step_towards(
        self, new: Operand, product: Operand, sign: int, signed: Callable[[Operand], Signed | None]
    ) -> Update | None:
        """`n + z * (h - n)` for sign 1, `n - z * (n - h)` for sign -1; without h if that is 0."""
        for gate, difference in self.factors(product, signed):
            if sign == -1 and self.same(difference, new):
                return gate, new, None
            terms = [(operand, sign * inner) for operand, inner in self.signed_terms(difference)]
            if len(terms) == 1 and terms[0][1] == -1 and self.same(terms[0][0], new):
                return gate, new, None
            for plus, minus in (terms, terms[::-1]) if len(terms) == 2 else ():
                if plus[1] == 1 and minus[1] == -1 and self.same(minus[0], new):
                    return gate, new, plus[0]
        return None

    def merge(self, kept: Iterable[int]) -> None:
        """Inline a sum into the only sum that reads it, and constants wherever they are added; nodes `kept` stay."""
        readers = [0] * len(self.nodes)
        for number in kept:
            readers[number] = 1
        for number in needed(self.nodes, kept):
            for operand in self.nodes[number].operands:
                readers[operand.source] += 1
        for number, node in enumerate(self.nodes):
            if not isinstance(node, Affine):
                continue
            terms: list[Term] = []
            bias, size = node.bias, node.bias_size
            for term in node.terms:
                inner = self.nodes[term.operand.source]
                alone = isinstance(inner, Affine) and (readers[term.operand.source] == 1 or not inner.terms)
                if term.map.sign == 1 and isinstance(inner, Affine) and alone and small(inner, term.operand.index, node.size):
                    index = term.operand.index
                    bias, size = add_biases(bias, size, inner.bias[index], inner.bias_size[index])
                    terms.extend(self.rows_of(part, index, inner.size) for part in inner.terms)
                else:
                    terms.append(term)
            self.nodes[number] = Affine(tuple(terms), bias, size)

    def rows_of(self, term: Term, index: Index, size: int) -> Term:
        """Some of the rows of a term's value."""
        if isinstance(index, slice) and len(range(size)[index]) == size:
            return term
        needed, selected = term.map.select(index)
        return Term(self.select(term.operand, needed), selected)


def between_0_and_1(op: Operation) -> bool:
    infinite = torch.full((1, 1), torch.inf, dtype=torch.float64)
    every = op.interval(Interval(-infinite, infinite))
    return bool((every.lower >= 0) & (every.upper <= 1))


def add_biases(first: Tensor, first_size: Tensor, second: Tensor, second_size: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of two biases, and a size that pays for its rounding as well, which Knuth's two-sum gives exactly."""
    total = first + second
    share = total - first
    error = (first - (total - share)) + (second - share)
    return total, first_size + second_size + error.abs() / gamma(OTHER_ROUNDINGS)


def small(inner: Affine, index: Index, size: int) -> bool:
    """Whether so many of its rows, some perhaps many times over, make no matrix that is too large."""
    if isinstance(index, slice) and len(range(inner.size)[index]) == inner.size:
        return True
    return all(term.map.numbers_of(size) <= max(LARGEST, term.map.weights.numel()) for term in inner.terms)


def needed(nodes: list[Node], kept: Iterable[int]) -> set[int]:
    """The nodes that are kept, and those that they read, directly or not."""
    found: set[int] = set()
    open_ends = list(kept)
    while open_ends:
        number = open_ends.pop()
        if number not in found:
            found.add(number)
            open_ends.extend(operand.source for operand in nodes[number].operands)
    return found


def ordered(nodes: list[Node], output: int, kept: Iterable[int], input_shape: tuple[int, ...]) -> Graph:
    """The nodes that are needed, each as late as its first reader allows (depth first): less is pending at a time.

    Those that are kept though the output does not read them come first, so that the output is the last.
    """
    read = needed(nodes, [output])
    numbers: dict[int, int] = {}
    found: list[Node] = []
    stack = [(output, False), *((number, False) for number in kept if number not in read)]
    while stack:
        number, ready = stack.pop()
        if number in numbers:
            continue
        node = nodes[number]
        if not ready:
            stack.append((number, True))
            stack.extend((operand.source, False) for operand in reversed(node.operands))
            continue
        numbers[number] = len(found)
        found.append(moved(node, numbers))
    return Graph(tuple(found), numbers[output], input_shape)
