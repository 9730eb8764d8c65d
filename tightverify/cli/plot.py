"""`tightverify plot`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import FILE, Command, option
from tightverify.cli.options import FORCE, FORMAT, QUIET, WRITTEN
from tightverify.errors import UsageError
from tightverify.writing import FORMATS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("curve", "cactus", "margins", "trace")
SIZE = option(
    WRITTEN,
    "--size",
    type=click.Choice(["screen", "column"]),
    default="screen",
    show_default=True,
    help="Wide, or a column of a paper.",
)


EXAMPLES = (
    "tightverify plot results.jsonl --kind curve",
    "tightverify plot first.jsonl second.jsonl --kind cactus --format pdf",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Draw what certify --out and --trace wrote.")
@click.argument("results", type=FILE, metavar="RESULTS.jsonl...", nargs=-1, required=True)
@option(WRITTEN, "--kind", type=click.Choice(KINDS), default="curve", show_default=True, help="What to draw.")
@FORMAT
@SIZE
@option(WRITTEN, "--out", type=FILE, help="File of the picture; the kind's name if not given.")
@FORCE
@QUIET
def plot(
    results: tuple[Path, ...], kind: str, kind_of_file: str | None, size: str, out: Path | None, force: bool, quiet: bool
) -> None:
    """Draw what `certify --out` and `certify --trace` wrote.

    curve: the certified share against eps or decibels, and that of counterexamples. cactus: how many inputs are decided within
    a time. margins: how the worst margins are distributed, or how they fall as the region grows. trace: margins as a run went
    on, from the file of --trace. Models, regions and methods of several files are told apart.
    """
    from tightverify import plots
    from tightverify.console import say
    from tightverify.report.outputs import refuse_file
    from tightverify.report.records import read_records
    from tightverify.report.trace import read_trace

    path = named(out, kind_of_file, kind)
    refuse_file(path, force, *results)
    if kind == "trace" and len(results) > 1:
        raise UsageError(f"{len(results)} files were given; the inputs of one trace are drawn: give one file")
    read: Callable[[Path], list[Any]] = read_trace if kind == "trace" else read_records
    draw: Callable[..., Axes] = getattr(plots, kind)
    axes = plots.figure(plots.SIZES[size]).add_subplot()
    plots.save(draw([line for file in results for line in read(file)], axes), path)
    if not quiet:
        say(f"drawn: {path}")


def named(out: Path | None, kind_of_file: str | None, kind: str) -> Path:
    """The picture's file, whose name says its format."""
    if out is None:
        return Path(f"{kind}.{kind_of_file or FORMATS[0]}")
    given = out.suffix.lower().lstrip(".")
    if kind_of_file is not None and given != kind_of_file:
        raise UsageError(f"--out {out} and --format {kind_of_file} are two formats; give one of them, or names that agree")
    return out
