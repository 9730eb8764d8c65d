"""What the site is made with beside its pages: the command line reference from the commands' own options, and the settings'."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

import click

from tightverify.cli.command import Command, listed
from tightverify.cli.main import EXAMPLES, commands
from tightverify.option import Group, option_of
from tightverify.settings import Settings

COMMANDS, SETTINGS = "<!-- commands -->", "<!-- settings -->"


def on_page_markdown(markdown: str, **_others: object) -> str:
    """Called by mkdocs for each page."""
    for mark, made in ((COMMANDS, reference), (SETTINGS, settings)):
        if mark in markdown:
            markdown = markdown.replace(mark, "\n".join(made()))
    return markdown


def reference() -> Iterator[str]:
    """A section for the program, and one for each command."""
    with click.Context(commands, info_name="tightverify") as context:
        yield from section(commands, context)
        for name in commands.list_commands(context):
            command = commands.get_command(context, name)
            assert command is not None
            with click.Context(command, info_name=name, parent=context) as inner:
                yield from section(command, inner)


def section(command: click.Command, context: click.Context) -> Iterator[str]:
    """Usage, what the command does, examples, and a table of its options for each heading."""
    yield f"## {context.command_path}\n"
    yield f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n"
    yield f"{command.help or ''}\n"
    examples = command.examples if isinstance(command, Command) else EXAMPLES if command is commands else ()
    if examples:
        yield "\n".join(("```sh", *examples, "```\n"))
    for heading, rows in listed(command, context).items():
        yield f"**{heading}**\n"
        yield "| option | |\n|---|---|"
        yield from (f"| <code>{cell(names)}</code> | {cell(text)} |" for names, text in rows)
        yield ""


def settings() -> Iterator[str]:
    """Tables of all settings, one for each heading: their names, defaults, and what they are for."""
    for group in Group:
        rows = [each for each in fields(Settings) if option_of(each).group is group]
        if rows:
            yield f"**{group.value}**\n"
            yield "| setting | default | |\n|---|---|---|"
            yield from map(setting, rows)
            yield ""


def setting(field: Field[Any]) -> str:
    """The row of a setting."""
    said = option_of(field)
    numbers = "" if said.range is None else f" (a number {said.range.words})"
    text = f"{said.help.removesuffix('.')}{numbers}."
    return f"| `{field.name}` | `{field.default!r}` | {cell(text)} |"


def cell(text: str) -> str:
    """Text that a table can have in a cell: on one line, nothing of it taken for markup or for the cell's end."""
    return html.escape(" ".join(text.split())).replace("|", "&#124;").replace("*", "&#42;")
