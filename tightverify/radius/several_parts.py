"""Parts of several perturbed inputs, for each of which a radius is found when it alone may change.

Each input has its own parts, in the order of the inputs, called by its name and theirs ("x[3]"), and a ball of its own at the
number 1; what has none of a kind, such as frames of a vector, is one part, called by the input's name. Parts of a ball that
may not change, as its radius is 0 or they are none of its frames, have no radius and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tightverify.calling import own
from tightverify.errors import RegionError, UsageError
from tightverify.models.blocks import Block
from tightverify.models.model import Model
from tightverify.radius.family import Family
from tightverify.radius.parts import Parts, parts_of, time_axis
from tightverify.radius.several import check_names, most_of, or_balls, words_of
from tightverify.region import LpBall, Perturbation, Region
from tightverify.region.ball import Ball
from tightverify.region.free import positions, segment
from tightverify.region.groups import Groups
from tightverify.region.perturbation import ball
from tightverify.values import Interval

NOWHERE = -1
"""In a spread, what is of no part."""
WHOLE = ""
"""The name of the only part of an input that has none of a kind."""


@dataclass(frozen=True, eq=False)
class BallOnBlock(Perturbation):
    """A ball of one of several inputs that lie side by side, on those of its coordinates that are `free`."""

    inner: LpBall
    block: Block
    free: Tensor

    @property
    def words(self) -> str:
        return f"{self.inner.described} on a part of '{self.block.name}'"

    @property
    def boxes(self) -> bool:
        return self.inner.boxes

    def chosen(self, places: Tensor, dims: int) -> BallOnBlock:
        return replace(self, inner=self.inner.chosen(places, dims))

    def around(self, x: Tensor) -> Region:
        centre = own(x).to(torch.float64)
        mine = self.block.of(centre)
        radius = torch.as_tensor(self.inner.eps, dtype=torch.float64, device=centre.device).expand(len(centre))
        free = self.free.to(centre.device).expand_as(mine)
        changed = ball(mine, radius, float(self.inner.norm), self.inner.clip, free)
        lower, upper = centre.clone(), centre.clone()
        place = slice(self.block.start, self.block.start + self.block.size)
        lower[:, place], upper[:, place] = changed.box.lower, changed.box.upper
        return Ball(centre, Interval(lower, upper), changed.radius, changed.norm)


def parts_of_several(
    kind: str, given: Any, model: Model, norm: float, clip: tuple[float, float] | None, length: int | None, groups: Any
) -> tuple[Parts, list[Family]]:
    """The parts of a model's inputs, and for each the balls in which it alone may change."""
    balls = balls_of(or_balls(given, model, norm, clip, None), model)
    if groups is not None and not isinstance(groups, Mapping):
        raise UsageError(f"groups were given for {model.source}, of which several inputs are perturbed; give {{name: groups}}")
    unknown = sorted((groups or {}).keys() - balls.keys())
    if unknown:
        raise UsageError(f"groups of '{unknown[0]}' were given; the inputs are {', '.join(map(repr, balls))}")
    words = ", ".join(f"{name}: {words_of(each)}" for name, each in balls.items())
    spreads, names, families = list[Tensor](), list[int | str](), list[Family]()
    for block in model.blocks:
        one, of_input = balls[block.name], parts_of_one(kind, block, length, groups)
        may, spread = free_in(one, block), torch.full(block.shape, NOWHERE)
        for k, name in enumerate(of_input.names):
            free = (of_input.spread == k) & may
            if bool(free.any()):
                spread[of_input.spread == k] = len(names)
                names.append(block.name if name == WHOLE else f"{block.name}[{name}]")
                families.append(family_of_part(one, block, free, words))
        spreads.append(spread.flatten())
    if not names:
        raise RegionError("the balls of all inputs have the radius 0 and do not grow; give one of them a radius above 0")
    return Parts(kind, torch.cat(spreads), tuple(names)), families


def balls_of(given: Any, model: Model) -> dict[str, LpBall]:
    """The balls of the inputs at the number 1, in their order."""
    if not isinstance(given, Mapping):
        raise UsageError("radii of parts were asked for beside a family; of several inputs give balls at the radius 1 by names")
    check_names(given, model)
    balls: dict[str, LpBall] = {}
    for name, each in given.items():
        single = each.single_ball if isinstance(each, Perturbation) else None
        if single is None:
            what = each.described if isinstance(each, Perturbation) else type(each).__name__
            raise RegionError(f"the family of '{name}' is {what}; parts have balls of a norm: give one, such as LinfBall(1)")
        balls[name] = single
    return {block.name: balls[block.name] for block in model.blocks}


def parts_of_one(kind: str, block: Block, length: int | None, groups: Mapping[str, Groups] | None) -> Parts:
    """The parts of one input, all of it where it has none of the kind."""
    mine = None if groups is None else groups.get(block.name)
    if (kind in ("frame", "word") and len(block.shape) < 2) or (kind == "group" and groups and mine is None):
        return Parts.of(kind, torch.zeros(block.shape, dtype=torch.long), [WHOLE])
    shorter = None if length is None else min(length, block.shape[time_axis(block.shape)])
    return parts_of(kind, block.shape, shorter, mine)


def free_in(one: LpBall, block: Block) -> Tensor:
    """Where a ball lets an input change."""
    if bool((torch.as_tensor(one.eps) == 0).all()):
        return torch.zeros(block.shape, dtype=torch.bool)
    x = torch.zeros(1, *block.shape, dtype=torch.float64)
    return (positions(x, one.frames, one.features) & segment(x, one.samples)).expand_as(x)[0]


def family_of_part(one: LpBall, block: Block, free: Tensor, words: str) -> Family:
    """Balls of one input on one of its parts."""
    most, kind = most_of(one, int(free.sum())), f"{one.norm:g}"
    return Family(words, lambda number: BallOnBlock(one.times(number), block, free), most=most, kind=kind)
