"""The command line: `certify`, `bounds`, `stretches`, `tightness`, `info`, `demo`.

Each command checks what it was given, runs, and prints; what takes long to import is imported inside. Exit codes: 0 ran
to the end, 2 bad usage or input, 3 a fault of ours, 130 interrupted.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tightverify.cli_stretches import stretches
from tightverify.cli_tightness import tightness
from tightverify.console import any_name_printable, output, progress, say, settled
from tightverify.decimals import at_least, at_most
from tightverify.disk import standard
from tightverify.errors import SoundnessFault, UsageError
from tightverify.options import (
    ARRAYS,
    AT_LEAST_ONE,
    FILE,
    LEVEL,
    MODEL,
    QUIET,
    REGION,
    SOUND,
    WORK,
    Command,
    files_read,
    options,
    read_given,
    refuse_folder,
    region_of,
    say_if_busy,
    use_threads,
)

DONE, BAD_USAGE, FAULT, INTERRUPTED, BROKEN_PIPE = 0, 2, 3, 130, 141
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What systems say when nothing more can be written, and do not say where."""


def lengths(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Lengths of axes, such as 8,28."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} cannot be read as a shape; write the lengths of the axes, such as 8,28")
    return tuple(int(part) for part in parts)


INTO_FILE = (
    click.option("--out", type=FILE, help="File for one JSON line per input, written as the run goes; - for stdout."),
    click.option("--force", is_flag=True, help="Replace files that exist."),
    QUIET,
)


def common(methods: str) -> Callable[[Command], Command]:
    """The options that `certify` and `bounds` share; their methods differ."""
    method = click.option("--method", default="linear", show_default=True, help=f"How to bound: {methods}.")
    return options(*LEVEL, *REGION, method, *WORK, *INTO_FILE)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tightverify")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an internal fault.")
def commands() -> None:
    """Decide, with proof, whether a recurrent network keeps its answer on a whole region of inputs.

    INPUTS.npz holds x (N, time, features) or (N, features), and the labels y (N,); without y the model's own answers are
    the labels. Instead of it, `certify` takes audio files and folders of them. Results go to stdout, progress and errors to
    stderr. Exit codes: 0 ran to the end, 2 bad usage or input, 3 an internal or soundness fault, 130 interrupted.
    """


