"""What a search for radii tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tightverify.json_lines import finite


@dataclass(frozen=True)
class RadiusStep:
    """What is known of one radius when a size was tried: proved so far, refuted so far, after so many seconds.

    `index` is the input, `part` the part of it, None where it has one radius only. `method` is "attack" where the search for
    counterexamples tried the size.
    """

    index: int
    part: int | str | None
    method: str
    tried: float
    proved: float
    refuted: float
    seconds: float

    def plain(self) -> dict[str, Any]:
        """The same as values that JSON has words for."""
        return {name: finite(value) if isinstance(value, float) else value for name, value in vars(self).items()}


Callback = Callable[[RadiusStep], None]


def no_callback(_step: RadiusStep) -> None:
    """Tells nobody."""
