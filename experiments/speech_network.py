"""Small networks that tell spoken digits by their waveform, how they are trained, and how they are written as ONNX.

The front end is a part of the network: mel energies of frames of 32 ms, their logarithms, scaled to mean 0 and deviation 1. One
recurrent layer reads the frames, and a linear layer its last output. Samples lie in [-1, 1], as audio files are read.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tightverify import speech

RATE, FRAME, HOP, BANDS, HIDDEN = 8000, 256, 200, 16, 32
FLOOR = 1e-2
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU}
EPOCHS, BATCH, LEARNING, WEIGHT_DECAY, SMOOTHING, SEED = 30, 64, 1e-2, 0.3, 0.05, 1
LOUDNESS, NOISE, STEP = (-15.0, 3.0), (-70.0, -30.0), (-60.0, -40.0)
"""Ranges in decibels: of a gain on the clip; of noise, and of the step that hurts most, relative to its peak."""


class Digits(nn.Module):
    """Waveforms (N, samples) to ten scores (N, 10), with as many frames as the waveform has."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.front = speech.log_mel(RATE, n_fft=FRAME, hop_length=HOP, n_mels=BANDS, floor=FLOOR)
        self.register_buffer("mean", torch.zeros(BANDS))
        self.register_buffer("deviation", torch.ones(BANDS))
        self.layer = LAYERS[layer](BANDS, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 10)

    def heard(self, x: Tensor) -> Tensor:
        """(N, frames, hidden): what the recurrent layer says after each frame."""
        return torch.as_tensor(self.layer((self.front(x) - self.mean) / self.deviation)[0])

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.heard(x)[:, -1]))

    def of_padded(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The scores of clips with zeros behind them: those after each clip's own last frame, which no zero reaches."""
        return torch.as_tensor(self.head(self.heard(x)[torch.arange(len(x)), (lengths - FRAME) // HOP]))


def padded(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Clips of different lengths in one tensor, zeros behind them, and their lengths."""
    return nn.utils.rnn.pad_sequence(list(clips), batch_first=True), torch.tensor([len(clip) for clip in clips])


def trained(layer: str, clips: Sequence[Tensor], digits: Tensor, epochs: int = EPOCHS) -> Digits:
    """A network trained by cross-entropy on disturbed clips, with the learning rate falling to 0."""
    torch.manual_seed(SEED)
    network = Digits(layer)
    with torch.no_grad():
        features = torch.cat([network.front(clip[None])[0] for clip in clips])
    network.mean.copy_(features.mean(0))
    network.deviation.copy_(features.std(0))
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING, weight_decay=WEIGHT_DECAY)
    batches = -(-len(clips) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING, total_steps=epochs * batches)
    for _ in range(epochs):
        for part in torch.randperm(len(clips)).split(BATCH):
            x, lengths = padded([clips[k] for k in part.tolist()])
            x = disturbed(network, x, lengths, digits[part])
            loss = functional.cross_entropy(network.of_padded(x, lengths), digits[part], label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval()


def disturbed(network: Digits, x: Tensor, lengths: Tensor, digits: Tensor) -> Tensor:
    """Clips at random loudness with noise, then a step up the loss: each sample by as much, in its gradient's direction."""
    x = x * ratios(LOUDNESS, len(x))
    peaks = x.abs().amax(dim=1, keepdim=True)
    x = (x + peaks * ratios(NOISE, len(x)) * torch.randn_like(x)).requires_grad_()
    loss = functional.cross_entropy(network.of_padded(x, lengths), digits)
    (slope,) = torch.autograd.grad(loss, x)
    return (x + peaks * ratios(STEP, len(x)) * slope.sign()).detach()


def ratios(decibels: tuple[float, float], count: int) -> Tensor:
    """(N, 1) random ratios of amplitudes, evenly spread in decibels."""
    low, high = decibels
    return 10 ** ((low + (high - low) * torch.rand(count, 1)) / 20)


def accuracy(network: Digits, clips: Sequence[Tensor], digits: Tensor) -> float:
    """In per cent."""
    with torch.no_grad():
        return 100 * float((network.of_padded(*padded(clips)).argmax(1) == digits).double().mean())


def to_onnx(network: nn.Module, path: Path) -> Path:
    """A network on waveforms as a file that takes any length: its frames are counted when it runs."""
    axes = {"wave": {0: "batch", 1: "samples"}, "scores": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of checks that it leaves out
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, RATE),),
            str(path),
            input_names=["wave"],
            output_names=["scores"],
            dynamic_axes=axes,
            dynamo=False,
            verbose=False,
        )
    return path
