"""Einstein's sums: axes are named, those of the same name are multiplied along, those that the result does not name summed.

Operands are neurons or constants, of which at least one is of neurons. They are taken in one after the other, that one first,
so that no two constants are ever multiplied: weights are the file's own numbers. A product with a constant is a matrix for each
place of the axes that both have and that stay; one of neurons is all products, then their sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.models.builder import Builder, Symbols
from tightverify.models.sizes import fits

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Factor:
    """Neurons' numbers or constants, and the names of their axes."""

    values: NDArray[Any]
    names: Names

    @classmethod
    def of(cls, values: Symbols | Tensor, names: Names) -> Factor:
        """With axes of the same name, of which the diagonal is meant, as one."""
        found = values.numpy() if isinstance(values, Tensor) else values
        if found.ndim != len(names):
            raise ValueError(f"{len(names)} axes are named of a tensor of {found.ndim}")
        while len(set(names)) < len(names):
            first = next(k for k, name in enumerate(names) if name in names[k + 1 :])
            second = names.index(names[first], first + 1)
            if found.shape[first] != found.shape[second]:
                raise ValueError(f"a diagonal of {found.shape[first]} x {found.shape[second]} numbers")
            found = np.diagonal(found, 0, first, second)
            names = (*(name for k, name in enumerate(names) if k not in (first, second)), names[first])
        return cls(found, names)

    @property
    def lengths(self) -> dict[str, int]:
        return dict(zip(self.names, self.values.shape, strict=True))

    def along(self, names: Names, lengths: dict[str, int] | None = None) -> NDArray[Any]:
        """Its axes in this order, of length 1 or of these lengths where it has none or one of length 1."""
        order = [self.names.index(name) for name in names if name in self.names]
        missing = tuple(k for k, name in enumerate(names) if name not in self.names)
        found = np.expand_dims(self.values.transpose(order), missing)
        return found if lengths is None else np.broadcast_to(found, tuple(lengths[name] for name in names))


def contract(builder: Builder, operands: Sequence[Symbols | Tensor], names: Sequence[Names], wanted: Names) -> Symbols:
    """The sum of the products of the operands over all axes but those that are wanted, in the order of these."""
    factors = [(Factor.of(x, named), isinstance(x, Tensor)) for x, named in zip(operands, names, strict=True)]
    factors.sort(key=lambda pair: pair[1])  # neurons first
    (found, _), *others = factors
    for k, (other, constant) in enumerate(others):
        later = {name for factor, _ in others[k + 1 :] for name in factor.names}
        kept = {*wanted, *later}
        found = summed(builder, found, {*kept, *other.names})
        found = (by_matrices if constant else by_products)(builder, found, other, kept)
    return Factor.along(summed(builder, found, set(wanted)), wanted)


def summed(builder: Builder, x: Factor, kept: set[str]) -> Factor:
    """Over the axes that are not kept."""
    axes = tuple(k for k, name in enumerate(x.names) if name not in kept)
    return Factor(builder.total(x.values, axes), tuple(name for name in x.names if name in kept)) if axes else x


def shared(x: Factor, y: Factor, kept: set[str]) -> tuple[Names, Names, Names, Names, dict[str, int]]:
    """Axes of both that are kept, of both that are summed, of x alone and of y alone; and how long all are."""
    lengths = dict(x.lengths)
    for name, length in y.lengths.items():
        one = lengths.get(name, length)
        if one != length and 1 not in (one, length):
            raise ValueError(f"axes of {one} and {length} numbers under one name")
        lengths[name] = length if one == 1 else one
    both = tuple(name for name in x.names if name in y.names)
    parts = tuple(name for name in both if name in kept), tuple(name for name in both if name not in kept)
    alone = tuple(name for name in x.names if name not in both), tuple(name for name in y.names if name not in both)
    return (*parts, *alone, lengths)


def by_products(builder: Builder, x: Factor, y: Factor, kept: set[str]) -> Factor:
    """Of neurons and neurons."""
    y = summed(builder, y, {*kept, *x.names})
    both, over, ours, theirs, _ = shared(x, y, kept)
    names = (*both, *ours, *theirs, *over)
    return summed(builder, Factor(builder.multiply(x.along(names), y.along(names)), names), kept)


def by_matrices(builder: Builder, x: Factor, y: Factor, kept: set[str]) -> Factor:
    """Of neurons and constants, of which axes of their own stay."""
    both, over, ours, theirs, lengths = shared(x, y, kept)
    names = (*both, *ours, *theirs)
    if not over:
        weights = torch.from_numpy(np.array(y.along(names)))
        return Factor(builder.combine([(x.along(names), weights)]), names)
    count, rows, columns, outputs = (math.prod(lengths[name] for name in part) for part in (both, ours, over, theirs))
    fits(count, rows, outputs)
    fits(count, rows, columns)
    fits(count, outputs, columns)
    read = x.along((*both, *ours, *over), lengths).reshape(count, rows, columns)
    weights = torch.from_numpy(np.array(y.along((*both, *theirs, *over), lengths))).reshape(count, outputs, columns)
    made = np.empty((count, rows, outputs), dtype=np.int64)
    for k in range(count):
        made[k] = builder.matmul(read[k], weights[k])
    return Factor(made.reshape([lengths[name] for name in names]), names)


def matrix_product(builder: Builder, x: Symbols | Tensor, y: Symbols | Tensor) -> Symbols:
    """Of matrices, or stacks of such, or vectors; at least one side is of neurons."""
    stack = [tuple(str(k) for k in range(side.ndim - 2, 0, -1)) for side in (x, y)]
    rows = ("row",) if x.ndim > 1 else ()
    columns = ("column",) if y.ndim > 1 else ()
    result = (*max(stack, key=len), *rows, *columns)
    return contract(builder, (x, y), ((*stack[0], *rows, "inner"), (*stack[1], "inner", *columns)), result)
