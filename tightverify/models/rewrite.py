"""From the nodes as they were written to the graph that is bounded: gates recognised, sums merged, the rest put in order.

Gates. A product of `sigmoid(a)` with `tanh(b)` or with anything else becomes one operation on a and b, and so does GRU's
update, written as `(1 - z) * n + z * h`, `n + z * (h - n)` or `h + (1 - z) * (n - h)` with z = sigmoid(a): however a cell is spelt, it
is bounded the same. `1 - sigmoid(a)` counts as `sigmoid(-a)`.

These are identities of real numbers, so the network's function stays what it was.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tightverify.graph import Affine, Apply, Graph, Node, Operand, Term
from tightverify.ops import MULTIPLY, SIGMOID_TANH, SIGMOID_TIMES, TANH_TIMES, Blend, Operation, Sigmoid, Tanh
from tightverify.values import Index


def finish(nodes: list[Node], output: int, input_shape: tuple[int, ...]) -> Graph:
    """The graph of one output node."""
    rewriting = Rewriting(list(nodes))
    for number in range(len(nodes)):
        rewriting.blend(number)
    for number in range(len(nodes)):
        rewriting.gate(number)
    rewriting.merge(output)
    return ordered(rewriting.nodes, output, input_shape)


class Rewriting:
    """A list of nodes under change; new nodes go to its end."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

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

    def inside(self, operand: Operand, op: type[Operation]) -> Operand | None:
        """If the operand is this one-input operation of something, that something."""
        node = self.nodes[operand.source]
        if isinstance(node, Apply) and isinstance(node.op, op):
            return self.select(node.operands[0], operand.index)
        return None

    def signed_sigmoid(self, operand: Operand) -> tuple[Operand, int] | None:
        """(a, 1) for sigmoid(a), (a, -1) for 1 - sigmoid(a)."""
        plain = self.inside(operand, Sigmoid)
        if plain is not None:
            return plain, 1
        node = self.nodes[operand.source]
        complement = isinstance(node, Affine) and len(node.terms) == 1 and bool((node.bias == 1).all())
        if isinstance(node, Affine) and complement and is_minus_one(node.terms[0].matrix):
            negated = self.inside(self.select(node.terms[0].operand, operand.index), Sigmoid)
            return None if negated is None else (negated, -1)
        return None

    def signed(self, operand: Operand, sign: int) -> Operand:
        """The operand, or a new node of its negation."""
        if sign == 1:
            return operand
        size = len(torch.arange(self.nodes[operand.source].size)[operand.index])
        zero = torch.zeros(size, dtype=torch.float64)
        self.nodes.append(Affine((Term(operand, zero - 1),), zero, zero))
        return Operand(len(self.nodes) - 1)

    def gate(self, number: int) -> None:
        """A product of sigmoid or tanh with something becomes one operation."""
        node = self.nodes[number]
        if not isinstance(node, Apply) or node.op is not MULTIPLY:
            return
        for x, y in (node.operands, node.operands[::-1]):
            found = self.signed_sigmoid(x)
            if found is not None:
                inner = self.inside(y, Tanh)
                op, second = (SIGMOID_TIMES, y) if inner is None else (SIGMOID_TANH, inner)
                self.nodes[number] = Apply(op, (self.signed(*found), second), node.size)
                return
        for x, y in (node.operands, node.operands[::-1]):
            inner = self.inside(x, Tanh)
            if inner is not None:
                self.nodes[number] = Apply(TANH_TIMES, (inner, y), node.size)
                return

    def blend(self, number: int) -> None:
        """A sum that is GRU's update becomes one operation of three operands."""
        node = self.nodes[number]
        if not isinstance(node, Affine) or len(node.terms) != 2 or bool(node.bias.any()):
            return
        if any(term.matrix is not None for term in node.terms):
            return
        first, second = node.operands
        for x, y in ((first, second), (second, first)):
            found = self.mean_of_products(x, y) or self.step_towards(x, y)
            if found is not None:
                (gate, sign), new, old = found
                self.nodes[number] = Apply(Blend(), (self.signed(gate, sign), new, old), node.size)
                return

    def factors(self, operand: Operand) -> list[tuple[tuple[Operand, int], Operand]]:
        """If the operand is a product with a sigmoid: (the sigmoid's operand and sign, the other factor), both ways round."""
        node = self.nodes[operand.source]
        if not isinstance(node, Apply) or node.op is not MULTIPLY:
            return []
        x, y = (self.select(o, operand.index) for o in node.operands)
        pairs = ((self.signed_sigmoid(a), b) for a, b in ((x, y), (y, x)))
        return [(gate, other) for gate, other in pairs if gate is not None]

    def mean_of_products(self, x: Operand, y: Operand) -> tuple[tuple[Operand, int], Operand, Operand] | None:
        """`(1 - z) * n + z * h`."""
        for (a, sign_a), new in self.factors(x):
            for (b, sign_b), old in self.factors(y):
                if sign_a == -sign_b and self.same(a, b):
                    return (b, sign_b), new, old
        return None

    def step_towards(self, new: Operand, product: Operand) -> tuple[tuple[Operand, int], Operand, Operand] | None:
        """`n + z * (h - n)`."""
        for gate, difference in self.factors(product):
            node = self.nodes[difference.source]
            if not isinstance(node, Affine) or len(node.terms) != 2 or bool(node.bias.any()):
                continue
            for plus, minus in (node.terms, node.terms[::-1]):
                signs = plus.matrix is None and is_minus_one(minus.matrix)
                if signs and self.same(self.select(minus.operand, difference.index), new):
                    return gate, new, self.select(plus.operand, difference.index)
        return None

    def merge(self, output: int) -> None:
        """Inline a sum into the only sum that reads it."""
        readers = [0] * len(self.nodes)
        readers[output] = 1
        for node in self.nodes:
            for operand in node.operands:
                readers[operand.source] += 1
        for number, node in enumerate(self.nodes):
            if not isinstance(node, Affine):
                continue
            terms: list[Term] = []
            bias, size = node.bias, node.bias_size
            for term in node.terms:
                inner = self.nodes[term.operand.source]
                if term.matrix is None and isinstance(inner, Affine) and inner.terms and readers[term.operand.source] == 1:
                    index = term.operand.index
                    bias, size = bias + inner.bias[index], size + inner.bias_size[index]
                    terms.extend(self.rows_of(part, index, inner.size) for part in inner.terms)
                else:
                    terms.append(term)
            self.nodes[number] = Affine(tuple(terms), bias, size)

    def rows_of(self, term: Term, index: Index, size: int) -> Term:
        """Some of the rows of a term's value."""
        if isinstance(index, slice) and len(range(size)[index]) == size:
            return term
        if term.matrix is None:
            return Term(self.select(term.operand, index))
        if term.matrix.dim() == 1:
            return Term(self.select(term.operand, index), term.matrix[index])
        return Term(term.operand, term.matrix[index])


def is_minus_one(matrix: Tensor | None) -> bool:
    return matrix is not None and matrix.dim() == 1 and bool((matrix == -1).all())


def ordered(nodes: list[Node], output: int, input_shape: tuple[int, ...]) -> Graph:
    """The nodes that the output needs, each as late as its first reader allows (depth first): less is pending at a time."""
    numbers: dict[int, int] = {}
    kept: list[Node] = []
    stack = [(output, False)]
    while stack:
        number, ready = stack.pop()
        if number in numbers:
            continue
        node = nodes[number]
        if not ready:
            stack.append((number, True))
            stack.extend((operand.source, False) for operand in reversed(node.operands))
            continue
        numbers[number] = len(kept)
        kept.append(_renumber(node, numbers))
    return Graph(tuple(kept), numbers[output], input_shape)


def _renumber(node: Node, numbers: dict[int, int]) -> Node:
    def move(operand: Operand) -> Operand:
        return replace(operand, source=numbers[operand.source])

    match node:
        case Affine():
            return replace(node, terms=tuple(replace(term, operand=move(term.operand)) for term in node.terms))
        case Apply():
            return replace(node, operands=tuple(move(operand) for operand in node.operands))
        case _:
            return node
