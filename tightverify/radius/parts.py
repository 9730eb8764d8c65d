"""Parts of an input, for each of which a radius is found when it alone may change.

A kind of parts is a partition of an input's coordinates: a number for each of them. `PARTS` is the list of kinds; whatever
stands there can be asked for, searched for as one batch, written down and drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tightverify.calling import own
from tightverify.errors import UsageError
from tightverify.radius.family import Family, largest
from tightverify.region import Perturbation, Region
from tightverify.region.groups import Groups, checked_groups, group_numbers
from tightverify.region.perturbation import BALLS, ball

SEGMENTS = 16
"""So many segments an input is cut into, where nobody says how long they shall be."""


@dataclass(frozen=True, eq=False)
class Parts:
    """`spread` has an input's shape and says of which part each coordinate is; part k is called `names[k]`."""

    kind: str
    spread: Tensor
    names: tuple[int | str, ...]

    @classmethod
    def of(cls, kind: str, spread: Tensor, names: Sequence[int | str] | None = None) -> Parts:
        return cls(kind, spread, tuple(range(int(spread.max()) + 1)) if names is None else tuple(names))

    def __len__(self) -> int:
        return len(self.names)

    def families(self, norm: float, clip: tuple[float, float] | None) -> list[Family]:
        """For each part the balls in which it alone may change."""
        return [balls_on(self.spread == part, norm, clip) for part in range(len(self))]


@dataclass(frozen=True, eq=False)
class BallOn(Perturbation):
    """The ball of a radius, inside `clip` if given, on the coordinates that are `free`, of an input's shape."""

    eps: float
    norm: float
    clip: tuple[float, float] | None
    free: Tensor

    @property
    def words(self) -> str:
        return f"{BALLS[f'{self.norm:g}']} {self.eps:g} on a part"

    @property
    def boxes(self) -> bool:
        return self.norm == math.inf

    def around(self, x: Tensor) -> Region:
        centre = own(x).to(torch.float64)
        radius = torch.full((len(centre),), self.eps, dtype=torch.float64, device=centre.device)
        return ball(centre, radius, self.norm, self.clip, self.free.to(centre.device).expand_as(centre))


def balls_on(free: Tensor, norm: float, clip: tuple[float, float] | None) -> Family:
    """Balls on some of an input's coordinates."""
    most = largest(norm, clip, int(free.sum()))
    return Family(BALLS[f"{norm:g}"], lambda eps: BallOn(eps, norm, clip, free), most=most)


@dataclass(frozen=True, eq=False)
class Wanted:
    """Parts of inputs of a shape are wanted; a length and groups are for those kinds that have any."""

    shape: tuple[int, ...]
    length: int | None
    groups: Groups | None


def by_frame(wanted: Wanted) -> Parts:
    if len(wanted.shape) < 2:
        raise UsageError(
            f"radii per frame were asked for, and an input has shape {wanted.shape} and no frames; ask for them per feature"
        )
    return Parts.of("frame", group_numbers("frame", wanted.shape).view(wanted.shape))


def by_word(wanted: Wanted) -> Parts:
    """A sentence's words, whose vectors are its frames."""
    return replace(by_frame(wanted), kind="word")


def by_feature(wanted: Wanted) -> Parts:
    return Parts.of("feature", group_numbers("feature", wanted.shape).view(wanted.shape))


def by_value(wanted: Wanted) -> Parts:
    return Parts.of("value", torch.arange(math.prod(wanted.shape)).view(wanted.shape))


def by_segment(wanted: Wanted) -> Parts:
    """So many frames each, or samples of a waveform; the last may be shorter."""
    shape, axis = wanted.shape, time_axis(wanted.shape)
    edges = edges_of(shape[axis], wanted.length)
    numbers = torch.arange(shape[axis]) // (edges[1] - edges[0])
    return Parts.of("segment", numbers.view([-1 if place == axis else 1 for place in range(len(shape))]).expand(shape))


def by_group(wanted: Wanted) -> Parts:
    """Any groups of coordinates, by numbers that they are called by."""
    given = checked_groups(wanted.groups)
    if given is None or isinstance(given, str):
        raise UsageError(
            "radii per group were asked for, and no groups were given; give groups=, whole numbers of an input's shape, of "
            "several inputs by their names (arrays NAME_groups on the command line)"
        )
    names = torch.unique(given).tolist()
    return Parts.of("group", group_numbers(given, wanted.shape).view(wanted.shape), names)


PARTS: dict[str, Callable[[Wanted], Parts]] = {
    "frame": by_frame,
    "word": by_word,
    "feature": by_feature,
    "value": by_value,
    "segment": by_segment,
    "group": by_group,
}
"""What radii can be found for one by one, by its name."""


def parts_of(kind: str, shape: tuple[int, ...], length: int | None = None, groups: Groups | None = None) -> Parts:
    """The parts that a user asks for."""
    if kind not in PARTS:
        raise UsageError(f"radii per {kind!r} were asked for; choose one of {', '.join(PARTS)}")
    for name, value, of in (("length", length, "segment"), ("groups", groups, "group")):
        if value is not None and kind != of:
            raise UsageError(f"{name} was given beside per={kind!r}, and says nothing there; leave it out, or ask per {of}")
    return PARTS[kind](Wanted(shape, length, groups))


def time_axis(shape: tuple[int, ...]) -> int:
    """The axis of an input along which time goes: the first, or the last that is longer than 1 where the first is not."""
    longer = [axis for axis, size in enumerate(shape) if size > 1]
    return 0 if not longer or longer[0] == 0 else longer[-1]


def edges_of(samples: int, length: int | None) -> tuple[int, ...]:
    """Where segments begin, and the last one's end."""
    each = math.ceil(samples / SEGMENTS) if length is None else length
    if not 1 <= each <= samples:
        raise UsageError(
            f"segments of {each} samples were asked for; an input has {samples}: give a length from 1 to {samples}"
        )
    return (*range(0, samples, each), samples)
