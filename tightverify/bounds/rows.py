"""Lower bounds of rows over nodes, rounding paid for, by what is known of the nodes: in the midst of a bounding pass or after.

How much the rounding may amount to, and why, is in the docstring of `bounds.linear`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from tightverify.bounds.back_substitution import back_substitute
from tightverify.bounds.constraints import Constraints
from tightverify.bounds.contradiction import OutputConstraint
from tightverify.bounds.interval import undefined
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.bounds.mixtures import MOST_STEPS, START, BestMixtures, best_mixtures, mixing_error
from tightverify.bounds.pairs import Pairs
from tightverify.bounds.plane_choice import Choices, PlaneChoice
from tightverify.bounds.recorder import PassRecorder, Trial
from tightverify.bounds.stops import Edge
from tightverify.graph import Apply, Graph
from tightverify.region import Region
from tightverify.relax.planes import Planes
from tightverify.relax.polygons import Polygons
from tightverify.values import TINY, Interval, below, times

About = tuple[str, int]
"""What rows are, to those who read evidence: a word, and a node."""
ROWS: About = ("rows", -1)
"""What rows are if nothing else is said: those of the property."""
NONE: Mapping[int, Tensor] = MappingProxyType({})


class NodeBounds(Protocol):
    """What is known of a network's nodes over a batch of regions: of all of them, or of the first in the midst of a pass."""

    @property
    def graph(self) -> Graph: ...

    @property
    def region(self) -> Region: ...

    @property
    def intervals(self) -> Sequence[Interval]: ...

    @property
    def scales(self) -> Sequence[Tensor]: ...

    @property
    def planes(self) -> Mapping[int, tuple[Planes, ...]]: ...

    @property
    def choices(self) -> Choices: ...

    @property
    def polygons(self) -> Mapping[int, Polygons]: ...

    @property
    def pairs_of_rows(self) -> Mapping[int, Pairs]:
        """The neurons that rows over operations take two and two."""

    @property
    def mixtures(self) -> int: ...

    @property
    def constraints(self) -> Constraints: ...

    @property
    def recorder(self) -> PassRecorder: ...

    def edge(self, start: int) -> Edge:
        """Where rows stop that start at a node: those of an intermediate node may, in a window."""

    def met(self, last: int) -> Tensor:
        """(B,): the sum of all magnitudes and scales of nodes up to a last one: all that an underflow can be multiplied by."""

    def lower(self, rows: dict[int, Tensor], steps: int | None = None, quick: bool = False, about: About = ROWS) -> Tensor:
        """(B, R): lower bounds of rows, as `lower_bounds` has them."""


def lower_bounds(
    bounds: NodeBounds, rows: dict[int, Tensor], steps: int | None = None, quick: bool = False, about: About = ROWS
) -> Tensor:
    """(B, R): sound lower bounds of the sum over nodes of `rows @ node`, rows (B or 1, R, n).

    With mixtures, so many `steps` are taken, at most MOST_STEPS.

    Without mixtures, the first pairs of planes of all operations are taken together, then the second ones, and so on, and
    the best bound counts; with `quick` only the last. `about` says what the rows are, to those who read evidence.
    """
    edge = bounds.edge(max(rows))
    if bounds.mixtures:
        return mixed_bounds(bounds, multipliers_of(bounds, rows, output_constraint(bounds, max(rows))), steps, about)
    selections = selections_of(bounds.planes, max(rows))
    trial, each = bounds.recorder.trial(about, rows), []
    for place in range(len(selections) - 1 if quick else 0, len(selections)):
        each.append(back_substitute(bounds.graph, bounds.region, selections[place], dict(rows), edge=edge))
        trial.selected(place, each[-1])
    return proved_bounds(bounds, torch.stack(each).amax(0) if len(each) > 1 else each[0], rows, trial, max(rows))


def mixed_bounds(bounds: NodeBounds, multipliers: Multipliers, steps: int | None = None, about: About = ROWS) -> Tensor:
    """The bounds by mixtures of the rows of some multipliers, which are bettered on the way."""
    steps = min(MOST_STEPS, bounds.mixtures if steps is None else steps)
    trial = bounds.recorder.trial(about, multipliers.rows)
    found = mixed(bounds, multipliers, steps, trial)
    return proved_bounds(bounds, found.lower, multipliers.rows, trial, multipliers.last)


def mixed(bounds: NodeBounds, multipliers: Multipliers, steps: int, trial: Trial, target: Tensor | None = None) -> BestMixtures:
    """The best mixtures of the planes at hand, as `best_mixtures` has them."""
    edge, last = bounds.edge(max(multipliers.rows)), multipliers.last
    several = [n for n, pairs in bounds.planes.items() if n <= last and len(pairs) > 1 and not edge.beyond(n)]
    choices = {number: choice_of(bounds, number) for number in several}
    paired = {number: pairs for number, pairs in bounds.pairs_of_rows.items() if number in choices}
    return best_mixtures(bounds.graph, bounds.region, bounds.planes, choices, multipliers, steps, trial, target, paired, edge)


def output_constraint(bounds: NodeBounds, start: int) -> OutputConstraint | None:
    """The output constraint, for rows that start at a node: only where it is near enough to be worth its cost."""
    return bounds.constraints.output if bounds.edge(start).near(bounds.graph.output) else None


def choice_of(bounds: NodeBounds, number: int) -> PlaneChoice:
    """How to choose among an operation's planes."""
    node = bounds.graph.nodes[number]
    assert isinstance(node, Apply)
    return bounds.choices.of(number, bounds.planes[number], lambda: operand_boxes(bounds, node))


