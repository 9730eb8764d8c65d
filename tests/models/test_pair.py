"""Two networks as one graph: its outputs are the first's and the differences to the second's, and bounds hold both."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tests.helpers import exact
from tests.helpers.convolutions import images, seeded, slides, sliding, spotter
from tests.helpers.torch_modules import SHAPE
from tightverify.api.load import load
from tightverify.bounds.fitted import Effort, Fitting, combined_bounds, fitted_bounds
from tightverify.bounds.interval import interval_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.errors import ModelError
from tightverify.models.model import Model
from tightverify.models.pair import Layout, pair
from tightverify.models.second_input import of_second_input
from tightverify.region import L2Ball, LinfBall, TwoInputs
from tightverify.values import Interval

EPS = 0.05
OUTPUTS = 3


class Net(nn.Module):
    """A recurrent layer and a linear one."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.last = nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.layer(x)[0][:, -1]))


class Plain(nn.Module):
    """Operations that have rules of their own, and one that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 6), nn.Linear(6, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x.flatten(1))
        b = torch.maximum(torch.nn.functional.hardtanh(a), 0.3 * a.square()) + torch.sigmoid(a) * torch.roll(a, 1, -1)
        return torch.as_tensor(self.last(b + torch.log(1.5 + torch.tanh(a))))


CELLS = {
    "lstm": lambda: nn.LSTM(3, 4, 1, batch_first=True),
    "lstm of two layers": lambda: nn.LSTM(3, 3, 2, batch_first=True),
    "lstm both ways": lambda: nn.LSTM(3, 3, 1, batch_first=True, bidirectional=True),
    "gru": lambda: nn.GRU(3, 4, 2, batch_first=True),
    "gru both ways": lambda: nn.GRU(3, 3, 1, batch_first=True, bidirectional=True),
    "tanh": lambda: nn.RNN(3, 4, 2, batch_first=True),
    "relu": lambda: nn.RNN(3, 4, 1, nonlinearity="relu", batch_first=True, bidirectional=True),
}


def network(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return (Plain() if kind == "plain" else Net(CELLS[kind]())).double().eval()


def near(module: nn.Module, size: float = 1e-3, seed: int = 1) -> nn.Module:
    """The same with weights that are a little off."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return other


def modelled(module: nn.Module) -> Model:
    return load(module, SHAPE)


def drawn(count: int, seed: int = 0) -> Tensor:
    """Inputs about 0, many at the corners of the ball of EPS."""
    x = 2 * torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    x[::2] = x[::2].sign()
    return EPS * x


def bounded(both: Model, everything: bool = False) -> list[tuple[str, Interval]]:
    """The outputs' intervals over the ball about 0, by interval arithmetic and linear bounds, or by every kind of pass."""
    region = LinfBall(EPS).around(torch.zeros(1, *SHAPE, dtype=torch.float64))
    graph = both.graph
    linear = linear_bounds(graph, region)
    passes = {"linear": linear}
    if everything:
        passes["planes"] = fitted_bounds(graph, region, Fitting())
        effort = Effort(Fitting(("tightest",), directions=0), 1, 2)
        passes["combine"] = combined_bounds(graph, region, effort, linear.intervals)
    return [
        ("interval", interval_bounds(graph, region)[graph.output]),
        *((name, found.tighten(graph.output)) for name, found in passes.items()),
    ]


def holds(interval: Interval, values: Tensor, slack: float = 1e-13) -> bool:
    return bool(((interval.lower - slack <= values) & (values <= interval.upper + slack)).all())


