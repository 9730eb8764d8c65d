"""Regions of several inputs at once keep the contract, and are those of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tightverify as tv
from tests.helpers.region_contract import CHECKS
from tightverify.errors import RegionError
from tightverify.region import Perturbation, Several

SHAPES = {"x": (3, 2), "e": (3,)}
X = torch.rand((4, 9), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
STATED: dict[str, tuple[Perturbation, Perturbation]] = {
    "boxes": (tv.LinfBall(0.1, frames=[0, 2]), tv.LinfBall(0.2)),
    "two balls": (tv.L2Ball(0.1), tv.L2Ball(0.2)),
    "two norms": (tv.L1Ball(0.3), tv.L2Ball(0.2)),
    "box and ball": (tv.LinfBall(0.1), tv.L2Ball(0.2)),
    "lines": (tv.L2Ball(0.1, per="frame"), tv.Gain(1.0)),
}


def several(x: Perturbation, e: Perturbation) -> Several:
    return Several.of({"e": e, "x": x}, SHAPES)


READ = [check for check in CHECKS if check.__name__ != "what_is_written_of_it_is_its_own"]


@pytest.mark.parametrize("check", READ, ids=lambda check: check.__name__)
@pytest.mark.parametrize("pair", STATED.values(), ids=list(STATED))
def test_the_contract(pair: tuple[Perturbation, Perturbation], check: Callable[[Perturbation], None]) -> None:
    check(several(*pair))


@pytest.mark.parametrize("pair", STATED.values(), ids=list(STATED))
def test_least_values_are_the_sums_of_those_of_each(pair: tuple[Perturbation, Perturbation]) -> None:
    rows = torch.randn((4, 5, 9), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both = several(*pair).around(X)
    one, other = pair[0].around(X[:, :6].view(4, 3, 2)), pair[1].around(X[:, 6:])
    wanted = one.minimise(rows[..., :6].contiguous()) + other.minimise(rows[..., 6:].contiguous())
    assert torch.allclose(both.minimise(rows.clone()), wanted, atol=1e-12)
    assert both.separable == (one.separable and other.separable)


def test_a_radius_for_each_input_of_a_batch() -> None:
    stated = several(tv.LinfBall([0.1, 0.2, 0.3, 0.4]), tv.LinfBall(0.5))
    assert stated.count(2) == 4
    chosen = stated.chosen(torch.tensor([3, 1]), 2)
    widths = chosen.around(X[[3, 1]]).box.width
    assert torch.allclose(widths[:, 0], torch.tensor([0.8, 0.4], dtype=torch.float64))
    assert torch.allclose(widths[:, 8], torch.tensor([1.0, 1.0], dtype=torch.float64))


def test_what_is_wrong_is_said_of_the_input() -> None:
    with pytest.raises(RegionError, match="regions for 'x' were given; wanted one for each of the inputs 'x', 'e'"):
        Several.of({"x": tv.LinfBall(0.1)}, SHAPES)
    with pytest.raises(RegionError, match="the region of 'e': frames were chosen, but the inputs have no time axis"):
        several(tv.LinfBall(0.1), tv.LinfBall(0.1, frames=[0])).around(X)
    with pytest.raises(RegionError, match="inputs of 9 numbers in all, and these have shape"):
        several(*STATED["boxes"]).around(X[:, 1:])
    with pytest.raises(RegionError, match="evidence has no words for a ball of norm 2 beside a ball of norm 2"):
        _ = several(*STATED["two balls"]).around(X).written
