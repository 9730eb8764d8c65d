"""What may happen to a sound: decibel and signal-to-noise balls, a gain, an added noise, a small shift in time.

The balls have a radius of each clip's own. The others have one unknown number for the whole clip, which moves all samples
together: they are lines, not boxes (`region.zonotope`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightverify.calling import own, plainly
from tightverify.decimals import exactly
from tightverify.errors import RegionError
from tightverify.region.ball import Ball
from tightverify.region.free import Segment, along, samples_axis, segment
from tightverify.region.perturbation import Perturbation, ball, check_clip, plain_limits
from tightverify.region.zonotope import Zonotope, zonotope

LOUDEST = 1000.0
"""Decibels beyond these, up or down, are refused: their powers of ten leave what floats can hold."""
ROUNDED_UP = 1 + 2.0**-45
"""A computed radius times this is at least the true one. Lengths (`math.hypot`), powers and products err by an ulp or two each;
rounding db / 20 moves the power by |db| / 20 ln 10 units, at most 116 of the 256 that there are."""


@dataclass(frozen=True, eq=False)
class DecibelBall(Perturbation):
    """Every sample may change by at most delta = 10^((db + 20 log10 peak) / 20), peak = the clip's own max |x|.

    That is peak * 10^(db / 20): at -80 dB a ten-thousandth of the peak. `clip` is a range that all samples keep to, and
    `samples=(start, stop)` the only segment that may change; the peak is always that of the whole clip.
    """

    db: float
    clip: tuple[float, float] | None = None
    samples: Segment = None

    def __post_init__(self) -> None:
        if not -LOUDEST <= self.db <= 0:
            raise RegionError(
                f"db is {self.db}; wanted a number from {-LOUDEST:g} to 0: -80 allows changes of a ten-thousandth of the peak"
            )
        check_clip(self.clip)

    @property
    def words(self) -> str:
        return f"{exactly(self.db)} dB"

    @property
    def limits(self) -> dict[str, list[float] | list[int]]:
        return plain_limits(self.clip, self.samples)

    @property
    def boxes(self) -> bool:
        return True

    def around(self, x: Tensor) -> Ball:
        centre = own(x).to(torch.float64)
        peak = centre.flatten(1).abs().amax(1)
        refuse_silence(peak, "a decibel ball has no size there")
        radius = peak * 10.0 ** (self.db / 20) * ROUNDED_UP
        return ball(centre, radius, math.inf, self.clip, segment(centre, self.samples).expand_as(centre))


@dataclass(frozen=True, eq=False)
class SnrBall(Perturbation):
    """The change's Euclidean length is at most |x|_2 10^(-db / 20): the signal-to-noise ratio is at least `db` decibels.

    The ratio is that of the whole clip's power, also where only the segment `samples=(start, stop)` may change.
    """

    db: float
    clip: tuple[float, float] | None = None
    samples: Segment = None

    def __post_init__(self) -> None:
        if not abs(self.db) <= LOUDEST:
            raise RegionError(
                f"the signal-to-noise ratio is {self.db} dB; wanted a number from {-LOUDEST:g} to {LOUDEST:g}, such as 60"
            )
        check_clip(self.clip)

    @property
    def words(self) -> str:
        return f"SNR {exactly(self.db)} dB"

    @property
    def limits(self) -> dict[str, list[float] | list[int]]:
        return plain_limits(self.clip, self.samples)

    @property
    def boxes(self) -> bool:
        return False

    def around(self, x: Tensor) -> Ball:
        centre = own(x).to(torch.float64)
        lengths = torch.tensor([math.hypot(*clip) for clip in centre.flatten(1).tolist()], dtype=torch.float64)
        refuse_silence(lengths, "a signal-to-noise ratio means nothing there")
        radius = lengths.to(centre.device) * 10.0 ** (-self.db / 20) * ROUNDED_UP
        return ball(centre, radius, 2.0, self.clip, segment(centre, self.samples).expand_as(centre))


@dataclass(frozen=True, eq=False)
class Gain(Perturbation):
    """The whole clip is multiplied by one unknown factor between -db and +db decibels: 10^(-db / 20) to 10^(db / 20)."""

    db: float

    def __post_init__(self) -> None:
        if not 0 <= self.db <= LOUDEST:
            raise RegionError(f"the gain is {self.db} dB; wanted a number from 0 to {LOUDEST:g}: 3 means from -3 to +3 dB")

    @property
    def words(self) -> str:
        return f"gain {exactly(self.db)} dB"

    @property
    def boxes(self) -> bool:
        return False

    def around(self, x: Tensor) -> Zonotope:
        clip = own(x).to(torch.float64)
        least, most = 10.0 ** (-self.db / 20), 10.0 ** (self.db / 20)
        return line(clip * least, clip * most, clip.abs() * most, x.dtype)


@dataclass(frozen=True, eq=False)
class AddedNoise(Perturbation):
    """x + t * noise, the noise known, its strength t not: anywhere in [0, strength], or in [low, high] where a pair is given.

    A noise (n,) goes along the samples; any other has the inputs' shape, or one that broadcasts to it. What is longer than the
    clips is cut to their length; of inputs with several long axes a noise (n,) must have just that of the last.
    """

    noise: Any
    strength: float | tuple[float, float]

    @plainly
    def __post_init__(self) -> None:
        low, high = self.between
        if not -math.inf < low <= high < math.inf:
            raise RegionError(
                f"the noise's strength is {self.strength}; wanted a finite number of 0 or more, or a pair (least, greatest)"
            )
        if not bool(torch.isfinite(torch.as_tensor(self.noise)).all()):
            raise RegionError("the noise holds a NaN or an infinite value; every value must be a finite number")

    @property
    def between(self) -> tuple[float, float]:
        return self.strength if isinstance(self.strength, tuple) else (0.0, self.strength)

    @property
    def words(self) -> str:
        low, high = self.between
        return f"noise {exactly(low)} to {exactly(high)}"

    @property
    def boxes(self) -> bool:
        return False

    def around(self, x: Tensor) -> Zonotope:
        clip = own(x).to(torch.float64)
        noise = beside(own(torch.as_tensor(self.noise, dtype=torch.float64, device=x.device)), clip)
        if noise is None:
            raise RegionError(
                f"the noise has shape {tuple(torch.as_tensor(self.noise).shape)}, a batch of inputs {tuple(x.shape)}; "
                "give a noise at least as long as the clips, of their shape, or one that broadcasts to it"
            )
        low, high = self.between
        size = clip.abs() + max(abs(low), abs(high)) * noise.abs()
        return line(clip + low * noise, clip + high * noise, size, x.dtype)


def beside(noise: Tensor, clip: Tensor) -> Tensor | None:
    """A noise laid along a batch of clips, cut to their length; None where it does not fit."""
    axis = samples_axis(tuple(clip.shape))
    length, place = clip.shape[axis], axis - clip.dim() + noise.dim()
    if noise.dim() == 1:
        if len(noise) < length or (len(noise) > length and clip[0].numel() > length):
            return None
        return along(clip, axis, noise[:length]).expand_as(clip)
    if place >= 0 and noise.shape[place] > length:
        noise = noise.narrow(place, 0, length)
    try:
        return noise.expand_as(clip)
    except RuntimeError:
        return None


@dataclass(frozen=True, eq=False)
class Shift(Perturbation):
    """The whole sound comes up to `samples` (at most 1) sooner or, if negative, later, by straight lines between samples.

    x_i becomes x_i + t (x_{i+1} - x_i) for one unknown t in [0, samples], the last sample being repeated; if negative,
    x_i + t (x_{i-1} - x_i) for t in [0, -samples]. This is what a resampler that interpolates linearly makes of a delay of less
    than a sample. Other interpolations give other values, and a shift by whole samples is another clip.
    """

    samples: float

    def __post_init__(self) -> None:
        if not -1 <= self.samples <= 1:
            raise RegionError(
                f"the shift is {self.samples} samples; wanted a number from -1 to 1: shift clips by whole samples themselves, "
                "and verify each"
            )

    @property
    def words(self) -> str:
        return f"shift {exactly(self.samples)}"

    @property
    def boxes(self) -> bool:
        return False

    def around(self, x: Tensor) -> Zonotope:
        clip = own(x).to(torch.float64)
        axis, size = samples_axis(tuple(x.shape)), x.shape[samples_axis(tuple(x.shape))]
        ahead = 1 if self.samples > 0 else -1
        neighbours = (torch.arange(size, device=x.device) + ahead).clamp(0, size - 1)
        beside = clip.index_select(axis, neighbours)
        moved = clip + abs(self.samples) * (beside - clip)
        return line(clip, moved, clip.abs() + beside.abs(), x.dtype)


def line(first: Tensor, last: Tensor, size: Tensor, dtype: torch.dtype) -> Zonotope:
    """All that lies between two points, for each input of a batch; `size` is at least every number that made them."""
    first, last = first.flatten(1), last.flatten(1)
    return zonotope((first + last) / 2, ((last - first) / 2)[:, None], size.flatten(1), dtype)


def refuse_silence(size: Tensor, so: str) -> None:
    silent = torch.nonzero(size == 0).flatten().tolist()
    if silent:
        raise RegionError(f"input {silent[0]} is silent: all its samples are 0, and {so}; leave it out, or give an eps")
