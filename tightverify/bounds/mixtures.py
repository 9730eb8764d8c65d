"""The best mixture of planes for each row: Frank and Wolfe's method on back-substitution.

alpha-CROWN (Xu et al. 2021) optimises the slopes of one line for each row by gradients; here several planes are mixed.

Any convex combination of planes that hold an operation holds it too, and each row may take its own. For given mixtures
back-substitution bounds the row, and its bound is concave in the mixture of each operation. What a little more of plane k would
bring is its coefficient times the plane's value at the *primal point*: the input that minimises the row, sent forward through
the network with every operation replaced by the mixed plane that the row's coefficient chose. So the best answer is the plane
that is tightest at that point; the mixtures move there, all the way at first, by 2 / (step + 2) later (Frank and Wolfe 1956).
The bound is not smooth, and the points jump: the planes answer their running mean, as in fictitious play. Whatever the mixtures
are, back-substitution with them is a proof: the best of all of them counts.

Rounding. A mixture's coefficients are those of planes, rounded a few times per step: within `mixing_error` of the largest
of them, which the planes have been moved apart for (`rows.padded`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.bounds.back_substitution import back_substitute, by_row
from tightverify.bounds.interval_multipliers import Multipliers
from tightverify.bounds.recorder import UNHEARD, Trial
from tightverify.graph import Affine, Apply, Graph, Input, Quadratic
from tightverify.region import Region
from tightverify.relax.planes import Plane, Planes
from tightverify.values import gamma

INERTIA = 2.0
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
    that were taken, and the multipliers (B, R, n) of interval constraints.
    """

    point: Tensor
    trail: dict[int, Tensor]
    operands: dict[int, tuple[Tensor, ...]]
    selection: dict[int, Planes]
    multipliers: dict[int, Tensor]


def best_mixtures(
    graph: Graph,
    region: Region,
    planes: Mapping[int, tuple[Planes, ...]],
    multipliers: Multipliers,
    steps: int,
    trial: Trial = UNHEARD,
    target: Tensor | None = None,
) -> tuple[Tensor, dict[int, Planes]]:
    """(B, R): lower bounds of the sum over nodes of `rows @ node`, before their rounding is paid for.

    The rows are those of the `multipliers`, which are bettered on the way. Beside the bounds the mixtures of the last one;
    `trial` hears of all that was tried. Fewer steps are taken where all rows are above what is `target` (B, R), or out of
    reach.
    """
    last = multipliers.last
    choices = {number: Choice(pairs) for number, pairs in planes.items() if number <= last and len(pairs) > 1}
    selection = {number: pairs[min(START, len(pairs) - 1)] for number, pairs in planes.items() if number <= last}
    found: list[Tensor] = []
    mean: dict[int, tuple[Tensor, ...]] = {}
    for step in range(steps + 1):
        trail: dict[int, Tensor] = {}
        rest = multipliers.constant
        bounded = back_substitute(graph, region, selection, multipliers.together, trail if step < steps else None) + rest
        found.append(torch.where(torch.isnan(bounded), -torch.inf, bounded))
        trial.mixed(found[-1], multipliers)
        if step == steps or (target is not None and settled(found, target)):
            break
        share = INERTIA / (step + INERTIA)
        _, operands_of, values = at_primal_point(graph, region, selection, trail, multipliers.count, multipliers.looked_at)
        multipliers.better(step, found[-1], trail, values)
        for number, operands in operands_of.items():
            if number in choices:
                before = mean.get(number, operands)
                mean[number] = tuple(torch.lerp(old, new, share) for old, new in zip(before, operands, strict=True))
                answer, which = choices[number].tightest(mean[number])
                trial.answered(number, which)
                selection[number] = answer if step == 0 else blended(selection[number], answer, share)
    return torch.stack(found).amax(0), selection


