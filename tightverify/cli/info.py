"""`tightverify info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tightverify.cli.command import Command, option
from tightverify.cli.options import IMPORTING, MODEL, QUESTION, WRITTEN
from tightverify.console import output
from tightverify.errors import ModelError, TightVerifyError

if TYPE_CHECKING:
    from tightverify.inputs.importing import Importing
    from tightverify.models.blocks import Shapes

    Shape = tuple[int, ...] | Shapes | None


def lengths(value: str) -> tuple[int, ...]:
    """Lengths of axes, such as 8,28."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(
            f"{value!r} cannot be read as a shape; write the lengths of the axes, such as 8,28, or NAME=8,28 for each of "
            "several perturbed inputs"
        )
    return tuple(int(part) for part in parts)


def shapes(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> Shape:
    """The shape of one input, or of each of several by their names."""
    named = [word.rpartition("=") for word in given]
    if len(named) > 1 and not all(name for name, _, _ in named):
        raise click.BadParameter(f"{', '.join(given)} are {len(given)} shapes; write NAME=8,28 for each perturbed input")
    found = {name.strip(): lengths(value) for name, _, value in named}
    if len(found) < len(named):
        raise click.BadParameter("two shapes of one name were given; write one for each perturbed input")
    return found.get("") if not found.keys() - {""} else found


EXAMPLES = (
    "tightverify info model.onnx",
    "tightverify info speech.onnx --shape 8000 --json",
    "tightverify info vad.onnx --shape 576 --fix state=0",
    "tightverify info model.onnx --shape x=8,28 --shape state=4",
)


def in_the_way(model: Path, shape: Shape, importing: Importing) -> str:
    """All that keeps a file from being imported, beside what was said first; nothing where that is all that can be said."""
    from tightverify.models.from_onnx.survey import survey

    try:
        found = survey(model, shape, **importing.keywords)
    except TightVerifyError:
        return ""
    words = found.words if len(found.words) > 1 or sum(count for count, _ in found.refused.values()) > 1 else []
    if found.refused:
        return ". In the way are: " + "; ".join(words) if words else ""
    options = " ".join(found.options)
    doubt = ", with a shape that it takes, for this one it does not" if found.doubtful else ""
    together = f"; or, with several inputs perturbed at once: {' '.join(found.together)}" if found.together else ""
    return f". All that is needed is said so: tightverify info {model} {options}{doubt}{together}" if options else ""


@click.command(cls=Command, examples=EXAMPLES, short_help="Say what a model is made of, and try its import.")
@MODEL
@option(
    QUESTION,
    "--shape",
    callback=shapes,
    multiple=True,
    metavar="[NAME=]T,F",
    help="Shape of one input, such as 8,28, where the file leaves it open; NAME=8,28 for each of several that are perturbed.",
)
@IMPORTING
@option(WRITTEN, "--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def info(model: Path, shape: Shape, importing: Importing, as_json: bool) -> None:
    """Say what a model is made of, once it was imported and compared with its own runtime.

    Where no inputs are found at which it has a value, that is said instead: commands that have inputs compare it there.
    """
    from rich.table import Table
    from rich.text import Text

    from tightverify.api.load import load
    from tightverify.models.description import description
    from tightverify.models.model import UncomparedError

    try:
        facts = description(load(model, shape, **importing.keywords), model)
    except UncomparedError as error:
        facts = description(error.model, model, str(error))
    except ModelError as error:
        raise type(error)(f"{error}{in_the_way(model, shape, importing)}") from error
    if as_json:
        click.echo(json.dumps(facts))
        return
    grid = Table(show_header=False)
    for name, value in facts.items():
        parts = [f"{key} {count}" for key, count in value.items()] if isinstance(value, dict) else value
        grid.add_row(name, Text(", ".join(parts) if isinstance(parts, list) else str(parts)))
    output().print(grid)
