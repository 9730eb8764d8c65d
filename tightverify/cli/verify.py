"""`tightverify verify`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from tightverify.cli.command import FILE, Command, option, settings_of, threads
from tightverify.cli.options import FORCE, QUESTION, QUIET, WRITTEN, say_if_busy
from tightverify.console import say
from tightverify.settings import KEPT, Options, Settings

EXAMPLES = (
    "tightverify verify query.vnnlib --network N=model.onnx --timeout 60",
    "tightverify verify query.vnnlib --network f=one.onnx --network g=other.onnx",
    "tightverify verify query.vnnlib --network N=model.onnx --real",
)
WORDS = {"timeout": "timed-out"}
"""Outcomes that VNN-LIB 2.0 calls otherwise."""


def files_of(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    """Networks' files by their names."""
    found: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"{value!r} cannot be read; write NAME=MODEL.onnx, the name as the query has it")
        if name in found:
            raise click.BadParameter(f"{name} is given twice; give each network one file")
        found[name] = Path(path)
    return found


@click.command(cls=Command, examples=EXAMPLES, short_help="Answer a query of VNN-LIB 2.0 about networks that it declares.")
@click.argument("query", type=FILE, metavar="QUERY.vnnlib[.gz]")
@option(
    QUESTION,
    "--network",
    "networks",
    multiple=True,
    required=True,
    callback=files_of,
    metavar="NAME=FILE.onnx",
    help="The file of a network that the query declares; once for each that is not equal to another.",
)
@option(QUESTION, "--real", is_flag=True, help="Read tensors of float types as real numbers; such a query is refused else.")
@option(
    WRITTEN,
    "--serialise-assignments",
    "folder",
    type=FILE,
    metavar="FOLDER",
    help="Folder for the values of all tensors where it is sat, ONNX's TensorProtos NAME.pb, in place of printing them.",
)
@FORCE
@option(QUESTION, "--timeout", type=click.FloatRange(0, min_open=True), help="Seconds for the query; no limit if not given.")
@settings_of(
    [name for name in Options.__annotations__ if name not in (*KEPT, "thorough", "time_limit", "batch")],
    Settings(method="complete"),
)
@threads
@QUIET
def verify(
    query: Path,
    networks: dict[str, Path],
    real: bool,
    folder: Path | None,
    force: bool,
    timeout: float | None,
    settings: Settings,
    quiet: bool,
) -> None:
    """Answer whether some inputs satisfy a query of VNN-LIB 2.0.

    Prints sat, unsat, unknown or timed-out. Of sat, the values of all tensors follow in the order of their declarations: the
    inputs were run through the files by onnxruntime, and satisfy the constraints exactly. What is proved is proved of real
    numbers.
    """
    from tightverify.inputs.vnnlib.answer import vnnlib
    from tightverify.inputs.vnnlib.networks import assignments, read_declared
    from tightverify.inputs.vnnlib.serialised import files_of as files_of_tensors
    from tightverify.inputs.vnnlib.serialised import write_assignments
    from tightverify.report.outputs import refuse_folder

    declared = read_declared(query, real)
    if folder is not None:
        refuse_folder(folder, force, files_of_tensors(declared))
    say_if_busy(quiet)
    settings = settings if timeout is None else replace(settings, time_limit=timeout)
    found = vnnlib(networks, declared, settings=settings)
    click.echo(WORDS.get(found.outcome.value, found.outcome.value))
    if found.x is not None and found.y is not None:
        values = declared, found.x.flatten().tolist(), found.y.flatten().tolist()
        if folder is None:
            click.echo(assignments(*values))
        else:
            write_assignments(folder, *values)
    if not quiet:
        read_so = "; tensors of float types were read as real numbers" if declared.floating else ""
        count = f"{found.cases} case{'s' * (found.cases != 1)}"
        say(f"{count}, {found.open} left open; {found.seconds:.1f} s{found.note and f' ({found.note})'}{read_so}")
