"""Regions beside boxes of further coordinates keep the contract, and what two inputs may be is what was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import tightverify as tv
from tests.helpers.region_contract import CHECKS
from tests.helpers.regions import SAMPLES
from tightverify.errors import RegionError
from tightverify.region import Perturbation, Region, TwoInputs
from tightverify.region.ball import Ball
from tightverify.region.beside import Beside, beside
from tightverify.region.choices import Choices
from tightverify.values import Interval

OWN = 6


@dataclass(frozen=True, eq=False)
class Parted(Perturbation):
    """A region of the first six of nine numbers, beside a box of the others."""

    own: Perturbation

    def around(self, x: Tensor) -> Region:
        rest = x[:, OWN:]
        return Beside.of(self.own.around(x[:, :OWN]), Ball.boxes(rest, Interval(rest - 0.1, rest + 0.2)))

    @property
    def words(self) -> str:
        return self.own.words

    @property
    def boxes(self) -> bool:
        return False


STATED = [tv.L2Ball(0.1), tv.L1Ball(0.3), tv.L2Ball(0.1, per=[0, 0, 1, 1, 2, 2]), tv.Gain(1.0)]
READ = [check for check in CHECKS if check.__name__ != "what_is_written_of_it_is_its_own"]


@pytest.mark.parametrize("check", READ, ids=lambda check: check.__name__)
@pytest.mark.parametrize("own", STATED, ids=lambda own: type(own.around(torch.ones(1, OWN))).__name__)
def test_the_contract(own: Perturbation, check: Callable[[Perturbation], None]) -> None:
    check(Parted(own))


@pytest.mark.parametrize("own", [tv.LinfBall(0.1, clip=(0, 1)), tv.L2Ball(0.1), tv.Gain(1.0)])
def test_the_second_input_is_as_near_as_was_said(own: Perturbation) -> None:
    x = torch.rand(3, 2, SAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 0
    limits = torch.linspace(0, 0.3, SAMPLES, dtype=torch.float64)[None]
    stated = TwoInputs(own, limits)
    region = stated.around(x)
    rows = torch.eye(2 * SAMPLES, dtype=torch.float64)[None]
    alone = own.around(x[:, 0])
    least = region.minimise(rows.clone())
    assert torch.allclose(least[:, :SAMPLES], alone.minimise(rows[:, :SAMPLES, :SAMPLES].clone()))
    assert torch.allclose(least[:, SAMPLES:], -limits.expand(3, -1))
    assert region.separable is alone.separable is stated.boxes
    (one,) = stated.chosen(torch.tensor([1]), 3).around(x[1:2]).minimise(rows.clone())
    assert torch.allclose(one, least[1])
    assert stated.limits == own.limits


def test_what_has_no_words_or_no_box_beside_it() -> None:
    region = TwoInputs(tv.L2Ball(0.1), torch.ones(1, 4)).around(torch.zeros(1, 2, 4))
    with pytest.raises(RegionError, match="evidence has no words"):
        _ = region.written
    words = Choices.of(torch.rand(1, 2, 3, 2, dtype=torch.float64), torch.tensor([1]))
    with pytest.raises(RegionError, match="a choice of words"):
        beside(words, torch.ones(1, 4, dtype=torch.float64))
