"""A network that has no value on part of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Logs(nn.Module):
    """A linear layer on tanh(log(x)): where x may be below 0, the intervals of what tanh reads are infinite."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(2, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(torch.log(x)))
