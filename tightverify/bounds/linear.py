"""Linear bounds by back-substitution: a row over some neurons becomes a linear function of the input below it.

To bound `row @ y` from below, walk from y to the input: an affine node is replaced by its definition, an operation by
its lower plane where its coefficient is positive and by its upper plane where it is negative. What arrives at the input
is minimised over the region exactly. Upper bounds are lower bounds of the negated row, in the same call.

Every bound that planes are made over is itself computed this way, first things first: node by node the interval from
its operands, then back-substitution of all its neurons, then the intersection of the two, then the planes of the
operations that read it. A frame's bounds thus use the best that is known of all earlier frames.

Rounding. Let c be the computed coefficients of some node in a walk. One step forms the source's coefficients as sums
of products of c and the node's matrix or slopes. The computed sums differ from the exact ones by at most g |c| |A| in
absolute value, g = `graph.rounding`, which counts every product and sum of the longest column, every reader whose
contributions are added up, and every node's contribution to the constant. As the sources' values are within their
known magnitudes M, the function of the sources that was computed is off by at most g |c| (|A| M + |b|) there. Through a
chain of affine nodes these errors obey s = |A| (M + s) + |b|: the `scale` of a node, g |c| s being the error of all
affine steps below it until the next operations or the input. An operation passes |c| times its slopes on (formed from both
planes' slopes, hence counted for both), so its planes are made with their offsets moved apart by
g (|offset| + |slope| (M + s)), summed over both planes and all operands: from then on they pay for everything below
them. The rows that a walk starts from pay g |row| (M + s) at the end. g is twice what is needed, and the scale of an input
covers the rounding of the region's own minimum (`Region.rounding_scale`).

Underflow. A coefficient that underflows is off by less than `TINY`, however small it is, and what is below it meets values as
large as M: each coefficient that a walk computes, one for each neuron of the nodes that it comes by, is off by a function of
at most TINY M there, and of TINY s in all affine steps below. So a walk that starts from nodes up to n pays
TINY (1 + the sum of M + s over all neurons up to there), whatever its rows: `LinearBounds.met`. Scales are sizes that
coefficients multiply, so each is raised by TINY: what its own sums lose. A mixture's slopes may underflow as well, which its
planes pay for by TINY (1 + M + s), like every slope that is formed of others (`padded`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor

from tightverify.bounds.back_substitution import back_substitute
from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.interval import enclose, undefined
from tightverify.bounds.interval_multipliers import IntervalConstraint, Multipliers
from tightverify.bounds.mixtures import MOST_STEPS, START, PrimalPoint, best_mixtures, mixing_error, primal_point
from tightverify.bounds.quadratics import relaxed_quadratic
from tightverify.bounds.recorder import NOBODY, SILENT, PassRecorder, Recorder, Trial
from tightverify.budget import UNLIMITED, Budget
from tightverify.errors import SoundnessFault
from tightverify.graph import Affine, Apply, Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import TINY, Interval, below, times

ROWS = ("rows", -1)
"""What walks are about if nothing else is said: the rows that are wanted."""


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """What a sweep found for a batch of regions: every node's interval and scale, every operation's choice of planes.

    The lists grow node by node while the sweep runs; afterwards nothing changes them.
    """

    graph: Graph
    region: Region
    intervals: list[Interval] = field(default_factory=list)
    scales: list[Tensor] = field(default_factory=list)
    planes: dict[int, tuple[Planes, ...]] = field(default_factory=dict)
    mixtures: int = 0
    """steps towards the best mixture of planes for each row; 0 for none: then the best of the pairs counts"""
    polygons: dict[int, Polygons] = field(default_factory=dict)
    """what the operands of an operation can be together, (B * n), where sums and differences of them were bounded"""
    empty: list[Tensor] = field(default_factory=list)
    """(B,) each, of a `part`: where bounds contradicted one another, so that nothing is left of it"""
    part: bool = False
    """whether the intervals hold on a part of each region only: then they are constraints of their own
    (`bounds.interval_multipliers`)"""
    recorder: PassRecorder = SILENT
    """who is told all that is found"""
    output_constraint: OutputConstraint | None = None
    """what is supposed of the property on each part (`bounds.contradiction`); everything here holds under it"""
    output_multipliers: dict[int, Tensor] = field(default_factory=dict)
    """(B, 2 n) of nodes: the multipliers of what is supposed that bounded the neurons, and their negations, best"""
    _met: list[Tensor] = field(default_factory=list, init=False)
    """what `met` has worked out: the sums up to the first nodes, one after the other"""

    def learn(self, number: int, interval: Interval) -> None:
        """One more interval that holds for a node's neurons on the whole region."""
        known = self.intervals[number]
        if not self.part:
            self.intervals[number] = known.intersect(interval)
        else:
            self.intervals[number], crossed = known.meet(interval)
            self.empty.append(crossed)
            self.recorder.empty(number, interval, crossed)
        self.recorder.interval(number, self.intervals[number])

    @property
    def nothing(self) -> Tensor:
        """(B,): of which parts nothing is left."""
        none = torch.zeros(len(self.region), dtype=torch.bool, device=self.region.centre.device)
        return torch.stack(self.empty).any(0) if self.empty else none

    def relax(self, number: int, pairs: tuple[Planes, ...]) -> None:
        """An operation's planes from now on."""
        self.planes[number] = pairs
        self.recorder.planes(number, pairs)

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
            [interval.map(change) for interval in self.intervals],
            [change(scale) for scale in self.scales],
            {number: tuple(pair.map(change) for pair in pairs) for number, pairs in self.planes.items()},
            self.mixtures,
            {number: polygons(number, old) for number, old in self.polygons.items()},
            [change(empty) for empty in self.empty],
            self.part,
            self.recorder.map(change),
            None if self.output_constraint is None else self.output_constraint.map(change),
            {number: change(output_multipliers) for number, output_multipliers in self.output_multipliers.items()},
        )

    def lower(
        self, rows: dict[int, Tensor], steps: int | None = None, quick: bool = False, about: tuple[str, int] = ROWS
    ) -> Tensor:
        """(B, R): sound lower bounds of the sum over nodes of `rows @ node`, rows (B or 1, R, n).

        With mixtures, so many `steps` are taken, at most MOST_STEPS.

        Without mixtures, the first pairs of planes of all operations are taken together, then the second ones, and so on, and
        the best bound counts; with `quick` only the last. `about` says what the rows are, to those who read evidence.
        """
        if self.mixtures:
            return self._mixed(self.multipliers(rows, self.output_constraint), steps, about)
        selections = self.selections(max(rows))
        trial, each = self.recorder.trial(about, rows), []
        for place in range(len(selections) - 1 if quick else 0, len(selections)):
            each.append(back_substitute(self.graph, self.region, selections[place], dict(rows)))
            trial.selected(place, each[-1])
        return self._proved(torch.stack(each).amax(0) if len(each) > 1 else each[0], rows, trial, max(rows))

    def _mixed(self, multipliers: Multipliers, steps: int | None, about: tuple[str, int]) -> Tensor:
        """The bounds by mixtures of the rows of some multipliers, which are bettered on the way."""
        steps = min(MOST_STEPS, self.mixtures if steps is None else steps)
        trial = self.recorder.trial(about, multipliers.rows)
        found, _ = best_mixtures(self.graph, self.region, self.planes, multipliers, steps, trial)
        return self._proved(found, multipliers.rows, trial, multipliers.last)

    def _proved(self, found: Tensor, rows: Mapping[int, Tensor], trial: Trial, last: int) -> Tensor:
        """What is left of bounds, tried with nodes up to the `last`, when their rounding is paid for."""
        proved = below(found, self.allowance(rows, last))
        trial.proved(proved, self.planes, last, START)
        return proved

    def at_primal_point(
        self,
        rows: dict[int, Tensor],
        steps: int,
        start: Mapping[int, Tensor] = MappingProxyType({}),
        target: Tensor | None = None,
    ) -> tuple[Tensor, PrimalPoint]:
        """The bounds of `lower` by mixtures, and where in the region and the network the last of them was attained.

        `start` are multipliers (B, 1, n) of held nodes to begin with. What is supposed of a row of the property brings nothing
        for it. Steps end early where all rows are above `target` (B, R), or will not get there.
        """
        if not self.mixtures:
            raise SoundnessFault("planes were to be mixed that do not pay for its rounding: this is a bug, please report it")
        multipliers = self.multipliers(rows, None, start)
        trial = self.recorder.trial(ROWS, rows)
        aim = None if target is None else target + self.allowance(rows, multipliers.last)
        lower, selection = best_mixtures(self.graph, self.region, self.planes, multipliers, min(MOST_STEPS, steps), trial, aim)
        return self._proved(lower, rows, trial, multipliers.last), primal_point(self.graph, self.region, selection, multipliers)

    def multipliers(
        self,
        rows: dict[int, Tensor],
        output_constraint: OutputConstraint | None,
        start: Mapping[int, Tensor] = MappingProxyType({}),
        output_multipliers: Tensor | None = None,
    ) -> Multipliers:
        """Of rows: of held nodes, beginning with `start` (B, 1, n), and of what is supposed, beginning with
        `output_multipliers` (B, R)."""
        count = next(iter(rows.values())).shape[1]
        interval_constraints = self.interval_constraints(
            max(rows) if output_constraint is None else max(*rows, self.graph.output)
        )
        first = {
            number: interval_constraints[number].kept(start[number]).expand(-1, count, -1)
            for number in interval_constraints
            if number in start
        }
        if output_constraint is None:
            return Multipliers(self.graph, interval_constraints, rows, first)
        if output_multipliers is None:
            widths = torch.stack([times(row.abs(), self.intervals[number].width) for number, row in rows.items()]).sum(0)
            output_multipliers = output_constraint.first_multipliers(widths)
        output_multipliers = torch.where(torch.isfinite(output_multipliers), output_multipliers, 0.0)
        return Multipliers(
            self.graph,
            interval_constraints,
            rows,
            first,
            output_constraint=output_constraint,
            output_multipliers=output_multipliers,
            best_output_multipliers=output_multipliers,
        )

    def interval_constraints(self, last: int) -> dict[int, IntervalConstraint]:
        """The nodes up to a last one whose intervals are constraints."""
        return {
            number: IntervalConstraint.of(self.intervals[number], self.scales[number])
            for number in (self.graph.bounded if self.part else ())
            if number <= last and isinstance(self.graph.nodes[number], Affine)
        }

    def selections(self, last: int) -> list[dict[int, Planes]]:
        """One pair of planes for each operation up to node `last`: all the first ones, all the second ones, and so on."""
        reached = {number: planes for number, planes in self.planes.items() if number <= last}
        count = max((len(planes) for planes in reached.values()), default=1)
        return [{number: planes[min(k, len(planes) - 1)] for number, planes in reached.items()} for k in range(count)]

    def met(self, last: int) -> Tensor:
        """(B,): the sum of all magnitudes and scales of nodes up to a last one: all that an underflow can be multiplied by."""
        for number in range(len(self._met), last + 1):
            sizes = (self.intervals[number].magnitude + self.scales[number]).sum(1)
            self._met.append(sizes if number == 0 else sizes + self._met[-1])
        return self._met[last]

    def allowance(self, rows: Mapping[int, Tensor], last: int) -> Tensor:
        """(B, R): what the rounding of a walk from these rows may amount to, beside what the planes themselves pay for.

        It comes by nodes up to the `last`.
        """
        allowance = TINY * (1 + self.met(last)[:, None])
        for number, row in rows.items():
            size = self.intervals[number].magnitude + self.scales[number]
            allowance = allowance + self.graph.rounding * times(row.abs(), size)
        nowhere = undefined(self.graph, self.intervals)
        if nowhere is not None:
            allowance = allowance + torch.where(nowhere, torch.inf, 0.0)[:, None]
        return allowance

    def tighten(self, number: int, chosen: Tensor | None = None) -> Interval:
        """One node's interval by back-substitution of all its neurons, or of those chosen (B, k), both signs at once."""
        size = self.graph.nodes[number].size
        identity = torch.eye(size, dtype=torch.float64, device=self.region.centre.device)
        some = identity[None] if chosen is None else identity[chosen]
        rows = {number: torch.cat([some, -some], dim=1)}
        if self.output_constraint is None:
            lower, upper = self.lower(rows, about=("neurons", number)).chunk(2, dim=1)
        else:
            lower, upper = self._under(self.output_constraint, rows, number, chosen).chunk(2, dim=1)
        if chosen is None:
            return Interval(lower, -upper)
        everywhere = torch.full_like(self.intervals[number].lower, torch.inf)
        return Interval((-everywhere).scatter(1, chosen, lower), everywhere.scatter(1, chosen, -upper))

    def _under(
        self, output_constraint: OutputConstraint, rows: dict[int, Tensor], number: int, chosen: Tensor | None
    ) -> Tensor:
        """The bounds of a node's neurons and their negations, from the shares that did best last time, which are kept."""
        size = self.graph.nodes[number].size
        some = torch.arange(size, device=self.region.centre.device).expand(len(self.region), -1) if chosen is None else chosen
        places = torch.cat([some, some + size], dim=1)
        before = self.output_multipliers.get(number)
        if before is None:
            before = output_constraint.first_multipliers(self.intervals[number].width).repeat(1, 2)
        multipliers = self.multipliers(rows, output_constraint, output_multipliers=before.gather(1, places))
        found = self._mixed(multipliers, None, ("neurons", number))
        self.output_multipliers[number] = before.scatter(1, places, multipliers.best_output_multipliers)
        return found


