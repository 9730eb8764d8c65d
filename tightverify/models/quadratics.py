"""Energies recognised: a sum of squares of linear forms, with weights >= 0, becomes one node however it was written.

Sums of only two squares become `SumOfSquares`, neuron by neuron.

A mel band of a spectrum is written as matrix products, squares and sums, over frames that were cut out, filtered and windowed.
Here the squares are followed up to the sums that mix them, and the squared neurons down, through everything affine, to what is
not: mostly the input itself. So overlapping frames stay functions of the same samples, and `relax.quadratic` bounds each band
as the one convex quadratic that it is.

The product of the affine steps is rounded. Each step's coefficients are formed from the last one's twice, as they are and in
absolute values: the second sum, `size`, bounds the rounding of the first, whatever cancels in it. It says nothing of products
that underflow: where there may be any, nothing is composed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.graph import OTHER_ROUNDINGS, Affine, Apply, Node, Operand, Quadratic, Term
from tightverify.linear_map import Identity
from tightverify.ops import Square, SumOfSquares
from tightverify.relax.quadratic import Forms
from tightverify.values import as_index

LEAST = 2.0**-900
"""Factors whose products may be smaller than this are not multiplied: far from underflow."""
MIXED = 3
"""Sums of fewer squares are left to the operations that bound one or two."""
MOST_SQUARES = 2048
MOST_COORDINATES = 4096
MOST_QUADRATICS = 1024
MOST_NUMBERS = 2**26
"""Beyond these, matrices would grow too large: such sums stay square by square."""


@dataclass(frozen=True, eq=False)
class Squares:
    """`weights @ z^2` for the neurons z of some operands side by side; weights (n, K) are all >= 0."""

    operands: tuple[Operand, ...]
    weights: Tensor
    roundings: int


@dataclass(frozen=True, eq=False)
class Part:
    """`matrix @ z` for some neurons of one node."""

    positions: Tensor
    matrix: Tensor
    size: Tensor


class Quadratics:
    """A list of nodes under change; new nodes go to its end."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self._known: list[Forms] = []

    def recognise(self, number: int) -> None:
        """An affine node that mixes squares becomes an energy, and a shift if it has a bias."""
        node = self.nodes[number]
        if not isinstance(node, Affine) or not node.terms or node.size > MOST_QUADRATICS:
            return
        found = self.mixture(node, torch.arange(node.size))
        if found is None or int((found.weights > 0).sum(1).max()) < MIXED:
            return
        quadratic = self.quadratic(found)
        if quadratic is None:
            return
        if bool(node.bias_size.any()):
            self.nodes.append(quadratic)
            self.nodes[number] = Affine((Term(Operand(len(self.nodes) - 1), Identity(node.size)),), node.bias, node.bias_size)
        else:
            self.nodes[number] = quadratic

    def pair(self, number: int) -> None:
        """A sum of two squares, both as they are or both scaled alike, becomes one operation."""
        node = self.nodes[number]
        if not isinstance(node, Affine) or len(node.terms) != 2:
            return
        one, other = node.terms
        first, second = self.squared(one.operand), self.squared(other.operand)
        if first is None or second is None or not one.map.elementwise or not one.map.equals(other.map):
            return
        both = Apply(SumOfSquares(), (first, second), node.size)
        if one.map.sign == 1 and not bool(node.bias_size.any()):
            self.nodes[number] = both
        else:
            self.nodes.append(both)
            self.nodes[number] = Affine((Term(Operand(len(self.nodes) - 1), one.map),), node.bias, node.bias_size)

    def squared(self, operand: Operand) -> Operand | None:
        """If the operand is a square: of what."""
        node = self.nodes[operand.source]
        if not isinstance(node, Apply) or not isinstance(node.op, Square):
            return None
        return Operand(node.operands[0].source, as_index(self.positions(node.operands[0])[self.positions(operand)]))

    def positions(self, operand: Operand) -> Tensor:
        return torch.arange(self.nodes[operand.source].size)[operand.index]

    def squares(self, source: int, chosen: Tensor) -> Squares | None:
        """If these neurons of a node are sums of squares and nothing else: the squares."""
        node = self.nodes[source]
        if len(chosen) > MOST_SQUARES:
            return None
        if isinstance(node, Apply) and isinstance(node.op, Square):
            positions = self.positions(node.operands[0])[chosen]
            weights = torch.eye(len(chosen), dtype=torch.float64)
            return Squares((Operand(node.operands[0].source, positions),), weights, 0)
        if isinstance(node, Affine) and node.terms and not bool(node.bias_size.any()):
            return self.mixture(node, chosen)
        return None

    def mixture(self, node: Affine, chosen: Tensor) -> Squares | None:
        """The same for the terms of an affine node, whatever its bias."""
        operands: list[Operand] = []
        weights: list[Tensor] = []
        roundings = OTHER_ROUNDINGS
        for term in node.terms:
            if not term.map.monotone or term.map.numbers_of(len(chosen)) > MOST_NUMBERS:
                return None
            positions = self.positions(term.operand)
            needed, rows = term.map.select(chosen)
            inner = self.squares(term.operand.source, positions[needed])
            if inner is None or not multiplies(rows.weights, inner.weights):
                return None
            operands.extend(inner.operands)
            roundings += inner.roundings + len(positions)
            weights.append(rows.push(inner.weights.T).T)
            if sum(part.shape[1] for part in weights) > MOST_SQUARES:
                return None
        return Squares(tuple(operands), torch.cat(weights, dim=1), roundings)

    def quadratic(self, found: Squares) -> Quadratic | None:
        """The squared neurons as functions of what is not affine; None where there is too much of it."""
        used = torch.nonzero((found.weights > 0).any(0)).flatten()
        weights = found.weights[:, used]
        count, start = len(used), 0
        pending: dict[int, list[Part]] = {}
        for operand in found.operands:
            positions = self.positions(operand)
            there = (used >= start) & (used < start + len(positions))
            mine = positions[used[there] - start]
            one = torch.zeros((count, len(mine)), dtype=torch.float64)
            one[torch.nonzero(there).flatten(), torch.arange(len(mine))] = 1
            if len(mine):
                pending.setdefault(operand.source, []).append(Part(mine, one, one))
            start += len(positions)
        shift = shift_size = torch.zeros(count, dtype=torch.float64)
        roundings, last = found.roundings, dict[int, list[Part]]()
        while pending:
            source = max(pending)
            part, node = together(pending.pop(source)), self.nodes[source]
            if not isinstance(node, Affine):
                last.setdefault(source, []).append(part)
                continue
            roundings += OTHER_ROUNDINGS + len(part.positions)
            shift = shift + part.matrix @ node.bias[part.positions]
            shift_size = shift_size + part.size @ node.bias_size[part.positions]
            factors = [node.bias_size, *(term.map.weights for term in node.terms)]
            if not all(multiplies(part.size, factor) for factor in factors):
                return None
            for term in node.terms:
                if term.map.numbers_of(len(part.positions)) > MOST_NUMBERS:
                    return None
                below = self.under(part, term)
                pending.setdefault(term.operand.source, []).append(below)
                roundings += len(below.positions)
        parts = {source: together(several) for source, several in sorted(last.items())}
        if not parts or sum(len(part.positions) for part in parts.values()) > MOST_COORDINATES:
            return None
        matrix = torch.cat([part.matrix for part in parts.values()], dim=1)
        size = torch.cat([part.size for part in parts.values()], dim=1)
        operands = tuple(Operand(source, as_index(part.positions)) for source, part in parts.items())
        return Quadratic(self.shared(Forms(matrix, shift, weights, size, shift_size, roundings)), operands)

    def under(self, part: Part, term: Term) -> Part:
        """A part of an affine node as a part of one of its operands."""
        needed, rows = term.map.select(part.positions)
        return Part(self.positions(term.operand)[needed], rows.pull(part.matrix), rows.absolute.pull(part.size))

    def shared(self, forms: Forms) -> Forms:
        """Forms that were made before, if these are the same: every frame has its own copy."""
        for old in self._known:
            if old.roundings >= forms.roundings and all(
                a.shape == b.shape and torch.equal(a, b)
                for a, b in (
                    (old.matrix, forms.matrix),
                    (old.weights, forms.weights),
                    (old.shift, forms.shift),
                    (old.size, forms.size),
                    (old.shift_size, forms.shift_size),
                )
            ):
                return old
        self._known.append(forms)
        return forms


def multiplies(one: Tensor, other: Tensor) -> bool:
    """Whether no product of a number of one and a number of the other comes near underflow."""
    least = [float(part[part != 0].abs().min()) if bool(part.any()) else 1.0 for part in (one, other)]
    return least[0] * least[1] >= LEAST


def together(parts: list[Part]) -> Part:
    """Parts of one node, each of its neurons once."""
    positions, place = torch.unique(torch.cat([part.positions for part in parts]), return_inverse=True)
    if len(parts) == 1 and torch.equal(positions, parts[0].positions):
        return parts[0]
    matrix, size = (torch.cat(some, dim=1) for some in ([p.matrix for p in parts], [p.size for p in parts]))
    empty = matrix.new_zeros((len(matrix), len(positions)))
    return Part(positions, empty.index_add(1, place, matrix), empty.index_add(1, place, size))
