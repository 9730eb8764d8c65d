"""Mel filter banks: triangles whose corners lie evenly on the mel scale.

`scale="htk"` is 2595 log10(1 + f / 700); `scale="slaney"` is linear up to 1000 Hz, 15 mel there, and logarithmic from there on,
27 mel for each factor of 6.4. `norm="slaney"` divides each triangle by half its width in Hz, so that all have the same area.
Defaults are torchaudio's; librosa's are `scale="slaney", norm="slaney"`. `floor_to_bins` moves the corners down to whole bins
first, of n_fft + 1, as older code does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tightverify.errors import UsageError
from tightverify.speech.frames import check_choice, check_positive

SCALES = ("htk", "slaney")
NORMS = ("none", "slaney")
LINEAR, KNEE, STEP = 200 / 3, 1000.0, math.log(6.4) / 27
Floats = NDArray[np.float64]


def to_mel(hertz: Floats, scale: str) -> Floats:
    """Frequencies on the mel scale."""
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + hertz / 700))
    high = KNEE / LINEAR + np.log(np.maximum(hertz, KNEE) / KNEE) / STEP
    return np.where(hertz < KNEE, hertz / LINEAR, high)


def to_hertz(mel: Floats, scale: str) -> Floats:
    """The other way round."""
    if scale == "htk":
        return np.asarray(700 * (10 ** (mel / 2595) - 1))
    knee = KNEE / LINEAR
    return np.where(mel < knee, mel * LINEAR, KNEE * np.exp(STEP * (np.maximum(mel, knee) - knee)))


def mel_bank(
    sample_rate: int,
    n_fft: int,
    n_mels: int = 128,
    f_min: float = 0.0,
    f_max: float | None = None,
    *,
    scale: str = "htk",
    norm: str = "none",
    floor_to_bins: bool = False,
) -> Tensor:
    """(n_mels, n_fft // 2 + 1) weights in float64."""
    check_positive("sample_rate", sample_rate)
    check_positive("n_fft", n_fft)
    check_positive("n_mels", n_mels)
    check_choice("scale", scale, SCALES)
    top = sample_rate / 2 if f_max is None else float(f_max)
    if not 0 <= f_min < top <= sample_rate / 2:
        raise UsageError(
            f"the bands go from {f_min:g} to {top:g} Hz at {sample_rate} samples a second; wanted 0 <= f_min < f_max <= "
            f"{sample_rate / 2:g}"
        )
    ends = to_mel(np.array([f_min, top]), scale)
    corners = to_hertz(np.linspace(ends[0], ends[1], n_mels + 2), scale)
    places = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    if floor_to_bins:
        corners = np.floor((n_fft + 1) * corners / sample_rate) * (sample_rate / n_fft)
    low, middle, high = (corners[k : n_mels + k, None] for k in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        rising, falling = (places - low) / (middle - low), (high - places) / (high - middle)
    weights = np.nan_to_num(np.maximum(0, np.minimum(rising, falling)), nan=0.0, posinf=0.0)
    if check_choice("norm", norm, NORMS) == "slaney":
        weights = weights * (2 / (high - low))
    return torch.from_numpy(weights)


class MelBank(nn.Module):
    """Spectra (N, frames, n_fft // 2 + 1) as bands (N, frames, n_mels)."""

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        n_mels: int = 128,
        f_min: float = 0.0,
        f_max: float | None = None,
        *,
        scale: str = "htk",
        norm: str = "none",
        floor_to_bins: bool = False,
    ) -> None:
        super().__init__()
        bank = mel_bank(sample_rate, n_fft, n_mels, f_min, f_max, scale=scale, norm=norm, floor_to_bins=floor_to_bins)
        self.bank: Tensor
        self.register_buffer("bank", bank.to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.bank.T
