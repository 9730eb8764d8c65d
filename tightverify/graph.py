"""A network as frozen nodes in topological order, time unrolled.

Four kinds of node, each a vector of neurons:

* `Input`: some consecutive coordinates of the flat input;
* `Affine`: a sum of terms, linear maps of `source[index]`, plus a bias;
* `Apply`: an operation of `ops`, neuron by neuron, on slices of earlier nodes;
* `Quadratic`: sums of squares of linear forms of earlier nodes (`relax.quadratic`).

Everything that only moves numbers about (reshape, transpose, slice, concat, ...) has been resolved into indices when the
graph was made. Maps may be shared between nodes (the same weights at every time step). `Graph` keeps what is worked
out once per network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from tightverify.linear_map import LinearMap, side_by_side
from tightverify.ops.base import Operation
from tightverify.relax.quadratic import Forms
from tightverify.values import Index, Interval, gamma

OTHER_ROUNDINGS = 16
"""How many roundings of its own size every number of a graph may have gone through, beside those that are counted."""


@dataclass(frozen=True, eq=False)
class Operand:
    """Some neurons of an earlier node, in order."""

    source: int
    index: Index = field(default_factory=lambda: slice(None))

    def read(self, values: list[Tensor]) -> Tensor:
        return values[self.source][..., self.index]


@dataclass(frozen=True, eq=False)
class Term:
    """A linear map of an operand's neurons."""

    operand: Operand
    map: LinearMap


@dataclass(frozen=True, eq=False)
class Product:
    """Terms of one node that are worked out together, by one map of their operands side by side."""

    operands: tuple[Operand, ...]
    map: LinearMap
    widths: list[int]
    """how many neurons each operand reads"""

    def pull(self, rows: Tensor) -> Iterator[tuple[Operand, Tensor]]:
        """Rows (..., n) over the node as rows over each operand."""
        pulled = self.map.pull(rows)
        parts = (pulled,) if len(self.operands) == 1 else torch.split(pulled, self.widths, dim=-1)
        return zip(self.operands, parts, strict=True)


