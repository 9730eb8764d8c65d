"""`tightverify bounds`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tightverify.cli.command import FILE, Command, gathered, option, settings_of, threads
from tightverify.cli.options import FORCE, IMPORTING, LIMIT, MODEL, OUT, QUIET, REGION, WRITTEN, output_of, say_if_busy
from tightverify.console import output as console
from tightverify.console import progress
from tightverify.decimals import at_least, at_most
from tightverify.disk import standard
from tightverify.methods import BOUNDING, either
from tightverify.settings import BoundsOptions

if TYPE_CHECKING:
    from tightverify.inputs.importing import Importing
    from tightverify.region import Perturbation
    from tightverify.report.outputs import Output
    from tightverify.settings import Settings

METHODS = f"How to bound: {either(BOUNDING)} (its first round)."


EXAMPLES = (
    "tightverify bounds model.onnx inputs.npz --eps 0.01 --limit 1",
    "tightverify bounds model.onnx inputs.npz --eps 0.01 --method planes --json",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Print intervals that surely hold each output.")
@MODEL
@click.argument("inputs", type=FILE, metavar="INPUTS.npz")
@IMPORTING
@LIMIT
@REGION
@settings_of(("method", *BoundsOptions.__annotations__), method=METHODS)
@threads
@gathered("output", output_of, OUT, FORCE, QUIET)
@option(WRITTEN, "--json", "as_json", is_flag=True, help="JSON lines on stdout instead of a table.")
def bounds(
    model: Path,
    inputs: Path,
    importing: Importing,
    limit: int | None,
    region: Perturbation,
    settings: Settings,
    output: Output,
    as_json: bool,
) -> None:
    """Print intervals that surely hold each output on the ball around each input."""
    from rich.table import Table

    from tightverify.inputs.arrays import read_arrays
    from tightverify.report.outputs import sink
    from tightverify.runs import Bounding

    output.refuse(model, inputs)
    bounding = Bounding(read_arrays(model, inputs, importing, names=region.inputs)[:limit], str(model), region, settings)
    grid = Table("input", "output", "lower", "upper")
    lines, quiet = bounding.lines(), output.quiet
    say_if_busy(quiet)
    on_stdout = output.out is not None and standard(output.out) is sys.stdout
    try:
        with (
            sink(output.out, output.force) as write,
            progress(f"bounding {model.name}", len(bounding.inputs), quiet) as advance,
        ):
            for line in lines:
                for k, (lower, upper) in enumerate(zip(line["lower"], line["upper"], strict=True)):
                    grid.add_row(str(line["index"]), str(k), number(lower), number(upper, up=True))
                if as_json and not on_stdout:
                    click.echo(json.dumps(line))
                write(line)
                advance()
    finally:
        if grid.row_count and not as_json:
            console(on_stdout).print(grid)


def number(value: float | None, up: bool = False) -> str:
    """A bound in six digits after the point, on its safe side."""
    return "-" if value is None else (at_most if up else at_least)(value, 6)
