"""Where words go: stdout is data, stderr is for people (progress, advice, errors)."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from shutil import which
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

PROGRAM = "tightverify"
PIPE_WIDTH = 140
"""The width of tables where stdout is no terminal."""
SECONDS_BETWEEN_LINES = 30.0


def output(beside: bool = False) -> Console:
    """stdout, or stderr where stdout is for something else; wide enough for whole lines where it is a file or a pipe."""
    console = Console(highlight=False, stderr=beside)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH, stderr=beside)


def say(sentence: str) -> None:
    """A sentence for people, as it is: no markup, no wrapping. A full disk behind stderr is no reason to end a run."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass


def called() -> str:
    """How this program is run from here: by its name where the shell finds it, else by its file."""
    if which(PROGRAM):
        return PROGRAM
    file = Path(sys.executable).with_name(PROGRAM)
    if not file.exists():
        return f"{shlex.quote(sys.executable)} -m {PROGRAM}"
    here = Path.cwd()
    return shlex.quote(str(file.relative_to(here) if file.is_relative_to(here) else file))


def settled(stream: TextIO) -> OSError | None:
    """What keeps a stream's last words from being written, if anything; they would fail again at the end, and are dropped."""
    try:
        stream.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def any_name_printable(*streams: TextIO) -> None:
    """Names of files are whatever their system takes; what an encoding has no word for is printed as its number."""
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@dataclass(frozen=True)
class Bar:
    """How far a run is: called for every input that is done; `note` says in a few words what goes on meanwhile."""

    advance: Callable[[], None]
    note: Callable[[str], None]

    def __call__(self) -> None:
        self.advance()


class NotedProgress(Progress):
    """A bar, and what goes on meanwhile in a line of its own."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["note"], style="dim") for task in self.tasks if task.fields["note"])


@contextmanager
def progress(what: str, total: int, quiet: bool, done: int = 0) -> Iterator[Bar]:
    """A bar on stderr, advanced by one with every call; where stderr is no terminal, a line every now and then.

    So many are `done` already.
    """
    console = Console(stderr=True)
    if quiet:
        yield Bar(lambda: None, lambda _words: None)
        return
    if not console.is_terminal:
        with _lines(what, total, done) as bar:
            yield bar
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with NotedProgress(*columns, console=console, redirect_stdout=False) as drawn:
        task = drawn.add_task(what, total=total, completed=done, note="")
        yield Bar(lambda: drawn.advance(task), lambda words: drawn.update(task, note=words))
        drawn.update(task, note="")


def span(seconds: float) -> str:
    """A time in two units at most, as people say it."""
    minutes, hours = round(seconds / 60), round(seconds / 3600, 1)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"


@contextmanager
def _lines(what: str, total: int, done: int) -> Iterator[Bar]:
    first, began = done, time.monotonic()
    last = began

    def note(words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES and done < total:
            last = time.monotonic()
            left = (last - began) / (done - first) * (total - done) if done > first else 0.0
            say(f"{what}: {done} of {total}{(left and f', about {span(left)} left') or ''}{words and '; '}{words}")

    def advance() -> None:
        nonlocal done
        done += 1
        note("")

    try:
        yield Bar(advance, note)
    finally:
        say(f"{what}: {done} of {total}")