def node_scale(bounds: LinearBounds, number: int) -> Tensor:
    """The scale s of the module's docstring: (B, n)."""
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


Relaxation = Callable[[LinearBounds, Apply], tuple[Planes, ...]]
"""Pairs of planes for an operation, each sure to hold it on all that its operands can be, by the bounds found so far."""


def closed_form(bounds: LinearBounds, node: Apply) -> tuple[Planes, ...]:
    """The operation's own planes over its operands' intervals."""
    return (node.op.relax(*operand_boxes(bounds, node)),)


def operand_boxes(bounds: LinearBounds, node: Apply) -> list[Interval]:
    return [bounds.intervals[operand.source][operand.index] for operand in node.operands]


def padded(bounds: LinearBounds, node: Apply, planes: tuple[Planes, ...]) -> tuple[Planes, ...]:
    """Planes moved apart to pay for the rounding of the walks below, and of mixtures of them.

    A mixture's coefficients are each off by a share of the largest among the planes' own, and its two sides may be of
    different pairs: so each coefficient counts with the largest, on both sides.
    """
    boxes = operand_boxes(bounds, node)
    sizes = [box.magnitude + bounds.scales[o.source][..., o.index] for box, o in zip(boxes, node.operands, strict=True)]

    def size_of(pair: Planes) -> Tensor:
        return pair.lower.at(*sizes) + pair.upper.at(*sizes)

    share, every = bounds.graph.rounding, [pair.map(torch.abs) for pair in planes]
    underflow = TINY * (1 + reduce(torch.add, sizes))
    if not bounds.mixtures:
        return tuple(pair.widen(share * size_of(one) + underflow) for pair, one in zip(planes, every, strict=True))
    amount = (share + mixing_error(MOST_STEPS)) * size_of(reduce(Planes.maximum, every)) + underflow
    return tuple(pair.widen(amount) for pair in planes)