@commands.command()
@options(MODEL, click.argument("inputs", type=FILE, metavar="INPUTS.npz|CLIPS...", nargs=-1, required=True))
@common("interval, linear, planes, combine, complete, lp or milp")
@options(*SOUND)
@click.option("--top", type=AT_LEAST_ONE, default=1, show_default=True, help="The label shall stay among so many best outputs.")
@click.option("--skip-wrong/--keep-wrong", default=False, help="Leave misclassified inputs out, or report them (default).")
@click.option("--time-limit", type=float, default=float("inf"), help="Seconds per input; no limit if not given.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the search's random starts.")
@click.option("--restarts", type=click.IntRange(min=0), default=4, show_default=True, help="Starts of the search; 0 for none.")
@click.option("--directions", type=int, help="How many sums of a gate's operands to bound too: even, 0 to 16; by method.")
@click.option("--solver", default="batched", show_default=True, help="What fits planes: batched, highs, gurobi, ...")
@click.option("--rounds", type=click.IntRange(1, 3), default=2, show_default=True, help="Of combine, at most.")
@click.option(
    "--splits", type=click.IntRange(min=0), default=1000, show_default=True, help="Of a region, at most, by complete."
)
@click.option("--trees", type=FILE, help="Folder in which complete keeps its search trees, and goes on from them.")
@click.option("--lp-solver", default="highs", show_default=True, help="What solves the programs of lp and milp.")
@click.option("--tighten", type=click.IntRange(min=0), default=0, show_default=True, help="Neurons that lp bounds by programs.")
@click.option("--processes", type=AT_LEAST_ONE, default=1, show_default=True, help="For --tighten.")
@click.option("--dump", type=FILE, help="Folder for the programs of lp and milp, as MPS files.")
@click.option("--evidence", type=FILE, help="Folder for all that led to each input's verdict, a file for each.")
@click.option("--thorough", is_flag=True, help="Send decided inputs on through all stages, for bounds rather than verdicts.")
@click.option("--trace", type=FILE, help="File for one JSON line per input and step; drawn in a .png beside it.")
def certify(
    model: Path,
    inputs: tuple[Path, ...],
    method: str,
    top: int,
    limit: int | None,
    skip_wrong: bool,
    time_limit: float,
    batch: int,
    batch_axis: int | None,
    device: str,
    threads: int | None,
    seed: int,
    restarts: int,
    directions: int | None,
    solver: str,
    rounds: int,
    splits: int,
    trees: Path | None,
    lp_solver: str,
    tighten: int,
    processes: int,
    dump: Path | None,
    evidence: Path | None,
    thorough: bool,
    trace: Path | None,
    out: Path | None,
    force: bool,
    quiet: bool,
    labels: Path | None,
    rate: int | None,
    resample: bool,
    channel: int | None,
    cut: tuple[float, float] | None,
    int16: bool,
    **region: Any,
) -> None:
    """Decide for every input whether the model keeps its answer on the region around it.

    Inputs are arrays in a file INPUTS.npz, or clips: audio files, or folders of them, each verified at its own length.
    """
    from tightverify.audio import Reading
    from tightverify.runs import Run, correct, refuse_evidence, refuse_file, refuse_trace
    from tightverify.settings import Settings
    from tightverify.stages import passed_by, stages_of
    from tightverify.threads import busy

    settings = Settings(
        method=method,
        time_limit=time_limit,
        device=device,
        seed=seed,
        restarts=restarts,
        directions=directions,
        solver=solver,
        rounds=rounds,
        splits=splits,
        trees=trees,
        thorough=thorough,
        lp_solver=lp_solver,
        tighten=tighten,
        processes=processes,
        dump=dump,
        evidence=evidence,
    )
    stages_of(method)
    use_threads(threads)
    stated = region_of(**region)
    files = files_read(inputs, model, labels)
    refuse_file(out, force, *files)
    refuse_trace(trace, out, force, *files)
    given = read_given(model, inputs, Reading(rate, resample, channel, cut, int16), labels, batch_axis, top)
    most = len(given) if limit is None else limit
    chosen, skipped = correct(given, top, most, batch) if skip_wrong else (given[:most], 0)
    refuse_evidence(evidence, chosen, force)
    notes = list(given.notes)
    if given.y is None:
        missing = f"{inputs[0]} has no y" if inputs[0].suffix == ARRAYS else "no labels were given"
        notes.append(f"{missing}: the model's own answers are the labels")
    notes.extend(passed_by(method, stated.boxes, stated.words))
    notes.extend(filter(None, [busy()]))
    if skipped:
        notes.append(f"{skipped} misclassified {'input was' if skipped == 1 else 'inputs were'} left out")
    Run(chosen, str(model), stated, settings, top, batch, out, force, quiet, tuple(notes), trace).show()


@commands.command()
@options(MODEL, click.argument("inputs", type=FILE, metavar="INPUTS.npz"))
@common("interval, linear, planes or combine (its first round)")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout instead of a table.")
def bounds(
    model: Path,
    inputs: Path,
    method: str,
    limit: int | None,
    batch: int,
    batch_axis: int | None,
    device: str,
    threads: int | None,
    out: Path | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **region: Any,
) -> None:
    """Print intervals that surely hold each output on the ball around each input."""
    from rich.table import Table

    from tightverify.runs import Bounding, read, refuse_file, sink

    use_threads(threads)
    stated = region_of(**region)
    refuse_file(out, force, model, inputs)
    bounding = Bounding(read(model, inputs, batch_axis)[:limit], str(model), stated, method, batch, device)
    grid = Table("input", "output", "lower", "upper")
    lines = bounding.lines()
    say_if_busy(quiet)
    on_stdout = out is not None and standard(out) is sys.stdout
    try:
        with sink(out, force) as write, progress(f"bounding {model.name}", len(bounding.inputs), quiet) as advance:
            for line in lines:
                for k, (lower, upper) in enumerate(zip(line["lower"], line["upper"], strict=True)):
                    grid.add_row(str(line["index"]), str(k), number(lower), number(upper, up=True))
                if as_json and not on_stdout:
                    click.echo(json.dumps(line))
                write(line)
                advance()
    finally:
        if grid.row_count and not as_json:
            output(on_stdout).print(grid)


