"""Gates are found however a cell is spelt, and nowhere else."""

# ruff: noqa: ARG005 - functions of a table share their parameters

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.graphs import bare, kinds, operations
from tightverify.graph import Graph
from tightverify.models.builder import ZERO, Builder
from tightverify.models.from_torch.module import from_torch
from tightverify.models.recurrent import GruCell, Weights, run

TIME, FEATURES, HIDDEN = 2, 2, 3
M = TypeVar("M", bound=nn.Module)


def drawn(module: M) -> M:
    generator = torch.Generator().manual_seed(2)
    module = module.double().eval()
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return module


class Lstm(nn.Module):
    """An LSTM by hand, with the weights of an `nn.LSTM`."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        w, u, b, c = self.layer.all_weights[0]
        hidden = cell = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for t in range(TIME):
            gates = nn.functional.linear(x[:, t], w, b) + nn.functional.linear(hidden, u, c)
            i, f, g, o = gates.chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden


class Gru(nn.Module):
    """A GRU by hand, with the weights of an `nn.GRU` and an update of any spelling."""

    def __init__(self, layer: nn.GRU, update: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.update = layer, update

    def forward(self, x: Tensor) -> Tensor:
        w, u, b, c = self.layer.all_weights[0]
        hidden = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for t in range(TIME):
            given, kept = nn.functional.linear(x[:, t], w, b), nn.functional.linear(hidden, u, c)
            r, z = (given + kept)[:, : 2 * HIDDEN].sigmoid().chunk(2, 1)
            n = torch.tanh(given[:, 2 * HIDDEN :] + r * kept[:, 2 * HIDDEN :])
            hidden = self.update(z, n, hidden)
        return hidden


class LastOutput(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


UPDATES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "(1 - z) * n + z * h": lambda z, n, h: (1 - z) * n + z * h,
    "n * (1 - z) + h * z": lambda z, n, h: n * (1 - z) + h * z,
    "z * h + (1 - z) * n": lambda z, n, h: z * h + (1 - z) * n,
    "n + z * (h - n)": lambda z, n, h: n + z * (h - n),
    "(h - n) * z + n": lambda z, n, h: (h - n) * z + n,
    "n - z * (n - h)": lambda z, n, h: n - z * (n - h),
    "h + (1 - z) * (n - h)": lambda z, n, h: h + (1 - z) * (n - h),
    "h - (1 - z) * (h - n)": lambda z, n, h: h - (1 - z) * (h - n),
    "lerp(n, h, z)": lambda z, n, h: torch.lerp(n, h, z),
    "lerp(h, n, 1 - z)": lambda z, n, h: torch.lerp(h, n, 1 - z),
}


def test_a_hand_written_lstm_has_only_its_gates() -> None:
    layer = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    module = drawn(Lstm(layer))
    graph = bare(from_torch(module, (TIME, FEATURES)).graph)
    assert operations(graph) == {"sigmoid_tanh", "sigmoid_times"}
    assert kinds(graph) == kinds(from_torch(LastOutput(layer), (TIME, FEATURES)).graph)
    # A sum for the gates of each step, and one for each cell but the first.
    assert kinds(graph) == {"Input": 2, "Affine": 3, "sigmoid_tanh": 4, "sigmoid_times": 1}


@cache
def whole_gru() -> tuple[nn.GRU, Graph]:
    """A layer, and its graph."""
    layer = drawn(nn.GRU(FEATURES, HIDDEN, batch_first=True))
    return layer, bare(from_torch(LastOutput(layer), (TIME, FEATURES)).graph)


@pytest.mark.parametrize("update", UPDATES)
def test_every_spelling_of_a_gru_is_the_same_graph(update: str) -> None:
    layer, whole = whole_gru()
    graph = bare(from_torch(Gru(layer, UPDATES[update]), (TIME, FEATURES)).graph)
    assert kinds(graph)["gru_update"] == kinds(whole)["gru_update"] == TIME - 1
    assert "multiply" not in operations(graph)
    if not update.startswith("h -"):  # Whose first step, from the state 0, is the negation of a product of a negation.
        assert kinds(graph)["sigmoid_tanh"] == kinds(whole)["sigmoid_tanh"] == 1
        assert operations(graph) == operations(whole)
    x = torch.randn(7, TIME * FEATURES, dtype=torch.float64)
    torch.testing.assert_close(graph.forward(x), whole.forward(x))


@pytest.mark.parametrize("update", UPDATES)
def test_swapped_roles_of_a_gru_gate(update: str) -> None:
    """z for 1 - z: the new state and the old one change places."""
    layer = nn.GRU(FEATURES, HIDDEN, batch_first=True)
    module = drawn(Gru(layer, lambda z, n, h: UPDATES[update](1 - z, n, h)))
    graph = bare(from_torch(module, (TIME, FEATURES)).graph)
    assert kinds(graph)["gru_update"] == TIME - 1


class Pair(nn.Module):
    """A function of three linear maps of the input."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.maps = nn.ModuleList(nn.Linear(4, HIDDEN) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(*(part(x) for part in self.maps))


