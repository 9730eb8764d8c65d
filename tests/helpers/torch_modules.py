"""Modules of every recurrent kind, and how an import is compared with the module."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tightverify.models.model import Model

TIME, FEATURES, HIDDEN, CLASSES = 4, 3, 4, 3
SHAPE = (TIME, FEATURES)


class Function(nn.Module):
    """A function of the input and of a few weights, its result flattened to one row per input."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.empty(CLASSES, FEATURES))
        self.bias = nn.Parameter(torch.empty(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        given = {"x": x, "w": self.weight, "b": self.bias}
        return self.function(**{name: given[name] for name in signature(self.function).parameters}).flatten(1)


class Recurrent(nn.Module):
    """A recurrent layer, read out at both ends of time; `first` says where the batch is."""

    constant: Tensor

    def __init__(self, layer: nn.RNNBase, first: bool, states: str = "none") -> None:
        super().__init__()
        self.layer, self.first, self.states = layer, first, states
        self.start = nn.Linear(FEATURES, layer.hidden_size)
        self.register_buffer(
            "constant", torch.empty(layer.num_layers * (2 if layer.bidirectional else 1), 1, layer.hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0] if self.first else x.shape[1]
        frame = x[:, 0] if self.first else x[0]
        lstm = isinstance(self.layer, nn.LSTM)
        if self.states == "none":
            output, last = self.layer(x)
        else:
            state = self.constant.expand(-1, batch, -1).contiguous()
            if self.states == "symbolic":
                state = state + self.start(frame)[None]
            output, last = self.layer(x, (state, 0.5 * state) if lstm else state)
        output = output if self.first else output.transpose(0, 1)
        return torch.cat([output[:, -1], output[:, 0], *(s[-1] for s in (last if lstm else (last,)))], dim=-1)


class Loop(nn.Module):
    """A cell of torch's in a hand-written loop."""

    def __init__(self, cell: nn.RNNCellBase, stack: bool = False) -> None:
        super().__init__()
        self.cell, self.stack, self.head = cell, stack, nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        seen = torch.stack(outputs, dim=1)
        return self.head(seen.mean(1) if self.stack else seen[:, -1])


class HandLstm(nn.Module):
    """An LSTM from linear layers, in several spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.ih, self.hh = nn.Linear(FEATURES, 4 * HIDDEN), nn.Linear(HIDDEN, 4 * HIDDEN)
        self.joint = nn.Linear(FEATURES + HIDDEN, 4 * HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], HIDDEN)
        for frame in x.unbind(1):
            joint = self.spelling == "joint"
            gates = self.joint(torch.cat([frame, h], dim=-1)) if joint else self.ih(frame) + self.hh(h)
            if self.spelling == "slices":
                i, f, g, o = (gates[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
            elif self.spelling == "view":
                i, f, g, o = gates.view(-1, 4, HIDDEN).unbind(1)
            else:
                i, f, g, o = gates.chunk(4, dim=-1)
            c = f.sigmoid() * c + torch.sigmoid(i) * g.tanh()
            h = c.tanh() * o.sigmoid() if self.spelling == "slices" else torch.mul(o.sigmoid(), torch.tanh(c))
        return torch.cat([h, c], dim=1)


class HandGru(nn.Module):
    """A GRU from linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(FEATURES, 3 * HIDDEN), nn.Linear(HIDDEN, 3 * HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for t in range(x.shape[1]):
            (r, z, n), (hr, hz, hn) = self.ih(x[:, t]).split(HIDDEN, 1), self.hh(h).split(HIDDEN, 1)
            r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
            n = torch.tanh(n + r * hn)
            h = (1 - z) * n + z * h
        return h


class Convolutional(nn.Module):
    """Convolution, batch norm, dropout and a recurrent layer: a small speech network."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 2 * FEATURES, 2, **options)
        self.norm, self.drop = nn.BatchNorm1d(2 * FEATURES), nn.Dropout(0.5)
        self.gru = nn.GRU(2 * FEATURES, HIDDEN, batch_first=True, num_layers=2, dropout=0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(F.relu(self.norm(self.conv(x.transpose(1, 2)))))
        return self.gru(y.transpose(1, 2))[1][-1]


class Assigns(nn.Module):
    """A function that writes into slices of a new tensor."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], TIME + 1, FEATURES, dtype=x.dtype)
        y[:, 1:3] = x[:, 0:2]
        y[:, 4, 1] = x[:, 3, 2]
        y[:, 0] += 2 * x[:, 1]
        return y.flatten(1)


def recurrent(kind: Callable[..., nn.RNNBase], states: str = "none", **options: object) -> tuple[nn.Module, int]:
    first = bool(options.get("batch_first", False))
    return Recurrent(kind(FEATURES, HIDDEN, **options), first, states), 0 if first else 1


RECURRENT = {
    "lstm": lambda: recurrent(nn.LSTM),
    "lstm-first": lambda: recurrent(nn.LSTM, batch_first=True),
    "lstm-bidirectional-2": lambda: recurrent(nn.LSTM, bidirectional=True, num_layers=2, batch_first=True),
    "lstm-3-no-bias": lambda: recurrent(nn.LSTM, num_layers=3, bias=False),
    "lstm-states": lambda: recurrent(nn.LSTM, "constant", num_layers=2, bidirectional=True),
    "lstm-symbolic-states": lambda: recurrent(nn.LSTM, "symbolic", batch_first=True),
    "lstm-projected": lambda: recurrent(nn.LSTM, proj_size=2, batch_first=True),
    "lstm-projected-bidirectional-2": lambda: recurrent(nn.LSTM, proj_size=2, bidirectional=True, num_layers=2, bias=False),
    "lstm-dropout": lambda: recurrent(nn.LSTM, num_layers=2, dropout=0.5),
    "gru": lambda: recurrent(nn.GRU),
    "gru-first-2": lambda: recurrent(nn.GRU, batch_first=True, num_layers=2),
    "gru-bidirectional-no-bias": lambda: recurrent(nn.GRU, bidirectional=True, bias=False),
    "gru-states": lambda: recurrent(nn.GRU, "constant", bidirectional=True),
    "gru-symbolic-states": lambda: recurrent(nn.GRU, "symbolic", num_layers=2, batch_first=True),
    "rnn-tanh": lambda: recurrent(nn.RNN),
    "rnn-relu-3": lambda: recurrent(nn.RNN, nonlinearity="relu", num_layers=3, batch_first=True),
    "rnn-relu-bidirectional": lambda: recurrent(nn.RNN, nonlinearity="relu", bidirectional=True, bias=False),
    "rnn-states": lambda: recurrent(nn.RNN, "symbolic", bidirectional=True),
    "lstm-cell": lambda: (Loop(nn.LSTMCell(FEATURES, HIDDEN)), 0),
    "lstm-cell-mean": lambda: (Loop(nn.LSTMCell(FEATURES, HIDDEN, bias=False), stack=True), 0),
    "gru-cell": lambda: (Loop(nn.GRUCell(FEATURES, HIDDEN), stack=True), 0),
    "rnn-cell": lambda: (Loop(nn.RNNCell(FEATURES, HIDDEN, bias=False)), 0),
    "rnn-relu-cell": lambda: (Loop(nn.RNNCell(FEATURES, HIDDEN, nonlinearity="relu")), 0),
    "hand-lstm": lambda: (HandLstm("chunk"), 0),
    "hand-lstm-joint": lambda: (HandLstm("joint"), 0),
    "hand-lstm-slices": lambda: (HandLstm("slices"), 0),
    "hand-lstm-view": lambda: (HandLstm("view"), 0),
    "hand-gru": lambda: (HandGru(), 0),
    "conv": lambda: (Convolutional(), 0),
    "conv-groups": lambda: (Convolutional(stride=2, padding=2, dilation=2, groups=3), 0),
    "conv-bare": lambda: (nn.Sequential(nn.Conv1d(TIME, 2, 2, bias=False), nn.BatchNorm1d(2, affine=False), nn.Flatten()), 0),
    "conv-2d": lambda: (
        nn.Sequential(nn.Unflatten(1, (1, TIME)), nn.Conv2d(1, 2, (2, 2), padding=(1, 0)), nn.BatchNorm2d(2), nn.Flatten()),
        0,
    ),
    "dense": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), 0),
    "assigns": lambda: (Assigns(), 0),
}


def drawn(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The module in evaluation mode with weights that leave nothing trivial."""
    generator = torch.Generator().manual_seed(1)
    module = module.to(dtype).eval()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.7 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
                if name.endswith("running_var"):
                    tensor.copy_(tensor.square() + 0.3)
    return module


def agree(model: Model, module: nn.Module, batch_axis: int, tolerance: float) -> None:
    x = torch.randn(20, *model.graph.input_shape, generator=torch.Generator().manual_seed(5), dtype=model.dtype)
    with torch.no_grad():
        wanted = module(x.movedim(0, batch_axis)).double()
        ours = model.graph.forward(x.double().flatten(1))
    assert float(wanted.std()) > 1e-3
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)