@commands.command()
@click.argument("model", type=FILE, metavar="MODEL.onnx")
@click.option(
    "--shape", callback=lengths, metavar="T,F", help="Shape of one input, such as 8,28, where the file leaves it open."
)
@click.option("--batch-axis", type=click.IntRange(min=0), help="Axis of the model's input along which a batch goes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def info(model: Path, shape: tuple[int, ...] | None, batch_axis: int | None, as_json: bool) -> None:
    """Say what a model is made of, once it was imported and compared with its own runtime."""
    from rich.table import Table
    from rich.text import Text

    from tightverify.api import load
    from tightverify.report import description

    facts = description(load(model, shape, batch_axis), model)
    if as_json:
        click.echo(json.dumps(facts))
        return
    grid = Table(show_header=False)
    for name, value in facts.items():
        parts = [f"{key} {count}" for key, count in value.items()] if isinstance(value, dict) else value
        grid.add_row(name, Text(", ".join(parts) if isinstance(parts, list) else str(parts)))
    output().print(grid)


@commands.command()
@click.option("--out", type=FILE, default=Path("demo-out"), show_default=True, help="Folder for the results.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def demo(out: Path, quiet: bool) -> None:
    """Certify handwritten digits with a small LSTM and a small GRU that read them row by row.

    Prints a table for each network, and writes to the folder, in place of what an earlier demonstration wrote there: a file
    of JSON lines for each network, sweep.jsonl, and the picture certified.png.
    """
    from tightverify.demo.show import show

    refuse_folder(out, True, ())
    show(out, quiet)


commands.add_command(stretches)
commands.add_command(tightness)


def number(value: float | None, up: bool = False) -> str:
    """A bound in six digits after the point, on its safe side."""
    return "-" if value is None else (at_most if up else at_least)(value, 6)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """What asks a process to end (a scheduler, a closed terminal) ends it as Ctrl-C does: with a summary of what is done."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; every failure is a sentence on stderr and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    any_name_printable(sys.stdout, sys.stderr)
    with ended_in_order():
        code = ended(given)
    lost = settled(sys.stdout)
    if isinstance(lost, BrokenPipeError):
        code = BROKEN_PIPE
    elif lost is not None:
        say(f"error: stdout cannot be used ({lost.strerror}); make room, or give another")
        code = BAD_USAGE
    settled(sys.stderr)
    return code


def ended(given: Sequence[str]) -> int:
    """The exit code of a command that was run."""
    try:
        code = commands.main(args=list(given), prog_name="tightverify", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return BAD_USAGE
    except click.ClickException as error:
        say(f"error: {error.format_message()} (tightverify --help, or a command's --help, lists what there is)")
        return BAD_USAGE
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Whoever read stdout has gone; click turns that into SystemExit, nothing else does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except UsageError as error:
        say(f"error: {error}")
        return BAD_USAGE
    except Exception as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
            # Whatever writes to files says which; only what is printed does not.
            say(f"error: {error.filename or 'stdout'} cannot be used ({error.strerror}); make room, or give another")
            return BAD_USAGE
        if "--debug" in given:
            traceback.print_exc()
        kind = "soundness fault" if isinstance(error, SoundnessFault) else "internal fault"
        say(f"{kind}: {type(error).__name__}: {error} (tightverify --debug shows where; please report it)")
        return FAULT
