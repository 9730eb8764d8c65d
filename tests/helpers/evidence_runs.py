"""Runs that keep evidence: a network, a method and a region each, which between them have every kind of entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import FEATURES, Classifier
from tests.helpers.convolutions import NETWORKS as CONVOLUTIONAL
from tests.helpers.convolutions import images, seeded, sliding
from tests.helpers.evidence_check import Numbers
from tests.helpers.texts import LENGTH, reader, sentences
from tests.stages.test_milp import relu_model
from tightverify import speech
from tightverify.embedding import Embedding
from tightverify.evidence import (
    Entry,
)

FRAMES = 3


class Hearing(nn.Module):
    """Log mel energies of a short waveform, an LSTM, a linear layer."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.front = speech.log_mel(800, n_fft=8, hop_length=6, n_mels=2, floor=1e-2)
        self.layer, self.head = nn.LSTM(2, units, batch_first=True), nn.Linear(units, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(self.front(x))[0][:, -1]))


class Odd(nn.Module):
    """One of each operation that no recurrent network has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        clamped, leaky = nn.functional.hardtanh(h, -0.4, 0.6), nn.functional.leaky_relu(h, 0.1)
        square = h * h
        sums = h[:, :2] ** 2 + h[:, 2:] ** 2
        parts = [torch.maximum(clamped, leaky), torch.sqrt(square[:, :3] + 1), torch.reciprocal(square[:, 3:] + 1), sums]
        return torch.as_tensor(self.head(torch.cat([*parts, torch.log(square[:, :2] + 1)], dim=1)))


TEXT = reader("rnn", seed=3)
with torch.no_grad():
    TEXT.words.weight.mul_(0.7)
EMBEDDING = Embedding(TEXT.words.weight.detach())
RUNS: dict[str, tuple[str, str, float | tv.Perturbation, slice, str]] = {
    "lstm linear": ("lstm", "linear", 0.5, slice(0, 2), "linear"),
    "lstm wide": ("lstm", "linear", 3.0, slice(0, 1), ""),
    "lstm planes": ("lstm", "planes", 0.9, slice(0, 2), "planes"),
    "lstm combine": ("lstm", "combine", 0.9, slice(1, 2), "combine"),
    "lstm complete": ("lstm", "complete", 1.2, slice(0, 1), "branch"),
    "gru linear": ("gru", "linear", 0.4, slice(0, 2), "linear"),
    "gru combine": ("gru", "combine", 0.5, slice(0, 1), "combine"),
    "gru complete": ("gru", "complete", 0.5, slice(1, 2), "branch"),
    "gru lp": ("gru", "lp", 0.486, slice(2, 3), "lp"),
    "gru tightened": ("gru", "lp", 0.5, slice(2, 3), ""),
    "tanh combine": ("tanh", "combine", 0.05, slice(0, 1), "combine"),
    "tanh lp": ("tanh", "lp", 0.03, slice(2, 4), "linear"),
    "relu planes": ("relu", "planes", 0.2, slice(0, 2), "linear"),
    "relu complete": ("relu", "complete", tv.L2Ball(1.2), slice(2, 3), ""),
    "mlp complete": ("mlp", "complete", 0.8, slice(0, 1), "branch"),
    "mlp complete, l1": ("mlp", "complete", tv.L1Ball(1.2), slice(3, 4), "branch"),
    "mlp complete, l2": ("mlp", "complete", tv.L2Ball(0.8), slice(2, 3), "branch"),
    "lstm planes, frames": ("lstm", "planes", tv.L2Ball(1.4, per="frame"), slice(0, 1), ""),
    "mlp complete, groups": ("mlp", "complete", tv.L1Ball(0.8, per=[0, 1]), slice(3, 4), "branch"),
    "speech linear, groups": ("speech", "linear", tv.L2Ball(0.12, per=[0] * 9 + [1] * 11), slice(1, 3), "linear"),
    "mlp linear, gain": ("mlp", "linear", tv.Gain(12.0), slice(0, 2), "pieces"),
    "gru planes, noise": ("gru", "planes", tv.AddedNoise(torch.cos(torch.arange(3.0)), (-2.0, 2.0)), slice(0, 2), "pieces"),
    "lstm combine, noise": ("lstm", "combine", tv.AddedNoise(torch.cos(torch.arange(3.0)), (-6.0, 6.0)), slice(0, 2), ""),
    "speech complete": ("speech", "complete", tv.L2Ball(0.22), slice(2, 3), "branch"),
    "speech linear, gain": ("speech", "linear", tv.Gain(3.0), slice(0, 1), "pieces"),
    "speech planes, shift": ("speech", "planes", tv.Shift(0.5), slice(0, 2), "pieces"),
    "text linear": ("text", "linear", tv.Substitution(EMBEDDING, EMBEDDING.nearest(3), most=2), slice(0, 3), "sentences"),
    "text complete": ("text", "complete", tv.Substitution(EMBEDDING, EMBEDDING.nearest(8)), slice(0, 1), "branch"),
    "lstm lp": ("short lstm", "lp", 0.6, slice(2, 3), ""),
    "speech lp": ("short speech", "lp", 0.1, slice(1, 2), ""),
    "odd lp": ("odd", "lp", 1.2, slice(0, 1), ""),
    "odd milp": ("odd", "milp", 1.45, slice(0, 1), ""),
    "vision linear": ("vision", "linear", 0.1, slice(0, 2), "linear"),
    "vision combine": ("vision", "combine", 0.15, slice(0, 1), "combine"),
    "vision milp": ("vision", "milp", 0.19, slice(0, 1), "milp"),
    "spotter linear": ("spotter", "linear", 0.1, slice(0, 1), "linear"),
    "relu milp": ("straight", "milp", 0.6, slice(0, 2), "milp"),
    "relu narrowed": ("steep", "milp", 0.5, slice(0, 1), "milp"),
}
"""The network, the method, the region or its radius, some inputs, and a stage that proves one of them."""


def network(name: str) -> tuple[tv.Model, Tensor]:
    """A network, and inputs; `short` ones, of two frames and two units, for programs of all kinds of rows."""
    short, name = name.startswith("short "), name.removeprefix("short ")
    frames, units = (2, 2) if short else (FRAMES, 4)
    if name == "text":
        return tv.load(TEXT, (LENGTH,), tokens=True), sentences(3)
    if name == "straight":
        return relu_model()
    if name == "steep":
        return relu_model(0, 4, 3, 8)
    if name == "odd":
        torch.manual_seed(0)
        odd = Odd().double().eval()
        return tv.load(odd, shape=(3,)), torch.rand((2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if name in ("vision", "spotter"):
        make, shape = CONVOLUTIONAL[name]
        module = seeded(make)
        with torch.no_grad(), sliding():
            for parameter in module.parameters() if name == "vision" else ():
                parameter.mul_(2)
            return tv.load(module, shape=shape), images(4, *shape)
    if name == "mlp":
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(3)
        return tv.load(module, shape=(2,)), torch.rand((4, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if name == "speech":
        torch.manual_seed(3)
        hearing = Hearing(units).double().eval()
        with torch.no_grad():
            for parameter in hearing.parameters():
                parameter.mul_(2)
        samples = 8 + 6 * (frames - 1)
        wave = torch.rand((3, samples), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return tv.load(hearing, shape=(samples,)), 2 * wave - 1
    torch.manual_seed(1)
    layers: dict[str, Callable[[int, int], nn.RNNBase]] = {
        "lstm": lambda i, h: nn.LSTM(i, h, batch_first=True),
        "gru": lambda i, h: nn.GRU(i, h, batch_first=True),
        "tanh": lambda i, h: nn.RNN(i, h, batch_first=True),
        "relu": lambda i, h: nn.RNN(i, h, batch_first=True, nonlinearity="relu"),
    }
    own = Classifier.__new__(Classifier)
    nn.Module.__init__(own)
    own.layer, own.head = layers[name](FEATURES, units), nn.Linear(units, 3)
    own = own.double().eval()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.mul_(2)
    x = torch.rand((4, frames, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return tv.load(own, shape=(frames, FEATURES)), x


def certified(name: str, folder: Path | None) -> Sequence[tv.Result]:
    kind, method, eps, some, _ = RUNS[name]
    model, x = network(kind)
    region = tv.LinfBall(eps) if isinstance(eps, float) else eps
    starts = 4 if name == "lstm wide" else 0
    more: dict[str, Any] = {"obbt": 1} if name == "gru tightened" else {}
    more |= {"splits": 24, "restarts": starts, "batch": 1, "without_pairs": True}  # as evidence has no place for pairs
    return tv.certify(model, x[some], None, region, method=method, rounds=1, evidence=folder, **more)


Kept = tuple[Sequence[tv.Result], list[tuple[Entry, ...]], Numbers]
