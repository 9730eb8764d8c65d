"""Everything that a run can be told, as one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tightverify.errors import UsageError

MOST_DIRECTIONS = 16
MOST_ROUNDS = 3


@dataclass(frozen=True)
class Settings:
    """How to run: nothing here changes what a verdict means, only how long one looks for it.

    `memory` bounds the bytes of the largest temporary of a bound's computation; inputs are cut into parts that keep to it.
    `directions` (even) is how many sums and differences of a gate's operands are bounded too before its planes are fitted (None
    for a method's own choice), and `solver` what fits them. `rounds` is how many rounds the method `combine` takes at most.
    `splits` is how often a region is split at most by the method `complete`, and `leaf_memory` about how many bytes its open
    parts may take, before those are split first that hardly grow in number. `trees` is a folder in which search trees are kept,
    and from which searches go on.
    `lp_solver` solves the programs of whole networks, of the stages `lp` and `milp`; `tighten` is how many neurons `lp` bounds
    by programs of their own where a margin is open, over so many `processes`; `dump` is a folder for all those programs, as MPS
    files.
    `evidence` is a folder for all that led to each input's verdict, a file for each; inputs are then worked on one by one.
    `thorough` sends decided inputs on through all the stages, for those who want bounds rather than verdicts.
    """

    method: str = "linear"
    time_limit: float = math.inf
    device: str = "cpu"
    seed: int = 0
    restarts: int = 4
    attack_steps: int = 40
    memory: int = 2**24
    directions: int | None = None
    solver: str = "batched"
    thorough: bool = False
    rounds: int = 2
    splits: int = 1000
    leaf_memory: int = 2**30
    trees: Path | None = None
    lp_solver: str = "highs"
    tighten: int = 0
    processes: int = 1
    dump: Path | None = None
    evidence: Path | None = None

    def __post_init__(self) -> None:
        if not self.time_limit > 0:
            raise UsageError(f"the time limit is {self.time_limit} seconds; it must be above 0")
        if self.restarts < 0 or self.attack_steps < 0:
            raise UsageError("restarts and attack_steps count something: they cannot be negative")
        if self.directions is not None and not (0 <= self.directions <= MOST_DIRECTIONS and self.directions % 2 == 0):
            raise UsageError(f"directions is {self.directions}; it must be an even number from 0 to {MOST_DIRECTIONS}")
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise UsageError(f"rounds is {self.rounds}; it must be from 1 to {MOST_ROUNDS}")
        if self.splits < 0:
            raise UsageError(f"splits is {self.splits}; it counts something and cannot be negative")
        if self.memory < 1 or self.leaf_memory < 1:
            raise UsageError(f"memory is {self.memory} bytes and leaf_memory {self.leaf_memory}; they must be at least 1")
        if self.tighten < 0:
            raise UsageError(f"tighten is {self.tighten} neurons; it must be 0 or more")
        if self.processes < 1:
            raise UsageError(f"processes is {self.processes}; it must be 1 or more")

    @property
    def folders(self) -> dict[str, Path | None]:
        """Those whose files would be of no use if two runs had a part in them."""
        return {"evidence": self.evidence, "trees": self.trees, "programs": self.dump}
