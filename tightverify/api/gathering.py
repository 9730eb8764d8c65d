"""Results gathered as they come: nothing that is done is lost when a call ends before its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tightverify.api.results import Question, Results
from tightverify.console import progress as bar
from tightverify.verify import Result

Progress = bool | Callable[[int, int], None] | None
"""True for a bar on stderr, or what is called with how many inputs are done, and of how many."""


class Interrupted(KeyboardInterrupt):
    """A call was interrupted (Ctrl-C); `results` has those that were done."""

    def __init__(self, results: Results, total: int) -> None:
        super().__init__(done(results, total))
        self.results = results


def gathered(
    decide: Callable[[Callable[[Result], None]], None], questions: Sequence[Question], progress: Progress, what: str
) -> Results:
    """All results, in the order of the inputs.

    Whatever ends `decide` early, the error's `results` are those that it had delivered: an interruption is an `Interrupted`.
    """
    found: list[Result] = []

    def so_far() -> Results:
        ordered = sorted(found, key=lambda result: result.index)
        return Results(ordered, [questions[result.index] for result in ordered])

    def deliver(result: Result) -> None:
        found.append(result)
        tell(len(found), len(questions))

    try:
        with teller(progress, what, len(questions)) as tell:
            decide(deliver)
    except KeyboardInterrupt as error:
        raise Interrupted(so_far(), len(questions)) from error
    except Exception as error:
        error.__dict__["results"] = so_far()
        if found:
            error.add_note(done(so_far(), len(questions)))
        raise
    return so_far()


def done(results: Results, total: int) -> str:
    return f"{len(results)} of {total} inputs are done: they are the error's `results`"


@contextmanager
def teller(progress: Progress, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """What is to be called whenever an input is done."""
    if callable(progress):
        yield progress
        return
    with bar(f"certifying {what}", total, quiet=not progress) as advance:
        yield lambda _done, _total: advance()
