"""Pages of experiments: the tables in them are written by the scripts, the words around them are not."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.table import Table

from experiments import pages
from experiments.figures import table_of
from experiments.pages import Experiment, markdown, report, updated

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ("curves", "data", "figures", "long_networks", "pages", "pictures", "series", "speech_network", "texts")
"""what experiments share, and what only draws"""
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py") if path.stem not in HELPERS)
MARK = re.compile(r"^<!-- (\d+) of (.*) -->$", re.MULTILINE)
MINE = "python -m experiments.test_pages"


def rows(*values: str) -> Table:
    table = table_of("a title", "name", "in | out")
    for value in values:
        table.add_row(value, "[0, 1]")
    return table


@click.command(cls=Experiment)
@click.option("--count", default=1)
@click.option("--fault", is_flag=True)
@click.option("--missed", is_flag=True)
def toy(count: int, fault: bool, missed: bool) -> None:
    report(rows(*(f"row {k}" for k in range(count))))
    if fault:
        raise ValueError
    report("A sentence.")
    if missed:
        raise SystemExit(1)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pages, "PAGES", tmp_path)
    return tmp_path / "test_pages.md"


def test_a_table_is_written_as_it_is_shown() -> None:
    assert markdown(rows("a|b")).splitlines() == [
        "*a title*",
        "",
        r"| name | in \| out |",
        "|---|---|",
        r"| a\|b | [0, 1] |",
    ]


def test_only_what_a_command_reports_is_replaced() -> None:
    text = updated("# Title\n\nBefore.\n", f"{MINE} --count 2", [rows("a"), rows("b")])
    text = text.replace("<!-- 2 of", "Between.\n\n<!-- 2 of") + "\nAfter.\n"
    text = updated(text, MINE, [rows("another command's")])
    again = updated(text, f"{MINE} --count 2", [rows("c", "d"), rows("e"), rows("f")])
    found = re.findall(r"Before|Between|After|another command's|\| [a-f] \|", again)
    assert found == ["Before", "| c |", "| d |", "Between", "| e |", "| f |", "After", "another command's"]
    assert again.count(f"```sh\n{MINE} --count 2\n```") == 1
    assert updated(again, f"{MINE} --count 2", [rows("c", "d"), rows("e"), rows("f")]) == again


def test_a_run_writes_its_page_where_that_is_asked_for(page: Path) -> None:
    run = CliRunner()
    assert run.invoke(toy, ["--count", "2"]).exit_code == 0
    assert not page.exists()
    shown = run.invoke(toy, ["--count", "2", "--update"])
    assert shown.exit_code == 0, shown.output
    assert "row 1" in shown.output
    text = page.read_text()
    assert f"<!-- 1 of {MINE} --count 2 -->\n\n```sh\n{MINE} --count 2\n```\n\n*a title*\n\n| name" in text
    assert "| row 1 |" in text
    assert f"<!-- 2 of {MINE} --count 2 -->\n\nA sentence.\n\n<!-- end -->" in text
    assert run.invoke(toy, ["--update", "--fault"]).exit_code == 1
    assert page.read_text() == text, "what failed is not written down"
    assert run.invoke(toy, ["--update", "--missed"]).exit_code == 1
    assert f"<!-- 1 of {MINE} --missed -->" in page.read_text(), "what misses a figure is"


def test_a_command_of_a_group_has_its_name_beside_its_table(page: Path) -> None:
    group = click.Group("toys", {"one": toy})
    assert CliRunner().invoke(group, ["one", "--update"]).exit_code == 0
    assert f"```sh\n{MINE} one\n```" in page.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_has_a_page_that_it_can_write(name: str) -> None:
    page = ROOT / "docs" / "experiments" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    assert f"](../docs/experiments/{name}.md)" in (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    marks = MARK.findall(text)
    assert marks
    assert len(marks) == len(set(marks)) == text.count("<!-- end -->")
    main = importlib.import_module(f"experiments.{name}").main
    several = list(main.commands.values()) if isinstance(main, click.Group) else [main]
    assert all(isinstance(command, Experiment) for command in several)
    for _, command in marks:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", f"experiments.{name}"]
        assert command in text.replace(f" of {command} -->", ""), "a reader sees it too"
        with click.Context(main) as context:
            given, inner = words[3:], main
            if isinstance(main, click.Group):
                _, inner, given = main.resolve_command(context, given)
            assert inner is not None
            if "MARGINS.csv" not in given:
                inner.make_context(name, given, parent=context)
