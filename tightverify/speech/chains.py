"""The usual chains, from the waveform to features for a recurrent layer."""

from __future__ import annotations

from torch import nn

from tightverify.speech.cepstrum import Cosines
from tightverify.speech.levels import Decibels, Logarithm
from tightverify.speech.mel import MelBank
from tightverify.speech.spectrum import Spectrogram


def log_mel(
    sample_rate: int,
    n_fft: int = 400,
    hop_length: int | None = None,
    n_mels: int = 40,
    *,
    win_length: int | None = None,
    window: str = "hann",
    f_min: float = 0.0,
    f_max: float | None = None,
    scale: str = "htk",
    norm: str = "none",
    center: bool = False,
    pad_mode: str = "reflect",
    tail: str = "drop",
    emphasis: float = 0.0,
    floor: float = 1e-6,
) -> nn.Sequential:
    """`log(mel quadratics + floor)`: waveforms (N, samples) to (N, frames, n_mels)."""
    spectrum = Spectrogram(
        n_fft,
        hop_length,
        win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        tail=tail,
        emphasis=emphasis,
    )
    return nn.Sequential(spectrum, MelBank(sample_rate, n_fft, n_mels, f_min, f_max, scale=scale, norm=norm), Logarithm(floor))


def mfcc(
    sample_rate: int,
    n_mfcc: int = 20,
    n_fft: int = 400,
    hop_length: int | None = None,
    n_mels: int = 40,
    *,
    window: str = "hann",
    f_min: float = 0.0,
    f_max: float | None = None,
    scale: str = "htk",
    norm: str = "none",
    center: bool = False,
    pad_mode: str = "reflect",
    top_db: float | None = None,
    lifter: float = 0.0,
) -> nn.Sequential:
    """The cosine transform of mel energies in decibels: waveforms (N, samples) to (N, frames, n_mfcc)."""
    return nn.Sequential(
        Spectrogram(n_fft, hop_length, window=window, center=center, pad_mode=pad_mode),
        MelBank(sample_rate, n_fft, n_mels, f_min, f_max, scale=scale, norm=norm),
        Decibels(top_db=top_db),
        Cosines(n_mfcc, n_mels, lifter=lifter),
    )
