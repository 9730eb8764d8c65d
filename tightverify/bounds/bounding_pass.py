"""A bounding pass while it runs: node after node gets its interval, its scale, its planes; in the end they are frozen.

Each node's interval is that of its operands, met with what back-substitution of all its neurons gives, or of those that matter;
the docstring of `bounds.linear` says why that is sound, and what its rounding costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tightverify.bounds.constraints import WHOLE, Constraints
from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.forms import Form
from tightverify.bounds.interval import enclose
from tightverify.bounds.pairs import NO_PAIRS, Pairs
from tightverify.bounds.plane_choice import Choices
from tightverify.bounds.quadratics import relaxed_quadratic
from tightverify.bounds.recorder import SILENT, PassRecorder
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.rows import (
    ROWS,
    About,
    NodeBounds,
    lower_bounds,
    mixed_bounds,
    multipliers_of,
    neuron_rows,
    neurons_between,
    operand_boxes,
    output_constraint,
    padded,
)
from tightverify.bounds.stops import NOWHERE, Edge, Stops
from tightverify.budget import Budget
from tightverify.graph import Affine, Apply, Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import TINY, FrozenMapping, Interval

Relaxation = Callable[["BoundingPass", Apply], tuple[Planes, ...]]
"""Pairs of planes for an operation, each sure to hold it on all that its operands can be, by the bounds found so far."""


def closed_form(bounds: NodeBounds, node: Apply) -> tuple[Planes, ...]:
    """The operation's own planes over its operands' intervals."""
    return (node.op.relax(*operand_boxes(bounds, node)),)


def closed_form_by(lines: str) -> Relaxation:
    """The planes of one of the strategies of `methods.LINES`."""
    return lambda bounds, node: (node.op.by_lines(lines, *operand_boxes(bounds, node)),)


@dataclass(eq=False)
class BoundingPass:
    """What has been found of the nodes by now, which are the graph's first; `found` freezes it.

    `planes`, `polygons`, `pairs` and `constraints` are as in `LinearBounds`; `crossed` and `output_multipliers` go into the
    constraints in the end.
    """

    graph: Graph
    region: Region
    mixtures: int = 0
    recorder: PassRecorder = SILENT
    constraints: Constraints = WHOLE
    intervals: list[Interval] = field(default_factory=list)
    scales: list[Tensor] = field(default_factory=list)
    planes: dict[int, tuple[Planes, ...]] = field(default_factory=dict)
    choices: Choices = field(default_factory=Choices)
    polygons: dict[int, Polygons] = field(default_factory=dict)
    pairs: dict[int, Pairs] = field(default_factory=dict)
    paired: bool = True
    """whether the neurons' own rows take pairs too"""
    crossed: list[Tensor] = field(default_factory=list)
    output_multipliers: dict[int, Tensor] = field(default_factory=dict)
    stops: Stops | None = None
    """the forms at which rows stop, if they go back through a window"""
    _met: list[Tensor] = field(default_factory=list, init=False)
    """what `met` has worked out: the sums up to the first nodes, one after the other"""
    _forms: dict[int, Form] = field(default_factory=dict, init=False)
    """what rows have gone on with where they have stopped"""

    @classmethod
    def over_again(cls, bounds: LinearBounds, mixtures: int, paired: bool) -> BoundingPass:
        """A further pass over all nodes, which betters what an earlier one has found."""
        return cls(
            bounds.graph,
            bounds.region,
            mixtures,
            bounds.recorder,
            bounds.constraints,
            list(bounds.intervals),
            list(bounds.scales),
            dict(bounds.planes),
            Choices(),
            dict(bounds.polygons),
            dict(bounds.pairs),
            paired,
            list(bounds.constraints.crossed),
            dict(bounds.constraints.output_multipliers),
            bounds.stops,
        )

    @property
    def pairs_of_rows(self) -> Mapping[int, Pairs]:
        """The neurons that rows over operations take two and two."""
        return self.pairs if self.paired else NO_PAIRS

    def found(self) -> LinearBounds:
        """What it has come to."""
        crossed = (torch.stack(self.crossed).any(0),) if self.crossed else ()
        constraints = replace(self.constraints, crossed=crossed, output_multipliers=FrozenMapping(self.output_multipliers))
        return LinearBounds(
            self.graph,
            self.region,
            tuple(self.intervals),
            tuple(self.scales),
            FrozenMapping(self.planes),
            FrozenMapping(self.polygons),
            FrozenMapping(self.pairs),
            self.mixtures,
            constraints,
            self.recorder,
            self.choices,
            self.stops,
        )

    def run(
        self, budget: Budget, relaxation: Relaxation = closed_form, known: Sequence[Interval] | None = None
    ) -> LinearBounds:
        """Come by all nodes that are left; the budget is looked at before each one. `known` are intervals that hold."""
        bounded = set(self.graph.bounded)
        for number in range(len(self.intervals), len(self.graph.nodes)):
            budget.check()
            self.intervals.append(enclose(self.graph, number, self.intervals, self.region))
            if known is None:
                self.recorder.interval(number, self.intervals[number])
            else:
                self.learn(number, known[number])
            self.scales.append(node_scale(self, number))
            match self.graph.nodes[number]:
                case Apply() as node:
                    self.relax(number, padded(self, node, relaxation(self, node)))
                case Quadratic():
                    self.relax_quadratic(number)
            if number in bounded:
                self.tighten(number)
        return self.found()

    def learn(self, number: int, interval: Interval) -> None:
        """One more interval that holds for a node's neurons on the whole region, or on the part of it."""
        known = self.intervals[number]
        if not self.constraints.part:
            self.intervals[number] = known.intersect(interval)
        else:
            self.intervals[number], crossed = known.meet(interval)
            self.crossed.append(crossed)
            self.recorder.empty(number, interval, crossed)
        self.recorder.interval(number, self.intervals[number])

    def relax(self, number: int, pairs: tuple[Planes, ...]) -> None:
        """An operation's planes from now on."""
        self.planes[number] = pairs
        self.recorder.planes(number, pairs)

    def relax_quadratic(self, number: int) -> None:
        """The planes of a sum of squares of affine forms."""
        self.relax(number, (relaxed_quadratic(self.graph, self.region, number, self.intervals, self.scales),))

    def tighten(self, number: int, chosen: Tensor | None = None) -> None:
        """Learn one node's interval by back-substitution of all its neurons, or of those chosen (B, k), both signs at once."""
        rows = neuron_rows(self, number, chosen)
        output = output_constraint(self, number)
        if output is None:
            found = self.lower(rows, about=("neurons", number))
        else:
            found = self._constrained(output, rows, number, chosen)
        self.learn(number, neurons_between(self, number, found, chosen))

    def _constrained(
        self, output_constraint: OutputConstraint, rows: dict[int, Tensor], number: int, chosen: Tensor | None
    ) -> Tensor:
        """The bounds of a node's neurons and their negations, from the multipliers that did best last time, which are kept."""
        size = self.graph.nodes[number].size
        some = torch.arange(size, device=self.region.centre.device).expand(len(self.region), -1) if chosen is None else chosen
        places = torch.cat([some, some + size], dim=1)
        before = self.output_multipliers.get(number)
        if before is None:
            before = output_constraint.first_multipliers(self.intervals[number].width).repeat(1, 2)
        multipliers = multipliers_of(self, rows, output_constraint, output_multipliers=before.gather(1, places))
        found = mixed_bounds(self, multipliers, about=("neurons", number))
        self.output_multipliers[number] = before.scatter(1, places, multipliers.best_output_multipliers)
        return found

    def lower(self, rows: dict[int, Tensor], steps: int | None = None, quick: bool = False, about: About = ROWS) -> Tensor:
        """(B, R): lower bounds of rows over the nodes that it has come by, as `lower_bounds` has them."""
        return lower_bounds(self, rows, steps, quick, about)

    def edge(self, start: int) -> Edge:
        """Where rows stop that start at a node."""
        return NOWHERE if self.stops is None else self.stops.edge(start, self._form_at)

    def _form_at(self, number: int) -> Form:
        """The form with which rows go on that stop at a node: it was come by, so that its interval stays."""
        assert self.stops is not None
        if number not in self._forms:
            met = self.met(len(self.intervals) - 1)
            self._forms[number] = self.stops.form(number, self.intervals[number], self.region.box.centre, met)
        return self._forms[number]

    def met(self, last: int) -> Tensor:
        """(B,): the sum of all magnitudes and scales of nodes up to a last one: all that an underflow can be multiplied by.

        What was worked out stays, though intervals shrink afterwards.
        """
        for number in range(len(self._met), last + 1):
            sizes = (self.intervals[number].magnitude + self.scales[number]).sum(1)
            self._met.append(sizes if number == 0 else sizes + self._met[-1])
        return self._met[last]


def node_scale(bounds: BoundingPass, number: int) -> Tensor:
    """The scale s of `bounds.linear`: (B, n)."""
    node = bounds.graph.nodes[number]
    if isinstance(node, Input):
        return bounds.region.rounding_scale[:, node.block]
    total = torch.full((len(bounds.region), node.size), TINY, dtype=torch.float64, device=bounds.region.centre.device)
    if isinstance(node, Affine):
        total = total + node.bias_size
        for term in node.terms:
            source, index = term.operand.source, term.operand.index
            total = total + term.map.magnitude.push((bounds.intervals[source].magnitude + bounds.scales[source])[..., index])
    return total
