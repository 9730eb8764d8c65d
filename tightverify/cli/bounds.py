"""`tightverify bounds`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tightverify.cli.options import FILE, MODEL, common, options, region_of, say_if_busy, use_threads
from tightverify.console import output, progress
from tightverify.decimals import at_least, at_most
from tightverify.disk import standard


@click.command()
@options(MODEL, click.argument("inputs", type=FILE, metavar="INPUTS.npz"))
@common("interval, linear, planes or combine (its first round)")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout instead of a table.")
def bounds(
    model: Path,
    inputs: Path,
    method: str,
    limit: int | None,
    batch: int,
    batch_axis: int | None,
    device: str,
    threads: int | None,
    out: Path | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **region: Any,
) -> None:
    """Print intervals that surely hold each output on the ball around each input."""
    from rich.table import Table

    from tightverify.inputs.dataset import read
    from tightverify.report.outputs import refuse_file, sink
    from tightverify.runs import Bounding

    use_threads(threads)
    stated = region_of(**region)
    refuse_file(out, force, model, inputs)
    bounding = Bounding(read(model, inputs, batch_axis)[:limit], str(model), stated, method, batch, device)
    grid = Table("input", "output", "lower", "upper")
    lines = bounding.lines()
    say_if_busy(quiet)
    on_stdout = out is not None and standard(out) is sys.stdout
    try:
        with sink(out, force) as write, progress(f"bounding {model.name}", len(bounding.inputs), quiet) as advance:
            for line in lines:
                for k, (lower, upper) in enumerate(zip(line["lower"], line["upper"], strict=True)):
                    grid.add_row(str(line["index"]), str(k), number(lower), number(upper, up=True))
                if as_json and not on_stdout:
                    click.echo(json.dumps(line))
                write(line)
                advance()
    finally:
        if grid.row_count and not as_json:
            output(on_stdout).print(grid)


def number(value: float | None, up: bool = False) -> str:
    """A bound in six digits after the point, on its safe side."""
    return "-" if value is None else (at_most if up else at_least)(value, 6)
