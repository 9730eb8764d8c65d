"""Records as a table on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tightverify.decimals import at_least, exactly
from tightverify.report.records import Record
from tightverify.verify import Verdict

STYLES = {
    Verdict.ROBUST: "bold green",
    Verdict.COUNTEREXAMPLE: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.TIMED_OUT: "yellow",
    Verdict.MISCLASSIFIED: "dim",
}


def table(records: Sequence[Record], title: str | None = None, classes: Sequence[str] = ()) -> Table:
    """One row per input; where classes have names, these are shown in place of labels."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings(records):
        grid.add_column(heading, justify="left" if heading in ("verdict", "stage") else "right", no_wrap=True)
    for record in records:
        style = STYLES[Verdict[record.verdict]]
        grid.add_row(*(Text(cell, style=style if cell == record.verdict else "") for cell in cells(record, classes)))
    return grid


def headings(records: Sequence[Record]) -> tuple[str, ...]:
    region = "region" if any(record.region for record in records) else "eps"
    return "input", "label", region, "verdict", "worst margin", "stage", "time"


def cells(record: Record, classes: Sequence[str] = ()) -> tuple[str, ...]:
    """A row in words."""
    return (
        str(record.index) if record.file is None else Path(record.file).name,
        "-" if record.label is None else classes[record.label] if classes else str(record.label),
        record.region or ("-" if record.eps is None else exactly(record.eps)),
        record.verdict,
        "-" if record.margin is None else at_least(record.margin, 4),
        record.stage or "-",
        duration(record.seconds),
    )


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def summary(records: Sequence[Record], seconds: float) -> str:
    """One line: how many of each verdict, the share certified, the mean of the worst margins, the time."""
    found = Counter(record.verdict for record in records)
    verdicts = ", ".join(f"{found[verdict.name]} {verdict.name}" for verdict in Verdict if found[verdict.name])
    parts = [f"{len(records)} input{'' if len(records) == 1 else 's'}: {verdicts or 'none done'}"]
    if records:
        parts.append(f"certified {100 * found[Verdict.ROBUST.name] / len(records):.1f} %")
    margins = [record.margin for record in records if record.margin is not None]
    if margins:
        parts.append(f"mean worst margin {sum(margins) / len(margins):+.4f}")
    return "; ".join([*parts, f"{seconds:.1f} s"])
