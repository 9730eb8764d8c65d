"""Packed sequences of full length are read as plain tensors; smaller lengths, or such as depend on the input, are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.helpers.torch_modules import agree
from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.from_torch.module import from_torch

FRAMES, FEATURES, HIDDEN = 4, 3, 2
Lengths = Callable[[Tensor], "Tensor | list[int]"]


def full(x: Tensor) -> list[int]:
    return [FRAMES] * x.shape[0]


def counted(x: Tensor) -> Tensor:
    return (x.abs().sum(-1) > 0).sum(1)


class Packed(nn.Module):
    def __init__(self, layer: nn.RNNBase, lengths: Lengths = full, in_order: bool = True, longer: int | None = None) -> None:
        super().__init__()
        self.layer, self.lengths, self.in_order, self.longer = layer, lengths, in_order, longer

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        first = self.layer.batch_first
        given = pack_padded_sequence(x if first else x.transpose(0, 1), self.lengths(x), first, self.in_order)
        made, last = self.layer(given, start)
        frames, lengths = pad_packed_sequence(made, batch_first=True, total_length=self.longer)
        ends = frames[torch.arange(len(lengths)), lengths - 1]
        return torch.cat([frames.flatten(1), ends, last[0][-1] if isinstance(last, tuple) else last[-1]], 1)


CASES: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Packed(nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True), in_order=False),
    "gru": lambda: Packed(nn.GRU(FEATURES, HIDDEN), longer=6),
    "rnn": lambda: Packed(nn.RNN(FEATURES, HIDDEN), lambda x: torch.full((len(x),), FRAMES)),
}


@pytest.mark.parametrize("name", CASES)
def test_full_length(name: str) -> None:
    module = CASES[name]().double()
    agree(from_torch(module, (FRAMES, FEATURES)), module, 0, 1e-9)


def test_states_and_lengths_that_are_inputs() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(FEATURES, HIDDEN, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return self.layer(packed, torch.ones(1, x.shape[0], HIDDEN, dtype=x.dtype))[1][0]

    module, x = Given().double(), torch.randn(1, FRAMES, FEATURES, dtype=torch.float64)
    model = from_torch(module, (FRAMES, FEATURES), fix={"lengths": torch.tensor([FRAMES])})
    torch.testing.assert_close(model.graph.forward(x.flatten(1)), module(x, torch.tensor([FRAMES])).detach())
    with pytest.raises(UnsupportedError, match=r"packs sequences of 4 frames as of length 3; only sequences of full length"):
        from_torch(module, (FRAMES, FEATURES), fix={"lengths": torch.tensor([3])})


def test_lengths_that_depend_on_the_input_are_refused() -> None:
    layer = nn.GRU(FEATURES, HIDDEN, batch_first=True)
    with pytest.raises(UnsupportedError, match=r"lengths of packed sequences depend on the input .*test_packed\.py line"):
        from_torch(Packed(layer, counted, in_order=False), (FRAMES, FEATURES))
    with pytest.raises(ModelError, match="pack no sequences but those of full length"):
        from_torch(Packed(layer, lambda x: counted(x).tolist()), (FRAMES, FEATURES))
