"""What training has no bounds of is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import tightverify as tv
from tests.training.test_bounds import X, Y
from tightverify import training
from tightverify.errors import UnsupportedError, UsageError


class Asks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if x.sum() > 0 else x[:, 1]


class Views(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0]
        first += 1
        return x[:, 1]


class Causal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)[:, -1]


class Quotient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 / (x[:, 0] - X[:, 0])


class Powers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0].abs() + 1) ** 2.5


class Ends(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).softmax(1)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(1)), "ends with a softmax"),
    "Tensor.softmax": (lambda: Ends(), "ends with a softmax"),
    "softmax over the batch": (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(0)), "behind the first"),
    "causal": (Causal, "attention with a mask"),
    "quotient": (Quotient, "whose divisor may be 0"),
    "power": (Powers, "the power 2.5; use one of"),
    "asks": (Asks, "training cannot bound"),
    "views": (Views, "may be a view"),
    "positions": (lambda: nn.Sequential(nn.MaxPool1d(2, return_indices=True), nn.Flatten()), "positions of max pooling"),
    "projection": (lambda: nn.Sequential(nn.LSTM(3, 4, proj_size=2)), "projections"),
    "shape": (lambda: nn.Sequential(nn.Linear(3, 2)), "outputs of shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises((UnsupportedError, UsageError), match=words):
        training.margins(make(), X, Y, tv.LinfBall(0.1))
