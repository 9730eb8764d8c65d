"""What may be asked of a model's outputs in place of labels: rows of a file, or a statement by one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightverify.cli.command import FILE, option, switch
from tightverify.cli.options import QUESTION
from tightverify.errors import UsageError

if TYPE_CHECKING:
    from tightverify.statements import Statement

ROWS = option(
    QUESTION, "--rows", type=FILE, metavar="ROWS.npz", help="Ask for C y + d > 0 in place of labels: arrays C and d of a file."
)
STATEMENTS = (
    option(QUESTION, "--side", type=float, metavar="T", help="Ask that outputs stay on their side of T, in place of labels."),
    option(QUESTION, "--above", type=float, metavar="T", help="Ask that every output stays above T."),
    option(QUESTION, "--below", type=float, metavar="T", help="Ask that every output stays below T."),
    option(QUESTION, "--within", type=float, metavar="D", help="Ask that every output moves by less than D."),
)


def statement_of(**given: float | None) -> Statement | None:
    """What is asked of the outputs by a number, if anything is."""
    from tightverify.statements import STATEMENTS

    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise UsageError(f"{' and '.join(map(switch, named))} were given; ask for one of them")
    return next((STATEMENTS[name](value) for name, value in named.items()), None)
