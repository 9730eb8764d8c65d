"""Bounds are shown on their safe side."""

from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tightverify.decimals import at_least, at_most, exactly, no_less_than, no_more_than


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 8))
def test_bounds_are_rounded_to_their_safe_side(value: float, places: int) -> None:
    low, high = Decimal(at_least(value, places)), Decimal(at_most(value, places))
    assert low <= Decimal(value) <= high
    assert high - low <= Decimal(1).scaleb(-places)
    assert float(exactly(value)) == value


@given(st.floats(0, allow_infinity=False), st.integers(1, 8))
def test_sizes_are_rounded_down(value: float, digits: int) -> None:
    assert Decimal(value) * (1 - Decimal(10).scaleb(-digits + 1)) <= Decimal(no_more_than(value, digits)) <= Decimal(value)
    assert Decimal(value) <= Decimal(no_less_than(value, digits)) <= Decimal(value) * (1 + Decimal(10).scaleb(-digits + 1))


def test_what_they_look_like() -> None:
    assert (at_least(0.12345678, 6), at_most(-0.12345651, 6), at_least(2.0, 4)) == ("+0.123456", "-0.123456", "+2.0000")
    assert (at_least(math.inf, 4), at_least(-math.inf, 4)) == ("+inf", "-inf")
    assert (no_more_than(0.00123456, 4), no_more_than(3.0, 4), exactly(0.1), exactly(-80.0)) == ("0.001234", "3", "0.1", "-80")