def linear_bounds(
    graph: Graph,
    region: Region,
    budget: Budget = UNLIMITED,
    relaxation: Relaxation = closed_form,
    known: Sequence[Interval] | None = None,
    mixtures: int = 0,
    start: LinearBounds | None = None,
    recorder: Recorder = NOBODY,
) -> LinearBounds:
    """The sweep over all nodes. The `budget` is looked at before each one; `known` are intervals that hold.

    `start` holds what is to be taken over as it is: its nodes are the first of the graph's, its recorder is told the rest. Else
    the one that is given is.
    """
    bounds = start or LinearBounds(graph, region, mixtures=mixtures, recorder=recorder.begin(region))
    wanted = set(graph.bounded)
    for number, node in enumerate(graph.nodes):
        if number < len(bounds.intervals):
            continue
        budget.check()
        bounds.intervals.append(enclose(graph, number, bounds.intervals, region))
        if known is None:
            bounds.recorder.interval(number, bounds.intervals[number])
        else:
            bounds.learn(number, known[number])
        bounds.scales.append(node_scale(bounds, number))
        if isinstance(node, Apply):
            bounds.relax(number, padded(bounds, node, relaxation(bounds, node)))
        elif isinstance(node, Quadratic):
            bounds.relax(number, (relaxed_quadratic(graph, region, number, bounds.intervals, bounds.scales),))
        if number in wanted:
            bounds.learn(number, bounds.tighten(number))
    return bounds


def row_numbers(graph: Graph, region: Region, rows: int) -> int:
    """How many numbers so many rows over one region have, where they are widest."""
    width = max(node.size for node in graph.nodes)
    if not region.separable:
        width = max(width, graph.input_size)  # then the rows over all inputs are needed side by side
    return rows * width
