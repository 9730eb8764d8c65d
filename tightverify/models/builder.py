"""Builds a graph from tensor operations: a symbolic tensor is a numpy array of neuron numbers.

Whatever only moves numbers about (reshape, transpose, slice, concat, stack, unfold, flip, ...) is numpy's own indexing of that
array and leaves no trace in the graph. `ZERO` in place of a number stands for the constant 0 (padding, initial
states). What computes makes nodes: one node for each group of neurons that read the same sources, so that the time steps
of a sequence stay apart.

The builder works on single inputs: a batch axis, where a model has one, has length 1.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.graph import Affine, Apply, Graph, Input, Node, Operand, Term
from tightverify.linear_map import Axis, Convolution, Dense, Diagonal, Identity, LinearMap
from tightverify.models.progress import Progress
from tightverify.models.rewrite import finish
from tightverify.models.sizes import fits
from tightverify.ops import MULTIPLY, Maximum, Operation, Square
from tightverify.values import as_index

Symbols = NDArray[np.int64]
ZERO = -1
NARROW = 16
MANY = 64
"""Filters of so few weights in all, at so many positions, slide as sums."""
WIDE = 2**22
RUNS = 8
"""A node's neurons that stand in so few runs are moved there, run by run."""
FEW = 256
"""A matrix of zeros and ones of so many numbers gives way to so many terms."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """`factor * read + shift`, whose `size` is a sum's `bias_size`."""

    read: Symbols
    factor: Tensor
    shift: Tensor
    size: Tensor


