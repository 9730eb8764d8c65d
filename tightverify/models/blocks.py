"""Several perturbed inputs of a model as one: their numbers lie one after the other in a flat input, each a block of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]
"""Of one input each, without the batch, by the names of the model's inputs."""


@dataclass(frozen=True)
class Block:
    """Where the numbers of an input of a name lie, and its shape, without the batch."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def of(self, x: Tensor) -> Tensor:
        """(N, *shape): its own numbers of flat inputs x (N, n)."""
        return x[:, self.start : self.start + self.size].reshape(len(x), *self.shape)


def blocks_of(shapes: Shapes) -> tuple[Block, ...]:
    """One for each name, in their order."""
    found: list[Block] = []
    start = 0
    for name, shape in shapes.items():
        found.append(Block(name, tuple(shape), start))
        start += found[-1].size
    return tuple(found)


def joined(given: Mapping[str, Tensor], blocks: Sequence[Block], source: str) -> Tensor:
    """(N, n): the inputs of a model side by side, each of its own shape and all equally many."""
    wanted = ", ".join(f"'{block.name}' (N, {', '.join(map(str, block.shape))})" for block in blocks)
    names = {block.name for block in blocks}
    if given.keys() != names:
        raise InputError(f"inputs {', '.join(map(repr, given))} were given; {source} takes {wanted}")
    counts = {name: len(values) for name, values in given.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
        raise InputError(f"there are {shown}; give equally many of each input")
    for block in blocks:
        shape = tuple(given[block.name].shape)
        if shape[1:] != block.shape:
            raise InputError(f"the inputs '{block.name}' have shape {shape}; {source} takes {wanted}")
    return torch.cat([given[block.name].flatten(1).to(torch.float64) for block in blocks], 1)
