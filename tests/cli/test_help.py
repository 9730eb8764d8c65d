"""Help: headings in one order, examples that parse, lines of 80 columns; the reference says the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from docs import hooks
from tightverify.cli.command import Command, listed
from tightverify.cli.main import COMMANDS, EXAMPLES, OWN, commands, main
from tightverify.option import Group

HEADING = re.compile(r"^(\S.*):$", re.MULTILINE)
COLUMNS = 80


def command_of(name: str) -> Command:
    with click.Context(commands) as context:
        found = commands.get_command(context, name)
    assert isinstance(found, Command)
    return found


def several(examples: tuple[str, ...]) -> Iterator[list[str]]:
    """The words of each command among lines of examples."""
    for line in "\n".join(examples).replace("\\\n", " ").splitlines():
        yield shlex.split(line)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def test_certify_lists_its_options_under_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "--help"]) == 0
    text = capsys.readouterr().out
    first = ["Examples", "What to verify", "Region", "Method", "Limits", "Output", "Audio files", "Computing"]
    headings = HEADING.findall(text)
    assert headings == [*first, *(group.value for group in Group if group.value not in first), "Options"]
    assert "--out PATH" in text.partition("Output:")[2].partition("Audio files:")[0]
    assert "INTEGER" not in text
    assert "..." not in text.partition("Commands:")[2]
    assert "from 1 to 3" in text


@pytest.mark.parametrize("name", OWN)
def test_help_can_be_read_at_80_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= COLUMNS for line in text.splitlines())
    assert "Examples:\n  tightverify " in text


def test_no_command_is_cut_short_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert set(OWN) == set(COMMANDS)
    assert "..." not in text.partition("Commands:")[2]
    assert all(f"  {example}\n" in text for example in EXAMPLES)


@pytest.mark.parametrize("name", OWN)
def test_examples_parse(name: str) -> None:
    command = command_of(name)
    assert command.examples
    for words in several(command.examples):
        assert words[:2] == ["tightverify", name]
        command.make_context(name, words[2:])


def test_the_reference_has_the_same_headings_and_examples() -> None:
    sections = "\n".join(hooks.reference()).split("\n## ")
    assert [section.split()[1] for section in sections[1:]] == list(OWN)
    for name, section in zip(OWN, sections[1:], strict=True):
        command = command_of(name)
        with click.Context(command, info_name=name) as context:
            assert re.findall(r"^\*\*(.*)\*\*$", section, re.MULTILINE) == list(listed(command, context))
        assert all(example in section for example in command.examples)


def test_settings_stand_under_headings_too() -> None:
    text = "\n".join(hooks.settings())
    assert text.index("**Method**") < text.index("`time_limit`") < text.index("**Evidence**") < text.index("`evidence`")
