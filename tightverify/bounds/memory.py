"""How many inputs may be bounded together: by the largest temporary of a bounding pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tightverify.bounds.linear import row_numbers
from tightverify.graph import Apply, Graph
from tightverify.region import Region


def parts(graph: Graph, region: Region, memory: int, directions: int = 0) -> Iterator[slice]:
    """The inputs cut into parts of equal size, in which the largest temporary of a sweep has at most so many bytes."""
    most = most_together(graph, region, memory, pass_rows(graph, directions))
    size = math.ceil(len(region) / math.ceil(len(region) / most))
    for start in range(0, len(region), size):
        yield slice(start, start + size)


def pass_rows(graph: Graph, directions: int = 0) -> int:
    """How many rows a sweep bounds at once, of one region."""
    rows = 2 * max(graph.nodes[number].size for number in (*graph.bounded, graph.output))
    return max([rows, *(2 * directions * node.size for node in graph.nodes if isinstance(node, Apply))])


def most_together(graph: Graph, region: Region, memory: int, rows: int) -> int:
    """Of how many regions so many rows each may be bounded together, if the largest temporary has at most so many bytes."""
    return max(1, memory // (row_numbers(graph, region, rows) * 8))


def largest_temporary(graph: Graph, region: Region, memory: int) -> int:
    """How many numbers the largest temporary of a sweep has, the inputs being cut into parts for so much memory."""
    rows = pass_rows(graph)
    return min(len(region), most_together(graph, region, memory, rows)) * row_numbers(graph, region, rows)