LOOKALIKES: dict[str, Callable[..., Tensor]] = {
    "two gates": lambda a, b, n, h: (1 - a.sigmoid()) * n.tanh() + b.sigmoid() * h,
    "no complement": lambda a, b, n, h: a.sigmoid() * n.tanh() + a.sigmoid() * h,
    "two complements": lambda a, b, n, h: (1 - a.sigmoid()) * n.tanh() + (1 - a.sigmoid()) * h,
    "a sum": lambda a, b, n, h: n + a.sigmoid() * (h + n),
    "a sum, negated": lambda a, b, n, h: n - a.sigmoid() * (h + n),
    "wrong way": lambda a, b, n, h: n + a.sigmoid() * (n - h),
    "wrong way, negated": lambda a, b, n, h: n - a.sigmoid() * (h - n),
    "two of one": lambda a, b, n, h: (2 - a.sigmoid()) * n + a.sigmoid() * h,
    "minus": lambda a, b, n, h: (1 - a.sigmoid()) * n - a.sigmoid() * h,
    "twice": lambda a, b, n, h: (1 - 2 * a.sigmoid()) * n + a.sigmoid() * h,
    "other n": lambda a, b, n, h: n + a.sigmoid() * (h - b),
    "n and tanh(n)": lambda a, b, n, h: n + a.sigmoid() * (h - n.tanh()),
    "a shift": lambda a, b, n, h: n + a.sigmoid() * (h - n + 1),
    "a shift outside": lambda a, b, n, h: (1 - a.sigmoid()) * n + a.sigmoid() * h + 0.5,
    "a scale": lambda a, b, n, h: n + a.sigmoid() * (h - 2 * n),
    "other neurons": lambda a, b, n, h: n + a.sigmoid() * (h - n.flip(1)),
    "other gates": lambda a, b, n, h: (1 - a.sigmoid().flip(1)) * n + a.sigmoid() * h,
    "tanh": lambda a, b, n, h: (1 - a.tanh()) * n + a.tanh() * h,
    "minus new": lambda a, b, n, h: -n + a.sigmoid() * (h - n),
    "plus new": lambda a, b, n, h: n + a.sigmoid() * n,
    "minus other": lambda a, b, n, h: n - a.sigmoid() * h,
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes_of_a_gru_are_left_alone(name: str) -> None:
    """`from_torch` compares with the module, so that a wrong rewriting raises."""
    module = drawn(Pair(LOOKALIKES[name]))
    graph = bare(from_torch(module, (4,)).graph)
    if name != "a shift outside":  # A mean and a constant: either way is right.
        assert "gru_update" not in operations(graph)


PRODUCTS: dict[str, tuple[Callable[..., Tensor], set[str]]] = {
    "both orders": (lambda a, b, n, h: a.tanh() * b.sigmoid() + n.sigmoid() * h.tanh(), {"sigmoid_tanh"}),
    "complement": (lambda a, b, n, h: (1 - a.sigmoid()) * b.tanh() + n * (1 - h.sigmoid()), {"sigmoid_tanh", "sigmoid_times"}),
    "two sigmoids": (lambda a, b, n, h: a.sigmoid() * b.sigmoid(), {"sigmoid", "sigmoid_times"}),
    "two tanhs": (lambda a, b, n, h: a.tanh() * b.tanh(), {"tanh", "tanh_times"}),
    "plain": (lambda a, b, n, h: a * b, {"multiply"}),
    "square": (lambda a, b, n, h: a * a, {"square"}),
    "used twice": (lambda a, b, n, h: a.sigmoid() * b.tanh() + a.sigmoid() + b.tanh(), {"sigmoid_tanh", "sigmoid", "tanh"}),
    "used elsewhere": (lambda a, b, n, h: torch.cat([a.sigmoid() * b, a.sigmoid()], 1), {"sigmoid_times", "sigmoid"}),
    "in a blend and elsewhere": (
        lambda a, b, n, h: (1 - a.sigmoid()) * n + a.sigmoid() * h + a.sigmoid() * b,
        {"gru_update", "sigmoid_times"},
    ),
    "the product elsewhere": (
        lambda a, b, n, h: torch.cat([n + a.sigmoid() * (h - n), a.sigmoid() * (h - n), h - n], 1),
        {"gru_update", "sigmoid_times"},
    ),
    "coupled gates": (lambda a, b, n, h: a.sigmoid() * h + (1 - a.sigmoid()) * b.tanh(), {"gru_update", "tanh"}),
    "scaled gate": (lambda a, b, n, h: 0.5 * a.sigmoid() * b, {"multiply", "sigmoid"}),
    "constant": (lambda a, b, n, h: a.sigmoid() * torch.tensor([1.0, -2.0, 0.0]), {"sigmoid"}),
    "slices": (lambda a, b, n, h: torch.cat([a, b], 1).sigmoid()[:, 1:4] * torch.cat([n, h], 1).tanh()[:, 2:5], set()),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_become_gates(name: str) -> None:
    function, wanted = PRODUCTS[name]
    graph = bare(from_torch(drawn(Pair(function)), (4,)).graph)
    assert operations(graph) == wanted or not wanted


def test_gru_with_the_reset_gate_before_the_product() -> None:
    """ONNX's default, against the formula."""
    generator = torch.Generator().manual_seed(0)
    w, u, b, c = (
        torch.randn(3 * HIDDEN, *rest, generator=generator, dtype=torch.float64) for rest in ((FEATURES,), (HIDDEN,), (), ())
    )
    builder = Builder()
    x = builder.input((TIME, FEATURES))
    start = np.full(HIDDEN, ZERO)
    outputs, _ = run(builder, GruCell(Weights(w, u, b, c), reset_after=False), x, (start,), reverse=True)
    graph = bare(builder.graph(outputs))
    values = torch.randn(TIME, FEATURES, generator=generator, dtype=torch.float64)
    wanted: list[Tensor] = []
    h = torch.zeros(HIDDEN, dtype=torch.float64)
    for frame in values.flip(0):
        gates = w @ frame + b
        r, z = (gates[: 2 * HIDDEN] + u[: 2 * HIDDEN] @ h + c[: 2 * HIDDEN]).sigmoid().chunk(2)
        n = torch.tanh(gates[2 * HIDDEN :] + u[2 * HIDDEN :] @ (r * h) + c[2 * HIDDEN :])
        h = (1 - z) * n + z * h
        wanted.insert(0, h)
    torch.testing.assert_close(graph.forward(values.flatten()), torch.cat(wanted))
    assert kinds(graph)["gru_update"] == TIME - 1
