"""Where words go: stdout is data, stderr is for people (progress, advice, errors)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PIPE_WIDTH = 140
"""The width of tables where stdout is no terminal."""
SECONDS_BETWEEN_LINES = 10.0


def output() -> Console:
    """stdout; wide enough for whole lines where it is a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def say(sentence: str) -> None:
    """A sentence for people, as it is: no markup, no wrapping."""
    print(sentence, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str, total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr, advanced by one with every call; where stderr is no terminal, a line every now and then."""
    console = Console(stderr=True)
    if quiet:
        yield lambda: None
        return
    if not console.is_terminal:
        with _lines(what, total) as advance:
            yield advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def _lines(what: str, total: int) -> Iterator[Callable[[], None]]:
    done, last = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES and done < total:
            say(f"{what}: {done} of {total}")
            last = time.monotonic()

    try:
        yield advance
    finally:
        say(f"{what}: {done} of {total}")
