"""Families of regions that grow with one number: what a radius is the radius of.

A search works on sizes above 0 that grow with the region. A family says which number a user reads for a size (decibels for a
ratio to the peak), which region is meant by that very number, and up to which size there is one. Regions of a family are
nested: each holds those of smaller sizes. So what is proved at one size holds at all smaller ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tightverify.errors import RegionError, UsageError
from tightverify.region import DecibelBall, Gain, LpBall, Perturbation, SnrBall
from tightverify.region.groups import Groups
from tightverify.region.perturbation import BALLS, check_clip, limit_words

MOST = 1e6
"""No size beyond is tried where nothing else ends it."""


def itself(size: float) -> float:
    """Most sizes are the number that they are known by."""
    return size


@dataclass(frozen=True)
class Family:
    """`region(number(size))` grows with the size, up to `most`; `unit` is that of the number.

    Sizes 0 and infinity, of which there is no region, have numbers too: they say that nothing was proved, or refuted. Questions
    whose families are of one `kind`, such as balls of a norm, are worked on together.
    """

    words: str
    region: Callable[[float], Perturbation]
    number: Callable[[float], float] = itself
    most: float = MOST
    unit: str = ""
    kind: str = ""

    def at(self, size: float) -> Perturbation:
        return self.region(self.number(size))


def balls(norm: float, clip: tuple[float, float] | None, values: int, per: Groups | None = None) -> Family:
    """Balls of a norm in so many values, or products of balls."""
    most = largest(norm, clip, values)
    limits = LpBall(0.0, norm, per=per).limits  # says what is wrong with the groups
    return Family(BALLS[f"{norm:g}"] + limit_words(limits), lambda eps: LpBall(eps, norm, clip, per=per), most=most)


def largest(norm: float, clip: tuple[float, float] | None, values: int) -> float:
    """The radius of the largest ball in so many values that may change: within a range there is one."""
    if norm not in (1, 2, math.inf):
        raise RegionError(f"the norm is {norm}; balls of the norms 1, 2 and inf are supported")
    check_clip(clip)
    return MOST if clip is None else (clip[1] - clip[0]) * values ** (1 / norm) * (1 + 1e-9)


def decibels(size: float) -> float:
    """A ratio of amplitudes in decibels; -inf for nothing."""
    return -math.inf if size == 0 else 20 * math.log10(size)


def decibel_balls(clip: tuple[float, float] | None) -> Family:
    """Changes of so many decibels of the peak."""
    return Family("decibel ball", lambda db: DecibelBall(db, clip), decibels, 1.0, "dB")


def snr_balls(clip: tuple[float, float] | None) -> Family:
    """Changes by which the signal-to-noise ratio is at least so many decibels: they grow as that falls."""
    return Family("SNR ball", lambda db: SnrBall(db, clip), lambda size: -decibels(size), MOST, "dB")


def gains(clip: tuple[float, float] | None) -> Family:
    """One unknown factor between minus and plus so many decibels."""
    if clip is not None:
        raise UsageError("a clip was given beside a gain, and says nothing there; leave it out")
    return Family("gain", Gain, most=60.0, unit="dB")


FAMILIES: dict[str, Callable[[tuple[float, float] | None], Family]] = {
    "db": decibel_balls,
    "snr": snr_balls,
    "gain": gains,
}
"""Families by the name that a user gives, made of the range that values keep to."""


def family_of(
    given: Any,
    norm: float,
    clip: tuple[float, float] | None,
    values: int,
    each: Groups | None = None,
) -> Family:
    """The family that a user names: one of `FAMILIES`, a function from a number to a region, or balls of a norm."""
    if given is None:
        return balls(norm, clip, values, per=each)
    if each is not None:
        raise UsageError("groups of a ball each were given beside a family; let the regions themselves have them")
    if isinstance(given, str):
        if given not in FAMILIES:
            raise UsageError(f"the family {given!r} does not exist; choose one of {', '.join(FAMILIES)}, or give a function")
        return FAMILIES[given](clip)
    if not callable(given) or isinstance(given, Perturbation):
        raise UsageError(
            f"the family is a {type(given).__name__}; wanted a function from a number to a region, such as LinfBall"
        )
    if clip is not None:
        raise UsageError("a clip was given beside a family of regions; let the regions themselves be clipped")
    return Family(getattr(given, "__name__", "family"), given)
