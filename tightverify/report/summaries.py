"""Records in figures: how many of each verdict, margins and times, by model, region and method; and two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.table import Table
from rich.text import Text

from tightverify.decimals import exactly
from tightverify.region.perturbation import limit_words
from tightverify.report.records import Record, place_of
from tightverify.report.tables import STYLES, duration
from tightverify.verify import Verdict

WORTH = {
    Verdict.ROBUST.name: 2,
    Verdict.UNKNOWN.name: 1,
    Verdict.TIMED_OUT.name: 1,
    Verdict.COUNTEREXAMPLE.name: 2,
    Verdict.MISCLASSIFIED.name: 2,
}
"""Whether an input is decided: no longer to be so is worse."""
CONTRADICTION = {Verdict.ROBUST.name, Verdict.COUNTEREXAMPLE.name}
"""Verdicts of which one is wrong where two runs asked the same and have both."""


@dataclass(frozen=True)
class Summary:
    """The records of one model on one region by one method, in figures; `margin`s are of those that have one."""

    model: str
    region: str
    method: str
    inputs: int
    verdicts: dict[str, int]
    certified: float
    mean_margin: float | None
    least_margin: float | None
    seconds: float
    median_seconds: float
    most_seconds: float

    @classmethod
    def of(cls, model: str, region: str, method: str, records: Sequence[Record]) -> Summary:
        counts = {verdict.name: sum(record.verdict == verdict.name for record in records) for verdict in Verdict}
        margins = [record.margin for record in records if record.margin is not None]
        seconds = [record.seconds for record in records]
        return cls(
            model=model,
            region=region,
            method=method,
            inputs=len(records),
            verdicts=counts,
            certified=counts[Verdict.ROBUST.name] / len(records),
            mean_margin=mean(margins) if margins else None,
            least_margin=min(margins, default=None),
            seconds=sum(seconds),
            median_seconds=median(seconds),
            most_seconds=max(seconds),
        )


def region_words(record: Record) -> str:
    """A record's region in a few words."""
    norm = "" if record.norm == "inf" else f", norm {record.norm}"
    ball = "-" if record.eps is None else f"eps {exactly(record.eps)}{norm}"
    return (record.region or ball) + limit_words(record.limits or {})


def summaries(records: Iterable[Record]) -> list[Summary]:
    """One for each model, region and method, in the order in which they come."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((Path(record.model).name, region_words(record), record.method), []).append(record)
    return [Summary.of(*names, several) for names, several in groups.items()]


def summary_table(several: Sequence[Summary]) -> Table:
    """One row of several lines for each."""
    grid = Table(show_lines=True)
    for heading in ("model", "region", "method"):
        grid.add_column(heading, overflow="fold")
    for heading in ("verdicts", "certified", "margins", "time"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for one in several:
        counts = [Text(f"{one.verdicts[v.name]} {v.name}", STYLES[v]) for v in Verdict if one.verdicts[v.name]]
        verdicts = Text("\n").join([*counts, Text(f"{one.inputs} inputs")])
        margins = {"mean": one.mean_margin, "least": one.least_margin}
        told = "\n".join(f"{what} {'-' if value is None else f'{value:+.4f}'}" for what, value in margins.items())
        times = {"all": one.seconds, "median": one.median_seconds, "most": one.most_seconds}
        taken = "\n".join(f"{what} {duration(value)}" for what, value in times.items())
        grid.add_row(one.model, one.region, one.method, verdicts, f"{100 * one.certified:.1f} %", told, taken)
    return grid


@dataclass(frozen=True)
class Change:
    """One question's records in two runs; None where a run does not have it."""

    before: Record | None
    after: Record | None

    @property
    def kind(self) -> str:
        """How the verdict changed: worse, contradictory, better, other, same, missing or new."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "missing"
        verdicts = {self.before.verdict, self.after.verdict}
        if len(verdicts) == 1:
            return "same"
        if verdicts == CONTRADICTION:
            return "contradictory"
        gain = WORTH[self.after.verdict] - WORTH[self.before.verdict]
        return "better" if gain > 0 else "worse" if gain < 0 else "other"

    @property
    def margin(self) -> float | None:
        """By how much the margin rose."""
        margins = [None if record is None else record.margin for record in (self.before, self.after)]
        return None if None in margins else margins[1] - margins[0]  # type: ignore[operator]

    def plain(self) -> dict[str, Any]:
        """In plain values."""
        either = self.after or self.before
        assert either is not None
        told: dict[str, Any] = {"change": self.kind, "index": either.index, "file": either.file, "region": region_words(either)}
        for name in ("verdict", "margin", "seconds"):
            told[name] = [None if record is None else getattr(record, name) for record in (self.before, self.after)]
        return told


BAD = "contradictory", "worse", "missing"
"""Changes that a run should not bring."""
ORDER = *BAD, "other", "better", "new", "same"


def changes(before: Iterable[Record], after: Iterable[Record]) -> list[Change]:
    """Every question of either run, those first whose verdict changed for the worse, then those whose margin fell most."""
    olds, news = ({(Path(r.model).name, place_of(r)): r for r in records} for records in (before, after))
    found = [Change(olds.get(key), news.get(key)) for key in {**olds, **news}]
    return sorted(found, key=lambda change: (ORDER.index(change.kind), change.margin if change.margin is not None else 0.0))


def change_table(several: Sequence[Change]) -> Table:
    """One row for each."""
    grid = Table()
    for heading in ("input", "region", "change", "verdict", "margin", "time"):
        grid.add_column(heading)
    for change in several:
        told = change.plain()
        verdicts, margins, seconds = told["verdict"], told["margin"], told["seconds"]
        grid.add_row(
            str(told["index"] if told["file"] is None else Path(told["file"]).name),
            told["region"],
            change.kind,
            " -> ".join(each or "-" for each in dict.fromkeys(verdicts)),
            " -> ".join("-" if each is None else f"{each:+.4f}" for each in margins),
            " -> ".join("-" if each is None else duration(each) for each in seconds),
        )
    return grid


def in_short(several: Sequence[Change]) -> list[str]:
    """How many changed and how, by how much margins moved, and what time was taken."""
    counts = {kind: sum(change.kind == kind for change in several) for kind in ORDER}
    words = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    both = [(change.before, change.after) for change in several if change.before is not None and change.after is not None]
    lines = [f"{len(several)} inputs: {words or 'none'}"]
    moved = [change.margin for change in several if change.margin is not None]
    if moved:
        lines.append(f"margins: {mean(moved):+.4g} in the mean, from {min(moved):+.4g} to {max(moved):+.4g}")
    if both:
        before, after = (sum(pair[k].seconds for pair in both) for k in (0, 1))
        lines.append(f"time: {duration(before)} before, {duration(after)} after")
    return lines