def settled(found: list[Tensor], target: Tensor) -> bool:
    """Whether every row is proved, or out of reach: a gap that shrinks like 1 / step has as much left as the last half took."""
    steps = len(found) - 1
    if steps < FEWEST_STEPS or steps % 2:
        return False
    best, before = torch.stack(found).amax(0), torch.stack(found[: steps // 2 + 1]).amax(0)
    lacking = target - best
    return bool(((lacking <= 0) | ~torch.isfinite(best) | (lacking > HOPELESS * (best - before))).all())


def primal_point(graph: Graph, region: Region, selection: dict[int, Planes], multipliers: Multipliers) -> PrimalPoint:
    """One back-substitution with given planes, and its primal point."""
    trail: dict[int, Tensor] = {}
    back_substitute(graph, region, selection, multipliers.together, trail)
    point, operands, _ = at_primal_point(graph, region, selection, trail, multipliers.count)
    return PrimalPoint(point, trail, operands, selection, dict(multipliers.values))


def at_primal_point(
    graph: Graph,
    region: Region,
    planes: Mapping[int, Planes],
    trail: dict[int, Tensor],
    count: int,
    wanted: Collection[int] = (),
) -> tuple[Tensor, dict[int, tuple[Tensor, ...]], dict[int, Tensor]]:
    """The input (B, R, n) at which the bounds of `count` rows R are attained, and there the operands of all operations on the
    way.

    The third are the values of the nodes `wanted`, of those that the bounds depend on; where all is constant it has no trail.
    """
    everything = region.centre.new_zeros((len(region), count, graph.input_size))
    for number, row in trail.items():
        node = graph.nodes[number]
        if isinstance(node, Input):
            everything[..., node.block] = row
    point = region.minimiser(everything)
    values: dict[int, Tensor] = {}
    found: dict[int, tuple[Tensor, ...]] = {}
    for number in range(max((*trail, *wanted), default=-1) + 1):
        node = graph.nodes[number]
        match node:
            case Input():
                values[number] = point[..., node.block]
            case Affine():
                if all(operand.source in values for operand in node.operands):
                    total = node.bias.expand(*point.shape[:2], -1)
                    for term in node.terms:
                        total = total + term.map.push(values[term.operand.source][..., term.operand.index])
                    values[number] = total
            case Apply():
                if number in trail:
                    operands = tuple(values[operand.source][..., operand.index] for operand in node.operands)
                    found[number] = operands
                    values[number] = at(planes[number], trail[number], operands)
            case Quadratic():
                if number in trail:
                    values[number] = quadratic_at(planes[number], trail[number], node.gather(values))
    return point, found, {number: values[number] for number in wanted if number in values}


def at(pair: Planes, row: Tensor, operands: tuple[Tensor, ...]) -> Tensor:
    """The value of the plane that a coefficient's sign chooses."""
    low, high = (by_row(side.offset) for side in (pair.lower, pair.upper))
    for k, operand in enumerate(operands):
        low = torch.addcmul(low, by_row(pair.lower.slopes[k]), operand)
        high = torch.addcmul(high, by_row(pair.upper.slopes[k]), operand)
    return torch.where(row > 0, low, high)


def quadratic_at(pair: Planes, row: Tensor, x: Tensor) -> Tensor:
    """The same for an energy's planes, at its operands' neurons (B, R, m) side by side."""
    low, high = (x @ side.slopes[0].mT + by_row(side.offset) for side in (pair.lower, pair.upper))
    return torch.where(row > 0, low, high)


def blended(old: Planes, new: Planes, share: float) -> Planes:
    """A part of the way from one pair to another."""

    def towards(one: Plane, other: Plane) -> Plane:
        slopes = tuple(torch.lerp(a, b, share) for a, b in zip(one.slopes, other.slopes, strict=True))
        return Plane(slopes, torch.lerp(one.offset, other.offset, share))

    return Planes(towards(old.lower, new.lower), towards(old.upper, new.upper))


class Choice:
    """An operation's planes side by side, to find the tightest one at a point."""

    def __init__(self, pairs: tuple[Planes, ...]) -> None:
        self._count = len(pairs)
        lower, upper = (
            torch.stack([torch.stack([*side.slopes, side.offset], dim=-1) for side in sides], dim=-1)
            for sides in ((pair.lower for pair in pairs), (pair.upper for pair in pairs))
        )
        self._parts = torch.cat([lower, upper], dim=-1)
        """(B, n, k + 1, 2 K): the lower planes, then the upper ones"""
        self._heights = torch.cat([-lower, upper], dim=-1)

    def tightest(self, operands: tuple[Tensor, ...]) -> tuple[Planes, list[Tensor]]:
        """The highest lower plane and the lowest upper plane at operands (B, R, n), as planes (B, R, n); and which they are."""
        point = torch.stack([*operands, torch.ones_like(operands[0])], dim=-1).transpose(1, 2)  # (B, n, R, k + 1)
        heights = point @ self._heights  # (B, n, R, 2 K)
        which = heights.view(*heights.shape[:3], 2, self._count).argmin(-1)  # (B, n, R, 2)
        places = which + torch.arange(2, device=which.device) * self._count
        found = [
            torch.gather(part, 2, places.flatten(2)).view(places.shape).permute(3, 0, 2, 1) for part in self._parts.unbind(2)
        ]
        sides = [Plane(tuple(part[side] for part in found[:-1]), found[-1][side]) for side in (0, 1)]
        return Planes(sides[0], sides[1]), list(which.unbind(-1))
