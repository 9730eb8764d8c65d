"""The bounding passes over a network by name: what `tightverify.bounds` asks for, and what studies of tightness compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tightverify.bounds.bounding_pass import closed_form_by
from tightverify.bounds.fitted import combined_bounds, fitted_bounds
from tightverify.bounds.interval import claim, interval_bounds, rows_over
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.rows import neuron_rows, neurons_between
from tightverify.bounds.window import IntervalPass, WindowPass, further
from tightverify.budget import UNLIMITED
from tightverify.graph import Graph
from tightverify.region import Region
from tightverify.settings import WINDOW, Settings
from tightverify.stages.bounding import planes_fitting
from tightverify.stages.combine import efforts
from tightverify.stages.problem import or_else
from tightverify.values import Interval, below


class Bounded(Protocol):
    """What a bounding pass finds on a batch of regions."""

    @property
    def intervals(self) -> Sequence[Interval]:
        """By node."""

    def lower(self, rows: dict[int, Tensor]) -> Tensor:
        """(B, R): sound lower bounds of the sum over nodes of `rows @ node`, rows (B or 1, R, n)."""

    def tighten(self, number: int) -> Interval:
        """One node's interval, the best that the pass has for it."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Interval arithmetic as a bounding pass."""

    intervals: Sequence[Interval]

    def lower(self, rows: dict[int, Tensor]) -> Tensor:
        total: Tensor | float = 0.0
        for number, row in rows.items():
            total = below(rows_over(row, self.intervals[number]) + total, 0.0)
        assert isinstance(total, Tensor)
        return total

    def tighten(self, number: int) -> Interval:
        return self.intervals[number]


def first_round(graph: Graph, region: Region, settings: Settings) -> Bounded:
    """What the first round of `combine` comes to."""
    first = linear_bounds(graph, region, window=further(settings.window))
    return combined_bounds(graph, region, efforts(settings)[0], first.intervals, window=settings.window)


@dataclass(frozen=True, eq=False)
class Windowed:
    """A pass with a window of so many frames, at its end."""

    ended: WindowPass

    @classmethod
    def over(cls, graph: Graph, region: Region, frames: int, lines: str) -> Windowed:
        ended = WindowPass.over(graph, region, frames)
        ended.run(UNLIMITED, closed_form_by(lines))
        return cls(ended)

    @property
    def intervals(self) -> Sequence[Interval]:
        return self.ended.intervals

    def lower(self, rows: dict[int, Tensor]) -> Tensor:
        return self.ended.lower(rows)

    def tighten(self, number: int) -> Interval:
        return neurons_between(self.ended, number, self.lower(neuron_rows(self.ended, number)))


PASSES: dict[str, Callable[[Graph, Region, Settings], Bounded]] = {
    "interval": lambda graph, region, _: Boxes(interval_bounds(graph, region)),
    "crown-ibp": lambda graph, region, settings: IntervalPass(graph, region).run(UNLIMITED, closed_form_by(settings.lines)),
    "lbp": lambda graph, region, settings: Windowed.over(graph, region, 0, settings.lines),
    "crown-lbp": lambda graph, region, settings: Windowed.over(graph, region, 0, settings.lines).ended.found(),
    "window": lambda graph, region, settings: Windowed.over(graph, region, or_else(settings.window, WINDOW), settings.lines),
    "linear": lambda graph, region, settings: linear_bounds(
        graph, region, relaxation=closed_form_by(settings.lines), window=settings.window
    ),
    "planes": lambda graph, region, settings: fitted_bounds(graph, region, planes_fitting(settings), window=settings.window),
    "combine": first_round,
}
"""How every node is bounded, by method."""


def all_intervals(graph: Graph, bounded: Bounded) -> list[Interval]:
    """Every node's interval, the best of the output among them."""
    intervals = claim(graph, list(bounded.intervals))
    intervals[graph.output] = intervals[graph.output].intersect(bounded.tighten(graph.output))
    return intervals
