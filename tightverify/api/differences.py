"""What `differ` returns: of each input, what is proved and what was found of the two networks' differences."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, final, overload

import torch
from torch import Tensor

from tightverify.decimals import no_less_than, no_more_than
from tightverify.json_lines import JsonLines, finite


class Comparison(Enum):
    """What a comparison says of one input; the value is the sentence that a user reads."""

    EQUIVALENT = "proved: what was asked of both networks holds on the whole region"
    COUNTEREXAMPLE = "a point of the region at which it does not hold; it was replayed through both original models"
    UNKNOWN = "neither proved nor refuted by this method"
    TIMED_OUT = "the time limit ran out before a proof or a counterexample was found"
    BOUNDED = "the largest difference lies between what was found and what is proved"


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """One input's: by how much each output may differ at most, as is proved, and by how much it does, as a search found.

    `bound` (K,) is infinite where nothing was proved, or not asked; `found` (K,) is 0 where nothing was searched. Of rows, if
    such were asked, `margins` (R,) are what is proved. Where inputs may differ, the second network reads `second_point` at the
    counterexample.
    """

    index: int
    verdict: Comparison
    bound: Tensor
    found: Tensor
    counterexample: Tensor | None
    seconds: float
    stage: str
    margins: Tensor | None = None
    second_point: Tensor | None = None

    def __repr__(self) -> str:
        most, least = float(self.bound.max()), no_more_than(float(self.found.max()), 4)
        bound = f", at most {no_less_than(most, 4)}" if math.isfinite(most) else ""
        return f"Difference({self.index}: {self.verdict.name}{bound}, found {least}, {self.seconds:.3g} s)"

    @property
    def record(self) -> dict[str, Any]:
        """All of it in plain values."""
        point, second = (None if x is None else x.tolist() for x in (self.counterexample, self.second_point))
        margins = {} if self.margins is None else {"margins": [finite(value) for value in self.margins.tolist()]}
        return {
            "index": self.index,
            "verdict": self.verdict.name,
            "bound": [finite(value) for value in self.bound.tolist()],
            "found": self.found.tolist(),
            "counterexample": point,
            "second_point": second,
            **margins,
            "stage": self.stage,
            "seconds": self.seconds,
        }


@final
class Differences(Sequence[Difference]):
    """Results in the order of the inputs, and what was asked."""

    def __init__(
        self,
        results: Iterable[Difference],
        models: str,
        method: str,
        within: Any = None,
        agree: bool = False,
        rows: bool = False,
        inputs_within: Any = None,
    ) -> None:
        self._results = tuple(results)
        self.models, self.method, self.within, self.agree = models, method, within, agree
        self.rows, self.inputs_within = rows, inputs_within

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> Difference: ...

    @overload
    def __getitem__(self, index: slice) -> Differences: ...

    def __getitem__(self, index: int | slice) -> Difference | Differences:
        if isinstance(index, slice):
            asked = self.within, self.agree, self.rows, self.inputs_within
            return Differences(self._results[index], self.models, self.method, *asked)
        return self._results[index]

    def __iter__(self) -> Iterator[Difference]:
        return iter(self._results)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each verdict, by its name."""
        found = Counter(result.verdict for result in self)
        return {verdict.name: found[verdict] for verdict in Comparison if found[verdict]}

    @property
    def records(self) -> list[dict[str, Any]]:
        """Each in plain values, with what was asked."""
        asked = {
            "models": self.models,
            "method": self.method,
            "within": plain(self.within),
            "agree": self.agree,
            "rows": self.rows,
            "inputs_within": plain(self.inputs_within),
        }
        return [{**result.record, **asked} for result in self]

    def summary(self) -> str:
        """One line: how many of each verdict, the largest difference that is proved and found, the time."""
        words = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        most = max(float(result.bound.max()) for result in self)
        least = max(float(result.found.max()) for result in self)
        seconds = sum(result.seconds for result in self)
        bound = f"; differences at most {no_less_than(most, 4)}" if math.isfinite(most) else ""
        return f"{words}{bound}; found {no_more_than(least, 4)}; {seconds:.3g} s"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a file of JSON lines, one for each input; one that exists is replaced only by `force`."""
        with JsonLines(Path(path), force) as lines:
            for record in self.records:
                lines.write(record)

    def __repr__(self) -> str:
        return "\n".join(["Differences(", *(f"  {result!r}" for result in self), f") {self.summary()}"])


def plain(asked: Any) -> Any:
    """A number, or lists of such, of what a user handed over."""
    return asked if asked is None or isinstance(asked, int | float) else torch.as_tensor(asked, dtype=torch.float64).tolist()
