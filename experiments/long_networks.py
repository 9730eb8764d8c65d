"""Recurrent networks over many frames, trained: spoken digits as 40 mel energies a frame, of as many frames as are asked for.

The first half second of a clip, silence behind shorter ones, is cut into so many frames of 32 ms: the more there are, the more
they overlap. The logarithms of the energies are scaled to mean 0 and deviation 1. What was trained is kept in
`experiments/out`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.data import spoken_digits
from tightverify import speech

RATE, FRAME, BANDS, SAMPLES, FULL_SCALE, FLOOR = 8000, 256, 40, 4000, 2.0**15, 1e-3
EPOCHS, BATCH, LEARNING, WEIGHT_DECAY, SEED = 20, 64, 5e-3, 0.05, 1
NOISE, STEP = 0.2, 0.05
"""Of what is trained on: the deviation of noise, and the most of a step that hurts most, in deviations of a feature."""
OUT = Path(__file__).parent / "out"


class Reader(nn.Module):
    """One recurrent layer over the frames, and a linear layer of its last output."""

    def __init__(self, cell: str, units: int, features: int = BANDS) -> None:
        super().__init__()
        self.layer, self.head = getattr(nn, cell)(features, units, batch_first=True), nn.Linear(units, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


def spoken(frames: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Features (N, frames, 40) and digits, of the clips to train on and of those to test."""
    hop = (SAMPLES - FRAME) // (frames - 1)
    front = speech.log_mel(RATE, n_fft=FRAME, hop_length=hop, n_mels=BANDS, floor=FLOOR)
    found = []
    for test in (False, True):
        clips = spoken_digits(test)
        waves = torch.stack([functional.pad(c.samples[:SAMPLES], (0, max(0, SAMPLES - len(c.samples)))) for c in clips])
        with torch.no_grad():
            x = torch.cat([front(part.float() / FULL_SCALE)[:, :frames] for part in waves.split(100)])
        found.append((x, torch.tensor([clip.digit for clip in clips])))
    (x, y), (x_test, y_test) = found
    mean, deviation = x.mean((0, 1)), x.std((0, 1))
    return ((x - mean) / deviation, y), ((x_test - mean) / deviation, y_test)


def trained(cell: str, units: int, frames: int) -> Reader:
    """A network trained by cross-entropy on disturbed features, in float64; from its file, if there is one."""
    torch.manual_seed(SEED)
    network, path = Reader(cell, units), OUT / f"long_{cell.lower()}_{units}_{frames}.pt"
    if not path.exists():
        (x, y), _ = spoken(frames)
        fit(network, x, y)
        path.parent.mkdir(exist_ok=True)
        torch.save(network.state_dict(), path)
    network.load_state_dict(torch.load(path))
    return network.double().eval()


def fit(network: Reader, x: Tensor, y: Tensor) -> None:
    """Train with noise, and with a step of each feature up the loss."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING, total_steps=EPOCHS * -(-len(x) // BATCH))
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(BATCH):
            noisy = (x[part] + NOISE * torch.randn_like(x[part])).requires_grad_()
            (slope,) = torch.autograd.grad(functional.cross_entropy(network(noisy), y[part]), noisy)
            step = STEP * torch.rand(len(part), 1, 1) * slope.sign()
            loss = functional.cross_entropy(network((noisy + step).detach()), y[part])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()


def rightly_heard(network: Reader, frames: int, count: int) -> tuple[Tensor, Tensor, float]:
    """The first test clips that it classifies correctly, one digit after the other, and the share that it does."""
    _, (x, y) = spoken(frames)
    x = x.double()
    with torch.no_grad():
        right = network(x).argmax(1) == y
    order = sorted(torch.nonzero(right).flatten().tolist(), key=lambda k: (int((right & (y == y[k]))[:k].sum()), int(y[k])))
    chosen = torch.tensor(order[:count])
    return x[chosen], y[chosen], float(right.double().mean())