@pytest.mark.parametrize("kind", [*CELLS, "plain"])
def test_differences_are_those_of_the_two_networks_and_bounded(kind: str) -> None:
    first, second = modelled(network(kind)), modelled(near(network(kind)))
    both = pair(first, second)
    assert not both.notes
    x = drawn(2000)
    one, other = (model.graph.forward(x.flatten(1)) for model in (first, second))
    values = torch.cat([one, one - other], dim=1)
    assert (both.graph.forward(x.flatten(1)) - values).abs().max() <= 1e-13
    assert (both.original(x) - values).abs().max() <= 1e-13
    largest = values[:, OUTPUTS:].abs().amax(0)
    found = bounded(both, everything=kind in ("lstm", "gru both ways", "plain"))
    for method, interval in found:
        assert holds(interval, values), method
        if method != "interval":
            assert (interval.magnitude[0, OUTPUTS:] <= 3 * largest).all(), method
    truths = [exact.values(model.graph, x[0].flatten())[model.graph.output] for model in (first, second)]
    for k, (a, b) in enumerate(zip(*truths, strict=True)):
        for _, interval in found:
            assert not exact.is_below(a - b, float(interval.lower[0, OUTPUTS + k]))
            assert not exact.is_above(a - b, float(interval.upper[0, OUTPUTS + k]))


def test_convolutions_differ_by_filters() -> None:
    """Where the numbers are float32's: `W - W'` slides as both do, and nothing is left of those that are the same."""
    with sliding():
        first = seeded(spotter, torch.float32)
        models = [load(module, (12, 10)) for module in (first, copy.deepcopy(first), near(first))]
        same, both = pair(models[0], models[1]), pair(models[0], models[2])
    assert slides(same.graph) == slides(models[0].graph)
    assert slides(both.graph) == 2 * slides(models[0].graph)
    region = LinfBall(EPS).around(images(1, 12, 10))
    x = torch.cat([images(50, 12, 10, seed=k) for k in range(4)])
    x = (images(1, 12, 10) + EPS * (2 * x - 1)).flatten(1)
    one, other = (models[k].graph.forward(x) for k in (0, 2))
    found = linear_bounds(both.graph, region).tighten(both.graph.output)
    assert holds(found, torch.cat([one, one - other], dim=1))
    assert float(found.magnitude[0, 3:].max()) <= 3 * float((one - other).abs().max())


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_equal_networks_differ_by_nothing(kind: str) -> None:
    both = pair(modelled(network(kind)), modelled(network(kind)))
    for method, interval in bounded(both)[1:]:
        assert float(interval.magnitude[:, OUTPUTS:].max()) <= 1e-12, method
    narrow = network(kind).float()
    both = pair(modelled(narrow), modelled(copy.deepcopy(narrow)))
    assert float(bounded(both)[0][1].magnitude[:, OUTPUTS:].max()) <= 1e-12


@pytest.mark.parametrize("kind", ["lstm", "tanh"])
def test_the_order_does_not_matter_beyond_the_sign(kind: str) -> None:
    first, second = modelled(network(kind)), modelled(near(network(kind)))
    x = drawn(500)
    there, back = (pair(*models) for models in ((first, second), (second, first)))
    values = there.graph.forward(x.flatten(1))[:, OUTPUTS:]
    assert (there.graph.forward(x.flatten(1)) + back.graph.forward(x.flatten(1)))[:, OUTPUTS:].abs().max() <= 1e-13
    for (_, one), (_, other) in zip(bounded(there), bounded(back), strict=True):
        assert holds(other[slice(OUTPUTS, None)].mirror(), values)
        ratio = one.magnitude[:, OUTPUTS:] / other.magnitude[:, OUTPUTS:]
        assert ((ratio > 0.8) & (ratio < 1.25)).all()


@pytest.mark.parametrize("kind", ["lstm", "gru both ways", "relu", "other structures"])
def test_the_second_network_may_have_an_input_of_its_own(kind: str) -> None:
    """The graph's inputs are (x, x - x'), its outputs (y, y', y - y'), and bounds hold them all."""
    others = modelled(network("gru", 3)) if kind == "other structures" else modelled(near(network(kind)))
    first, second = modelled(network("lstm" if kind == "other structures" else kind)), others
    both = pair(first, second, Layout(own_input=True, all_three=True))
    x = torch.stack([drawn(1000), 0.1 * drawn(1000, 1)], 1)
    one, other = first.graph.forward(x[:, 0].flatten(1)), second.graph.forward((x[:, 0] - x[:, 1]).flatten(1))
    values = torch.cat([one, other, one - other], dim=1)
    assert (both.graph.forward(x.flatten(1)) - values).abs().max() <= 1e-13
    assert (both.original(x) - values).abs().max() <= 1e-13
    assert (of_second_input(second).original(x) - other).abs().max() <= 1e-13
    assert (of_second_input(second).graph.forward(x.flatten(1)) - other).abs().max() <= 1e-13
    centre, gap = torch.zeros(1, 2, *SHAPE, dtype=torch.float64), torch.full((1, *SHAPE), 0.1 * EPS, dtype=torch.float64)
    for stated in (LinfBall(EPS), L2Ball(EPS)):
        region = TwoInputs(stated, gap).around(centre)
        inside = region.sample(1000, torch.Generator().manual_seed(2))[0]
        values = both.graph.forward(inside)
        linear = linear_bounds(both.graph, region)
        for interval in (interval_bounds(both.graph, region)[both.graph.output], linear.tighten(both.graph.output)):
            assert holds(interval, values)
        if kind != "other structures":
            assert (interval.magnitude[0, 2 * OUTPUTS :] <= 2 * values[:, 2 * OUTPUTS :].abs().amax(0)).all()


