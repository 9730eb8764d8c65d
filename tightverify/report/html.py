"""Records as a table of HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tightverify.report.records import Record
from tightverify.report.tables import cells, headings
from tightverify.verify import Verdict

MOST = 20
"""Rows that are shown; of more, the first half and the last half of them."""
COLOURS = {
    Verdict.ROBUST: "#0072b2",
    Verdict.COUNTEREXAMPLE: "#d55e00",
    Verdict.UNKNOWN: "#777777",
    Verdict.TIMED_OUT: "#777777",
    Verdict.MISCLASSIFIED: "#aaaaaa",
}
"""Of the verdicts' words: as in pictures, told apart by people who are colour-blind."""


def html(records: Sequence[Record], words: str) -> str:
    """One row per input, and a line of summary."""
    names = headings(records)
    rows = [row(record) for record in records]
    if len(rows) > MOST:
        gap = f'<tr><td colspan="{len(names)}">... {len(rows) - MOST} more ...</td></tr>'
        rows = [*rows[: MOST // 2], gap, *rows[-(MOST // 2) :]]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table><p>{escape(words)}</p>"


def row(record: Record) -> str:
    colour = COLOURS[Verdict[record.verdict]]
    texts = (
        f'<span style="color: {colour}">{escape(cell)}</span>' if cell == record.verdict else escape(cell)
        for cell in cells(record)
    )
    return f"<tr>{''.join(f'<td>{text}</td>' for text in texts)}</tr>"
