"""`tightverify demo`."""

from __future__ import annotations

from pathlib import Path

import click

from tightverify.cli.command import FILE, Command, option
from tightverify.cli.options import QUIET, WRITTEN


@click.command(
    cls=Command, examples=("tightverify demo --out demo-out",), short_help="Certify digits with a small LSTM and a GRU."
)
@option(WRITTEN, "--out", type=FILE, default=Path("demo-out"), show_default=True, help="Folder for the results.")
@QUIET
def demo(out: Path, quiet: bool) -> None:
    """Certify handwritten digits with a small LSTM and a small GRU that read them row by row.

    Prints a table for each network, and writes to the folder, in place of what an earlier demonstration wrote there: a file
    of JSON lines for each network, sweep.jsonl, and the picture certified.png.
    """
    from tightverify.demo.show import show
    from tightverify.disk import alone_in
    from tightverify.report.outputs import refuse_folder

    refuse_folder(out, True, ())
    with alone_in(results=out):
        show(out, quiet)
