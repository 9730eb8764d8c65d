"""`tightverify vnnlib`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tightverify.cli.command import FILE, Command, option, settings_of, threads
from tightverify.cli.options import FORCE, IMPORTING, MODEL, QUESTION, QUIET, WRITTEN, say_if_busy
from tightverify.console import say
from tightverify.settings import KEPT, Options, Settings

if TYPE_CHECKING:
    from tightverify.inputs.importing import Importing

EXAMPLES = (
    "tightverify vnnlib model.onnx query.vnnlib --timeout 60",
    "tightverify vnnlib model.onnx query.vnnlib.gz --timeout 300 --out result.txt",
    "tightverify vnnlib vad.onnx query.vnnlib --fix state=0",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Answer a query of VNN-LIB 1.0: sat, unsat, or unknown.")
@MODEL
@click.argument("query", type=FILE, metavar="QUERY.vnnlib[.gz]")
@IMPORTING
@option(QUESTION, "--timeout", type=click.FloatRange(0, min_open=True), help="Seconds for the query; no limit if not given.")
@settings_of(
    [name for name in Options.__annotations__ if name not in (*KEPT, "thorough", "time_limit", "batch")],
    Settings(method="complete"),
)
@threads
@option(WRITTEN, "--out", type=FILE, help="File for the answer, as VNN-COMP wants it: the outcome, and of sat the values.")
@FORCE
@QUIET
def vnnlib(
    model: Path,
    query: Path,
    importing: Importing,
    timeout: float | None,
    settings: Settings,
    out: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Answer whether some input satisfies a query of VNN-LIB 1.0.

    Prints sat, unsat, unknown or timeout. Of sat, the values of all variables follow: the input was run through the model's own
    runtime, and satisfies the constraints exactly.
    """
    from tightverify.inputs.vnnlib.answer import vnnlib as answer
    from tightverify.report.outputs import refuse_file

    refuse_file(out, force, model, query, *importing.files)
    say_if_busy(quiet)
    settings = settings if timeout is None else replace(settings, time_limit=timeout)
    found = answer(model, query, settings=settings, **importing.keywords)
    if out is not None:
        out.write_text(found.text)
    click.echo(found.text if out is None else found.outcome.value, nl=out is not None)
    if not quiet:
        count = f"{found.cases} case{'s' * (found.cases != 1)}"
        say(f"{count}, {found.open} left open; {found.seconds:.1f} s{found.note and f' ({found.note})'}")
