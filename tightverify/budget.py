"""What a computation may take: time until a deadline, memory for its largest temporary, and only while nobody stops it.

A budget is a value. Whoever computes is handed one, looks at it between steps (`check`), and hands on a part of it (`within`,
`portion`); a `Clock` says which deadline gives each of several inputs, computed together, its own time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tightverify.errors import CancelledError, OutOfTimeError


def never() -> bool:
    """Nobody stops it."""
    return False


@dataclass(frozen=True)
class Budget:
    """The moment of the monotonic clock when the time is up, bytes of the largest temporary, and whether to stop at once."""

    deadline: float = math.inf
    memory: int = sys.maxsize
    cancelled: Callable[[], bool] = never

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.deadline - time.monotonic()

    def check(self) -> None:
        """Raises once the time is up, or when the computation is to stop."""
        if self.cancelled():
            raise CancelledError("the computation was stopped")
        if self.left < 0:
            raise OutOfTimeError("the time limit ran out")

    def within(self, share: float) -> Budget:
        """The same, with a part of the time that is left."""
        now = time.monotonic()
        return replace(self, deadline=now + share * (self.deadline - now))

    def portion(self, share: int) -> Budget:
        """The same, with one of so many parts of the memory: for what takes so many times its largest temporary."""
        return replace(self, memory=self.memory // share)


UNLIMITED = Budget()
"""As much as it takes."""


@dataclass(frozen=True)
class Clock:
    """The time of some inputs that are computed together since the moment `began`, each having used so many seconds before."""

    began: float
    used: float
    inputs: int

    @classmethod
    def start(cls, used: float, inputs: int) -> Clock:
        """From now on."""
        return cls(time.monotonic(), used, inputs)

    @property
    def took(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self.began

    @property
    def seconds(self) -> float:
        """The seconds that each of the inputs has used by now."""
        return self.used + self.took / self.inputs

    def deadline(self, limit: float, share: float = 1.0) -> float:
        """When each has used a share of what it had left when this began, of a limit in seconds."""
        return self.began + share * (limit - self.used) * self.inputs


STOPPED = Clock(0.0, 0.0, 1)
"""Of inputs whose time nobody asks for."""
