"""Every region that a user can name keeps the contract: all that stand in `REGIONS` are tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tightverify
from tests.helpers.region_contract import CHECKS
from tests.helpers.regions import EXAMPLES
from tightverify.region import REGIONS, Perturbation

EVERY = [(f"{name} {number}", stated) for name, several in EXAMPLES.items() for number, stated in enumerate(several)]


def test_every_region_that_can_be_named_is_tried() -> None:
    assert list(EXAMPLES) == list(REGIONS)
    assert set(REGIONS) <= set(tightverify.__all__)
    assert all(getattr(tightverify, name) is stated for name, stated in REGIONS.items())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("stated", [stated for _, stated in EVERY], ids=[name for name, _ in EVERY])
def test_regions_keep_their_contract(stated: Perturbation, check: Callable[[Perturbation], None]) -> None:
    check(stated)
