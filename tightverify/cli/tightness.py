"""The command `tightness`: how tight relaxations are, of a function over boxes or of a model around inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import FILE, Command, gathered, option, settings_of, threads
from tightverify.cli.options import EPS, HOW, LIMIT, LIMITS, QUESTION, ball_of, importing_of, into_folder, say_if_busy
from tightverify.console import output, progress, say
from tightverify.errors import UsageError
from tightverify.settings import OF_BOUNDS

if TYPE_CHECKING:
    from tightverify.inputs.importing import Importing
    from tightverify.report.outputs import Folder
    from tightverify.settings import Settings


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


class Boxing(Command):
    """A command whose option --box takes all numbers that follow it, be they two or four."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        joined: list[str] = []
        for word in args:
            if joined[-2:-1] == ["--box"] and as_number(word) is not None and as_number(joined[-1].split()[0]) is not None:
                joined[-1] += f" {word}"
            else:
                joined.append(word)
        return super().parse_args(ctx, joined)


@dataclass(frozen=True)
class OfFunction:
    """Which relaxations of which function to compare, over which boxes."""

    function: str | None
    ends: list[list[float]]
    kinds: tuple[str, ...] | None
    solver: str | None

    def compared(self, folder: Folder) -> list[Path]:
        """Compare, print the tables, and write the files; which, is returned."""
        from tightverify.disk import alone_in
        from tightverify.tightness import FUNCTION_FILES, of_function
        from tightverify.tightness.tables import function_tables

        assert self.function is not None
        if not self.ends:
            raise UsageError(f"{self.function} was given without a box; add --box LX UX LY UY, or --box LX UX for one operand")
        if len({len(box) for box in self.ends}) > 1:
            raise UsageError("boxes of two and of four numbers were given; a function has one or two operands, not both")
        folder.refuse(FUNCTION_FILES)
        with alone_in(results=folder.out):
            found = of_function(self.function, self.ends, self.kinds, solver=self.solver or "highs")
            for table in function_tables(found):
                output().print(table)
            return found.save(folder.out, folder.format)


@dataclass(frozen=True)
class OfModel:
    """Which relaxations of a model to compare, around which inputs, on which balls."""

    model: Path | None
    inputs: Path | None
    relaxations: tuple[str, ...] | None
    limit: int | None
    importing: Importing
    eps: float | None
    ball: dict[str, Any]

    @classmethod
    def of(cls, model: Path | None, inputs: Path | None, eps: float | None, **others: Any) -> OfModel:
        """What the options say."""
        mine = {name: others.pop(name) for name in ("relaxations", "limit")}
        importing = importing_of(
            **{name: others.pop(name) for name in ("batch_axis", "fix", "output", "frame", "unroll", "state")}
        )
        return cls(model, inputs, importing=importing, eps=eps, ball=others, **mine)

    def compared(self, folder: Folder, settings: Settings) -> list[Path]:
        """Compare, print the tables, and write the files; which, is returned."""
        from tightverify.disk import alone_in
        from tightverify.inputs.arrays import read_arrays
        from tightverify.tightness import MODEL_FILES, chosen_relaxations, of_model
        from tightverify.tightness.tables import margins_table, summary_table, widths_tables

        if self.model is None or self.inputs is None or self.eps is None:
            missing = "INPUTS.npz" if self.inputs is None else "--eps"
            raise UsageError(f"a model was given without {missing}; wanted MODEL.onnx INPUTS.npz --eps E")
        ball = ball_of(self.eps, **self.ball)
        folder.refuse(MODEL_FILES)
        chosen_relaxations(self.relaxations)
        given = read_arrays(self.model, self.inputs, self.importing)[: self.limit]
        given.check(ball, 1)
        say_if_busy(folder.quiet)
        with alone_in(results=folder.out):
            with progress(f"sweeping {self.model.name}", len(given), folder.quiet) as advance:
                how: dict[str, Any] = {"relaxations": self.relaxations, "progress": lambda _done, _total: advance()}
                found = of_model(given.model, given.x, ball, given.y, settings=settings, **how)
            for table in (*widths_tables(found), margins_table(found), summary_table(found)):
                output().print(table)
            return found.save(folder.out, folder.format)


FUNCTION = (
    option(QUESTION, "--function", help="Compare relaxations of this function, such as sigmoid_tanh, instead of a model's."),
    option(
        QUESTION,
        "--box",
        "ends",
        multiple=True,
        callback=boxes,
        metavar="LX UX [LY UY]",
        help="Box of the function's operands; may be given again.",
    ),
    option(
        QUESTION, "--kinds", callback=names, metavar="LIST", help="Planes to compare, such as closed,mccormick,r2,tightest."
    ),
    option(QUESTION, "--solver", help="What fits planes; highs for a function and batched for a model if not given."),
)
NETWORK = (
    click.argument("model", type=FILE, metavar="[MODEL.onnx", required=False),
    click.argument("inputs", type=FILE, metavar="INPUTS.npz]", required=False),
    option(
        QUESTION,
        "--methods",
        "--relaxations",
        "relaxations",
        callback=names,
        metavar="LIST",
        help="What to compare on the model: any methods of certify, planes_boxes; all; the cheap ones if not given.",
    ),
    LIMIT,
    *HOW,
    EPS,
    *LIMITS,
)


EXAMPLES = (
    "tightverify tightness model.onnx inputs.npz --eps 0.01 --limit 3",
    "tightverify tightness --function sigmoid_tanh --box -2 1 -1 3",
)


@click.command(cls=Boxing, examples=EXAMPLES, short_help="Compare relaxations of a function or of a model.")
@gathered("of_model", OfModel.of, *NETWORK)
@gathered("of_function", OfFunction, *FUNCTION)
@settings_of([name for name in OF_BOUNDS if name != "solver"])
@threads
@into_folder("tightness-out", "data and pictures")
def tightness(of_model: OfModel, of_function: OfFunction, settings: Settings, folder: Folder) -> None:
    """Compare relaxations: of a function over boxes, or of a model on the balls around inputs.

    Prints tables, and writes data as CSV and pictures to a folder.
    """
    if of_function.function is not None:
        no_model = {"MODEL.onnx": of_model.model, "--eps": of_model.eps, "--methods": of_model.relaxations}
        refuse_given(no_model, "--function")
        written = of_function.compared(folder)
    elif of_model.model is not None:
        refuse_given({"--box": of_function.ends or None, "--kinds": of_function.kinds}, "MODEL.onnx")
        settings = replace(settings, solver=of_function.solver or settings.solver)
        written = of_model.compared(folder, settings)
    else:
        raise UsageError(
            "neither a model nor a function was given; wanted MODEL.onnx INPUTS.npz --eps E, or --function F --box ..."
        )
    if not folder.quiet:
        say(f"written: {', '.join(str(path) for path in written)}")


def refuse_given(values: dict[str, Any], beside: str) -> None:
    """Say what makes no sense beside something else."""
    for name, value in values.items():
        if value is not None:
            raise UsageError(f"{name} was given beside {beside}; give a model with inputs, or a function with boxes, not both")
