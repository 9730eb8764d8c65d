"""What a bounding pass found: the bounds of a network over a batch of regions, which nothing changes any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from tightverify.bounds.constraints import WHOLE, Constraints
from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.mixtures import MOST_STEPS, PrimalPoint
from tightverify.bounds.pairs import Pairs
from tightverify.bounds.plane_choice import Choices
from tightverify.bounds.recorder import SILENT, PassRecorder
from tightverify.bounds.rows import (
    NONE,
    ROWS,
    About,
    allowance,
    lower_bounds,
    mixed,
    multipliers_of,
    neuron_rows,
    neurons_between,
    proved_bounds,
)
from tightverify.bounds.stops import NOWHERE, Edge, Stops
from tightverify.errors import SoundnessFault
from tightverify.graph import Graph
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import FrozenMapping, Interval


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """Every node's interval and scale (`bounds.linear`), every operation's choice of planes, over a batch of regions."""

    graph: Graph
    region: Region
    intervals: tuple[Interval, ...]
    scales: tuple[Tensor, ...]
    planes: Mapping[int, tuple[Planes, ...]]
    polygons: Mapping[int, Polygons] = field(default_factory=FrozenMapping)
    """what the operands of an operation can be together, (B * n), where sums and differences of them were bounded"""
    pairs: Mapping[int, Pairs] = field(default_factory=FrozenMapping)
    """the neurons of an operation that are taken two and two"""
    mixtures: int = 0
    """steps towards the best mixture of planes for each row; 0 for none: then the best of the pairs counts"""
    constraints: Constraints = WHOLE
    """what all of it holds under"""
    recorder: PassRecorder = SILENT
    """who hears what else is found by it"""
    choices: Choices = field(default_factory=Choices)
    stops: Stops | None = None
    """where further passes over these regions, or over parts of them, have rows stop"""

    @property
    def pairs_of_rows(self) -> Mapping[int, Pairs]:
        """The neurons that rows over operations take two and two."""
        return self.pairs

    @property
    def output_constraint(self) -> OutputConstraint | None:
        """What holds of a row of the property on each part, if these are such parts."""
        return self.constraints.output

    @property
    def nothing(self) -> Tensor:
        """(B,): of which parts nothing is left."""
        none = torch.zeros(len(self.region), dtype=torch.bool, device=self.region.centre.device)
        return torch.stack(self.constraints.crossed).any(0) if self.constraints.crossed else none

    def __getitem__(self, inputs: slice | Tensor) -> LinearBounds:
        """What was found for some of the inputs."""
        return self.map(lambda value: value[inputs], self.region[inputs])

    def map(self, change: Callable[[Tensor], Tensor], region: Region) -> LinearBounds:
        """The same change of the batch, made to every tensor, beside the region that it is made to."""

        def polygons(number: int, old: Polygons) -> Polygons:
            vertices = old.vertices.view(-1, self.graph.nodes[number].size, *old.vertices.shape[1:])
            return Polygons(change(vertices).flatten(0, 1))

        return LinearBounds(
            self.graph,
            region,
            tuple(interval.map(change) for interval in self.intervals),
            tuple(change(scale) for scale in self.scales),
            FrozenMapping({number: tuple(pair.map(change) for pair in pairs) for number, pairs in self.planes.items()}),
            FrozenMapping({number: polygons(number, old) for number, old in self.polygons.items()}),
            FrozenMapping({number: old.map(change) for number, old in self.pairs.items()}),
            self.mixtures,
            self.constraints.map(change),
            self.recorder.map(change),
            stops=None if self.stops is None else self.stops.map(change, self.region),
        )

    def edge(self, start: int) -> Edge:
        """What is asked for goes back to the input."""
        return NOWHERE

    def met(self, last: int) -> Tensor:
        """(B,): the sum of all magnitudes and scales of nodes up to a last one: all that an underflow can be multiplied by."""
        return self._sums[last]

    @cached_property
    def _sums(self) -> tuple[Tensor, ...]:
        each = [(box.magnitude + scale).sum(1) for box, scale in zip(self.intervals, self.scales, strict=True)]
        return tuple(torch.stack(each).cumsum(0)) if each else ()

    def lower(self, rows: dict[int, Tensor], steps: int | None = None, quick: bool = False, about: About = ROWS) -> Tensor:
        """(B, R): sound lower bounds of the sum over nodes of `rows @ node`, rows (B or 1, R, n): see `lower_bounds`."""
        return lower_bounds(self, rows, steps, quick, about)

    def tighten(self, number: int) -> Interval:
        """One node's interval by back-substitution of all its neurons, both signs at once."""
        return neurons_between(self, number, self.lower(neuron_rows(self, number), about=("neurons", number)))

    def at_primal_point(
        self, rows: dict[int, Tensor], steps: int, start: Mapping[int, Tensor] = NONE, target: Tensor | None = None
    ) -> tuple[Tensor, PrimalPoint]:
        """The bounds of `lower` by mixtures, and where in the region and the network the last of them was attained.

        `start` are multipliers (B, 1, n) of interval constraints to begin with. The output constraint brings nothing for its
        own row. Steps end early where all rows are above `target` (B, R), or will not get there.
        """
        if not self.mixtures:
            raise SoundnessFault("planes were to be mixed that do not pay for its rounding: this is a bug, please report it")
        multipliers = multipliers_of(self, rows, None, start)
        trial = self.recorder.trial(ROWS, rows)
        aim = None if target is None else target + allowance(self, rows, multipliers.last)
        found = mixed(self, multipliers, min(MOST_STEPS, steps), trial, aim)
        proved = proved_bounds(self, found.lower, rows, trial, multipliers.last)
        return proved, found.primal_point(self.graph, self.region, multipliers)
