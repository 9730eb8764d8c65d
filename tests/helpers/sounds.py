"""A small network on waveforms of any length, as a module and as an ONNX file, and clips for it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

WINDOW, HOP = 32, 20
LENGTHS = (100, 131, 100, 72, 131, 100)


class Listener(nn.Module):
    """Frames by a strided convolution, an LSTM, a linear layer on its last output. `channels` adds an axis of length 1."""

    def __init__(self, channels: bool = False) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.channels = channels
        self.frames = nn.Conv1d(1, 5, WINDOW, stride=HOP)
        self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        heard = torch.relu(self.frames(x if self.channels else x[:, None]))
        return self.head(self.lstm(heard.transpose(1, 2))[0][:, -1])


def recordings() -> list[Tensor]:
    """Clips of three different lengths, in 16-bit steps."""
    generator = torch.Generator().manual_seed(6)
    return [((torch.rand(n, generator=generator) - 0.5) * 32768).round() / 32768 for n in LENGTHS]


def to_onnx(network: Listener, path: Path, samples: int | None = None) -> Path:
    """The network in a file: for any length, or for one."""
    x = torch.zeros(1, *(1,) * network.channels, samples or 100)
    axes = {"wave": {0: "batch"} if samples else {0: "batch", x.dim() - 1: "samples"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (x,), str(path), input_names=["wave"], dynamic_axes=axes, dynamo=False, verbose=False)
    return path
