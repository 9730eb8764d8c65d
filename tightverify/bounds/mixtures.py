"""The best mixture of planes for each row: Frank and Wolfe's method on back-substitution.

alpha-CROWN (Xu et al. 2021) optimises the slopes of one line for each row by gradients; here several planes are mixed.

Any convex combination of planes that hold an operation holds it too, and each row may take its own. For given mixtures
back-substitution bounds the row, and its bound is concave in the mixture of each operation. What a little more of plane k would
bring is its coefficient times the plane's value at the *primal point*: the input that minimises the row, sent forward through
the network with every operation replaced by the mixed plane that the row's coefficient chose. So the best answer is the plane
that is tightest at that point; the mixtures move there, all the way at first, by 2 / (step + 2) later (Frank and Wolfe 1956).
The bound is not smooth, and the points jump: the planes answer their running mean, as in fictitious play. Whatever the mixtures
are, back-substitution with them is a proof: the best of all of them counts.

A coefficient takes planes of one side only, the one that its sign asks for, and seldom changes its sign from one step to the
next. So there is one mixture for each row and neuron, of that side's planes; where the sign has changed it begins anew, with
the plane of the other side that is the tightest one now.

Rounding. A mixture's coefficients are those of planes, rounded a few times per step: within `mixing_error` of the largest
of them, which the planes have been moved apart for (`rows.padded`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightverify.bounds.back_substitution import Paired, RowPlanes, back_substitute, by_row
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.bounds.pairs import NO_PAIRS, Pairs, Split
from tightverify.bounds.plane_choice import PlaneChoice
from tightverify.bounds.recorder import UNHEARD, Trial
from tightverify.bounds.stops import NOWHERE, Edge
from tightverify.graph import Affine, Apply, Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.values import by_sign, gamma, negative

INERTIA = 2.0
POINT_INERTIA = 1.5
"""The same for the mean of the points: earlier ones count a little longer than their answers."""
MOST_STEPS = 100
FEWEST_STEPS = 8
"""Before so many nothing is said of whether more are worth it."""
HOPELESS = 2.0
"""A row is out of reach if it lacks so many times what the last half of the steps has brought."""
START = 1
"""Which of the pairs of planes is tried first, where there are so many: the first fitted one."""


def mixing_error(steps: int) -> float:
    """How far a mixture's coefficients may be from a true convex combination, relative to the largest of its planes'."""
    return gamma(8 * (steps + 1))


@dataclass(frozen=True, eq=False)
class PrimalPoint:
    """One back-substitution and its primal point: the rows (B, R, n) over each operation, its operands there, and the planes
    that were taken (of pairs, those of the coefficients' signs), and the multipliers (B, R, n) of interval constraints.
    """

    point: Tensor
    trail: dict[int, Tensor]
    operands: dict[int, tuple[Tensor, ...]]
    planes: dict[int, Planes | Plane]
    """of pairs of neurons their own, as if each were alone"""
    multipliers: dict[int, Tensor]


@dataclass(eq=False)
class Mixture:
    """The planes of an operation that rows take, one for each coefficient, mixed of the side that its sign asks for."""

    number: int
    choice: PlaneChoice
    trial: Trial
    share: float = 1.0
    """how much of the next mixture will be new"""
    point: tuple[Tensor, ...] = ()
    """the mean of the operands (B, R, n) at the primal points so far"""
    plane: Plane | None = None
    upper: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    """(B, R, n): -1 where the planes are upper ones"""

    def visit(self, operands: Sequence[Tensor], step: int) -> None:
        """Another primal point, from which the next mixture will be made."""
        self.share = INERTIA / (step + INERTIA)
        if not self.point:
            self.point = tuple(operand.clone(memory_format=torch.contiguous_format) for operand in operands)
            return
        for mean, operand in zip(self.point, operands, strict=True):
            mean.lerp_(operand, POINT_INERTIA / (step + POINT_INERTIA))

    def take(self, row: Tensor) -> Plane:
        """The next mixtures, for the signs that coefficients have now; where the sign is new, what is tightest alone."""
        upper = negative(row)
        answer = self.choice.tightest(upper, self.point)
        self.trial.answered(self.number, answer)
        if self.plane is None:
            self.plane = answer.plane
        else:
            weight = (upper ^ self.upper).to(row.dtype).neg_().clamp_(min=self.share)
            self.plane = blended(self.plane, answer.plane, weight)
        self.upper = upper
        return self.plane


Mixed = Planes | Mixture | Paired


@dataclass(frozen=True, eq=False)
class BestMixtures:
    """Lower bounds (B, R) before their rounding is paid for; the planes and the rows of the last back-substitution."""

    lower: Tensor
    selection: dict[int, Mixed]
    trail: dict[int, Tensor]

    def primal_point(self, graph: Graph, region: Region, multipliers: Multipliers) -> PrimalPoint:
        """That of the last back-substitution, which has gone on to the input."""
        planes = {number: taken(self.selection[number]) for number in self.trail if number in self.selection}
        operands, _ = at_primal_point(graph, region, planes, self.trail, multipliers.count)
        point = minimiser(graph, region, self.trail, multipliers.count)
        alone = {number: plane.alone if isinstance(plane, TakenPair) else plane for number, plane in planes.items()}
        return PrimalPoint(point, self.trail, operands, alone, dict(multipliers.values))


def best_mixtures(
    graph: Graph,
    region: Region,
    planes: Mapping[int, tuple[Planes, ...]],
    choices: Mapping[int, PlaneChoice],
    multipliers: Multipliers,
    steps: int,
    trial: Trial = UNHEARD,
    target: Tensor | None = None,
    paired: Mapping[int, Pairs] = NO_PAIRS,
    edge: Edge = NOWHERE,
) -> BestMixtures:
    """Lower bounds (B, R) of the sum over nodes of `rows @ node`, before their rounding is paid for.

    The rows are those of the `multipliers`, which are bettered on the way. `choices` are of the operations that have several
    pairs of planes, `paired` are pairs of operations' neurons. `trial` hears of all that was tried. Fewer steps are taken where
    all rows are above what is `target` (B, R), or out of reach. Rows stop at an `edge`.
    """
    mixtures = {number: Mixture(number, choice, trial) for number, choice in choices.items()}
    together = {number: Mixture(number, pairs.choice, UNHEARD) for number, pairs in paired.items()}
    selection: dict[int, Mixed] = {
        number: pairs[min(START, len(pairs) - 1)] for number, pairs in planes.items() if number <= multipliers.last
    }
    for number, pairs in paired.items():
        if isinstance(alone := selection.get(number), Planes):
            selection[number] = Paired(pairs, alone, pairs.planes[0])
    found: list[Tensor] = []
    trail: dict[int, Tensor] = {}
    for step in range(steps + 1):
        trail = {}
        rest = multipliers.constant
        bounded = back_substitute(graph, region, selection, multipliers.together, trail, edge) + rest
        found.append(torch.where(torch.isnan(bounded), -torch.inf, bounded))
        trial.mixed(found[-1], multipliers)
        if step == steps or (target is not None and settled(found, target)):
            break
        planes_taken = {number: taken(selection[number]) for number in trail if number in selection}
        operands_of, values = at_primal_point(
            graph, region, planes_taken, trail, multipliers.count, multipliers.looked_at, edge
        )
        multipliers.better(step, found[-1], trail, values)
        for number, operands in operands_of.items():
            if number in mixtures:
                mixtures[number].visit(operands, step)
                selection[number] = mixtures[number]
                if isinstance(now := planes_taken[number], TakenPair):
                    together[number].visit(now.split.operands(*operands), step)
                    selection[number] = Paired(paired[number], mixtures[number], together[number])
    return BestMixtures(torch.stack(found).amax(0), selection, trail)


@dataclass(frozen=True, eq=False)
class TakenPair:
    """The planes that an operation's neurons took alone, and those of the sums and differences of its pairs."""

    split: Split
    alone: Planes | Plane
    together: Planes | Plane


Taken = Planes | Plane | TakenPair


def taken(chosen: Mixed) -> Taken:
    """What the last back-substitution has gone on with."""
    if isinstance(chosen, Paired):
        assert chosen.split is not None
        return TakenPair(chosen.split, plane_of(chosen.alone), plane_of(chosen.together))
    return plane_of(chosen)


def plane_of(chosen: Planes | RowPlanes) -> Planes | Plane:
    if isinstance(chosen, Planes):
        return chosen
    assert isinstance(chosen, Mixture)
    assert chosen.plane is not None
    return chosen.plane


def settled(found: list[Tensor], target: Tensor) -> bool:
    """Whether every row is proved, or out of reach: a gap that shrinks like 1 / step has as much left as the last half took."""
    steps = len(found) - 1
    if steps < FEWEST_STEPS or steps % 2:
        return False
    best, before = torch.stack(found).amax(0), torch.stack(found[: steps // 2 + 1]).amax(0)
    lacking = target - best
    return bool(((lacking <= 0) | ~torch.isfinite(best) | (lacking > HOPELESS * (best - before))).all())


def at_primal_point(
    graph: Graph,
    region: Region,
    planes: Mapping[int, Taken],
    trail: dict[int, Tensor],
    count: int,
    wanted: Collection[int] = (),
    edge: Edge = NOWHERE,
) -> tuple[dict[int, tuple[Tensor, ...]], dict[int, Tensor]]:
    """The operands of all operations on the way, at the input (B, R, n) at which the bounds of `count` rows R are attained.

    The second are the values of the nodes `wanted`, of those that the bounds depend on; where all is constant it has no trail.
    """
    needed = read_by(graph, trail, wanted, edge)
    values = inputs_at(graph, region, trail, count, [number for number in needed if isinstance(graph.nodes[number], Input)])
    found: dict[int, tuple[Tensor, ...]] = {}
    for number in needed:
        node = graph.nodes[number]
        match node:
            case Affine():
                if all(operand.source in values for operand in node.operands):
                    total = node.bias.expand(len(region), count, -1)
                    for term in node.terms:
                        total = total + term.map.push(values[term.operand.source][..., term.operand.index])
                    values[number] = total
            case Apply():
                if number not in trail:
                    continue
                if (form := edge.at(number)) is not None:
                    values[number] = by_sign(trail[number], form.lower.at(values), form.upper.at(values))
                    continue
                operands = tuple(values[operand.source][..., operand.index] for operand in node.operands)
                found[number] = operands
                values[number] = at(planes[number], trail[number], operands)
            case Quadratic():
                if number in trail:
                    pair = planes[number]
                    assert isinstance(pair, Planes)
                    values[number] = quadratic_at(pair, trail[number], node.gather(values))
    return found, {number: values[number] for number in wanted if number in values}


def read_by(graph: Graph, trail: Mapping[int, Tensor], wanted: Collection[int], edge: Edge) -> list[int]:
    """The nodes whose values make those of the nodes `wanted`, and of operations that rows came by."""
    needed = {*trail, *wanted}
    for number in range(max(needed, default=-1), -1, -1):
        node = graph.nodes[number]
        if number not in needed or (number not in trail and not isinstance(node, Affine)):
            continue
        form = edge.at(number)
        needed.update((operand.source for operand in node.operands) if form is None else form.lower.slopes)
    return sorted(needed)


def inputs_at(
    graph: Graph, region: Region, trail: Mapping[int, Tensor], count: int, numbers: Sequence[int]
) -> dict[int, Tensor]:
    """The values (B, R, w) of some input nodes at the input at which rows R are least."""
    blocks: dict[int, slice] = {}
    for number in numbers:
        node = graph.nodes[number]
        assert isinstance(node, Input)
        blocks[number] = node.block
    if not region.separable:
        point = minimiser(graph, region, trail, count)
        return {number: point[..., block] for number, block in blocks.items()}
    found: dict[int, Tensor] = {}
    for number, block in blocks.items():
        lower, upper = region.box.lower[:, None, block], region.box.upper[:, None, block]
        row = trail[number] if number in trail else torch.zeros_like(lower)
        found[number] = by_sign(row, lower, upper).expand(-1, count, -1)
    return found


def minimiser(graph: Graph, region: Region, trail: Mapping[int, Tensor], count: int) -> Tensor:
    """(B, R, n): the input at which rows are least that have come by with such coefficients."""
    everything = region.centre.new_zeros((len(region), count, graph.input_size))
    for number, row in trail.items():
        node = graph.nodes[number]
        if isinstance(node, Input):
            everything[..., node.block] = row
    return region.minimiser(everything)


def at(planes: Taken, row: Tensor, operands: tuple[Tensor, ...]) -> Tensor:
    """The value of the plane that a coefficient takes: of a pair, the one that its sign chooses."""
    if isinstance(planes, TakenPair):
        split = planes.split
        together = at(planes.together, split.shared, split.operands(*operands))
        return split.values(at(planes.alone, split.rest, operands), together)
    if isinstance(planes, Planes):
        low, high = (at(side, row, operands) for side in (planes.lower, planes.upper))
        return by_sign(row, low, high)
    value = by_row(planes.offset)
    for slope, operand in zip(planes.slopes, operands, strict=True):
        value = torch.addcmul(value, by_row(slope), operand)
    return value


def quadratic_at(pair: Planes, row: Tensor, x: Tensor) -> Tensor:
    """The same for an energy's planes, at its operands' neurons (B, R, m) side by side."""
    low, high = (x @ side.slopes[0].mT + by_row(side.offset) for side in (pair.lower, pair.upper))
    return by_sign(row, low, high)


def blended(old: Plane, new: Plane, weight: Tensor) -> Plane:
    """The old planes, moved by a weight (B, R, n) of the way to others, in place."""
    for one, other in zip((*old.slopes, old.offset), (*new.slopes, new.offset), strict=True):
        one.lerp_(other, weight)
    return old
