"""The command `tightness`: how tight relaxations are, of a function over boxes or of a model around inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.options import (
    EPS_HELP,
    FILE,
    FORMAT,
    FORMATS,
    QUIET,
    REGION,
    WORK,
    ball_of,
    options,
    say_if_busy,
    use_threads,
)
from tightverify.console import output, progress, say
from tightverify.errors import UsageError

if TYPE_CHECKING:
    from tightverify.region import LpBall


def names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names, such as closed,tightest."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def boxes(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[list[float]]:
    """Boxes, each a line of numbers."""
    found = []
    for value in values:
        ends = [as_number(part) for part in value.replace(",", " ").split()]
        if len(ends) not in (2, 4) or None in ends:
            raise click.BadParameter(
                f"{value!r} cannot be read as a box; write LX UX LY UY, or LX UX for a function of one operand"
            )
        found.append([end for end in ends if end is not None])
    return found


def as_number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


class Boxing(click.Command):
    """A command whose option --box takes all numbers that follow it, be they two or four."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        joined: list[str] = []
        for word in args:
            if joined[-2:-1] == ["--box"] and as_number(word) is not None and as_number(joined[-1].split()[0]) is not None:
                joined[-1] += f" {word}"
            else:
                joined.append(word)
        return super().parse_args(ctx, joined)


@click.command(cls=Boxing)
@click.argument("model", type=FILE, metavar="[MODEL.onnx", required=False)
@click.argument("inputs", type=FILE, metavar="INPUTS.npz]", required=False)
@click.option("--function", help="Compare relaxations of this function, such as sigmoid_tanh, instead of a model's.")
@click.option(
    "--box",
    "ends",
    multiple=True,
    callback=boxes,
    metavar="LX UX [LY UY]",
    help="Box of the function's operands; may be given again.",
)
@click.option("--kinds", callback=names, metavar="LIST", help="Planes to compare, such as closed,mccormick,r2,tightest.")
@click.option("--solver", help="What fits a function's planes: highs (default), batched, ...")
@click.option("--relaxations", callback=names, metavar="LIST", help="Relaxations of the model to compare; all if not given.")
@click.option("--eps", type=float, help=EPS_HELP)
@options(*REGION, *WORK)
@click.option("--out", type=FILE, default=Path("tightness-out"), show_default=True, help="Folder for data and pictures.")
@click.option("--force", is_flag=True, help="Replace what an earlier run left in the folder of --out.")
@FORMAT
@QUIET
def tightness(
    model: Path | None,
    inputs: Path | None,
    function: str | None,
    ends: list[list[float]],
    kinds: tuple[str, ...] | None,
    solver: str | None,
    relaxations: tuple[str, ...] | None,
    eps: float | None,
    limit: int | None,
    batch: int,
    batch_axis: int | None,
    device: str,
    threads: int | None,
    out: Path,
    force: bool,
    kind_of_file: str | None,
    quiet: bool,
    **region: Any,
) -> None:
    """Compare relaxations: of a function over boxes, or of a model on the balls around inputs.

    Prints tables, and writes data as CSV and pictures to a folder.
    """
    use_threads(threads)
    if function is not None:
        no_model = {"MODEL.onnx": model, "--eps": eps, "--relaxations": relaxations}
        refuse_given(no_model, "--function")
        written = function_tightness(function, ends, kinds, solver, out, force, kind_of_file or FORMATS[0])
    elif model is not None:
        refuse_given({"--box": ends or None, "--kinds": kinds, "--solver": solver}, "MODEL.onnx")
        if inputs is None or eps is None:
            missing = "INPUTS.npz" if inputs is None else "--eps"
            raise UsageError(f"a model was given without {missing}; wanted MODEL.onnx INPUTS.npz --eps E")
        ball = ball_of(eps, **region)
        kind = kind_of_file or FORMATS[0]
        written = model_tightness(model, inputs, ball, relaxations, limit, batch, batch_axis, device, out, force, kind, quiet)
    else:
        raise UsageError(
            "neither a model nor a function was given; wanted MODEL.onnx INPUTS.npz --eps E, or --function F --box ..."
        )
    if not quiet:
        say(f"written: {', '.join(str(path) for path in written)}")


def refuse_given(values: dict[str, Any], beside: str) -> None:
    """Say what makes no sense beside something else."""
    for name, value in values.items():
        if value is not None:
            raise UsageError(f"{name} was given beside {beside}; give a model with inputs, or a function with boxes, not both")


def function_tightness(
    function: str, ends: list[list[float]], kinds: tuple[str, ...] | None, solver: str | None, out: Path, force: bool, kind: str
) -> list[Path]:
    """Compare the relaxations of a function, print the tables, and write the files; which, is returned."""
    from tightverify.disk import alone_in
    from tightverify.report.outputs import refuse_folder
    from tightverify.tightness import FUNCTION_FILES, of_function
    from tightverify.tightness.tables import function_tables

    if not ends:
        raise UsageError(f"{function} was given without a box; add --box LX UX LY UY, or --box LX UX for one operand")
    if len({len(box) for box in ends}) > 1:
        raise UsageError("boxes of two and of four numbers were given; a function has one or two operands, not both")
    refuse_folder(out, force, FUNCTION_FILES)
    with alone_in(results=out):
        found = of_function(function, ends, kinds, solver=solver or "highs")
        for table in function_tables(found):
            output().print(table)
        return found.save(out, kind)


def model_tightness(
    model: Path,
    inputs: Path,
    ball: LpBall,
    relaxations: tuple[str, ...] | None,
    limit: int | None,
    batch: int,
    batch_axis: int | None,
    device: str,
    out: Path,
    force: bool,
    kind: str,
    quiet: bool,
) -> list[Path]:
    """Compare the relaxations of a model, print the tables, and write the files; which, is returned."""
    from tightverify.disk import alone_in
    from tightverify.inputs.dataset import read
    from tightverify.report.outputs import refuse_folder
    from tightverify.tightness import MODEL_FILES, chosen_relaxations, of_model
    from tightverify.tightness.tables import margins_table, summary_table, widths_tables

    refuse_folder(out, force, MODEL_FILES)
    chosen_relaxations(relaxations)
    given = read(model, inputs, batch_axis)[:limit]
    ball.around(given.x)
    say_if_busy(quiet)
    with alone_in(results=out):
        with progress(f"sweeping {model.name}", len(given), quiet) as advance:
            found = of_model(
                given.model,
                given.x,
                ball,
                given.y,
                relaxations=relaxations,
                batch=batch,
                device=device,
                progress=lambda _done, _total: advance(),
            )
        for table in (*widths_tables(found), margins_table(found), summary_table(found)):
            output().print(table)
        return found.save(out, kind)
