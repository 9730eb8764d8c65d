"""`tightverify radius`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.asked import ROWS, STATEMENTS, statement_of
from tightverify.cli.command import AT_LEAST_ONE, FILE, Command, gathered, option, options, settings_of, threads
from tightverify.cli.options import (
    BALL_PER,
    CLASSES,
    CLIP,
    IMPORTING,
    IN_REGION,
    LIMIT,
    MODEL,
    NORM,
    QUESTION,
    TEXT,
    WRITTEN,
    into_folder,
    refuse_limits,
    region_words,
    say_if_busy,
)
from tightverify.console import output, say
from tightverify.decimals import at_least, at_most, no_less_than, no_more_than
from tightverify.errors import UsageError
from tightverify.settings import KEPT, Options, Settings

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from tightverify.inputs.importing import Importing
    from tightverify.radius import Radii
    from tightverify.report.outputs import Folder
    from tightverify.statements import Statement

NAMES = ("db", "snr", "gain")
GROUPS = "wanted groups beside x: whole numbers of an input's shape, equal ones within each group"
PICTURES = ("map", "wave", "stroke")
MOST_PICTURES = 8


def target_of(value: str | None, classes: Sequence[str]) -> int | str | None:
    """A class by its number or its name, or each."""
    from tightverify.inputs.classes import class_of

    return value if value is None or value == "each" else class_of(value, classes, "--target")


ASKED = (
    option(
        QUESTION,
        "--target",
        metavar="CLASS|each",
        help="Ask when this class may come before the label; each for a radius per other class.",
    ),
    option(
        QUESTION, "--top", type=AT_LEAST_ONE, default=1, show_default=True, help="The label shall stay among so many outputs."
    ),
    option(
        IN_REGION, "--family", type=click.Choice(NAMES), help="Decibels of the peak, of signal to noise, or a gain, not a ball."
    ),
    NORM,
    CLIP,
    BALL_PER,
    region_words("Balls of several perturbed inputs at the radius 1, all of which grow, of these arrays: x=inf:1,state=2:0.5."),
    option(
        IN_REGION,
        "--per",
        type=click.Choice(["frame", "word", "feature", "value", "segment", "group"]),
        help="A radius for each, when it alone may change; groups are the numbers `groups` in INPUTS.npz, of an input's shape "
        "(NAME_groups of several inputs).",
    ),
    option(IN_REGION, "--length", type=AT_LEAST_ONE, help="Frames of a segment; a sixteenth of all if not given."),
    option(IN_REGION, "--tolerance", type=float, default=0.01, show_default=True, help="How near to tell a radius, relative."),
)


def asked_of(
    norm: str, family: str | None, clip: tuple[float, float] | None, region_words: tuple[str, ...], **others: Any
) -> dict[str, Any]:
    """What is asked, as `tightverify.radius` takes it."""
    if region_words:
        from tightverify.cli.several import regions_by_name

        refuse_limits("--region", {"norm": norm, "family": family, **others}, ("norm", "family", "ball_per"))
        return {**others, "family": regions_by_name(region_words, clip)}
    if family is not None and norm != "inf":
        raise UsageError(f"--norm {norm} was given beside --family {family}, and says nothing there; leave one of them out")
    return {**others, "norm": float(norm), "family": family, "clip": clip}


def groups_in(inputs: Path, family: Any) -> Any:
    """The groups that a file has: of several inputs those of each by its name, where it has some."""
    from tightverify.inputs.npz import read_named

    if not isinstance(family, dict):
        return read_named(inputs, ("groups",), GROUPS)["groups"]
    names = {f"{name}_groups": name for name in family}
    found = read_named(inputs, (next(iter(family)), *names), GROUPS)
    return {name: found[array] for array, name in names.items() if array in found} or None


EXAMPLES = (
    "tightverify radius model.onnx inputs.npz --limit 10 --time-limit 10",
    "tightverify radius model.onnx inputs.npz --norm 2 --clip 0 1 --target each",
    "tightverify radius detector.onnx inputs.npz --side 0.5",
    "tightverify radius model.onnx inputs.npz --region x=inf:1,state=2:0.5",
    "tightverify radius model.onnx inputs.npz --region x=inf:1,h=2:0.5 --per frame",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Find how far the answer holds: certified radii.")
@MODEL
@click.argument("inputs", type=FILE, metavar="INPUTS.npz|TEXT")
@IMPORTING
@options(CLASSES, *TEXT, ROWS)
@gathered("statement", statement_of, *STATEMENTS)
@LIMIT
@gathered("asked", asked_of, *ASKED)
@settings_of(
    [name for name in Options.__annotations__ if name not in (*KEPT, "thorough")],
    Settings(method="complete"),
    time_limit="Seconds per radius; no limit if not given.",
)
@threads
@option(WRITTEN, "--trace", type=FILE, help="File for one JSON line per radius and size that was tried.")
@option(WRITTEN, "--fragile", type=AT_LEAST_ONE, help="Print so many parts only of each input, those of the least radius.")
@option(
    WRITTEN,
    "--plot",
    type=click.Choice(PICTURES),
    help="Draw the parts' radii: a map, along a waveform, or along a pen's way (dx, dy, lifted); of 8 inputs at most.",
)
@into_folder("radii-out", "the table")
def radius(
    model: Path,
    inputs: Path,
    importing: Importing,
    classes: Path | None,
    vocabulary: Path | None,
    unknown: str | None,
    rows: Path | None,
    statement: Statement | None,
    limit: int | None,
    asked: dict[str, Any],
    settings: Settings,
    trace: Path | None,
    fragile: int | None,
    plot: str | None,
    folder: Folder,
) -> None:
    """Find for every input the largest radius that is proved, and the least at which a counterexample is found.

    Prints a table, and writes radii.csv to a folder. The true radius lies between the two. Ctrl-C keeps what is known by then.
    """
    from tightverify.disk import alone_in
    from tightverify.inputs.audio import Reading
    from tightverify.inputs.source import Source
    from tightverify.radius.datasets import radii_of
    from tightverify.radius.inputs import Interrupted
    from tightverify.radius.records import FILE as TABLE
    from tightverify.report.outputs import refuse_file, sink
    from tightverify.report.shaded import PAGE

    folder.refuse((TABLE, PAGE, *(f"{plot}-{k}.{folder.format}" for k in range(MOST_PICTURES))))
    refuse_file(trace, folder.force, model, inputs, option="--trace")
    if plot is not None and asked["per"] is None:
        raise UsageError("--plot was given, and no radii of parts are asked for; give --per, or leave it out")
    if fragile is not None and asked["per"] is None and asked["target"] != "each":
        raise UsageError(
            "--fragile was given, and no radii of parts are asked for; give --per or --target each, or leave it out"
        )
    if asked["per"] == "group":
        asked["groups"] = groups_in(inputs, asked["family"])
    source = Source(model, (inputs,), None, importing, Reading(), rows, classes, vocabulary, unknown).stating(statement)
    if isinstance(asked["family"], dict):
        source = replace(source, perturbed=tuple(asked["family"]))
    asked["target"] = target_of(asked["target"], source.classes)
    given = source.read(asked["top"])[:limit]
    if plot is not None and len(set(given.shapes)) > 1:
        raise UsageError("--plot was given, and the inputs are of several lengths; leave it out, or give some of one length")
    say_if_busy(folder.quiet)
    with alone_in(results=folder.out), sink(trace, folder.force) as write:
        try:
            found = radii_of(given, lambda step: write(step.plain()), settings=settings, progress=not folder.quiet, **asked)
        except Interrupted as error:
            show(error.radii, folder, fragile, source.classes, None)
            raise
        show(found, folder, fragile, source.classes, None if plot is None else partial(drawn, plot, next(given.groups()).x))


def drawn(kind: str, x: Tensor, found: Radii, folder: Folder) -> list[Path]:
    """A picture of each of the first inputs that have radii."""
    from tightverify import plots

    right = [each.index for each in found if not each.misclassified][:MOST_PICTURES]
    draw = {"map": lambda k: plots.radius_map(found, k), "wave": lambda k: plots.wave(found, x[k], k)}
    draw["stroke"] = lambda k: plots.stroke(found, x[k], k)
    return [plots.save(draw[kind](k), folder.out / f"{kind}-{k}.{folder.format}") for k in right]


def show(
    found: Radii,
    folder: Folder,
    fragile: int | None,
    classes: Sequence[str],
    draw: Callable[[Radii, Folder], list[Path]] | None,
) -> None:
    """Print what was found, write it, and draw it where pictures are asked for; of words, shade these."""
    from tightverify.report import shaded

    output().print(table(found, found.rows() if fragile is None else found.fragile(fragile), classes))
    for line in shaded.lines(found):
        output().print(line, soft_wrap=True)
    output().print(found.summary(), soft_wrap=True)
    written = [found.save(folder.out), *([] if draw is None else draw(found, folder))]
    if found.about.part == "word":
        written.append(shaded.save(found, folder.out))
    if not folder.quiet:
        say(f"written: {', '.join(map(str, written))}")


def table(found: Radii, rows: list[dict[str, Any]], classes: Sequence[str]) -> Table:
    """A line for each radius; where classes have names, these are shown in place of their numbers."""
    from rich.table import Table

    part, unit = found.about.part, found.about.unit and f", {found.about.unit}"
    grid = Table("input", "label", *([part] if part else []), f"proved{unit}", f"refuted{unit}", "seconds")
    for row in rows:
        which = [
            Path(row["file"]).name if row.get("file") else str(row["index"]),
            named(row["label"], classes),
            *([named(row[part], classes)] if part == "target" else part_of(row, part)),
        ]
        if row["misclassified"]:
            grid.add_row(*which, "misclassified", "", "")
        else:
            grid.add_row(*which, number(row["proved"], unit), number(row["refuted"], unit, up=True), f"{row['seconds']:.2f}")
    return grid


def named(number: int | None, classes: Sequence[str]) -> str:
    """A class as people read it."""
    if number is None:
        return "-"
    return classes[number] if classes else str(number)


def part_of(row: dict[str, Any], part: str | None) -> list[str]:
    """Which part a radius is of: of a sentence, which word."""
    if part is None:
        return []
    return [f"{row[part]} {row['text']}" if "text" in row else str(row[part])]


def number(value: float | None, unit: str, up: bool = False) -> str:
    """A radius in four digits, or in decibels, on its safe side."""
    if value is None:
        return "-"
    if unit:
        return (at_most if up else at_least)(value, 2)
    return (no_less_than if up else no_more_than)(value, 4)
