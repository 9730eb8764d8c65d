"""Numbers for people to read, rounded to the side on which what is said of them stays true."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

WIDE = 700
"""Enough digits for any float with some after its point."""


def exactly(value: float) -> str:
    """The number itself, in as few digits as that takes."""
    return repr(float(value)).removesuffix(".0")


def at_least(value: float, places: int) -> str:
    """A lower bound with a sign and so many digits after the point: not above the number."""
    return _rounded(value, places, ROUND_FLOOR)


def at_most(value: float, places: int) -> str:
    """An upper bound: not below the number."""
    return _rounded(value, places, ROUND_CEILING)


def no_more_than(value: float, digits: int) -> str:
    """A size of 0 or more in so many digits: not above the number."""
    return f"{Context(digits, ROUND_FLOOR).create_decimal(Decimal(value)).normalize():g}" if value else "0"


def no_less_than(value: float, digits: int) -> str:
    """A size of 0 or more in so many digits: not below the number."""
    return f"{Context(digits, ROUND_CEILING).create_decimal(Decimal(value)).normalize():g}" if value else "0"


def _rounded(value: float, places: int, side: str) -> str:
    if not math.isfinite(value):
        return f"{value:+}"
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-places), context=Context(WIDE, side)):+}"
