"""The command `segments`: where in time a network is fragile on a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tightverify.cli.options import AT_LEAST_ONE, FILE, FORMAT, MODEL, QUIET, READING, options, say_if_busy, use_threads
from tightverify.console import output, progress, say
from tightverify.decimals import at_least, at_most, no_more_than

if TYPE_CHECKING:
    from rich.table import Table

    from tightverify.radius import Segments


@click.command()
@options(MODEL, click.argument("clip", type=FILE, metavar="CLIP.wav"))
@click.option("--label", type=click.IntRange(min=0), help="The clip's label; the model's own answer if not given.")
@click.option("--length", type=AT_LEAST_ONE, help="Samples of a stretch; a sixteenth of the clip if not given.")
@click.option("--norm", type=click.Choice(["inf", "2", "1"]), default="inf", show_default=True, help="Norm of the balls.")
@click.option("--between", type=float, nargs=2, default=(-100, -20), show_default=True, help="Levels to try, in dB.")
@click.option("--tolerance", type=float, default=1.0, show_default=True, help="How near to tell a level, in dB.")
@click.option("--method", default="linear", show_default=True, help="How to bound: interval, linear, planes or combine.")
@click.option("--time-limit", type=float, default=float("inf"), help="Seconds per stretch and level; no limit if not given.")
@click.option("--restarts", type=click.IntRange(min=0), default=0, show_default=True, help="Starts of a search; 0 for none.")
@click.option("--batch-axis", type=click.IntRange(min=0), help="Axis of the model's input along which a batch goes.")
@click.option("--threads", type=AT_LEAST_ONE, default=None, help="Threads to compute with; as many as pay if not given.")
@options(*READING)
@click.option("--out", type=FILE, default=Path("stretches-out"), show_default=True, help="Folder for data and the picture.")
@click.option("--force", is_flag=True, help="Replace what an earlier run left in the folder of --out.")
@FORMAT
@QUIET
def segments(
    model: Path,
    clip: Path,
    label: int | None,
    length: int | None,
    norm: str,
    between: tuple[float, float],
    tolerance: float,
    method: str,
    time_limit: float,
    restarts: int,
    batch_axis: int | None,
    threads: int | None,
    rate: int | None,
    resample: bool,
    channel: int | None,
    cut: tuple[float, float] | None,
    int16: bool,
    out: Path,
    force: bool,
    kind_of_file: str | None,
    quiet: bool,
) -> None:
    """Find the certified radius of each stretch of a clip: how much it may change there alone.

    Prints a table, and writes stretches.csv and the picture stretches.png (or .pdf, .svg) to a folder. Levels are decibels
    relative to the clip's peak (norm inf) or to its own norm.
    """
    from tightverify.api.load import load
    from tightverify.disk import alone_in
    from tightverify.inputs.audio import Reading, read_sound, unchecked
    from tightverify.inputs.clips import AnyLength, said_of
    from tightverify.radius import FILES, rounds_of
    from tightverify.radius import segments as find
    from tightverify.report.outputs import refuse_folder
    from tightverify.settings import Settings

    use_threads(threads)
    settings = Settings(method, time_limit, restarts=restarts)
    kind = kind_of_file or "png"
    refuse_folder(out, force, (FILES[0], f"stretches.{kind}"))
    reading = Reading(rate, resample, channel, cut, int16)
    sound = read_sound(clip, reading)
    with said_of(str(clip)):
        wave = sound.values.view(AnyLength(model, batch_axis).shaped(len(sound.values)))
        network = load(model, batch_axis=batch_axis, inputs=wave[None])
    say_if_busy(quiet)
    with alone_in(results=out):
        with progress(f"bisecting on {clip.name}, rounds", rounds_of(between, tolerance), quiet) as advance:
            found = find(
                network,
                wave,
                label,
                length=length,
                norm=float(norm),
                between=between,
                tolerance=tolerance,
                settings=settings,
                progress=lambda _done, _total: advance(),
            )
        output().print(table(found, sound.rate))
        written = found.save(out, sound.rate, kind)
    if not quiet:
        for note in (*unchecked(reading, sound), *sound.notes):
            say(f"note: {note}")
        say(f"written: {', '.join(str(path) for path in written)}")


def table(found: Segments, rate: int) -> Table:
    """A line for each stretch."""
    from rich.table import Table

    grid = Table("samples", "seconds", "proved, dB", "radius", "refuted, dB")
    for row in found.rows():
        first, last = row["first"], row["last"]
        seconds = f"{first / rate:.3f} to {(last + 1) / rate:.3f}"
        proved = "-" if row["proved_db"] is None else at_least(row["proved_db"], 1)
        refuted = "-" if row["refuted_db"] is None else at_most(row["refuted_db"], 1)
        grid.add_row(f"{first}-{last}", seconds, proved, no_more_than(row["proved"], 4), refuted)
    return grid
