"""What commands are made of: options under headings, several that come to one value, and those made of `Settings`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from dataclasses import Field, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

from tightverify.console import say
from tightverify.former import OPTIONS as FORMER
from tightverify.option import Group, Range, option_of
from tightverify.option import Option as Setting
from tightverify.settings import Options, Settings

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]

FILE = click.Path(path_type=Path)
AT_LEAST_ONE = click.IntRange(min=1)
OTHERS = "Options"
"""The heading of what has none: it comes last."""
HUGE = 2**31
"""A largest number that nobody has to be told of."""
METAVARS: tuple[tuple[type[Any], str], ...] = (
    (click.types.IntParamType, "N"),
    (click.types.FloatParamType, "NUMBER"),
    (click.types.StringParamType, "NAME"),
)
"""What stands for an option's value in its help, by the type of the value."""


def switch(name: str) -> str:
    """How the command line writes a name."""
    return f"--{name.replace('_', '-')}"


class Option(click.Option):
    """An option that is listed under a heading; its help says in words which numbers it takes."""

    def __init__(self, *given: Any, heading: str = OTHERS, **how: Any) -> None:
        super().__init__(*given, **how)
        self.heading = heading
        if self.metavar is None and not self.is_flag:
            self.metavar = next((word for kind, word in METAVARS if isinstance(self.type, kind)), None)

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        kind = self.type
        if isinstance(kind, click.IntRange) and (kind.max is None or kind.max >= HUGE):
            extra.pop("range", None)  # that a count is not negative needs no words
        elif isinstance(kind, (click.IntRange, click.FloatRange)):
            least, most = -math.inf if kind.min is None else kind.min, math.inf if kind.max is None else kind.max
            extra["range"] = Range(least, most, above=kind.min_open).words
        return extra


class Command(click.Command):
    """A command that shows examples, lists its options under headings, and takes former names of options for a release."""

    def __init__(self, *given: Any, examples: tuple[str, ...] = (), **how: Any) -> None:
        super().__init__(*given, **how)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [self.present(word) for word in args])

    def present(self, word: str) -> str:
        """A word, with an option's name of today."""
        name, given, value = word.partition("=")
        for former, now in FORMER.items():
            if name == switch(former) and any(switch(now) in parameter.opts for parameter in self.params):
                say(f"the option {name} is called {switch(now)} now; its former name will be gone in the next release")
                return switch(now) + given + value
        return word

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        write_examples(self.examples, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, records in listed(self, ctx).items():
            with formatter.section(heading):
                formatter.write_dl(records)


def write_examples(examples: Collection[str], formatter: click.HelpFormatter) -> None:
    """Commands as they are typed, one a line."""
    if examples:
        with formatter.section("Examples"):
            for each in examples:
                formatter.write(f"{'':{formatter.current_indent}}{each}\n")


def listed(command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """What is said of a command's options, under headings: those of `Group` in their order, then others of commands' own."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
            found.setdefault(parameter.heading if isinstance(parameter, Option) else OTHERS, []).append(record)
    first = [group.value for group in Group]
    order = [*first, *(heading for heading in found if heading not in (*first, OTHERS)), OTHERS]
    return {heading: found[heading] for heading in order if heading in found}


def option(heading: str, *names: str, **how: Any) -> Callable[[Function], Function]:
    """An option of a command, under a heading."""
    return click.option(*names, cls=Option, heading=heading, **how)


def options(*several: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Several arguments and options at once, in their order."""

    def decorate(command: Function) -> Function:
        for each in reversed(several):
            command = each(command)
        return command

    return decorate


def gathered(name: str, make: Callable[..., Any], *several: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Any]:
    """Several arguments and options that come to one value: `make` makes it of them, the command has it by the name."""
    taken = [parameter.name for parameter in click.command("any")(options(*several)(lambda **_: None)).params]

    def decorate(command: Callable[..., Any]) -> Any:
        @wraps(command)
        def run(**given: Any) -> Any:
            own = {str(key): given.pop(str(key)) for key in taken}
            return command(**given, **{name: make(**own)})

        return options(*several)(run)

    return decorate


def settings_of(
    names: Collection[str] = tuple(Options.__annotations__), default: Settings | None = None, **helps: str
) -> Callable[[Callable[..., Any]], Any]:
    """The options for the settings of some names, as `settings`; `helps` say something else than the settings' own help."""
    base, hints = default or Settings(), get_type_hints(Settings)
    several = [
        setting(each, hints[each.name], getattr(base, each.name), helps.get(each.name, option_of(each).help))
        for each in fields(base)
        if each.name in names and not option_of(each).python_only
    ]
    return gathered("settings", lambda **given: replace(base, **given), *several)


def setting(field: Field[Any], hint: Any, default: Any, help: str) -> Callable[[Function], Function]:
    """The option of a setting."""
    said = option_of(field)
    how: dict[str, Any] = {"default": default, "help": help}
    if isinstance(default, bool):
        return option(said.group.value, switch(field.name), is_flag=True, **how)
    shown = default is not None and default != float("inf")
    return option(said.group.value, switch(field.name), type=type_of(option_of(field), hint), show_default=shown, **how)


def type_of(said: Setting, hint: Any) -> click.ParamType[Any] | type:
    """How what is given for a setting is read; what else is to be checked, the settings check."""
    if said.offered:
        return click.Choice(said.offered)
    if hint is int and said.range is not None:
        most = None if said.range.most == float("inf") else int(said.range.most)
        return click.IntRange(int(said.range.least), most)
    if hint is float and said.range is not None:
        return click.FloatRange(said.range.least, min_open=said.range.above)
    for kind, read in ((Path, FILE), (int, int), (float, float)):
        if hint in (kind, kind | None):
            return read
    return str


def threads(command: Callable[..., Any]) -> Any:
    """An option for how many threads compute."""

    @wraps(command)
    def run(threads: int | None, **given: Any) -> Any:
        if threads is not None:
            import torch

            os.environ["OMP_NUM_THREADS"] = str(threads)  # it is the user's choice, also where it is that of torch
            torch.set_num_threads(threads)
        return command(**given)

    help_ = "Threads to compute with; as many as pay if not given."
    return option(Group.COMPUTING.value, "--threads", type=AT_LEAST_ONE, default=None, help=help_)(run)