class Builder:
    """Collects nodes; each method takes and returns arrays of neuron numbers."""

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        self._progress = progress or Progress()
        self._nodes: list[Node] = []
        self._starts = array("q", [0])  # which numpy can search as it is: there may be thousands of nodes
        self._input_shape: tuple[int, ...] = ()
        self._shared: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}
        self._maps: dict[tuple[object, ...], tuple[Tensor, LinearMap]] = {}

    def exact(self, values: Tensor) -> Tensor:
        """The same numbers in float64; for the same memory the same tensor, so that time steps share their weights."""
        storage = values.untyped_storage().data_ptr()
        place = (storage, values.storage_offset(), values.shape, values.stride(), values.dtype)
        if place not in self._shared:  # The key is good for as long as the memory is kept.
            self._shared[place] = values, values.detach().to(torch.float64)
        return self._shared[place][1]

    def input(self, shape: tuple[int, ...]) -> Symbols:
        """The network's input; with two axes or more, a node for each position of the first (a frame)."""
        self._input_shape = shape
        return self._input(shape, 0)

    def inputs(self, shapes: Sequence[tuple[int, ...]]) -> list[Symbols]:
        """Several inputs of the network, which lie one after the other in a flat one."""
        ends = np.cumsum([0, *(np.prod(shape) for shape in shapes)]).tolist()
        self._input_shape = (ends[-1],)
        return [self._input(shape, start) for shape, start in zip(shapes, ends[:-1], strict=True)]

    def _input(self, shape: tuple[int, ...], first: int) -> Symbols:
        total = int(np.prod(shape))
        block = total // shape[0] if len(shape) > 1 else total
        numbers = [self._add(Input(first + start, block)) for start in range(0, total, block)]
        return np.concatenate(numbers).reshape(shape)

    def constant(self, values: Tensor) -> Symbols:
        """Fixed numbers as neurons; zeros need none."""
        flat = values.detach().to(torch.float64).flatten()
        result = np.full(len(flat), ZERO, dtype=np.int64)
        nonzero = torch.nonzero(flat).flatten()
        if len(nonzero):
            result[nonzero.numpy()] = self._add(Affine((), flat[nonzero], flat[nonzero].abs()))
        return result.reshape(tuple(values.shape))

    def value(self, x: Symbols) -> Tensor | None:
        """The numbers that a tensor holds if it is constant, else None."""
        flat = x.ravel()  # Of a tensor of 0 axes, numpy would make plain numbers.
        found = torch.zeros(len(flat), dtype=torch.float64)
        for source in self._sources(flat):
            node = self._nodes[source]
            if not isinstance(node, Affine) or node.terms:
                return None
            there = (flat >= self._starts[source]) & (flat < self._starts[source + 1])
            found[torch.from_numpy(there)] = node.bias[torch.from_numpy(flat[there] - self._starts[source])]
        return found.reshape(x.shape)

    def matmul(self, x: Symbols, weight: Tensor, bias: Tensor | None = None) -> Symbols:
        """`weight @ x + bias` along the last axis, at every position of the others; weight is (O, F)."""
        weight = self.exact(weight)
        outputs = len(weight)
        if weight.shape[1] != x.shape[-1]:
            raise ValueError(f"a matrix of {weight.shape[1]} columns for vectors of {x.shape[-1]} numbers")
        shift = torch.zeros(outputs, dtype=torch.float64) if bias is None else bias.detach().to(torch.float64)
        result = np.empty(fits(*x.shape[:-1], outputs), dtype=np.int64)
        for position in np.ndindex(*x.shape[:-1]):
            terms = []
            for source in self._sources(x[position]):
                columns, operand = self.operand(x[position], source, ordered=True)
                terms.append(Term(operand, self._columns(weight, columns)))
            result[position] = self.affine(terms, shift)
        return result

    def slide(self, x: Symbols, weight: Tensor, bias: Tensor | None = None) -> Symbols:
        """`matmul` for windows that slide along: few narrow filters at many positions are sums of shifted neurons instead.

        A waveform's pre-emphasis has a node then, not one for each sample.
        """
        weight = self.exact(weight)
        if weight.numel() > NARROW or x[..., 0].size < MANY:
            return self.matmul(x, weight, bias)
        shift = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.detach().to(torch.float64)
        taps = range(weight.shape[1])
        rows = [self.combine([(x[..., k], row[k]) for k in taps], b) for row, b in zip(weight, shift, strict=True)]
        return np.stack(rows, axis=-1)

    def combine(
        self, summands: Iterable[tuple[Symbols, Tensor | float]], shift: Tensor | float = 0.0, size: Tensor | None = None
    ) -> Symbols:
        """`sum of coefficient * x, + shift`, elementwise, all broadcast together.

        `size` is at least the sum of the |numbers| that were added up to make the shift, if it was computed. Where only one
        neuron is left, as it is, it stands for the sum itself.
        """
        parts = [(x, torch.as_tensor(c, dtype=torch.float64).detach().numpy()) for x, c in summands]
        base = torch.as_tensor(shift, dtype=torch.float64).detach().numpy()
        weight = np.abs(base) if size is None else size.detach().to(torch.float64).numpy()
        shape = fits(*np.broadcast_shapes(*(x.shape for x, _ in parts), *(c.shape for _, c in parts), base.shape))
        coefficients = [np.broadcast_to(c, shape).ravel() for _, c in parts]
        xs = [np.where(c == 0, ZERO, np.broadcast_to(x, shape).ravel()) for (x, _), c in zip(parts, coefficients, strict=True)]
        flat_base, flat_weight = np.broadcast_to(base, shape).ravel(), np.broadcast_to(weight, shape).ravel()
        result = np.full(int(np.prod(shape)), ZERO, dtype=np.int64)
        for group, sources in self._groups(xs):
            live = [k for k, source in enumerate(sources) if source != ZERO]
            shifted = flat_base[group].any() or flat_weight[group].any()
            if not shifted and (not live or (len(live) == 1 and (coefficients[live[0]][group] == 1).all())):
                result[group] = xs[live[0]][group] if live else ZERO
                continue
            terms = []
            for k in live:
                factor = coefficients[k][group]
                terms.append(Term(self.operand(xs[k][group], sources[k])[1], scaling(factor)))
            bias, bias_size = torch.from_numpy(flat_base[group].copy()), torch.from_numpy(flat_weight[group].copy())
            result[group] = self._add(Affine(tuple(terms), bias, bias_size))
        return result.reshape(shape)

    def total(self, x: Symbols, axes: tuple[int, ...], factor: float = 1.0) -> Symbols:
        """`factor * sum of x` over some axes, which disappear."""
        axes = tuple(axis % x.ndim for axis in axes)
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        shape = tuple(x.shape[axis] for axis in kept)
        slices = x.transpose([*axes, *kept]).reshape(-1, int(np.prod(shape)))
        result = np.full(slices.shape[1], ZERO, dtype=np.int64)
        for group, sources in self._groups(list(slices)):
            terms = [t for source in sorted({*sources} - {ZERO}) for t in self._weighted(slices[:, group], source, factor)]
            zero = torch.zeros(len(group), dtype=torch.float64)
            if terms:
                result[group] = self._add(Affine(tuple(terms), zero, zero))
        return result.reshape(shape)

    def _weighted(self, summands: Symbols, source: int, factor: float) -> list[Term]:
        """`factor * the sum over rows` (summands, n) of the neurons of one node, which fill the rows in which they are.

        One matrix adds the rows up, or a term for each of a few where the matrix, nearly all zeros, would be large.
        """
        row, column = np.nonzero(self.source_of(summands) == source)
        rows = np.unique(row)
        neurons, position = np.unique(summands[row, column], return_inverse=True)
        if len(rows) == 1 or (len(rows) <= FEW and summands.shape[1] * len(neurons) > WIDE):
            scale = scaling(np.full(summands.shape[1], factor))
            return [Term(self.operand(summands[k], source)[1], scale) for k in rows]
        matrix = np.zeros(fits(summands.shape[1], len(neurons)))
        np.add.at(matrix, (column, position), 1.0)
        return [Term(self.operand(neurons, source)[1], Dense(torch.from_numpy(matrix * factor)))]

    def apply(self, op: Operation, *xs: Symbols) -> Symbols:
        """An operation, elementwise, operands broadcast together; on constants alone it is worked out at once.

        Where it has no value for the constants it becomes a node all the same, so that nobody can drop it.
        """
        shape = fits(*np.broadcast_shapes(*(x.shape for x in xs)))
        flat = [np.broadcast_to(x, shape).ravel() for x in xs]
        values = [self.value(x) for x in flat]
        if all(value is not None for value in values):
            found = op.forward(*(v for v in values if v is not None))
            if bool(torch.isfinite(found).all()):
                return self.constant(found).reshape(shape)
        flat = [self._solid(x) for x in flat]
        result = np.empty(len(flat[0]), dtype=np.int64)
        for group, sources in self._groups(flat):
            operands = tuple(self.operand(x[group], source)[1] for x, source in zip(flat, sources, strict=True))
            result[group] = self._add(Apply(op, operands, len(group)))
        return result.reshape(shape)

    def multiply(self, x: Symbols, y: Symbols) -> Symbols:
        """The product, elementwise: a scaling where one side is constant, a square where both sides are one."""
        for factor, other in ((x, y), (y, x)):
            value = self.value(factor)
            if value is not None:
                return self.combine([(other, value)])
        fits(*np.broadcast_shapes(x.shape, y.shape))
        x, y = np.broadcast_arrays(x, y)
        if (x == y).all():
            return self.apply(Square(), x)
        result = np.full(x.shape, ZERO, dtype=np.int64)
        live = (x != ZERO) & (y != ZERO)
        result[live] = self.apply(MULTIPLY, x[live], y[live])
        return result

    def largest(self, x: Symbols, axis: int) -> Symbols:
        """The maximum over an axis, which disappears: pairs, then pairs of pairs."""
        parts = [np.asarray(part) for part in np.moveaxis(x, axis, 0)]
        while len(parts) > 1:
            paired = [self.apply(Maximum(), a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = paired + parts[len(paired) * 2 :]
        return parts[0]

    def graph(self, output: Symbols) -> Graph:
        """The finished graph: gates recognised, sums merged, what nobody reads dropped if it has a value everywhere."""
        flat = self._solid(output.ravel())
        sources = self._sources(flat)
        if len(sources) != 1 or self._nodes[sources[0]].size != len(flat) or (np.diff(flat) != 1).any():
            terms = [term for source in sources for term in self._placed(flat, source, len(sources))]
            zero = torch.zeros(len(flat), dtype=torch.float64)
            sources = [self._sources(self._add(Affine(tuple(terms), zero, zero)))[0]]
        return finish(self._nodes, sources[0], self._input_shape)

    def _placed(self, x: Symbols, source: int, sources: int) -> list[Term]:
        """A node's neurons where they stand in x (one axis), 0 elsewhere: as they are, by a matrix, in runs, or by a mask."""
        rows, operand = self.operand(x, source)
        if sources == 1:
            return [Term(operand, Identity(len(x)))]
        if len(x) * len(x) <= WIDE:
            matrix = torch.zeros(len(x), len(rows), dtype=torch.float64)
            matrix[torch.from_numpy(rows), torch.arange(len(rows))] = 1.0
            return [Term(operand, Dense(matrix))]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        if len(runs) <= RUNS:
            one = torch.ones((1, 1, 1), dtype=torch.float64)
            moved = [Convolution(one, (Axis(len(run), len(x), 1, start=-int(run[0])),)) for run in runs]
            return [Term(self.operand(x[run], source)[1], move) for run, move in zip(runs, moved, strict=True)]
        fits(sources, len(x), what="the model's output, joined from parts,")
        mask = np.zeros(len(x))
        mask[rows] = 1.0
        return [Term(self.operand(np.where(mask == 1, x, x[rows[0]]), source)[1], Diagonal(torch.from_numpy(mask)))]

    def affine(self, terms: Sequence[Term], bias: Tensor) -> Symbols:
        """A sum of terms and a bias, or zeros if there is neither."""
        if not terms and not bool(bias.any()):
            return np.full(len(bias), ZERO, dtype=np.int64)
        return self._add(Affine(tuple(terms), bias, bias.abs()))

    def _add(self, node: Node) -> Symbols:
        self._nodes.append(node)
        self._progress(len(self._nodes))
        self._starts.append(self._starts[-1] + node.size)
        return np.arange(self._starts[-2], self._starts[-1], dtype=np.int64)

    def _solid(self, x: Symbols) -> Symbols:
        """The same neurons, with one of value 0 in place of `ZERO`."""
        if (x == ZERO).any():
            zero = torch.zeros(1, dtype=torch.float64)
            x = np.where(x == ZERO, self._add(Affine((), zero, zero))[0], x)
        return x

    def shared(self, key: tuple[object, ...], weight: Tensor, make: Callable[[], LinearMap]) -> LinearMap:
        """A map of a weight, the same one for the same key, which begins with the weight's `id`."""
        if key not in self._maps:  # The key is good for as long as the weight is kept.
            self._maps[key] = weight, make()
        return self._maps[key][1]

    def _columns(self, weight: Tensor, columns: Symbols) -> LinearMap:
        """Some columns of a weight; the same map for the same columns."""
        every = np.array_equal(columns, np.arange(weight.shape[1]))
        make = lambda: Dense(weight if every else weight[:, torch.from_numpy(columns)])  # noqa: E731
        return self.shared((id(weight), columns.tobytes()), weight, make)

    def source_of(self, x: Symbols) -> Symbols:
        """Each neuron's node; `ZERO` for zeros."""
        found = np.searchsorted(np.frombuffer(self._starts, dtype=np.int64), x, side="right") - 1
        return np.where(x == ZERO, ZERO, found)

    def made_by(self, x: Symbols, source: int) -> tuple[Operation, Symbols] | None:
        """The operation of one operand that a node of all these neurons is, and the neurons that it reads for them."""
        node = self._nodes[source]
        if not isinstance(node, Apply) or node.op.arity != 1:
            return None
        read = node.operands[0]
        every = torch.arange(self._nodes[read.source].size)[read.index].numpy() + self._starts[read.source]
        return node.op, every[x - self._starts[source]]

    def scaled_by(self, x: Symbols, source: int) -> Scaled | None:
        """Neurons of a sum that scales and shifts at most one neuron each, constants being shifts."""
        node = self._nodes[source]
        if not isinstance(node, Affine) or not all(term.map.elementwise for term in node.terms):
            return None
        positions = torch.from_numpy(x - self._starts[source])
        found = Scaled(np.full_like(x, ZERO), torch.zeros(len(x), dtype=torch.float64), *node.shift(positions))
        for term in node.terms:
            inner, index = self._nodes[term.operand.source], torch.arange(self._nodes[term.operand.source].size)
            read = index[term.operand.index][positions]
            factor = term.map.weights[positions] if len(term.map.weights) else torch.ones_like(found.factor)
            if isinstance(inner, Affine) and not inner.terms:
                shift, size = inner.shift(read)
                found = replace(found, shift=found.shift + factor * shift, size=2 * (found.size + factor.abs() * size))
            elif bool((found.factor == 0).all()):
                found = replace(found, read=read.numpy() + self._starts[term.operand.source], factor=factor)
            else:
                return None
        return found

    def _sources(self, x: Symbols) -> list[int]:
        return [int(source) for source in np.unique(self.source_of(x)) if source != ZERO]

    def operand(self, x: Symbols, source: int, ordered: bool = False) -> tuple[Symbols, Operand]:
        """Where in x (one axis) neurons of a node stand, and those neurons, in the node's order if `ordered`."""
        there = np.flatnonzero(self.source_of(x) == source)
        if ordered:
            there = there[np.argsort(x[there], kind="stable")]
        positions = x[there] - self._starts[source]
        return there, Operand(source, as_index(torch.from_numpy(positions)))

    def _groups(self, xs: list[Symbols]) -> list[tuple[Symbols, tuple[int, ...]]]:
        """The positions of flat arrays that read the same node in each, group by group, in the first node's order."""
        if not xs or len(xs[0]) == 0:
            return []
        keys = np.stack([self.source_of(x) for x in xs])
        if (keys == keys[:, :1]).all():
            return [(np.lexsort((xs[-1], xs[0])), tuple(keys[:, 0].tolist()))]
        found, inverse = np.unique(keys, axis=1, return_inverse=True)
        order = np.lexsort((xs[-1], xs[0], inverse.ravel()))
        groups = np.split(order, np.flatnonzero(np.diff(inverse.ravel()[order])) + 1)
        return [(group, tuple(int(s) for s in found[:, k])) for k, group in enumerate(groups)]


def scaling(factors: NDArray[np.float64]) -> LinearMap:
    """Each number times its factor."""
    return Identity(len(factors)) if (factors == 1).all() else Diagonal(torch.from_numpy(factors.copy()))
