"""What may happen to an input, as the user states it: Lp balls and boxes, on some frames, features or samples.

`around(x)` makes of a statement a batch of regions, one per input, over flat inputs (B, n).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.calling import own, plainly
from tightverify.decimals import exactly
from tightverify.errors import RegionError
from tightverify.region.ball import Ball
from tightverify.region.ball_product import BallProduct
from tightverify.region.base import Region
from tightverify.region.cut import near_box, refuse_outside
from tightverify.region.free import Frames, Segment, positions, segment
from tightverify.region.groups import EACH, Groups, checked_groups, group_numbers, group_words, stated_groups
from tightverify.values import Interval, above, below

MOST_SHOWN = 60
"""Characters of what was given that a sentence shows."""
BALLS = {"inf": "L∞ ball", "2": "L2 ball", "1": "L1 ball"}
"""What a ball is called, by its norm as records say it."""


def limit_words(limits: Mapping[str, Sequence[float]]) -> str:
    """What keeps a region's changes to less, in a few words after its name."""
    words = ""
    for name, values in limits.items():
        if name == "clip":
            words += f" within [{values[0]:g}, {values[1]:g}]"
        elif name == "samples":
            words += f" on samples {values[0]:g}-{values[-1]:g}"
        elif name.startswith(EACH):
            words += group_words(name, values)
        else:
            words += f" on {len(values)} {name}"
    return words


class Perturbation(ABC):
    """What may happen to an input, whatever the input: `around(x)` states it for a batch."""

    @abstractmethod
    def around(self, x: Tensor) -> Region:
        """The regions of a batch x (B, time, features) or (B, features), over the flattened inputs."""

    def nearby(self, x: Tensor) -> Interval | None:
        """Boxes in x's own type and of its shape, right up to rounding: for search, not for proof. None if it has none."""
        return None

    def chosen(self, places: Tensor, dims: int) -> Perturbation:
        """The same for some only of the inputs (of so many axes, the batch's among them), which are at `places` (B,) of them.

        What says something of each input for itself is another one then.
        """
        return self

    def count(self, dims: int) -> int | None:
        """For how many inputs, of so many axes, it says something of each; None where it says the same of all."""
        return None

    def times(self, number: float) -> Perturbation:
        """The same, so many times as large: what has a radius."""
        raise RegionError(f"{self.words} does not grow with a number; give a function from a number to a region, or a ball")

    def whole(self, values: int) -> float:
        """So many times as large it holds all that inputs of so many values may be; infinite where they have no range."""
        return torch.inf

    @property
    def single_ball(self) -> LpBall | None:
        """Itself where it is one ball of a norm, whose values change together."""
        return None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that it is about, where it says something of several."""
        return ()

    @property
    @abstractmethod
    def words(self) -> str:
        """The region in a few words, for tables."""

    @property
    def stated(self) -> str | None:
        """The same words where a record says them beside the radius; None where radius and norm say it all."""
        return self.words

    @property
    def described(self) -> str:
        """The region in words, with what keeps changes to less, for titles."""
        return self.words + limit_words(self.limits)

    @property
    @abstractmethod
    def boxes(self) -> bool:
        """Whether the regions are boxes."""

    @property
    def limits(self) -> dict[str, list[float] | list[int]]:
        """What keeps changes to less than the region's size says, in plain values: clip, frames, features, samples."""
        return {}


