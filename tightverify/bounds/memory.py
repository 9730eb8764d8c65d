"""How many inputs may be bounded together: by the largest temporary of a bounding pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tightverify.bounds.stops import inputs_kept
from tightverify.budget import Budget
from tightverify.graph import Apply, Graph, Input
from tightverify.region import Region

FORMS = 16
"""What is kept of all nodes of inputs that are bounded together may take so many times as much as a temporary."""


def parts(
    graph: Graph, region: Region, budget: Budget, directions: int = 0, share: int = 1, window: int | None = None
) -> Iterator[slice]:
    """The inputs cut into parts of equal size, in which the largest temporary of a bounding pass keeps to a part of the memory.

    With a `window`, in which functions of the input are stored, these keep to a multiple of it.
    """
    most = most_together(graph, region, budget.portion(share), pass_rows(graph, directions))
    if window is not None:
        most = max(1, min(most, FORMS * budget.memory // (8 * kept_numbers(graph, window))))
    size = math.ceil(len(region) / math.ceil(len(region) / most))
    for start in range(0, len(region), size):
        yield slice(start, start + size)


def kept_numbers(graph: Graph, window: int) -> int:
    """How many numbers the forms have at which one region's rows stop, at most."""
    widths = [node.size for node in graph.nodes if isinstance(node, Input)]
    kept = sum(sorted(widths, reverse=True)[: inputs_kept(window)])
    return max(1, 2 * kept * sum(node.size for node in graph.nodes if isinstance(node, Apply)))


def pass_rows(graph: Graph, directions: int = 0) -> int:
    """How many rows a bounding pass bounds at once, of one region."""
    rows = 2 * max(graph.nodes[number].size for number in (*graph.bounded, graph.output))
    return max([rows, *(2 * directions * node.size for node in graph.nodes if isinstance(node, Apply))])


def most_together(graph: Graph, region: Region, budget: Budget, rows: int) -> int:
    """Of how many regions so many rows each may be bounded together, if the largest temporary keeps to the memory allowed."""
    return max(1, budget.memory // (row_numbers(graph, region, rows) * 8))


def largest_temporary(graph: Graph, region: Region, budget: Budget) -> int:
    """How many numbers the largest temporary of a bounding pass has, the inputs being cut into parts for the memory allowed."""
    rows = pass_rows(graph)
    return min(len(region), most_together(graph, region, budget, rows)) * row_numbers(graph, region, rows)


def row_numbers(graph: Graph, region: Region, rows: int) -> int:
    """How many numbers so many rows over one region have, where they are widest."""
    width = max(node.size for node in graph.nodes)
    if not region.separable:
        width = max(width, graph.input_size)  # then the rows over all inputs are needed side by side
    return rows * width
