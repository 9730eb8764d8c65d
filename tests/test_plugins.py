"""Plug-ins: what an installed package adds to the lists is there for the command line, and one that fails is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = """
import click
from tightverify.cli.main import COMMANDS

COMMANDS["greet"] = __name__


@click.command()
@click.argument("name")
def greet(name):
    \"\"\"Say hello.\"\"\"
    click.echo(f"hello, {name}")
"""


def run_beside(folder: Path, plugin: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, where a package is installed whose plug-in has this text."""
    (folder / "mine.py").write_text(plugin)
    about = folder / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tightverify.plugins]\nmine = mine\n")
    paths = os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "tightverify", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )


def test_a_command_of_a_plug_in_is_listed_and_runs(tmp_path: Path) -> None:
    done = run_beside(tmp_path, PLUGIN, "greet", "you")
    assert (done.returncode, done.stdout) == (0, "hello, you\n"), done.stderr


def test_a_plug_in_that_fails_is_named_in_a_sentence(tmp_path: Path) -> None:
    done = run_beside(tmp_path, "import nothing_of_this_name\n", "--help")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the plug-in mine (mine) cannot be loaded (ModuleNotFoundError: No module named")
    assert done.stderr.count("\n") == 1
