"""The command `segments`: where in time a network is fragile on a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import AT_LEAST_ONE, FILE, Command, gathered, option, settings_of, threads
from tightverify.cli.options import (
    IMPORTING,
    IN_REGION,
    MODEL,
    NORM,
    QUESTION,
    READING,
    into_folder,
    reading_of,
    say_if_busy,
)
from tightverify.console import output, progress, say
from tightverify.decimals import at_least, at_most, no_more_than
from tightverify.settings import KEPT, PROOFS, Options

if TYPE_CHECKING:
    from rich.table import Table

    from tightverify.inputs.audio import Reading
    from tightverify.inputs.importing import Importing
    from tightverify.radius import Segments
    from tightverify.report.outputs import Folder
    from tightverify.settings import Settings

SEGMENTS = (
    option(QUESTION, "--label", type=click.IntRange(min=0), help="The clip's label; the model's own answer if not given."),
    option(QUESTION, "--length", type=AT_LEAST_ONE, help="Samples of a segment; a sixteenth of the clip if not given."),
    NORM,
    option(IN_REGION, "--between", type=float, nargs=2, default=(-100, -20), show_default=True, help="Levels to try, in dB."),
    option(IN_REGION, "--tolerance", type=float, default=1.0, show_default=True, help="How near to tell a level, in dB."),
)


def asked(norm: str, **segments: Any) -> dict[str, Any]:
    """What is asked of segments, as `tightverify.segments` takes it."""
    return {**segments, "norm": float(norm)}


EXAMPLES = (
    "tightverify segments speech.onnx clip.wav --out segments",
    "tightverify segments speech.onnx clip.wav --length 400 --method planes",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Find the certified radius of each segment of a clip.")
@MODEL
@click.argument("clip", type=FILE, metavar="CLIP.wav")
@IMPORTING
@gathered("segments", asked, *SEGMENTS)
@settings_of(
    [name for name in Options.__annotations__ if name not in (*KEPT, "thorough")],
    PROOFS,
    time_limit="Seconds per segment and level; no limit if not given.",
)
@threads
@gathered("reading", reading_of, *READING)
@into_folder("segments-out", "data and the picture")
def segments(
    model: Path,
    clip: Path,
    importing: Importing,
    segments: dict[str, Any],
    settings: Settings,
    reading: Reading,
    folder: Folder,
) -> None:
    """Find the certified radius of each segment of a clip: how much it may change there alone.

    Prints a table, and writes segments.csv and the picture segments.png (or .pdf, .svg) to a folder. Levels are decibels
    relative to the clip's peak (norm inf) or to its own norm.
    """
    from tightverify.api.load import load
    from tightverify.disk import alone_in
    from tightverify.inputs.audio import read_sound, unchecked
    from tightverify.inputs.clips import AnyLength, said_of
    from tightverify.radius import FILES, rounds_of
    from tightverify.radius import segments as find

    folder.refuse((FILES[0], f"segments.{folder.format}"))
    sound = read_sound(clip, reading)
    with said_of(str(clip)):
        wave = sound.values.view(AnyLength(model, **importing.keywords).shaped(len(sound.values)))
        network = load(model, inputs=wave[None], **importing.keywords)
    say_if_busy(folder.quiet)
    rounds = rounds_of(segments["between"], segments["tolerance"])
    with alone_in(results=folder.out):
        with progress(f"bisecting on {clip.name}, rounds", rounds, folder.quiet) as advance:
            found = find(network, wave, settings=settings, progress=lambda _done, _total: advance(), **segments)
        output().print(table(found, sound.rate))
        written = found.save(folder.out, sound.rate, folder.format)
    if not folder.quiet:
        for note in (*unchecked(reading, sound), *sound.notes):
            say(f"note: {note}")
        say(f"written: {', '.join(str(path) for path in written)}")


def table(found: Segments, rate: int) -> Table:
    """A line for each segment."""
    from rich.table import Table

    grid = Table("samples", "seconds", "proved, dB", "radius", "refuted, dB")
    for row in found.rows():
        first, last = row["first"], row["last"]
        seconds = f"{first / rate:.3f} to {(last + 1) / rate:.3f}"
        proved = "-" if row["proved_db"] is None else at_least(row["proved_db"], 1)
        refuted = "-" if row["refuted_db"] is None else at_most(row["refuted_db"], 1)
        grid.add_row(f"{first}-{last}", seconds, proved, no_more_than(row["proved"], 4), refuted)
    return grid
