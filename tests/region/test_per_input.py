"""Radii and boxes of each input's own: input by input the same as the region with that radius alone."""

from __future__ import annotations

import pytest
import torch

from tightverify.errors import RegionError
from tightverify.region import Box, L1Ball, L2Ball, LinfBall

X = torch.rand((3, 4, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
RADII = [0.1, 0.0, 0.3]


@pytest.mark.parametrize("kind", [LinfBall, L2Ball, L1Ball])
def test_each_input_has_its_radius(kind: type) -> None:
    several = kind(RADII, clip=(0, 1))
    whole = several.around(X)
    for k, eps in enumerate(RADII):
        alone = kind(eps, clip=(0, 1)).around(X[k : k + 1])
        assert whole[k : k + 1].balls == alone.balls == [(eps, alone.balls[0][1])]
        for other in (whole[k : k + 1], several.chosen(torch.tensor([k]), X.dim()).around(X[k : k + 1])):
            assert torch.equal(other.box.lower, alone.box.lower)
            assert torch.equal(other.box.upper, alone.box.upper)
    assert several.count(X.dim()) == 3
    assert several.words == "0 to 0.3"
    assert kind(0.1).chosen(torch.tensor([2]), X.dim()).eps == 0.1


@pytest.mark.parametrize(
    "given", [RADII, torch.tensor(RADII, dtype=torch.float64), torch.tensor(RADII, dtype=torch.float64).numpy()]
)
def test_decimals_are_not_rounded_to_less(given: object) -> None:
    assert LinfBall(given).around(X).balls == [(eps, torch.inf) for eps in RADII]  # type: ignore[arg-type]


def test_so_many_radii_as_inputs() -> None:
    with pytest.raises(RegionError, match="3 radii were given for 2 inputs; give one for each, or a single number"):
        LinfBall(RADII).around(X[:2])


def test_boxes_of_some_inputs() -> None:
    each, all_ = Box(X - 0.1, X + 0.1), Box(torch.zeros(4, 2), 1.0)  # type: ignore[arg-type]
    places = torch.tensor([2, 0])
    assert (each.count(3), all_.count(3)) == (3, None)
    assert torch.equal(each.chosen(places, 3).around(X[places]).box.lower, (X - 0.1)[places].flatten(1))
    assert torch.equal(all_.chosen(places, 3).around(X[places]).box.lower, torch.zeros(2, 8))