def test_networks_of_other_structures_share_the_input() -> None:
    first, second = modelled(network("lstm")), modelled(network("gru", 3))
    both = pair(first, second)
    assert "structure" in both.notes[0]
    x = drawn(500)
    one, other = (model.graph.forward(x.flatten(1)) for model in (first, second))
    for method, interval in bounded(both):
        assert holds(interval, torch.cat([one, one - other], dim=1)), method


def test_other_operations_may_stand_in_the_same_place() -> None:
    class Activated(nn.Module):
        def __init__(self, function: nn.Module) -> None:
            super().__init__()
            self.first, self.function, self.last = nn.Linear(12, 6), function, nn.Linear(6, OUTPUTS)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.last(self.function(self.first(x.flatten(1)))))

    torch.manual_seed(0)
    module = Activated(nn.Tanh()).double()
    other = copy.deepcopy(module)
    other.function = nn.Hardtanh()
    first, second = modelled(module), modelled(other)
    both = pair(first, second)
    assert not both.notes
    x = drawn(500)
    one, two = (model.graph.forward(x.flatten(1)) for model in (first, second))
    for method, interval in bounded(both):
        assert holds(interval, torch.cat([one, one - two], dim=1)), method


def test_pruned_weights_and_float32_ones() -> None:
    """Weights of 0 in one network alone, and what float32 holds: of those the difference is one matrix."""
    first = network("lstm").float()
    second = copy.deepcopy(first)
    with torch.no_grad():
        named = dict(second.named_parameters())
        named["layer.weight_hh_l0"][::2] = 0
        named["last.weight"][1] = 0
        named["layer.bias_ih_l0"].zero_()
    models = modelled(first), modelled(second)
    both = pair(*models)
    assert not both.notes
    x = drawn(1000)
    one, other = (model.graph.forward(x.flatten(1)) for model in models)
    for method, interval in bounded(both):
        assert holds(interval, torch.cat([one, one - other], dim=1)), method


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_models_of_onnx_files(kind: str, tmp_path: Path) -> None:
    import onnx

    module = network(kind).float()
    path, other = tmp_path / "first.onnx", tmp_path / "second.onnx"
    torch.onnx.export(module, (torch.zeros(1, *SHAPE),), str(path), dynamo=False, input_names=["x"])
    proto = onnx.load(str(path))
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16).astype(np.float32), tensor.name))
    onnx.save(proto, str(other))
    models = load(path), load(other)
    both = pair(*models)
    assert not both.notes
    x = drawn(500)
    one, two = (model.graph.forward(x.flatten(1)) for model in models)
    for method, interval in bounded(both)[1:]:
        assert holds(interval, torch.cat([one, one - two], dim=1)), method
        assert float(interval.magnitude[:, OUTPUTS:].max()) <= 4 * float((one - two).abs().max()), method


def test_models_that_cannot_be_compared() -> None:
    torch.manual_seed(0)
    first = load(nn.Linear(4, 3), (4,))
    with pytest.raises(ModelError, match="takes inputs of shape"):
        pair(first, load(nn.Linear(5, 3), (5,)))
    with pytest.raises(ModelError, match="has 3 outputs"):
        pair(first, load(nn.Linear(4, 2), (4,)))
