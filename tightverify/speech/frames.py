"""Frames cut from a waveform, and pre-emphasis.

With `center`, half a frame is put before and behind the waveform, as librosa and torchaudio do, so that frame t is centred on
sample t * hop: zeros (`pad_mode="constant"`, librosa's way) or a reflection (torchaudio's). Samples that fill no last frame are
left out, or, with `tail="pad"`, filled up with zeros to one more frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightverify.errors import UsageError

PAD_MODES = ("constant", "reflect", "replicate")
TAILS = ("drop", "pad")
STARTS = ("keep", "line")


def check_choice(name: str, given: str, choices: tuple[str, ...]) -> str:
    """An option that has to be one of a few words."""
    if given not in choices:
        raise UsageError(f"{name} is {given!r}; choose one of {', '.join(map(repr, choices))}")
    return given


def check_positive(name: str, given: int) -> int:
    """A count that has to be a whole number above 0."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UsageError(f"{name} is {given!r}; it must be a whole number, 1 or more")
    return given


class Cutting(nn.Module):
    """Where frames begin, and what is put around a waveform for it."""

    def __init__(self, length: int, hop: int, center: bool, pad_mode: str, tail: str) -> None:
        super().__init__()
        self.length, self.hop = check_positive("the frame's length", length), check_positive("the hop", hop)
        self.center, self.pad_mode = center, check_choice("pad_mode", pad_mode, PAD_MODES)
        self.tail = check_choice("tail", tail, TAILS)

    def forward(self, x: Tensor) -> Tensor:
        """The waveform (N, samples) with all that its frames reach, and perhaps some samples that fill no frame."""
        if x.dim() != 2:
            raise UsageError(f"a tensor of shape {tuple(x.shape)} was given; wanted waveforms (N, samples), one channel each")
        if self.center:
            half = self.length // 2
            if self.pad_mode == "reflect" and x.shape[1] <= half:
                raise UsageError(
                    f"a waveform of {x.shape[1]} samples cannot be reflected by half a frame, {half}; "
                    "give a longer one, or pad_mode='constant'"
                )
            x = functional.pad(x[:, None], (half, half), mode=self.pad_mode)[:, 0]
        if self.tail == "pad":
            # As many zeros for every length, so that a trace holds for all; those that fill no frame are left out.
            x = functional.pad(x, (0, max(self.hop - 1, self.length - x.shape[1])))
        if x.shape[1] < self.length:
            raise UsageError(
                f"a waveform of {x.shape[1]} samples is shorter than one frame, {self.length}; "
                "give a longer one, or tail='pad' to fill up with zeros"
            )
        return x

    def count(self, samples: int) -> int:
        """How many frames a waveform of so many samples has."""
        reach = samples + (2 * (self.length // 2) if self.center else 0)
        if self.tail == "pad":
            return 1 + -(-max(reach - self.length, 0) // self.hop)
        return max(0, 1 + (reach - self.length) // self.hop)


class Frames(nn.Module):
    """Waveforms (N, samples) as frames (N, frames, length)."""

    def __init__(self, length: int, hop: int, *, center: bool = False, pad_mode: str = "constant", tail: str = "drop") -> None:
        super().__init__()
        self.cutting = Cutting(length, hop, center, pad_mode, tail)

    def forward(self, x: Tensor) -> Tensor:
        frames: Tensor = self.cutting(x).unfold(1, self.cutting.length, self.cutting.hop)
        return frames


class Emphasis(nn.Module):
    """`x_t - coefficient x_{t-1}` along the last axis: of a waveform, or within each frame if it comes behind `Frames`.

    The first sample has none before it: `start="keep"` leaves it as it is (torchaudio), `start="line"` goes on the line through
    the first two, 3 x_0 - x_1 (librosa).
    """

    def __init__(self, coefficient: float = 0.97, *, start: str = "keep") -> None:
        super().__init__()
        self.coefficient, self.start = float(coefficient), check_choice("start", start, STARTS)

    def forward(self, x: Tensor) -> Tensor:
        first = x[..., :1] if self.start == "keep" else 3 * x[..., :1] - x[..., 1:2]
        return torch.cat([first, x[..., 1:] - self.coefficient * x[..., :-1]], dim=-1)
