"""Radii of models of which several inputs are perturbed: every region grows with the same number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.errors import RegionError, UsageError

SHAPES = {"x": (3, 2), "state": (4,)}


class Linear(nn.Module):
    """Two classes, linear in both inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 2).double(), nn.Linear(4, 2, bias=False).double()

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        found: Tensor = self.first(x.flatten(1)) + self.second(state)
        return found


def draw(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = {name: draw(3, *shape, seed=len(shape)) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def loaded() -> tv.Model:
    return tv.load(Linear(), SHAPES)


def known(one: float, first: float, other: float, second: float) -> Tensor:
    """A linear network's radii: the margin by the sum of its slopes' dual norms, of regions so many times as large."""
    network = Linear()
    outputs = network(X["x"], X["state"]).detach()
    slopes = (network.first.weight[0] - network.first.weight[1]).detach(), (network.second.weight[0] - network.second.weight[1])
    dual = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}
    norms = [torch.linalg.vector_norm(w.detach(), ord=dual[n]) for w, n in zip(slopes, (first, second), strict=True)]
    return (outputs[:, 0] - outputs[:, 1]).abs() / (one * norms[0] + other * norms[1])


@pytest.mark.parametrize(
    "family",
    [
        {"x": tv.LinfBall(1), "state": tv.L2Ball(0.5)},
        {"x": tv.LinfBall, "state": tv.L2Ball(0.5)},
        lambda r: {"x": tv.LinfBall(r), "state": tv.L2Ball(0.5 * r)},
    ],
    ids=["balls", "mixed", "function"],
)
def test_a_linear_networks_radii_are_those_that_are_known(family: Any, loaded: tv.Model) -> None:
    found = tv.radius(loaded, X, None, family=family, method="linear", tolerance=1e-3)
    true = known(1.0, math.inf, 0.5, 2.0)
    assert bool((found.proved < true * (1 + 1e-12)).all())
    assert bool((found.proved > true * (1 - 2e-3)).all())
    assert bool((found.refuted > true * (1 - 1e-12)).all())
    assert bool((found.refuted < true * (1 + 1e-2)).all())
    assert loaded.apart(found[0].counterexample[None])["x"].shape == (1, 3, 2)


def test_every_input_has_the_same_ball_if_nothing_else_is_said(loaded: tv.Model) -> None:
    found = tv.radius(loaded, X, None, norm=2, method="linear", restarts=0, tolerance=1e-3)
    true = known(1.0, 2.0, 1.0, 2.0)
    assert bool(((found.proved < true * (1 + 1e-12)) & (found.proved > true * (1 - 2e-3))).all())
    assert found.about.family == "x: L2 ball 1 at 1, state: L2 ball 1 at 1"


def test_nothing_is_tried_beyond_the_whole_range(loaded: tv.Model) -> None:
    family = {"x": tv.LinfBall(0.5, clip=(0, 1)), "state": tv.LinfBall(0)}
    found = tv.radius(loaded, X, None, family=family, method="linear", restarts=0, rows=(torch.zeros(1, 2), torch.ones(1)))
    assert found.proved.tolist() == [2 * (1 + 1e-9)] * 3
    radii = tv.LinfBall([0.5, 0.25], clip=(0, 1))
    assert (radii.whole(6), tv.L2Ball(0.5, clip=(0, 1)).whole(4), tv.LinfBall(1).whole(4)) == (4.0, 4.0, math.inf)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"family": "db"}, r"give {'x': LinfBall\(1\), 'state': LinfBall\(1\)}"),
        ({"family": tv.LinfBall}, "several inputs are perturbed; give {'x': region, 'state': region}"),
        ({"family": {"x": tv.LinfBall(1)}}, "a family of 'x' was given; wanted one for each of the inputs 'x', 'state'"),
        ({"family": {"x": 1.0, "state": tv.LinfBall(1)}}, "the family of 'x' is a float; wanted a ball at the radius 1"),
        ({"family": {"x": tv.Gain(1), "state": tv.LinfBall(1)}}, "does not grow with a number; give a function"),
        ({"family": {"x": tv.LinfBall(0), "state": tv.L2Ball(0)}}, "radius 0 and do not grow"),
        ({"family": {"x": tv.LinfBall(1), "state": tv.L2Ball(1)}, "clip": (0, 1)}, "a clip was given beside a family"),
        ({"per": "feature"}, "several inputs of the module Linear are perturbed; fix all others but one"),
    ],
)
def test_what_is_refused(how: dict[str, Any], words: str, loaded: tv.Model) -> None:
    with pytest.raises((UsageError, RegionError), match=words):
        tv.radius(loaded, X, None, **how)
