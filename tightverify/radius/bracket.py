"""What is known of one radius, and which size to try next.

A bound of the margin that decides falls as a region grows, and falls faster and faster: it is nearly concave in the size. So
the chord from a size that was proved to one that was not crosses 0 where a proof is likely, and the line on through the last
two that were proved where it is not. Both are tried in turn, and the middle, so that the bracket closes from both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from tightverify.errors import RegionError, SoundnessFault
from tightverify.values import Interval

INNER = 0.1
"""How near to an end of the bracket a size may be, relative to its width, where slopes are followed."""
MOST_SQUARES = 4
"""So often the growth of a slow method's sizes is squared at most."""
LEAST_GROWTH, MOST_GROWTH, USUAL_GROWTH = 1.25, 8.0, 1.4
SLACK = 1e-9
"""How far hulls of nested regions may stand out, relative to their size: they are computed, outwards."""


@dataclass(eq=False)
class Bracket:
    """Proved up to a size, refuted from another on by `point`; what the method at work saw in between.

    `centre` is the row value that decides at the input itself, `guess` the first size to try, `most` the largest there is.
    """

    centre: float
    guess: float
    most: float
    proved: float = 0.0
    refuted: float = math.inf
    point: Tensor | None = None
    seconds: float = 0.0
    failed: float = math.inf
    """the least size at which the method at work found neither"""
    seen: dict[float, float] = field(default_factory=dict)
    """margins by size, of the method at work"""
    tries: int = 0
    proofs: int = 0
    failures: int = 0
    """of the method at work"""
    hull: tuple[float, Interval] | None = None
    """the last size that was tried, and what its region reaches"""

    @property
    def high(self) -> float:
        """The least size that is not proved, and will not be by the method at work."""
        return min(self.failed, self.refuted)

    def closed(self, tolerance: float, high: float | None = None) -> bool:
        """Whether what is proved comes within a share of what is not."""
        return self.proved >= self.most or (self.high if high is None else high) <= self.proved * (1 + tolerance)

    def begin(self) -> None:
        """Another method comes to work."""
        self.failed, self.seen = math.inf, {0.0: self.centre}
        self.tries = self.proofs = self.failures = 0

    def next(self, slopes: bool, growth: float = USUAL_GROWTH) -> float:
        """A size between what is proved and what is not; by the margins' slopes, if these can be relied on.

        A slow method stops at a proof, and its margins say little: it goes to the middle in the logarithm, but no further than
        by a `growth`, which is squared with each of its proofs. So most tries are proofs, which are quicker than failures.
        """
        low, high, turn = self.proved, self.high, self.tries % 3
        self.tries += 1
        if math.isinf(high):
            return self._grown(slopes)
        if not slopes and low > 0:
            squares = 2.0 ** min(self.proofs, MOST_SQUARES)
            return low * min(math.sqrt(high / low), math.pow(growth, squares))
        chord, onwards = self._crossings()
        size = (chord, onwards, None)[turn] if slopes else None
        if size is None:
            size = math.sqrt(low * high) if low > 0 else high / 4
            size = min(size, USUAL_GROWTH * low) if low > 0 and chord is None else size
        inset = INNER * (high - low)
        return min(max(size, low + inset), high - inset)

    def _grown(self, slopes: bool) -> float:
        """A larger size, where nothing failed yet."""
        if self.proved == 0:
            return min(self.most, self.guess)
        onwards = self._crossings()[1] if slopes else None
        size = USUAL_GROWTH * self.proved if onwards is None else onwards
        return min(self.most, max(LEAST_GROWTH * self.proved, min(size, MOST_GROWTH * self.proved)))

    def _crossings(self) -> tuple[float | None, float | None]:
        """Where the chord over the bracket crosses 0, and where the line through the last two sizes that were proved does."""
        below = sorted(size for size, margin in self.seen.items() if size <= self.proved and margin > 0)
        above = sorted(
            size for size, margin in self.seen.items() if size >= self.high and margin <= 0 and math.isfinite(margin)
        )
        chord = crossing(self.seen, below[-1], above[0]) if below and above else None
        return chord, crossing(self.seen, *below[-2:]) if len(below) > 1 else None

    def learn(self, size: float, margin: float, robust: bool) -> None:
        """What a method said of the region of a size."""
        self.seen[size] = margin
        if robust:
            self.proved, self.proofs = max(self.proved, size), self.proofs + 1
        else:
            self.failed, self.failures = min(self.failed, size), self.failures + 1

    def refute(self, size: float, point: Tensor) -> None:
        """A counterexample was replayed inside the region of a size."""
        if size < self.refuted:
            self.refuted, self.point = size, point

    def check(self, holds: bool) -> None:
        """Speaks up where proofs and counterexamples meet; `holds` says that the region proved surely holds the point."""
        if holds:
            raise SoundnessFault(
                f"a counterexample lies in the region of size {self.proved}, which was proved; please report it"
            )
        if self.proved >= self.refuted:
            raise RegionError(
                f"the family is not nested: the region of size {self.proved:g} was proved, "
                f"and does not hold a counterexample of the region of size {self.refuted:g}"
            )

    def check_nested(self, size: float, hull: Interval) -> None:
        """Speaks up where a smaller region reaches further than a larger one."""
        if self.hull is not None:
            (small, inner), (large, outer) = sorted((self.hull, (size, hull)), key=lambda each: each[0])
            slack = SLACK * outer.magnitude
            if small < large and bool(((inner.lower < outer.lower - slack) | (inner.upper > outer.upper + slack)).any()):
                raise RegionError(
                    f"the family is not nested: the region of {small:g} reaches beyond that of {large:g}; a radius is "
                    "that of regions that grow with their number"
                )
        self.hull = size, hull


def crossing(seen: dict[float, float], first: float, second: float) -> float | None:
    """Where the line through two margins crosses 0, if it falls."""
    fall = seen[first] - seen[second]
    if not (fall > 0 and math.isfinite(fall)):
        return None
    return first + (second - first) * seen[first] / fall
