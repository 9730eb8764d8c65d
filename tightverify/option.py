"""What is said of a setting beside its default: what it is for, which values it takes, among what it is listed.

It stands in the metadata of the setting's field, and everything else is made from that: checks, the command line, its help.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Any

from tightverify.errors import UsageError


class Group(Enum):
    """What options are about; the value is the heading under which they are listed, in this order."""

    QUESTION = "What to verify"
    REGION = "Region"
    METHOD = "Method"
    LIMITS = "Limits"
    OUTPUT = "Output"
    SOUNDS = "Audio files"
    COMPUTING = "Computing"
    SEARCH = "Search for a counterexample"
    PLANES = "Planes of gates"
    COMBINE = "Rounds of combine"
    COMPLETE = "Branch and bound of complete"
    PROGRAMS = "Programs of lp and milp"
    EVIDENCE = "Evidence"


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, without `least` itself if `above`, of which only the `even` ones count if so said."""

    least: float
    most: float = math.inf
    above: bool = False
    even: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is one of them: a NaN never is."""
        beyond = value > self.least if self.above else value >= self.least
        return beyond and value <= self.most and not (self.even and value % 2)

    @property
    def words(self) -> str:
        kind = "an even number " if self.even else ""
        if self.above:
            return f"{kind}above {self.least:g}"
        return f"{kind}{self.least} or more" if math.isinf(self.most) else f"{kind}from {self.least} to {self.most}"


@dataclass(frozen=True)
class Option:
    """A setting in words: its group, a sentence of help, the numbers that it takes (and None, where that is the default).

    `offered` are the values that the command line has for it; with `python_only` it has none.
    """

    group: Group
    help: str
    range: Range | None = None
    offered: tuple[str, ...] = ()
    python_only: bool = False

    def check(self, name: str, value: object, default: object) -> None:
        """Say what is wrong with a value, if something is: of the kind of the default, and within the range."""
        if self.range is None or (value is None and default is None):
            return
        kind, words = (Real, "a number") if isinstance(default, float) else (Integral, "a whole number")
        if not isinstance(value, kind):
            raise UsageError(f"{name} is {value!r}; it must be {words}, {self.range.words}")
        if not self.range.holds(float(value)):
            raise UsageError(f"{name} is {value}; it must be {self.range.words}")


def option(
    group: Group, help: str, range: Range | None = None, offered: tuple[str, ...] = (), python_only: bool = False
) -> dict[str, Option]:
    """The metadata of a field that is an option."""
    return {"option": Option(group, help, range, offered, python_only)}


def option_of(field: Field[Any]) -> Option:
    """What is said of a field."""
    found = field.metadata["option"]
    assert isinstance(found, Option)
    return found
