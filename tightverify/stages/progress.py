"""What a run tells of each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """What was known of some inputs at one moment of a run: after a stage, a round of it, or a part of its inputs.

    `round` counts from 1 in a stage that works in rounds, and is 0 otherwise. `inputs` (n,) are numbered as they were given;
    `margins` (n, R) are their proved lower bounds of all rows, `worst` (n,) the ones that decide, and `open` (n,) says which
    are neither proved nor refuted. `seconds` is each input's share, so far, of the time of its batch. `leaves` counts each
    input's open leaves, where a search splits its region.
    """

    stage: str
    round: int
    inputs: Tensor
    margins: Tensor
    worst: Tensor
    open: Tensor
    seconds: float
    leaves: tuple[int, ...] = ()


Callback = Callable[[Step], None]


def no_callback(_step: Step) -> None:
    """Looks away."""
