"""Tiny networks of texts, which begin with an embedding, and sentences for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WORDS, WIDTH, CLASSES, LENGTH = 12, 3, 3, 4
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "lstm": lambda i, h: nn.LSTM(i, h, batch_first=True),
    "gru": lambda i, h: nn.GRU(i, h, batch_first=True),
    "rnn": lambda i, h: nn.RNN(i, h, batch_first=True),
    "conv": lambda i, h: Convolution(i, h),
}


class Convolution(nn.Module):
    """A convolution over words, then an RNN."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.first, self.layer = nn.Conv1d(inputs, hidden, 2), nn.RNN(hidden, hidden, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.layer(torch.relu(self.first(x.transpose(1, 2))).transpose(1, 2))
        return found


class Reader(nn.Module):
    """An embedding, a layer, and a linear layer on its last output."""

    def __init__(self, layer: str = "lstm", hidden: int = 4, padding: int | None = None) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=padding)
        self.layer, self.head = LAYERS[layer](WIDTH, hidden), nn.Linear(hidden, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(self.words(tokens))[0][:, -1]))


def reader(layer: str = "lstm", dtype: torch.dtype = torch.float64, seed: int = 1, padding: int | None = None) -> Reader:
    torch.manual_seed(seed)
    network = Reader(layer, padding=padding).to(dtype).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


def sentences(count: int = 3, length: int = LENGTH, seed: int = 0) -> Tensor:
    """(count, length): token numbers."""
    return torch.randint(WORDS, (count, length), generator=torch.Generator().manual_seed(seed))


def exported(network: nn.Module, path: Path, modern: bool = False) -> Path:
    """The network as an ONNX file of sentences of any number and length."""
    how: dict[str, Any] = {"dynamo": False, "input_names": ["tokens"], "dynamic_axes": {"tokens": {0: "batch", 1: "words"}}}
    if modern:
        lengths = {0: torch.export.Dim("batch"), 1: torch.export.Dim("words", min=2)}
        how = {"dynamo": True, "dynamic_shapes": (lengths,)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.float(), (sentences(2 if modern else 1),), str(path), verbose=False, **how)
    return path
