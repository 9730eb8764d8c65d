"""Time series for experiments: HAPT's windows of a gyroscope and PROVER's network on them, and Japanese vowels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.data import FrameLSTM, folder, with_weights

SAMPLES, FRAMES = 300, 12
"""Of a window of HAPT: six seconds, in frames of half a second."""
BASIC = 6
"""Activities that the network knows: the first ones."""
STEPS, NUMBERS, SPEAKERS = 15, 12, 9
"""Of a vowel: its first frames, the numbers of each, and who may have said it."""


class Vowels(nn.Module):
    """A GRU over the frames of a vowel, and a linear layer on its last state."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru, self.linear = nn.GRU(NUMBERS, hidden, batch_first=True), nn.Linear(hidden, SPEAKERS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.linear(self.gru(x)[0][:, -1]))


class HardVowels(nn.Module):
    """The same, its gates' sigmoid cut in pieces: clamp(x / 6 + 1 / 2, 0, 1)."""

    def __init__(self, of: Vowels) -> None:
        super().__init__()
        self.gru, self.linear = of.gru, of.linear

    def forward(self, x: Tensor) -> Tensor:
        own = dict(self.gru.named_parameters())
        state = x.new_zeros(len(x), self.gru.hidden_size)
        for k in range(x.shape[1]):
            reset, update, new = nn.functional.linear(x[:, k], own["weight_ih_l0"], own["bias_ih_l0"]).chunk(3, 1)
            own_reset, own_update, own_new = nn.functional.linear(state, own["weight_hh_l0"], own["bias_hh_l0"]).chunk(3, 1)
            r, z = nn.functional.hardsigmoid(reset + own_reset), nn.functional.hardsigmoid(update + own_update)
            n = torch.tanh(new + r * own_new)
            state = n + z * (state - n)
        return torch.as_tensor(self.linear(state))


def hapt_network() -> FrameLSTM:
    """PROVER's LSTM of two layers of 128 on windows of the gyroscope."""
    module = FrameLSTM(FRAMES, 128, 2, BASIC, 3 * SAMPLES)
    return with_weights(module, "prover", "hapt_2L_128H.npz")


def hapt_windows(test: bool = True) -> tuple[Tensor, Tensor]:
    """The first window of each test segment (or of each other one), flat and in rad/s, and the activities."""
    data = np.load(folder("hapt") / "hapt.npz")
    offsets = {int(row[0]): int(row[2]) for row in data["index"]}
    segments = data["labels"][data["labels"][:, 2] <= BASIC]
    order = np.arange(len(segments))
    np.random.RandomState(1000).shuffle(order)
    gyro = data["gyro"] * data["gyro_scale"]
    windows: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for number in order[599:] if test else order[:599]:
        recording, _, activity, start, end = segments[number].tolist()
        segment = gyro[offsets[recording] + start : offsets[recording] + end]
        if len(segment) >= SAMPLES:
            windows.append(segment[:SAMPLES].ravel())
            labels.append(activity - 1)
    return torch.tensor(np.stack(windows)), torch.tensor(labels)


def vowels(part: str) -> tuple[Tensor, Tensor]:
    """(N, STEPS, NUMBERS): the vowels of "train" or "test", cut to their first frames, or with the last one repeated."""
    data = np.load(folder("vowels") / "JapaneseVowels.npz")
    offsets = data[f"{part}_offsets"]
    cut = [data[part][start:end] for start, end in pairwise(offsets)]
    whole = [np.concatenate([x, np.repeat(x[-1:], STEPS, axis=0)])[:STEPS] for x in cut]
    return torch.tensor(np.stack(whole)), torch.tensor(data[f"{part}_labels"].astype(np.int64) - 1)


def trained(hidden: int = 16, rounds: int = 150, seed: int = 0) -> Vowels:
    """A GRU that tells the speakers of vowels, its weights kept small."""
    torch.manual_seed(seed)
    model = Vowels(hidden)
    x, labels = vowels("train")
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(rounds):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x.float()), labels)
        loss.backward()
        optimiser.step()
    return model.eval().requires_grad_(False)
