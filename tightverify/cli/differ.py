"""`tightverify differ`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import FILE, Command, gathered, option, settings_of, threads
from tightverify.cli.options import FORCE, IMPORTING, IN_REGION, LIMIT, OUT, QUESTION, QUIET, REGION, WRITTEN, say_if_busy
from tightverify.console import output, say
from tightverify.decimals import no_less_than, no_more_than
from tightverify.errors import UsageError
from tightverify.settings import KEPT, Options, Settings

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from tightverify.api.differences import Differences
    from tightverify.inputs.importing import Importing
    from tightverify.models.model import Model
    from tightverify.models.tables import TableKind
    from tightverify.region import Perturbation

SECOND = "Second model"
MOST_PICTURES = 100
"""More second models than anyone asks for at once."""
ROWS = option(
    QUESTION,
    "--rows",
    type=FILE,
    metavar="ROWS.npz",
    help="Ask for C (y, y', y - y') + d > 0 of both models' outputs: arrays C and d of a file.",
)
ASKED = (
    option(QUESTION, "--within", type=click.FloatRange(0, min_open=True), help="Ask whether no output differs by more."),
    option(QUESTION, "--agree", is_flag=True, help="Ask whether the second model keeps the class that the first one gives."),
    ROWS,
    option(
        IN_REGION,
        "--inputs-within",
        type=click.FloatRange(0),
        help="The second model's input may be another one: each number at most so far from the first's.",
    ),
)
MADE = (
    option(
        SECOND,
        "--round",
        "how",
        multiple=True,
        metavar="HOW",
        help="Make the second of the first: float16, bfloat16, int8, int4, pruned:SHARE, or table:N or table:N:linear in "
        "place of sigmoid and tanh; may be given several times.",
    ),
    option(SECOND, "--per-channel", is_flag=True, help="A scale for each output's weights, not one for a tensor."),
    option(WRITTEN, "--save", type=FILE, help="File for the second model that --round makes."),
    option(WRITTEN, "--plot", type=FILE, metavar="FOLDER", help="Folder for pictures: each output's, and where it arises."),
)
EXAMPLES = (
    "tightverify differ model.onnx inputs.npz --round int8 --eps 0.01 --clip 0 1",
    "tightverify differ model.onnx small.onnx inputs.npz --eps 0.01 --within 0.1",
    "tightverify differ model.onnx small.onnx inputs.npz --eps 0.01 --rows rows.npz",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Bound by how much two models differ.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FIRST.onnx [SECOND.onnx] INPUTS.npz")
@IMPORTING
@LIMIT
@gathered("asked", dict, *ASKED)
@gathered("made", dict, *MADE)
@REGION
@settings_of([name for name in Options.__annotations__ if name not in (*KEPT, "thorough")], Settings(method="combine"))
@threads
@OUT
@FORCE
@QUIET
def differ(
    files: tuple[Path, ...],
    importing: Importing,
    limit: int | None,
    asked: dict[str, Any],
    made: dict[str, Any],
    region: Perturbation,
    settings: Settings,
    out: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Bound by how much the outputs of two models differ on the region around each input.

    The second model is a file of its own, or the first one rounded by --round. Prints a table: the largest difference that is
    proved of any output, and the largest that a search found, or with --within and --agree the verdicts.
    """
    wanted = 2 if made["how"] else 3
    if len(files) != wanted:
        raise UsageError(
            f"{len(files)} files were given; wanted FIRST.onnx INPUTS.npz with --round, else FIRST.onnx SECOND.onnx INPUTS.npz"
        )
    if made["save"] is not None and len(made["how"]) != 1:
        raise UsageError("--save was given without one --round, whose model it writes; give --round once, or leave --save out")
    from tightverify.api.checks import as_inputs
    from tightverify.api.differ import differ as find
    from tightverify.api.load import load
    from tightverify.inputs.npz import read_inputs, read_rows
    from tightverify.json_lines import JsonLines

    refuse_pictures(made["plot"], asked, force)
    x = as_inputs(read_inputs(files[-1])[0])[:limit]
    asked["rows"] = None if asked["rows"] is None else read_rows(asked["rows"])
    say_if_busy(quiet)
    with TemporaryDirectory() as folder:
        seconds = seconds_of(files, made, Path(folder), force)
        found: dict[str, Differences] = {}
        how, written = importing.keywords, []
        for number, (name, second) in enumerate(seconds.items()):
            one = load(files[0], inputs=x, **how)
            other = load(second, inputs=x, **how) if isinstance(second, Path) else second.made_of(one)
            found[name] = find(one, other, x, region, settings=settings, progress=not quiet, **asked)
            if made["plot"] is not None:
                written += where(one, other, x, region, made["plot"] / f"where-{number}.png")
    if out is not None:
        with JsonLines(out, force) as lines:
            for name, results in found.items():
                for record in results.records:
                    lines.write({**record, "models": [str(files[0]), name]})
    output().print(table(found))
    for name, results in found.items():
        output().print(f"{name}: {results.summary()}", soft_wrap=True, highlight=False)
    if made["plot"] is not None:
        written.insert(0, drawn(found, made["plot"]))
    if made["save"] is not None:
        written.insert(0, made["save"])
    if written and not quiet:
        say(f"written: {', '.join(map(str, written))}")


