"""Small networks in which something is constant: learned initial states, weights that are all 0, gates that never move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.onnx_models import build, from_state, head, layer, node, normal, save

DOUBLE = torch.float64
FRAMES, FEATURES, UNITS, CLASSES = 2, 2, 2, 2


class Recurrent(nn.Module):
    """A recurrent layer whose initial states are parameters, and a linear layer on its last frame."""

    def __init__(self, kind: Callable[..., nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.cell = kind(FEATURES, UNITS, batch_first=True, **options)
        directions = 2 if self.cell.bidirectional else 1
        states = (directions * self.cell.num_layers, 1, UNITS)
        self.h, self.c = nn.Parameter(torch.randn(states)), nn.Parameter(torch.randn(states))
        self.head = nn.Linear(directions * UNITS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h, c = (state.expand(-1, len(x), -1).contiguous() for state in (self.h, self.c))
        found = self.cell(x, (h, c) if isinstance(self.cell, nn.LSTM) else h)[0]
        return self.head(found[:, -1])


class Written(nn.Module):
    """Two linear layers of the whole input, and what a function makes of both."""

    def __init__(self, joined: Callable[[Tensor, Tensor, Tensor], Tensor], zero: bool = False) -> None:
        super().__init__()
        self.joined = joined
        self.first, self.second = (nn.Linear(FRAMES * FEATURES, UNITS) for _ in range(2))
        self.fixed = nn.Parameter(torch.randn(UNITS))
        self.head = nn.Linear(UNITS, CLASSES)
        if zero:
            nn.init.zeros_(self.first.weight)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return self.head(self.joined(self.first(flat), self.second(flat), self.fixed))


@dataclass(frozen=True)
class Case:
    """A network by its name, made in a folder of its own."""

    name: str
    make: Callable[[Path], tv.AnyModel]

    def load(self, folder: Path) -> tv.Model:
        torch.manual_seed(3)
        made = self.make(folder)
        if isinstance(made, nn.Module):
            return tv.load(made.to(DOUBLE).eval(), (FRAMES, FEATURES))
        return tv.load(made, (FRAMES, FEATURES), batch_axis=1)


def recurrent(kind: Callable[..., nn.RNNBase], zero: str = "", **options: Any) -> Callable[[Path], nn.Module]:
    """A recurrent network; parameters whose names hold one of the words are all 0."""

    def make(_folder: Path) -> nn.Module:
        made = Recurrent(kind, **options)
        for name, parameter in made.named_parameters():
            if any(word in name for word in zero.split()):
                nn.init.zeros_(parameter)
        return made

    return make


def fixed_gate(which: int) -> Callable[[Path], nn.Module]:
    """An LSTM one of whose gates reads nothing: the input's is 0, the candidate 2."""

    def make(_folder: Path) -> nn.Module:
        made = Recurrent(nn.LSTM)
        with torch.no_grad():
            for weight in (made.cell.weight_ih_l0, made.cell.weight_hh_l0):
                weight[which * UNITS : (which + 1) * UNITS] = 0  # type: ignore[operator]
        return made

    return make


def written(joined: Callable[[Tensor, Tensor, Tensor], Tensor], zero: bool = False) -> Callable[[Path], nn.Module]:
    return lambda _folder: Written(joined, zero)


def operator(kind: str, zero: str = "", direction: str = "forward") -> Callable[[Path], Path]:
    """An ONNX file of a recurrent operator with initial states; of the weights named, all are 0."""

    def make(folder: Path) -> Path:
        inputs, weights, usual = layer(kind, direction, features=FEATURES, size=UNITS)
        count = 1 + (direction == "bidirectional")
        states = {"h0": normal(count, 1, UNITS, seed=7), "c0": normal(count, 1, UNITS, seed=8)}
        every = weights | states | head(count * UNITS, CLASSES)
        every |= {name: np.zeros_like(every[name]) for name in zero.split()}
        cell = node(kind, f"{inputs} - h0" + (" c0" if kind == "LSTM" else ""), "- h", **usual)
        return save(folder, build(from_state(cell), [FRAMES, 1, FEATURES], every, np.float32))

    return make


CELLS: dict[str, Callable[..., nn.RNNBase]] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
CASES = [
    *(Case(f"{name}, learned states", recurrent(cell)) for name, cell in CELLS.items()),
    *(Case(f"{name}, no input weights", recurrent(cell, "weight_ih")) for name, cell in CELLS.items()),
    Case("GRU, no recurrent weights", recurrent(nn.GRU, "weight_hh")),
    Case("RNN, no first layer", recurrent(nn.RNN, "ih_l0 hh_l0", num_layers=2)),
    Case("GRU, no first layer", recurrent(nn.GRU, "ih_l0 hh_l0", num_layers=2)),
    Case("LSTM, no way back", recurrent(nn.LSTM, "_reverse", bidirectional=True)),
    Case("RNN of ReLU, learned states", recurrent(nn.RNN, nonlinearity="relu")),
    Case("LSTM, no head", recurrent(nn.LSTM, "head.weight")),
    Case("LSTM, fixed gate of the input", fixed_gate(0)),
    Case("LSTM, fixed candidate", fixed_gate(2)),
    Case("a fixed gate times the input", written(lambda _a, b, p: p.sigmoid() * b)),
    Case("a gate without weights times the input", written(lambda a, b, _p: a.sigmoid() * b, zero=True)),
    Case("a gate without weights times tanh", written(lambda a, b, _p: a.sigmoid() * b.tanh(), zero=True)),
    Case("a maximum with what has no weights", written(lambda a, b, _p: torch.maximum(a, b), zero=True)),
    Case("a maximum with fixed numbers", written(lambda _a, b, p: torch.maximum(p, b).tanh())),
    Case("squares of what has no weights", written(lambda a, b, _p: a * a + b, zero=True)),
    Case("nothing of the input", written(lambda a, _b, p: p.expand(len(a), -1))),
    *(Case(f"ONNX {name}, learned states", operator(name)) for name in CELLS),
    Case("ONNX GRU, no W, no R, both ways", operator("GRU", "W R", "bidirectional")),
]
