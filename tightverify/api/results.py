"""What `certify` returns: the verdicts on all inputs, in their order, to look at, to count, to save and to read back.

A result is all that is known of one input; what was asked (which model, region and method) is in its `Question`. Both together
are a record, the line of a file of results. `report` has the records, their files and their tables, and is imported when one of
these is asked for.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, final, overload

import torch

from tightverify.branch.node import Branch, Split
from tightverify.errors import UsageError
from tightverify.region import Perturbation
from tightverify.verify import Result, Verdict

if TYPE_CHECKING:
    import pandas

    from tightverify.report.records import Record

SHOWN = 10
"""Results that are printed one by one; of more, the first and the last of them."""
NESTED = ("margins", "counterexample", "tree", "made", "limits")
"""What of a record is no plain value, and has no column."""


@dataclass(frozen=True)
class Question:
    """What a verdict is about. `eps` and `norm` are those of the input's own ball, `eps` infinite where it is none."""

    model: str
    eps: float
    norm: float
    method: str
    region: str | None = None
    file: str | None = None
    limits: Mapping[str, list[float] | list[int]] | None = None
    top: int = 1

    def record(self, result: Result) -> Record:
        """All about one input in plain values."""
        from tightverify.report.records import Record

        return Record.of(result, **{each.name: getattr(self, each.name) for each in fields(self)})


def questions(
    model: str,
    region: Perturbation,
    balls: Iterable[tuple[float, float]],
    method: str,
    top: int,
    files: Sequence[str] = (),
) -> list[Question]:
    """One for each input, whose own balls have these radii and norms."""
    stated, limits = region.stated, region.limits
    named = files or repeat(None)
    return [Question(model, *ball, method, stated, file, limits, top) for ball, file in zip(balls, named, strict=False)]


@dataclass(frozen=True)
class Written:
    """What a verdict that was read from a file is about: it has its record already."""

    line: Record

    def record(self, result: Result) -> Record:
        return self.line


@final
class Results(Sequence[Result]):
    """Results in the order of the inputs: a sequence, of which a slice is one too, and so is a sum of two."""

    def __init__(self, results: Iterable[Result], questions: Iterable[Question | Written]) -> None:
        self._results, self._questions = tuple(results), tuple(questions)
        if len(self._results) != len(self._questions):
            raise UsageError(f"{len(self._results)} results and {len(self._questions)} questions were given; wanted as many")

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> Result | Results:
        if isinstance(index, slice):
            return Results(self._results[index], self._questions[index])
        return self._results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def __add__(self, other: Results) -> Results:
        """Those of two calls, one after the other."""
        if not isinstance(other, Results):
            return NotImplemented
        return Results(self._results + other._results, self._questions + other._questions)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each verdict, by its name."""
        found = Counter(result.verdict for result in self)
        return {verdict.name: found[verdict] for verdict in Verdict}

    @property
    def certified(self) -> float:
        """The share of inputs that were proved: NaN of none."""
        return self.counts[Verdict.ROBUST.name] / len(self) if self else math.nan

    @property
    def records(self) -> list[Record]:
        """Each as a record: all about it in plain values, as in the lines of a file."""
        return [question.record(result) for result, question in zip(self._results, self._questions, strict=True)]

    def summary(self) -> str:
        """One line: how many of each verdict, the share certified, the mean of the worst margins, the time."""
        from tightverify.report.tables import summary

        return summary(self.records, sum(result.seconds for result in self))

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a file of JSON lines, as `tightverify certify --out` does; one that exists is replaced only by `force`."""
        from tightverify.report.records import write_records

        write_records(Path(path), self.records, force)

    def to_dataframe(self) -> pandas.DataFrame:
        """A line for each input, a column for each plain value: verdict, margin, eps, seconds, ... Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise UsageError(
                "to_dataframe needs pandas, which is not installed; install it with: pip install pandas; or take `records`, "
                "which are plain values, or `save`, whose lines any program reads"
            ) from error
        from tightverify.report.records import Record

        columns = [each.name for each in fields(Record) if each.name not in NESTED]
        return pandas.DataFrame([asdict(record) for record in self.records], columns=columns)

    def __repr__(self) -> str:
        """Some lines: the first results and the last, and the summary."""
        lines = [f"  {result!r}" for result in self._results]
        if len(lines) > SHOWN:
            left_out = f"  ... {len(lines) - SHOWN} more ..."
            lines = [*lines[: SHOWN // 2], left_out, *lines[-(SHOWN // 2) :]]
        return "\n".join(["Results(", *lines, f") {self.summary()}"])

    def _repr_html_(self) -> str:
        """A table, in notebooks."""
        from tightverify.report.html import html

        return html(self.records, self.summary())


def read_results(path: str | os.PathLike[str], cut_short: bool = False) -> Results:
    """The results of a file that `Results.save` or `tightverify certify --out` wrote.

    `cut_short` lets a last line without its end pass, which a full disk or a kill leaves.
    """
    from tightverify.report.records import read_records

    records = read_records(path, cut_short)
    return Results(map(result_of, records), map(Written, records))


def result_of(record: Record) -> Result:
    """The result that a record was made of."""
    margins = [number(margin) for margin in record.margins]
    point = record.counterexample
    return Result(
        verdict=Verdict[record.verdict],
        margins=torch.tensor(margins, dtype=torch.float64),
        margin=number(record.margin),
        stage=record.stage or "",
        seconds=record.seconds,
        counterexample=None if point is None else torch.tensor(point, dtype=torch.float64),
        tree=tuple(map(branch_of, record.tree or ())),
        note=record.note or "",
        index=record.index,
        label=record.label,
    )


def number(margin: float | None) -> float:
    """A margin that was not finite proves nothing."""
    return -math.inf if margin is None else margin


def branch_of(values: Mapping[str, Any]) -> Branch:
    """A node of a search tree of what a line of JSON holds."""
    split = values["split"]
    return Branch(
        values["number"],
        values["parent"],
        None if split is None else Split(**split),
        tuple(map(number, values["margins"])),
        values["closed"],
    )
