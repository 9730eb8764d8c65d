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


FAMILY = {"x": tv.LinfBall(1), "state": tv.L2Ball(0.5)}


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ({"per": "frame"}, ["x[0]", "x[1]", "x[2]", "state"]),
        ({"per": "feature"}, ["x[0]", "x[1]", *(f"state[{k}]" for k in range(4))]),
        ({"per": "segment", "length": 3}, ["x[0]", "state[0]", "state[1]"]),
        ({"per": "group", "groups": {"x": [[5], [5], [9]]}}, ["x[5]", "x[9]", "state"]),
    ],
    ids=["frame", "feature", "segment", "group"],
)
def test_every_part_of_every_input_has_the_radius_that_is_known(how: Any, names: list[str], loaded: tv.Model) -> None:
    found = tv.radius(loaded, X, None, family=FAMILY, method="linear", restarts=0, tolerance=1e-3, **how)
    assert list(found[0].parts) == names
    network = Linear()
    outputs, spread = network(X["x"], X["state"]).detach(), found.about.spread
    assert spread is not None
    slopes = torch.cat([layer.weight[0] - layer.weight[1] for layer in (network.first, network.second)]).detach()
    for part, name in enumerate(names):
        mine = slopes[spread == part]
        norm = mine.abs().sum() if name.startswith("x") else 0.5 * mine.norm()
        true = (outputs[:, 0] - outputs[:, 1]).abs() / norm
        proved = found.proved[:, part]
        assert bool(((proved < true * (1 + 1e-12)) & (proved > true * (1 - 2e-3))).all())
        assert bool((found.refuted[:, part] > true * (1 - 1e-12)).all())


def test_parts_that_may_not_change_are_left_out(loaded: tv.Model) -> None:
    family = {"x": tv.LinfBall(1, clip=(0, 1), frames=[1]), "state": tv.L2Ball(0)}
    found = tv.radius(loaded, X, None, family=family, per="frame", method="linear", restarts=0)
    assert found[0].parts == ("x[1]",)
    assert found.maps[0].isnan().tolist() == [True, True, False, False] + [True] * 6
    assert found.fragile(1)[0]["frame"] == "x[1]"
    points = [each for each in found[0].counterexample if each is not None]
    for point in points:
        assert loaded.apart(point[None])["x"][0, [0, 2]].equal(X["x"][0, [0, 2]])


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
        ({"per": "feature", "family": tv.LinfBall}, "give balls at the radius 1 by names"),
        ({"per": "frame", "family": {"x": tv.LinfBall(1), "state": tv.Gain(1)}}, "family of 'state' is .*parts have balls"),
        ({"per": "frame", "family": {"x": tv.LinfBall(0), "state": tv.L2Ball(0)}}, "radius 0 and do not grow"),
        ({"per": "group"}, "of several inputs by their names"),
        ({"per": "group", "groups": [0, 1]}, "give {name: groups}"),
        ({"per": "group", "groups": {"z": [0, 1]}}, "groups of 'z' were given; the inputs are 'x', 'state'"),
        ({"per": "word"}, "takes no token numbers; ask for them per frame"),
    ],
)
def test_what_is_refused(how: dict[str, Any], words: str, loaded: tv.Model) -> None:
    with pytest.raises((UsageError, RegionError), match=words):
        tv.radius(loaded, X, None, **how)


def test_groups_of_one_input_have_no_names() -> None:
    with pytest.raises(UsageError, match="has one perturbed input; give its groups"):
        tv.radius(Linear().first, X["x"].flatten(1), None, per="group", groups={"x": [0] * 6})


def test_regions_of_two_norms_are_no_batch() -> None:
    """The one's norm, of the other's radius, would hold less than the other."""
    one, two, some = (make(0.1).around(X["state"]) for make in (tv.L1Ball, tv.L2Ball, lambda r: tv.L2Ball(r, per="feature")))
    for other in (two, some):
        with pytest.raises(RegionError, match="wanted those of one kind for all inputs"):
            one.joined([other])