def proved_bounds(bounds: NodeBounds, found: Tensor, rows: Mapping[int, Tensor], trial: Trial, last: int) -> Tensor:
    """What is left of bounds, tried with nodes up to the `last`, when their rounding is paid for."""
    proved = below(found, allowance(bounds, rows, last))
    trial.proved(proved, bounds.planes, last, START)
    return proved


def multipliers_of(
    bounds: NodeBounds,
    rows: dict[int, Tensor],
    output_constraint: OutputConstraint | None,
    start: Mapping[int, Tensor] = NONE,
    output_multipliers: Tensor | None = None,
) -> Multipliers:
    """Of rows: those of interval constraints, beginning with `start` (B, 1, n), and those of the output constraint, beginning
    with `output_multipliers` (B, R)."""
    graph, count = bounds.graph, next(iter(rows.values())).shape[1]
    last = max(rows) if output_constraint is None else max(*rows, graph.output)
    edge = bounds.edge(max(rows))
    constraints = {
        number: constraint
        for number, constraint in bounds.constraints.intervals(graph, bounds.intervals, bounds.scales, last).items()
        if not edge.beyond(number)
    }
    first = {number: constraints[number].kept(start[number]).expand(-1, count, -1) for number in constraints if number in start}
    if output_constraint is None:
        return Multipliers(graph, constraints, rows, first)
    if output_multipliers is None:
        widths = torch.stack([times(row.abs(), bounds.intervals[number].width) for number, row in rows.items()]).sum(0)
        output_multipliers = output_constraint.first_multipliers(widths)
    output_multipliers = torch.where(torch.isfinite(output_multipliers), output_multipliers, 0.0)
    return Multipliers(
        graph,
        constraints,
        rows,
        first,
        output_constraint=output_constraint,
        output_multipliers=output_multipliers,
        best_output_multipliers=output_multipliers,
    )


def selections_of(planes: Mapping[int, tuple[Planes, ...]], last: int) -> list[dict[int, Planes]]:
    """One pair of planes for each operation up to node `last`: all the first ones, all the second ones, and so on."""
    reached = {number: pairs for number, pairs in planes.items() if number <= last}
    count = max((len(pairs) for pairs in reached.values()), default=1)
    return [{number: pairs[min(k, len(pairs) - 1)] for number, pairs in reached.items()} for k in range(count)]


def allowance(bounds: NodeBounds, rows: Mapping[int, Tensor], last: int) -> Tensor:
    """(B, R): what the rounding of back-substitution from these rows may amount to, beside what the planes pay for themselves.

    It comes by nodes up to the `last`.
    """
    total = TINY * (1 + bounds.met(last)[:, None])
    for number, row in rows.items():
        size = bounds.intervals[number].magnitude + bounds.scales[number]
        total = total + bounds.graph.rounding * times(row.abs(), size)
    nowhere = undefined(bounds.graph, bounds.intervals)
    if nowhere is not None:
        total = total + torch.where(nowhere, torch.inf, 0.0)[:, None]
    return total


def neuron_rows(bounds: NodeBounds, number: int, chosen: Tensor | None = None) -> dict[int, Tensor]:
    """Rows whose bounds are those of a node's neurons, or of those chosen (B, k), and of their negations."""
    identity = torch.eye(bounds.graph.nodes[number].size, dtype=torch.float64, device=bounds.region.centre.device)
    some = identity[None] if chosen is None else identity[chosen]
    return {number: torch.cat([some, -some], dim=1)}


def neurons_between(bounds: NodeBounds, number: int, found: Tensor, chosen: Tensor | None = None) -> Interval:
    """The interval that the bounds of `neuron_rows` leave to a node."""
    lower, upper = found.chunk(2, dim=1)
    if chosen is None:
        return Interval(lower, -upper)
    everywhere = torch.full_like(bounds.intervals[number].lower, torch.inf)
    return Interval((-everywhere).scatter(1, chosen, lower), everywhere.scatter(1, chosen, -upper))


def operand_boxes(bounds: NodeBounds, node: Apply) -> list[Interval]:
    return [bounds.intervals[operand.source][operand.index] for operand in node.operands]


def padded(bounds: NodeBounds, node: Apply, planes: tuple[Planes, ...]) -> tuple[Planes, ...]:
    """Planes moved apart to pay for the rounding of back-substitution below, and of mixtures of them."""
    return moved_apart(bounds, operand_sizes(bounds, node), planes)


def operand_sizes(bounds: NodeBounds, node: Apply) -> list[Tensor]:
    """What an operation's slopes are multiplied by, at the most: its operands' magnitudes and scales."""
    boxes = operand_boxes(bounds, node)
    return [box.magnitude + bounds.scales[o.source][..., o.index] for box, o in zip(boxes, node.operands, strict=True)]


def moved_apart(bounds: NodeBounds, sizes: list[Tensor], planes: tuple[Planes, ...]) -> tuple[Planes, ...]:
    """The same for operands of such sizes.

    A mixture's coefficients are each off by a fraction of the largest among the planes' own, and its two sides may be of
    different pairs: so each coefficient counts with the largest, on both sides.
    """

    def size_of(pair: Planes) -> Tensor:
        return pair.lower.at(*sizes) + pair.upper.at(*sizes)

    rounding, every = bounds.graph.rounding, [pair.map(torch.abs) for pair in planes]
    underflow = TINY * (1 + reduce(torch.add, sizes))
    if not bounds.mixtures:
        return tuple(pair.widen(rounding * size_of(one) + underflow) for pair, one in zip(planes, every, strict=True))
    amount = (rounding + mixing_error(MOST_STEPS)) * size_of(reduce(Planes.maximum, every)) + underflow
    return tuple(pair.widen(amount) for pair in planes)
