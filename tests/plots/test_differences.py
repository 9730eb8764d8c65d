"""Pictures of two networks' differences: that they can be read, and that what they show is what was found."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D
from torch import nn
from torch.nn.functional import hardsigmoid, linear

import tightverify as tv
from tests.helpers.pictures import assert_labelled, assert_readable
from tightverify import plots
from tightverify.errors import ModelError, UsageError
from tightverify.tightness import place_differences

TIME, FEATURES, OUTPUTS = 4, 3, 3
REGION = tv.LinfBall(0.01)


class Net(nn.Module):
    def __init__(self, kind: Any = nn.LSTM) -> None:
        super().__init__()
        self.layer, self.last = kind(FEATURES, 4, batch_first=True), nn.Linear(4, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.last(self.layer(x)[0][:, -1]))


def network() -> Net:
    torch.manual_seed(0)
    return Net()


def rounded(first: Net, step: float) -> Net:
    second = copy.deepcopy(first)
    with torch.no_grad():
        for weight in second.parameters():
            weight.copy_((weight / step).round() * step)
    return second


def along(line: Line2D, axis: int = 1) -> torch.Tensor:
    return torch.as_tensor(np.asarray(line.get_xydata())[:, axis])


FIRST = network()
X = torch.rand(2, TIME, FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found() -> dict[str, tv.Differences]:
    steps = {"float16": 2**-11, "bfloat16": 2**-8, "folder/int8.onnx": 2**-6, "int4": 2**-3}
    return {name: tv.differ(FIRST, rounded(FIRST, step), X, REGION, method="linear") for name, step in steps.items()}


@pytest.mark.parametrize("size", plots.SIZES)
def test_outputs_of_several_roundings(size: str, found: dict[str, tv.Differences]) -> None:
    axes = plots.differences(found, plots.figure(plots.SIZES[size]).add_subplot())
    assert_readable(axes)
    assert_labelled(axes)
    bounds = torch.stack([torch.stack([result.bound for result in one]).amax(0) for one in found.values()])
    assert torch.equal(torch.stack([along(line) for line in axes.lines[::2]]), bounds)
    assert all((along(least) <= bound).all() for least, bound in zip(axes.lines[1::2], bounds, strict=True))
    with pytest.raises(UsageError, match="no bounds on differences"):
        plots.differences({"int8": tv.differ(FIRST, FIRST, X, REGION, agree=True, method="linear")})


def test_where_differences_arise() -> None:
    """At each frame the proved means hold what samples have; what is the same in both networks differs by nothing."""
    second = copy.deepcopy(FIRST)
    with torch.no_grad():
        dict(second.named_parameters())["layer.weight_hh_l0"].mul_(1.01)
    found = place_differences(FIRST, second, X, REGION)
    assert sum(place.neurons for place in found.places) > 0
    states = {place.frame: place for place in found.places if place.role.startswith("state")}
    assert states[1].difference < states[3].difference
    first = [place for place in found.places if place.frame == 0]
    assert max(place.relative for place in first) <= 1e-12
    axes = plots.place_differences(found)
    for one in axes:
        assert_readable(one)
    frames = [p.frame for p in next(iter(found.by_role().values())) if p.relative > 0]
    assert along(axes[0].lines[0], 0).tolist() == frames


def test_places_hold_the_differences_of_cell_states() -> None:
    """What is proved of each frame is at least what the inputs themselves show, and not much more on a small ball."""
    second = rounded(FIRST, 2**-6)
    found = {place.frame: place for place in place_differences(FIRST, second, X, REGION).by_role()[1, "state (tanh)"]}
    assert sorted(found) == list(range(TIME))
    for frame, place in found.items():
        with torch.no_grad():
            own, other = (net.layer(X[:, : frame + 1])[1][1] for net in (FIRST, second))
        apart = float((own - other).abs().mean())
        assert apart <= place.difference <= 3 * apart


class Spelt(nn.Module):
    """A network's own LSTM, its cell step by step with a hard sigmoid."""

    def __init__(self, of: Net) -> None:
        super().__init__()
        self.layer, self.last = of.layer, of.last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.last(self.states(x)[0]))

    def states(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = dict(self.layer.named_parameters())
        state = cell = x.new_zeros(len(x), self.layer.hidden_size)
        for k in range(x.shape[1]):
            one = linear(x[:, k], own["weight_ih_l0"], own["bias_ih_l0"])
            i, f, g, o = (one + linear(state, own["weight_hh_l0"], own["bias_hh_l0"])).chunk(4, 1)
            cell = hardsigmoid(f) * cell + torch.tanh(g) * hardsigmoid(i)
            state = torch.tanh(cell) * hardsigmoid(o)
        return state, cell


def test_a_cell_that_is_spelt_in_another_way_has_places_too() -> None:
    """The states at each frame, by what the inputs themselves show of both networks."""
    second = Spelt(FIRST)
    found = place_differences(FIRST, second, X, REGION)
    states = {p.frame: p for (_, role), places in found.by_role().items() if role == "state (tanh)" for p in places}
    assert sorted(states) == list(range(TIME))
    for frame, place in states.items():
        with torch.no_grad():
            cells = [FIRST.layer(X[:, : frame + 1])[1][1][0], second.states(X[:, : frame + 1])[1]]
        apart = float((cells[0] - cells[1]).abs().mean())
        assert 0 < apart <= place.difference <= 3 * apart


def test_other_structures_have_no_places() -> None:
    with pytest.raises(ModelError, match="differ in structure"):
        place_differences(FIRST, Net(nn.GRU), X, REGION)
    with pytest.raises(UsageError, match="does not exist here"):
        place_differences(FIRST, FIRST, X, REGION, method="lp")
