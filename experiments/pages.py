"""Every experiment has a page, docs/experiments/NAME.md, into which its own tables go: `python -m experiments.NAME --update`.

A table stands between two marks that say which command made it, with that command beside it. Running the command with
`--update` writes it anew, and leaves the words around it alone; a command that has no tables there yet gets them at the end.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

PAGES = Path(__file__).resolve().parents[1] / "docs" / "experiments"
UPDATE = "--update"
REPORTED, WORDS = "experiments.reported", "experiments.words"
"""Where a run's context keeps what it has reported, and how it was called."""
WIDTH = 180


def report(*found: Table | str) -> None:
    """Print tables and sentences, and keep them for the page of the experiment that runs."""
    for each in found:
        Console(width=WIDTH).print(each, soft_wrap=isinstance(each, str))
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(REPORTED, []).extend(found)


class Experiment(click.Command):
    """A command with the option --update, which writes what it reports into the experiment's page.

    That is the page of the file that the command stands in, or of the experiment that it is made for (`page`).
    """

    def __init__(self, *given: Any, page: str = "", **options: Any) -> None:
        super().__init__(*given, **options)
        self.page = page
        words = "Write the tables into the experiment's page."
        self.params.append(click.Option([UPDATE, "update"], is_flag=True, help=words))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = [word for word in args if word != UPDATE]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """A run that ends with SystemExit, as wanted figures were missed, is written down as well; one that fails is not."""
        update = ctx.params.pop("update")
        try:
            result = super().invoke(ctx)
        except SystemExit:
            self._write(ctx, update)
            raise
        self._write(ctx, update)
        return result

    def _write(self, ctx: click.Context, update: bool) -> None:
        if not update:
            return
        assert self.callback is not None
        name = self.page or Path(inspect.getfile(self.callback)).stem
        group = [] if ctx.parent is None else [str(ctx.info_name)]
        path, command = PAGES / f"{name}.md", shlex.join(["python", "-m", f"experiments.{name}", *group, *ctx.meta[WORDS]])
        before = path.read_text(encoding="utf-8") if path.exists() else f"# {name}\n"
        path.write_text(updated(before, command, ctx.meta.get(REPORTED, [])), encoding="utf-8")
        click.echo(f"updated: {path}", err=True)


def updated(text: str, command: str, found: Sequence[Table | str]) -> str:
    """A page's text with what a command has found in the place of what it had found before."""
    place: int | None = None
    for number, each in enumerate(found, start=1):
        first, last = f"<!-- {number} of {command} -->\n", "<!-- end -->\n"
        block = f"{first}\n{commanded(command) if number == 1 else ''}{markdown(each)}\n{last}"
        old = re.search(f"{re.escape(first)}.*?{re.escape(last)}", text, re.DOTALL)
        if old is not None:
            start, stop = old.span()
        else:
            start = stop = len(text) if place is None else place
            block = f"\n{block}"
        text = text[:start] + block + text[stop:]
        place = start + len(block)
    return text


def commanded(command: str) -> str:
    return f"```sh\n{command}\n```\n\n"


def markdown(found: Table | str) -> str:
    """A table or a sentence as a page has it."""
    if isinstance(found, str):
        return f"{found}\n"
    columns = [[cell(column.header), *map(cell, column.cells)] for column in found.columns]
    head, *rows = ("| " + " | ".join(row) + " |" for row in zip(*columns, strict=True))
    title = f"*{cell(found.title)}*\n\n" if found.title else ""
    return title + "\n".join([head, "|" + "---|" * len(columns), *rows]) + "\n"


def cell(value: Any) -> str:
    """What a table shows, with nothing in it that would end the cell."""
    return Text.from_markup(str(value)).plain.replace("|", r"\|")