@dataclass(frozen=True, eq=False)
class LpBall(Perturbation):
    """All inputs within `eps` in the given norm, inside `clip` if given, changed only on some frames or features.

    `eps` is a number, or one for each input: a list, an array or a tensor (N,).
    `frames` and `features` are positions along the input's first and last axis after the batch; None means all.
    `samples=(start, stop)` is a segment of a waveform's samples: start, start + 1, ..., stop - 1.
    `per="frame"` or "feature" allows eps to each of these, all at once: a product of balls. Any other groups are given by
    numbers of an input's shape, or of one that broadcasts to it, such as (frames, 1): equal numbers are a group.
    """

    eps: float | Tensor
    norm: float
    clip: tuple[float, float] | None = None
    frames: Frames = None
    features: Frames = None
    samples: Segment = None
    per: Groups | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "per", checked_groups(self.per))
        object.__setattr__(self, "eps", radius_of(self.eps))
        if self.norm not in (1, 2, torch.inf):
            raise RegionError(f"the norm is {self.norm}; balls of the norms 1, 2 and inf are supported")
        check_clip(self.clip)

    def chosen(self, places: Tensor, dims: int) -> LpBall:
        return replace(self, eps=self.eps[places.to(self.eps.device)]) if isinstance(self.eps, Tensor) else self

    @property
    def single_ball(self) -> LpBall | None:
        return self if self.per is None else None

    def count(self, dims: int) -> int | None:
        return len(self.eps) if isinstance(self.eps, Tensor) else None

    def times(self, number: float) -> LpBall:
        return replace(self, eps=self.eps * number)

    def whole(self, values: int) -> float:
        least = min((radius for radius in torch.as_tensor(self.eps).reshape(-1).tolist() if radius > 0), default=0.0)
        if not least:
            return 0.0
        return torch.inf if self.clip is None else (self.clip[1] - self.clip[0]) * values ** (1 / self.norm) / least

    @property
    def words(self) -> str:
        if not isinstance(self.eps, Tensor):
            return exactly(self.eps)
        least, most = (exactly(float(end)) for end in self.eps.aminmax())
        return least if least == most else f"{least} to {most}"

    @property
    def stated(self) -> None:
        return None

    @property
    def described(self) -> str:
        return f"{BALLS[f'{self.norm:g}']} {self.words}{limit_words(self.limits)}"

    @property
    @plainly
    def limits(self) -> dict[str, list[float] | list[int]]:
        axes = {"frames": self.frames, "features": self.features}
        chosen = {name: torch.as_tensor(given) for name, given in axes.items() if given is not None}
        places = {name: (torch.nonzero(x) if x.dtype == torch.bool else x).flatten().tolist() for name, x in chosen.items()}
        return {**plain_limits(self.clip, self.samples), **places, **stated_groups(self.per)}

    @property
    def boxes(self) -> bool:
        return self.norm == torch.inf

    def nearby(self, x: Tensor) -> Interval | None:
        if not self.boxes or isinstance(self.eps, Tensor):
            return None
        free = positions(x, self.frames, self.features) & segment(x, self.samples)
        return near_box(x, self.eps, self.clip, free)

    def around(self, x: Tensor) -> Region:
        centre = own(x).to(torch.float64)
        free = positions(centre, self.frames, self.features) & segment(centre, self.samples)
        radius = own(torch.as_tensor(self.eps, dtype=torch.float64, device=centre.device))
        if radius.dim() and len(radius) != len(centre):
            raise RegionError(f"{len(radius)} radii were given for {len(centre)} inputs; give one for each, or a single number")
        radius = radius.expand(len(centre))
        whole = ball(centre, radius, float(self.norm), self.clip, free)
        if self.per is None:
            return whole
        groups = group_numbers(self.per, centre.shape[1:])
        return whole if whole.separable else BallProduct.of(whole, groups)  # boxes are products as they are


Radius = float | Sequence[float] | Tensor | NDArray[Any]
"""A number, or one for each input."""


def LinfBall(
    eps: Radius,
    clip: tuple[float, float] | None = None,
    frames: Frames = None,
    features: Frames = None,
    samples: Segment = None,
) -> LpBall:
    """Every value may change by at most eps."""
    return LpBall(radius_of(eps), torch.inf, clip, frames, features, samples)


def L2Ball(
    eps: Radius,
    clip: tuple[float, float] | None = None,
    frames: Frames = None,
    features: Frames = None,
    samples: Segment = None,
    per: Groups | None = None,
) -> LpBall:
    """The Euclidean length of the change is at most eps; `per="frame"`: that of each frame's change."""
    return LpBall(radius_of(eps), 2, clip, frames, features, samples, per)


def L1Ball(
    eps: Radius,
    clip: tuple[float, float] | None = None,
    frames: Frames = None,
    features: Frames = None,
    samples: Segment = None,
    per: Groups | None = None,
) -> LpBall:
    """The sum of all changes is at most eps; `per="frame"`: that of each frame's change."""
    return LpBall(radius_of(eps), 1, clip, frames, features, samples, per)


