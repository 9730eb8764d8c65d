"""A node of a search tree: where it was split off, what is proved on it, and how it was closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Branch:
    """One node of a search tree, as it can be written down; `closed` says how it ended, if it was not split."""

    number: int
    parent: int
    split: Split | None
    margins: tuple[float, ...]
    closed: str = ""


def split_in(branches: Sequence[Branch]) -> set[int]:
    """Which nodes of a tree were split."""
    return {branch.parent for branch in branches if branch.split is not None}


@dataclass(frozen=True)
class Split:
    """Half of a region: a neuron of a node is at most a value, or (`above`) at least.

    Where `node` is -1, an output constraint: the row of number `neuron` of the property is at most the value.
    """

    node: int
    neuron: int
    value: float
    above: bool
