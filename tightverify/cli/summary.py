"""`tightverify summary`."""

from __future__ import annotations

from pathlib import Path

import click

from tightverify.cli.command import FILE, Command, option
from tightverify.cli.options import WRITTEN

EXAMPLES = (
    "tightverify summary results.jsonl",
    "tightverify summary one.jsonl two.jsonl --json",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Say in figures what runs found.")
@click.argument("results", type=FILE, metavar="RESULTS.jsonl...", nargs=-1, required=True)
@option(WRITTEN, "--json", "as_json", is_flag=True, help="One JSON line for each row in place of the table.")
def summary(results: tuple[Path, ...], as_json: bool) -> None:
    """Say in figures what `certify --out` wrote: verdicts, the certified share, margins and times, by model, region and method.

    Several files are taken together, as those of several shards. Of an input that was tried again the last record counts.
    """
    import json
    from dataclasses import asdict

    from tightverify.console import output
    from tightverify.report.records import latest, read_all
    from tightverify.report.summaries import summaries, summary_table

    found = summaries(latest(record for path in results for record in read_all(path, cut_short=True)))
    if not as_json:
        output().print(summary_table(found))
        return
    for one in found:
        click.echo(json.dumps(asdict(one)))
