"""`tightverify compare`."""

from __future__ import annotations

from pathlib import Path

import click

from tightverify.cli.command import FILE, Command, option
from tightverify.cli.options import WRITTEN

WORSE = 1
"""The exit code where a verdict got worse."""


@click.command(
    cls=Command, examples=("tightverify compare before.jsonl after.jsonl",), short_help="Say what changed between two runs."
)
@click.argument("before", type=FILE, metavar="BEFORE.jsonl")
@click.argument("after", type=FILE, metavar="AFTER.jsonl")
@option(WRITTEN, "--json", "as_json", is_flag=True, help="One JSON line for each input in place of the table.")
def compare(before: Path, after: Path, as_json: bool) -> int:
    """Compare what two runs of `certify --out` found: verdicts that changed first, then margins and times.

    The exit code is 1 if something got worse: an input that was decided and is not any more, or is missing, or is robust in
    one run and has a counterexample in the other, of which one must be wrong.
    """
    import json

    from tightverify.console import output
    from tightverify.report.records import read_records
    from tightverify.report.summaries import BAD, change_table, changes, in_short

    found = changes(*(read_records(path, cut_short=True) for path in (before, after)))
    if as_json:
        for change in found:
            click.echo(json.dumps(change.plain()))
    else:
        changed = [change for change in found if change.kind != "same"]
        if changed:
            output().print(change_table(changed))
        for line in in_short(found):
            click.echo(line)
    return WORSE if any(change.kind in BAD for change in found) else 0
