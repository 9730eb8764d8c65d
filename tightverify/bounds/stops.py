"""Where rows that start at a node stop on their way to the input: at forms that are stored of nodes some way below.

A `Stops` has the forms of a bounding pass that goes back through a window (`bounds.window`), and how wide that is; an `Edge`
says of rows that start at one node where they stop. Of each neuron there the better of two functions counts: that of its form,
or the constant of its interval, which later passes narrow: on either side the tighter one in the middle of the region.

Parts of a region have the forms of the whole, which hold there too: only their places go from batch to batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from tightverify.bounds.forms import Form, Side
from tightverify.errors import SoundnessFault
from tightverify.graph import Apply, Graph, Input
from tightverify.region import Region
from tightverify.values import Interval

KEPT, WINDOWS = 8, 2


def inputs_kept(window: int) -> int:
    """An operation's form keeps so many input nodes, those that were read last: some, or some windows of them."""
    return max(KEPT, WINDOWS * window)


class Edge(Protocol):
    """Where rows that start at some node stop."""

    def at(self, number: int) -> Form | None:
        """The form of a node at which they do."""

    def beyond(self, number: int) -> bool:
        """Whether a node lies there, or below."""

    def near(self, number: int) -> bool:
        """Whether a later node is within the window of the one that they start from."""


@dataclass(frozen=True)
class Open:
    """Rows go on to the input."""

    def at(self, number: int) -> Form | None:
        return None

    def beyond(self, number: int) -> bool:
        return False

    def near(self, number: int) -> bool:
        return True


NOWHERE = Open()


@dataclass(frozen=True, eq=False)
class Window:
    """They stop at operations that lie at least so many, one after the other, below the node that they start from."""

    graph: Graph
    levels: Sequence[int]
    start: int
    width: int
    form: Callable[[int], Form]

    def at(self, number: int) -> Form | None:
        return self.form(number) if self.beyond(number) and isinstance(self.graph.nodes[number], Apply) else None

    def beyond(self, number: int) -> bool:
        return number != self.start and self.levels[number] <= self.levels[self.start] - self.width

    def near(self, number: int) -> bool:
        return self.levels[number] <= self.levels[self.start] + self.width


@dataclass(frozen=True, eq=False)
class Stops:
    """Forms of operations over regions, and through how many `levels` rows go before they may stop there."""

    graph: Graph
    width: int
    levels: Sequence[int]
    """for each node, how many operations lie one after the other on the longest way to it"""
    forms: Mapping[int, Form] = field(default_factory=dict)
    places: Tensor | None = None
    """(B,): the regions among those of the forms that a batch is of parts of; None where it is these"""

    def edge(self, start: int, form: Callable[[int], Form], further: int = 1) -> Edge:
        """Where rows stop that start at a node, or so many times `further` below."""
        return Window(self.graph, self.levels, start, further * self.width, form)

    def map(self, change: Callable[[Tensor], Tensor], region: Region) -> Stops:
        """The same change of the batch, of which a `region` was."""
        places = torch.arange(len(region), device=region.centre.device) if self.places is None else self.places
        return replace(self, places=change(places))

    def form(self, number: int, box: Interval, centre: Tensor, met: Tensor) -> Form:
        """That of a node, or its interval, as rows over a batch of parts stop there."""
        form = self.forms[number] if self.places is None else self.forms[number].of(self.places)
        constants = Form(Side({}, box.lower), Side({}, box.upper)).settled({}, self.graph.rounding, met)
        inputs = {source: centre[:, self._input(source).block] for source in form.lower.slopes}
        return form.or_constants(constants, inputs)

    def _input(self, number: int) -> Input:
        node = self.graph.nodes[number]
        assert isinstance(node, Input)
        return node


def together(several: Sequence[Stops | None]) -> Stops | None:
    """Those of parts of regions of one batch as those of a batch of parts."""
    first = several[0]
    if first is None:
        return None
    places = [one.places for one in several if one is not None and one.places is not None]
    if len(places) < len(several) or any(one is None or one.forms is not first.forms for one in several):
        raise SoundnessFault("parts of regions were put together whose forms are not the same: this is a bug, please report it")
    return replace(first, places=torch.cat(places))
