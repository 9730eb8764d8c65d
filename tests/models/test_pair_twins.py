"""Two networks of one kind with other activations, or spelt in other ways: differences go node by node all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid, linear

from tests.helpers.torch_modules import SHAPE
from tests.models.test_pair import OUTPUTS, Net, bounded, drawn, holds, modelled, near
from tightverify.api.load import load
from tightverify.graph import Apply
from tightverify.models.model import Model
from tightverify.models.pair import pair, subtracted
from tightverify.ops import GruUpdate, HardSigmoid, Operation, WeightedMean

Gate = Callable[[Tensor], Tensor]
Mean = Callable[[Tensor, Tensor, Tensor], Tensor]
MEANS: dict[str, Mean] = {
    "step": lambda z, n, h: n + z * (h - n),
    "products": lambda z, n, h: (1 - z) * n + z * h,
    "back": lambda z, n, h: n - z * (n - h),
}


class Spelt(nn.Module):
    """A recurrent network's own weights, its cell spelt step by step, with other gates."""

    def __init__(self, of: Net, gate: Gate, mean: Mean = MEANS["step"]) -> None:
        super().__init__()
        self.layer, self.last, self.gate, self.mean = of.layer, of.last, gate, mean

    def forward(self, x: Tensor) -> Tensor:
        own = dict(self.layer.named_parameters())
        state = cell = x.new_zeros(len(x), self.layer.hidden_size)
        for k in range(x.shape[1]):
            one = linear(x[:, k], own["weight_ih_l0"], own["bias_ih_l0"])
            other = linear(state, own["weight_hh_l0"], own["bias_hh_l0"])
            if isinstance(self.layer, nn.LSTM):
                i, f, g, o = (one + other).chunk(4, 1)
                cell = self.gate(f) * cell + torch.tanh(g) * self.gate(i)
                state = torch.tanh(cell) * self.gate(o)
            else:
                (r, z, n), (own_r, own_z, own_n) = one.chunk(3, 1), other.chunk(3, 1)
                new = torch.tanh(n + self.gate(r + own_r) * own_n)
                state = self.mean(self.gate(z + own_z), new, state)
        return torch.as_tensor(self.last(state))


def network(kind: type[nn.RNNBase], seed: int = 0) -> Net:
    torch.manual_seed(seed)
    made: nn.RNNBase = kind(3, 4, 1, batch_first=True)  # type: ignore[arg-type]
    return Net(made).double().eval()


def operations(model: Model) -> list[Operation]:
    return [node.op for node in model.graph.nodes if isinstance(node, Apply)]


def checked(first: Model, second: Model, ratio: float, everything: bool = False) -> None:
    """The pair is of one structure, holds samples, and is so much tighter than what subtracting the outputs leaves.

    By interval arithmetic and linear bounds, or by every kind of pass.
    """
    both = pair(first, second)
    assert not both.notes
    x = drawn(1000)
    one, other = (model.graph.forward(x.flatten(1)) for model in (first, second))
    values = torch.cat([one, one - other], dim=1)
    assert (both.graph.forward(x.flatten(1)) - values).abs().max() <= 1e-13
    apart = dict(bounded(subtracted(first, second)))
    found = dict(bounded(both, everything))
    for method, interval in found.items():
        assert holds(interval, values), method
    assert found["linear"].width[:, OUTPUTS:].mean() <= ratio * apart["linear"].width[:, OUTPUTS:].mean()


@pytest.mark.covering
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("order", [1, -1])
def test_a_gru_and_its_hard_twin(mean: str, order: int) -> None:
    module = network(nn.GRU)
    twin = modelled(Spelt(module, hardsigmoid, MEANS[mean]))
    assert WeightedMean() in operations(twin)
    first, second = (modelled(module), twin)[::order]
    checked(first, second, ratio=0.5, everything=mean == "step")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_other_spellings_of_one_network_hardly_differ(kind: type[nn.RNNBase]) -> None:
    """And gates are single operations in the pair, as they are in each."""
    first, other = modelled(network(kind)), near(network(kind), 1e-6)
    assert isinstance(other, Net)
    second = modelled(Spelt(other, torch.sigmoid))
    checked(first, second, ratio=1e-3)
    assert (GruUpdate() in operations(pair(first, second))) == (kind is nn.GRU)


def test_an_lstm_and_its_hard_twin() -> None:
    module = network(nn.LSTM)
    checked(modelled(module), modelled(Spelt(module, hardsigmoid)), ratio=0.6, everything=True)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_models_of_onnx_with_hard_gates(kind: str, tmp_path: Path) -> None:
    """HardSigmoid as ONNX has it by default, beside sigmoid and beside rounded weights of its own."""
    gates, generator = {"LSTM": 4, "GRU": 3}[kind], torch.Generator().manual_seed(0)
    shapes = {"w": (1, 4 * gates, 3), "r": (1, 4 * gates, 4), "b": (1, 8 * gates)}
    weights = {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    models = list[Model]()
    for gate, size in (("Sigmoid", 1.0), ("HardSigmoid", 1.0), ("HardSigmoid", 1.001)):
        functions = [gate, "Tanh", "Tanh"][: gates - 1]
        values = [numpy_helper.from_array((size * value).numpy(), name) for name, value in weights.items()]
        nodes = [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            helper.make_node(kind, ["t", "w", "r", "b"], ["", "h"], hidden_size=4, activations=functions),
            helper.make_node("Slice", ["h", "zero", "three", "two"], ["s"]),
            helper.make_node("Squeeze", ["s", "zero"], ["y"]),
        ]
        places = [("zero", [0]), ("three", [OUTPUTS]), ("two", [2])]
        values += [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in places]
        shaped = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, *SHAPE)), ("y", (1, OUTPUTS)))]
        graph = helper.make_graph(nodes, "g", shaped[:1], shaped[1:], values)
        path = tmp_path / f"{len(models)}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        models.append(load(path))
    assert HardSigmoid in {type(op) for op in operations(models[1])}
    checked(models[0], models[1], ratio=0.6)
    checked(models[1], models[2], ratio=0.1)


class Activated(nn.Module):
    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(12, 6), function, nn.Linear(6, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.function(8 * self.first(x.flatten(1)))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Tanh(), nn.Hardtanh()),
        (nn.Hardtanh(), nn.Tanh()),
        (nn.Sigmoid(), nn.Hardsigmoid()),
        (nn.Hardsigmoid(), nn.Sigmoid()),
        (nn.LeakyReLU(0.05), nn.ReLU()),
    ],
    ids=repr,
)
def test_activations_in_the_same_place(one: nn.Module, other: nn.Module) -> None:
    """By how much both may differ at one point is known, whatever is known of the point."""
    torch.manual_seed(0)
    module = Activated(one).double()
    twin = Activated(other).double()
    twin.load_state_dict(module.state_dict())
    checked(modelled(module), modelled(twin), ratio=1.0, everything=True)


def test_structures_that_differ_are_subtracted() -> None:
    """A layer more, a state more, gates swapped."""
    first = modelled(network(nn.GRU))
    for second in (nn.GRU(3, 4, 2, batch_first=True), nn.GRU(3, 5, 1, batch_first=True), nn.LSTM(3, 4, 1, batch_first=True)):
        assert pair(first, modelled(Net(second).double().eval())).notes
    assert pair(first, modelled(Spelt(network(nn.GRU), torch.sigmoid, lambda z, n, h: h + z * torch.tanh(n - h)))).notes