@dataclass(frozen=True, eq=False)
class Input:
    """The flat input's coordinates from `start` on."""

    start: int
    size: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        return ()

    @property
    def block(self) -> slice:
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True, eq=False)
class Affine:
    """`sum of terms + bias`. `bias_size` is at least |bias|, and gamma(OTHER_ROUNDINGS) of it covers the bias's own error.

    Weights that an importer had to compute (batch norm's scale, a mean's 1/T) may be off by a few units in the last
    place of their size, or by underflow: the rounding allowance of every bound covers that.
    """

    terms: tuple[Term, ...]
    bias: Tensor
    bias_size: Tensor

    @property
    def size(self) -> int:
        return len(self.bias)

    @property
    def operands(self) -> tuple[Operand, ...]:
        return tuple(term.operand for term in self.terms)

    def shift(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Some of the bias, and its size."""
        return self.bias[positions], self.bias_size[positions]

    @property
    def moves_only(self) -> bool:
        """Whether each neuron is one neuron of the source, scaled and shifted."""
        return len(self.terms) == 1 and self.terms[0].map.elementwise


@dataclass(frozen=True, eq=False)
class Apply:
    """An operation on operands of equal size."""

    op: Operation
    operands: tuple[Operand, ...]
    size: int


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Sums of squares of linear forms of the operands' neurons, one operand after the other; forms may be shared by nodes."""

    forms: Forms
    operands: tuple[Operand, ...]

    @property
    def size(self) -> int:
        return len(self.forms.weights)

    def gather(self, values: Mapping[int, Tensor] | Sequence[Tensor]) -> Tensor:
        """The operands' neurons (..., m) side by side, of nodes' values."""
        parts = [values[operand.source][..., operand.index] for operand in self.operands]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def box(self, known: Sequence[Interval]) -> Interval:
        """The operands' intervals side by side."""
        ends = ({o.source: getattr(known[o.source], end) for o in self.operands} for end in ("lower", "upper"))
        lower, upper = (self.gather(values) for values in ends)
        return Interval(lower, upper)


Node = Input | Affine | Apply | Quadratic


@dataclass(frozen=True, eq=False)
class Graph:
    """The nodes; the network's output is the whole of node `output`."""

    nodes: tuple[Node, ...]
    output: int
    input_shape: tuple[int, ...]
    more_summands: int = 0
    """what a coefficient may be a sum of beside what is counted of the nodes"""

    @property
    def input_size(self) -> int:
        return math.prod(self.input_shape)

    @property
    def output_size(self) -> int:
        return self.nodes[self.output].size

    @cached_property
    def rounding(self) -> float:
        """The relative error of any sum in forward or backward propagation: see `bounds.linear`.

        Counted are the summands of an affine node's neuron, those of a coefficient in a backward pass (every reader of a neuron
        adds to it, as many times as it reads it, each time a sum over the reader's neurons), those of a pass's constant,
        and those of the region's minimum.
        """
        forward = max(sum(2 + length for length in self._lengths(node)) for node in self.nodes)
        backward = [0] * len(self.nodes)
        for node in self.nodes:
            for operand, length in zip(node.operands, _lengths_back(node), strict=True):
                backward[operand.source] += (2 + length) * self._repeats(operand)
        constant = len(self.nodes) + max(node.size for node in self.nodes)
        return gamma(forward + max(backward) + constant + self.input_size + self.more_summands + OTHER_ROUNDINGS)

    @cached_property
    def stopped(self) -> Graph:
        """The same graph, where rows may stop at any operation and go on to the inputs by its form (`bounds.forms`)."""
        stops = sum(2 + 2 * node.size for node in self.nodes if isinstance(node, Apply))
        return replace(self, more_summands=stops)

    @cached_property
    def last_reader(self) -> list[int]:
        """For each node the last one that reads it, -1 where none does."""
        found = [-1] * len(self.nodes)
        for number, node in enumerate(self.nodes):
            for operand in node.operands:
                found[operand.source] = number
        return found

    def _lengths(self, node: Node) -> list[int]:
        """For each operand, the summands that one neuron of the node gets from it, at most."""
        if isinstance(node, Affine):
            return [term.map.fan_in for term in node.terms]
        return [self.width(operand) for operand in node.operands]

    def width(self, operand: Operand) -> int:
        """How many neurons an operand reads."""
        size, index = self.nodes[operand.source].size, operand.index
        return len(range(size)[index]) if isinstance(index, slice) else len(index)

    def _repeats(self, operand: Operand) -> int:
        """How many times the operand reads one neuron, at most."""
        return 1 if isinstance(operand.index, slice) else int(torch.bincount(operand.index).max())

    @cached_property
    def products(self) -> dict[int, tuple[Product, ...]]:
        """For affine nodes: what all their terms are together, matrices as one map.

        One product with all of them is faster than one with each; nodes that share maps share what is made of them.
        """
        made: dict[tuple[int, ...], LinearMap] = {}

        def product(terms: Sequence[Term]) -> Product:
            maps = [term.map for term in terms]
            key = tuple(id(one) for one in maps)
            if key not in made:
                made[key] = side_by_side(maps)
            return Product(tuple(term.operand for term in terms), made[key], [one.shape[1] for one in maps])

        found: dict[int, tuple[Product, ...]] = {}
        for number, node in enumerate(self.nodes):
            if isinstance(node, Affine):
                joined = [term for term in node.terms if term.map.joins]
                others = [[term] for term in node.terms if not term.map.joins]
                found[number] = tuple(product(terms) for terms in ([joined, *others] if joined else others))
        return found

    @cached_property
    def bounded(self) -> tuple[int, ...]:
        """The nodes whose bounds planes are made over: those that an operation or an energy reads."""
        read: set[int] = set()
        for node in self.nodes:
            if isinstance(node, Apply | Quadratic):
                read.update(self.origin(operand.source) for operand in node.operands)
        return tuple(number for number in sorted(read) if not isinstance(self.nodes[number], Input))

    def origin(self, number: int) -> int:
        """The node itself, or the one whose neurons it only scales and shifts: then its interval is exact already."""
        node = self.nodes[number]
        while isinstance(node, Affine) and node.moves_only:
            number = node.terms[0].operand.source
            node = self.nodes[number]
        return number

    def evaluate(self, x: Tensor) -> list[Tensor]:
        """Every node's value at flat inputs (..., n), in x's dtype on x's device; differentiable."""
        values: list[Tensor] = []
        for node in self.nodes:
            match node:
                case Input():
                    values.append(x[..., node.block])
                case Affine():
                    total = node.bias.to(x.dtype).expand(*x.shape[:-1], -1)
                    for term in node.terms:
                        total = total + term.map.push(term.operand.read(values))
                    values.append(total)
                case Apply():
                    values.append(node.op.forward(*(operand.read(values) for operand in node.operands)))
                case Quadratic():
                    values.append(node.forms.value(node.gather(values)))
        return values

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., K) at flat inputs (..., n)."""
        return self.evaluate(x)[self.output]

    def to(self, device: str) -> Graph:
        """The same graph on another device; shared maps stay shared."""
        moved: dict[int, Tensor] = {}
        maps: dict[int, LinearMap] = {}
        forms: dict[int, Forms] = {}

        def move(tensor: Tensor) -> Tensor:
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device)
            return moved[id(tensor)]

        def mapped(of: LinearMap) -> LinearMap:
            if id(of) not in maps:
                maps[id(of)] = of.of_weights(move)
            return maps[id(of)]

        def shared(of: Forms) -> Forms:
            if of.matrix.device == torch.device(device):
                return of  # with what was worked out once
            if id(of) not in forms:
                forms[id(of)] = of.to(device)
            return forms[id(of)]

        return replace(self, nodes=tuple(_move(node, move, mapped, shared) for node in self.nodes))

    def matrices(self) -> Iterator[Tensor]:
        """Every constant of the network, shared ones as often as they are used."""
        for node in self.nodes:
            if isinstance(node, Affine):
                yield node.bias
                yield from (term.map.weights for term in node.terms)
            if isinstance(node, Quadratic):
                yield from (node.forms.matrix, node.forms.shift, node.forms.weights)


def _lengths_back(node: Node) -> list[int]:
    """For each operand, the products that one neuron's coefficient gets from the node, at most, beside a plane's own."""
    match node:
        case Affine():
            return [term.map.fan_out for term in node.terms]
        case Quadratic():
            return [2 * node.size] * len(node.operands)
        case _:
            return [0] * len(node.operands)


def _move(
    node: Node,
    move: Callable[[Tensor], Tensor],
    mapped: Callable[[LinearMap], LinearMap],
    shared: Callable[[Forms], Forms],
) -> Node:
    def operand(old: Operand) -> Operand:
        return replace(old, index=move(old.index)) if isinstance(old.index, Tensor) else old

    match node:
        case Affine():
            terms = tuple(Term(operand(term.operand), mapped(term.map)) for term in node.terms)
            return Affine(terms, move(node.bias), move(node.bias_size))
        case Apply():
            return replace(node, operands=tuple(operand(o) for o in node.operands))
        case Quadratic():
            return Quadratic(shared(node.forms), tuple(operand(o) for o in node.operands))
        case _:
            return node