def refuse_pictures(folder: Path | None, asked: dict[str, Any], force: bool) -> None:
    """Say at once that there will be nothing to draw, or no place for it."""
    from tightverify.report.outputs import refuse_folder

    if folder is None:
        return
    if asked["agree"] or asked["rows"] is not None:
        raise UsageError("--plot was given beside --agree or --rows, which bound no differences; leave one of them out")
    refuse_folder(folder, force, ("differences.png", *(f"where-{number}.png" for number in range(MOST_PICTURES))))
    folder.mkdir(parents=True, exist_ok=True)


def drawn(found: dict[str, Differences], folder: Path) -> Path:
    """The picture of all outputs."""
    from tightverify import plots

    return plots.save(plots.differences(found), folder / "differences.png")


def where(one: Model, other: Model, x: Tensor, region: Perturbation, path: Path) -> list[Path]:
    """The picture of where a second model's differences arise, if it can be laid beside the first one."""
    from tightverify import plots
    from tightverify.models.pair import side_by_side_forms
    from tightverify.tightness import place_differences

    if side_by_side_forms(one.graph, other.graph) is None:
        return []
    return [plots.save(plots.place_differences(place_differences(one, other, x, region)), path)]


def seconds_of(files: tuple[Path, ...], made: dict[str, Any], folder: Path, force: bool) -> dict[str, Path | TableKind]:
    """The second models by their names: the file that was given, files of what --round makes, or kinds of tables."""
    if not made["how"]:
        return {str(files[1]): files[1]}
    import onnx

    from tightverify.models.rounding import rounded
    from tightverify.models.tables import PREFIX, TableKind

    found: dict[str, Path | TableKind] = {}
    for number, how in enumerate(made["how"]):
        if how.startswith(PREFIX):
            found[how] = TableKind.of(how)
            if made["save"] is not None:
                raise UsageError(f"--save was given beside --round {how}: a model with tables is not written; leave --save out")
            continue
        path = made["save"] or folder / f"{number}.onnx"
        if path.exists() and not force:
            raise UsageError(f"{path} exists already; give another name, or --force to replace it")
        onnx.save(rounded(files[0], how, made["per_channel"]), str(path))
        found[how] = path
    return found


def table(found: dict[str, Differences]) -> Table:
    """A line for each second model and input."""
    from rich.table import Table

    grid = Table("second", "input", "verdict", "proved", "found", "seconds")
    for name, results in found.items():
        for each in results:
            most, least = float(each.bound.max()), float(each.found.max())
            proved = no_less_than(most, 4) if most < float("inf") else "-"
            grid.add_row(name, str(each.index), each.verdict.name, proved, no_more_than(least, 4), f"{each.seconds:.2f}")
    return grid