@dataclass(frozen=True, eq=False)
class Box(Perturbation):
    """All inputs between `lower` and `upper`, tensors that broadcast to the inputs; the inputs must lie inside."""

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            object.__setattr__(self, name, numbers(f"the {name} bounds of the box", getattr(self, name)))

    def __repr__(self) -> str:
        low, high = (tuple(bound.shape) for bound in (self.lower, self.upper))
        return f"Box(lower={low}, upper={high})" if low != high else f"Box({low})"

    def chosen(self, places: Tensor, dims: int) -> Box:
        lower, upper = (
            bound[places.to(bound.device)] if bound.dim() == dims and len(bound) > 1 else bound
            for bound in (self.lower, self.upper)
        )
        return Box(lower, upper)

    def count(self, dims: int) -> int | None:
        several = [len(bound) for bound in (self.lower, self.upper) if bound.dim() == dims and len(bound) > 1]
        return several[0] if several else None

    @property
    def words(self) -> str:
        return "box"

    @property
    def boxes(self) -> bool:
        return True

    def around(self, x: Tensor) -> Ball:
        centre = own(x).to(torch.float64)
        try:
            lower = own(self.lower.to(x.device)).expand_as(centre)
            upper = own(self.upper.to(x.device)).expand_as(centre)
        except RuntimeError as error:
            raise RegionError(
                f"the box's bounds have shapes {tuple(self.lower.shape)} and {tuple(self.upper.shape)}, "
                f"the inputs {tuple(x.shape)}: give bounds of the inputs' shape, or one that broadcasts to it"
            ) from error
        if not bool((torch.isfinite(lower) & torch.isfinite(upper)).all()):
            raise RegionError("a bound of the box is NaN or infinite; every bound must be a finite number")
        if bool((lower > upper).any()):
            raise RegionError("a lower bound of the box is above its upper bound; swap them")
        if bool(((centre < lower) | (centre > upper)).any()):
            raise RegionError("an input lies outside its own box; give boxes that hold the inputs")
        box = Interval(lower.flatten(1), upper.flatten(1))
        return Ball.boxes(centre.flatten(1), box)


def numbers(what: str, given: Any) -> Tensor:
    """A tensor in float64 of what a user handed over: decimals in Python are that precise, whatever torch's default."""
    try:
        tensor = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given), device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise RegionError(f"{what} cannot be made numbers; give a number, an array or a tensor, not {short(given)}") from error
    if tensor.is_complex():
        raise RegionError(f"{what} are complex; give real numbers")
    return own(tensor).to(torch.float64)


def short(given: object) -> str:
    """What was given, in a few words."""
    words = repr(given)
    return words if len(words) <= MOST_SHOWN else f"a {type(given).__name__}"


def radius_of(eps: Any) -> float | Tensor:
    """A radius, or one for each input, checked."""
    given = numbers("the values of eps", eps)
    if given.dim() > 1 or not given.numel():
        raise RegionError(f"eps has shape {tuple(given.shape)}; give one number, or one for each input, (N,)")
    wrong = ~((given >= 0) & (given < torch.inf))
    if bool(wrong.any()):
        bad = float(given.reshape(-1)[wrong.reshape(-1)][0])
        raise RegionError(f"eps is {bad}; a radius must be a finite number, 0 or more")
    return given if given.dim() else float(given)


def check_clip(clip: tuple[float, float] | None) -> None:
    try:
        fits = clip is None or (len(clip) == 2 and bool(clip[0] <= clip[1]))
    except (TypeError, ValueError, RuntimeError) as error:
        raise RegionError(f"clip is {short(clip)}; give the least value and the greatest, such as (0, 1)") from error
    if not fits:
        raise RegionError(f"clip is {short(clip)}; give the least value first, then the greatest")


def plain_limits(clip: tuple[float, float] | None, samples: Segment) -> dict[str, list[float] | list[int]]:
    found: dict[str, list[float] | list[int]] = {}
    if clip is not None:
        found["clip"] = [float(end) for end in clip]
    if samples is not None:
        found["samples"] = [samples[0], samples[1] - 1]
    return found


def ball(centre: Tensor, radius: Tensor, norm: float, clip: tuple[float, float] | None, free: Tensor) -> Ball:
    """Balls around a batch of inputs, each of its own radius (B,), cut to a range, changed only where `free` says."""
    each = radius.view(-1, *(1,) * (centre.dim() - 1))
    box = Interval(below(centre, each), above(centre, each))
    free = free & (each > 0)
    if clip is not None:
        low, high = clip
        refuse_outside(centre, clip)
        box = Interval(box.lower.clamp(min=low), box.upper.clamp(max=high))
    box = Interval(torch.where(free, box.lower, centre), torch.where(free, box.upper, centre))
    return Ball(centre.flatten(1), box.map(lambda bound: bound.flatten(1)), radius, norm)
