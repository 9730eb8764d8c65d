"""Front ends of speech networks as plain torch modules: they train, export to ONNX, and are verified down to the waveform.

Each takes and gives tensors with the batch first and time second: waveforms (N, samples), spectra and features
(N, frames, features). Put them in an `nn.Sequential` with the layers behind them; `log_mel` and `mfcc` are the usual chains.
Arguments have torchaudio's names where it has one.
"""

from tightverify.speech.cepstrum import Cosines, Deltas, Normalised
from tightverify.speech.chains import log_mel, mfcc
from tightverify.speech.frames import Emphasis, Frames
from tightverify.speech.levels import Decibels, Logarithm
from tightverify.speech.mel import MelBank, mel_bank
from tightverify.speech.spectrum import Spectrogram, window_of

__all__ = [
    "Cosines",
    "Decibels",
    "Deltas",
    "Emphasis",
    "Frames",
    "Logarithm",
    "MelBank",
    "Normalised",
    "Spectrogram",
    "log_mel",
    "mel_bank",
    "mfcc",
    "window_of",
]
