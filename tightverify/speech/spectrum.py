"""The power or magnitude spectrum of a waveform's frames, by real matrices.

The real and the imaginary part of bin k are `sum_j w_j x_j cos(2 pi k j / n)` and `-sum_j w_j x_j sin(2 pi k j / n)`: linear
forms of the samples, taken by one convolution whose stride is the hop. Their squares' sum is the power, a convex quadratic of
the waveform, and is verified as one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightverify.errors import UsageError
from tightverify.speech.frames import Cutting, check_choice, check_positive

WINDOWS = ("hann", "hamming", "blackman", "ones")
NORMALISATIONS = ("none", "window", "frame_length")


def window_of(name: str, length: int, periodic: bool = True) -> Tensor:
    """A window in float64; `periodic` as scipy, librosa and torchaudio take it for spectra."""
    match check_choice("the window", name, WINDOWS):
        case "hann":
            return torch.hann_window(length, periodic=periodic, dtype=torch.float64)
        case "hamming":
            return torch.hamming_window(length, periodic=periodic, dtype=torch.float64)
        case "blackman":
            return torch.blackman_window(length, periodic=periodic, dtype=torch.float64)
    return torch.ones(length, dtype=torch.float64)


def transform(n_fft: int, window: Tensor, emphasis: float) -> Tensor:
    """(2 bins, n_fft): the real parts of all bins, then the imaginary ones, of a frame that is emphasised, then windowed."""
    bins, places = torch.arange(n_fft // 2 + 1), torch.arange(n_fft)
    # Whole turns are taken off before anything is rounded.
    angles = 2 * math.pi / n_fft * (torch.outer(bins, places) % n_fft).to(torch.float64)
    rows = torch.cat([angles.cos(), -angles.sin()]) * window
    shifted = functional.pad(rows[:, 1:], (0, 1))
    return rows - emphasis * shifted


class Spectrogram(nn.Module):
    """Waveforms (N, samples) as spectra (N, frames, n_fft // 2 + 1).

    `power=2` gives |X|^2, `power=1` |X|, as `sqrt(|X|^2 + floor)`: the root's slope at 0 is infinite, so that training wants a
    floor above 0. A window shorter than `n_fft` is centred in it. `normalized` divides X by the root of the sum of the window's
    squares ("window"), or by sqrt(n_fft) ("frame_length"). `emphasis` is a pre-emphasis within each frame, before the window.
    """

    def __init__(
        self,
        n_fft: int = 400,
        hop_length: int | None = None,
        win_length: int | None = None,
        *,
        window: str | Tensor = "hann",
        power: float = 2.0,
        normalized: str = "none",
        center: bool = True,
        pad_mode: str = "reflect",
        tail: str = "drop",
        emphasis: float = 0.0,
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("n_fft", n_fft)
        width = n_fft if win_length is None else check_positive("win_length", win_length)
        if width > n_fft:
            raise UsageError(f"win_length is {width} and n_fft {n_fft}; a window must fit: give win_length of n_fft at most")
        if power not in (1, 2):
            raise UsageError(f"power is {power:g}; choose 2 for the power spectrum or 1 for magnitudes")
        if floor < 0:
            raise UsageError(f"the floor is {floor:g}; it must be 0 or more")
        shape = window_of(window, width) if isinstance(window, str) else window.detach().to(torch.float64)
        if tuple(shape.shape) != (width,):
            raise UsageError(f"the window has shape {tuple(shape.shape)}; wanted ({width},), one number for each sample")
        before = (n_fft - width) // 2
        shape = functional.pad(shape, (before, n_fft - width - before))
        scale = {"none": 1.0, "window": float(shape.square().sum().sqrt()), "frame_length": math.sqrt(n_fft)}
        matrix = transform(n_fft, shape, emphasis) / scale[check_choice("normalized", normalized, NORMALISATIONS)]
        self.cutting = Cutting(n_fft, width // 2 if hop_length is None else hop_length, center, pad_mode, tail)
        self.power, self.floor = float(power), float(floor)
        self.transform: Tensor
        self.register_buffer("transform", matrix.to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        parts = functional.conv1d(self.cutting(x)[:, None], self.transform[:, None], stride=self.cutting.hop)
        real, imaginary = parts.transpose(1, 2).chunk(2, dim=2)
        power = real * real + imaginary * imaginary
        if self.power == 2:
            return power
        return torch.sqrt(power + self.floor if self.floor else power)
