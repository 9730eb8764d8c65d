"""Which neuron to split: the one whose halves promise the greatest gain for the row that decides (`bounds.scores`)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tightverify.bounds.result import LinearBounds
from tightverify.graph import Apply

LEAST_GAIN = 1e-9
MATTER = 16
"""neurons of a node whose intervals are bounded anew in each half"""


@dataclass(frozen=True)
class Candidate:
    """A neuron that may be split, and the estimated gain."""

    node: int
    neuron: int
    gain: float


def best(gains: dict[int, Tensor]) -> list[tuple[Candidate, ...]]:
    """For each region the neuron of each node that promises most, if it promises some."""
    found: list[list[Candidate]] = [[] for _ in range(len(next(iter(gains.values()))))] if gains else []
    for node, values in sorted(gains.items()):
        for mine, value, neuron in zip(found, *(part.tolist() for part in values.max(1)), strict=True):
            if value > LEAST_GAIN:
                mine.append(Candidate(node, neuron, value))
    return [tuple(mine) for mine in found]


def best_scored(gains: dict[int, Tensor]) -> dict[int, Tensor]:
    """(B, k) for each node: the neurons that promise most."""
    return {node: values.topk(min(MATTER, values.shape[1]), 1).indices for node, values in gains.items()}


def split_value(bounds: LinearBounds, node: int, neuron: int) -> float:
    """Where to split a neuron of a single region: in the middle, or where all that reads the neuron bends."""
    box = bounds.intervals[node].map(lambda ends: ends[0, neuron])
    value = float(box.centre)
    readers = [
        apply.op.traits.breakpoints for apply in bounds.graph.nodes if isinstance(apply, Apply) and node in sources(apply)
    ]
    if readers and all(readers):
        breakpoints = {breakpoint for bends in readers for breakpoint in bends or ()}
        value = max(
            (breakpoint for breakpoint in breakpoints if float(box.lower) < breakpoint < float(box.upper)), default=value
        )
    return value


def sources(node: Apply) -> set[int]:
    return {operand.source for operand in node.operands}
