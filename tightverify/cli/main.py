"""The command line: `certify`, `bounds`, `radius`, `segments`, `tightness`, `summary`, `compare`, `plot`, `info`, `vnnlib`,
`verify`, `train`, `supports`, `demo`.

Each command checks what it was given, runs, and prints; what takes long to import is imported inside. Exit codes: 0 ran
to the end, 1 a comparison found something worse, 2 bad usage or input, 3 a fault of ours, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from tightverify import plugins
from tightverify.cli.command import write_examples
from tightverify.console import any_name_printable, say, settled
from tightverify.errors import SoundnessFault, UsageError

DONE, BAD_USAGE, FAULT, INTERRUPTED, BROKEN_PIPE = 0, 2, 3, 130, 141
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What systems say when nothing more can be written, and do not say where."""


OWN = (
    "certify", "bounds", "radius", "differ", "segments", "tightness", "summary", "compare", "plot", "info", "vnnlib", "verify",
    "train", "supports", "demo",
)  # fmt: skip
"""Each is a file of this folder that defines a command of its name."""
COMMANDS = {name: f"tightverify.cli.{name}" for name in OWN}
"""By name, the module that defines a command of the name, imported when it is asked for."""
FORMER = {"stretches": "segments"}
"""Names that commands had before, for one release."""


EXAMPLES = (
    "tightverify demo",
    "tightverify info model.onnx",
    "tightverify certify model.onnx inputs.npz --eps 0.01 --clip 0 1",
    "tightverify COMMAND --help",
)


class Commands(click.Group):
    """The commands of the list."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        write_examples(EXAMPLES, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = FORMER.get(cmd_name, cmd_name)
        if name != cmd_name:
            say(f"the command {cmd_name} is called {name} now; its former name will be gone in the next release")
        if name not in COMMANDS:
            return super().get_command(ctx, name)
        command: click.Command = getattr(import_module(COMMANDS[name]), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tightverify")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an internal fault.")
def commands() -> None:
    """Decide, with proof, whether a recurrent network keeps its answer on a whole region of inputs.

    INPUTS.npz holds x (N, time, features) or (N, features), and the labels y (N,); without y the model's own answers are
    the labels. Instead of it, `certify` takes audio files and folders of them. Results go to stdout, progress and errors to
    stderr. Exit codes: 0 ran to the end, 1 a comparison found something worse, 2 bad usage or input, 3 an internal or soundness
    fault, 130 interrupted.
    """


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
        plugins.load()
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
