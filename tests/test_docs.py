"""README.md and the pages of docs/: their code runs, their commands parse, their links lead somewhere, the site builds."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
import soundfile
import torch

import solvers
from tests.helpers.exact import EXACT
from tightverify.cli.main import COMMANDS, commands, main
from tightverify.demo import NETWORKS, held_out
from tightverify.models.from_onnx import walk as from_onnx
from tightverify.models.from_torch import operators as from_torch
from tightverify.ops import OPS
from tightverify.region import REGIONS
from tightverify.stages import METHODS

ROOT = Path(__file__).resolve().parents[1]
MADE = ("changelog.md",)
"""Pages that are another file's text."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name not in MADE),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
MOST_OF_README = 8000


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """A page's blocks in one language, with the line before each."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found[1] == language:
            yield text[: found.start()].count("\n") + 1, found[2]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who has a model, inputs, clips, and the results and the evidence of a run."""
    folder = tmp_path_factory.mktemp("reader")
    images, shown = held_out()
    np.savez(folder / "inputs.npz", x=images[:4], y=shown[:4])
    shutil.copy(NETWORKS["LSTM"], folder / "model.onnx")
    (folder / "clips").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1600))
    for name, values in zip(("a.wav", "b.wav"), noise, strict=True):
        soundfile.write(folder / "clips" / name, values, 8000)
    files = [str(folder / name) for name in ("model.onnx", "inputs.npz", "results.jsonl", "folder")]
    run = ["certify", *files[:2], "--eps", "0.01", "--limit", "1", "--quiet", "--out", files[2], "--evidence", files[3]]
    assert main(run) == 0
    return folder


@contextmanager
def lists_as_before() -> Iterator[None]:
    """Whatever a page adds to the lists is there for that page alone."""
    tables: tuple[dict[str, Any], ...] = (REGIONS, METHODS, COMMANDS, from_torch.OPERATORS, from_onnx.OPERATORS, EXACT)
    several: tuple[list[Any], ...] = (OPS, solvers.BACKENDS)
    before = [dict(table) for table in tables]
    lists = [list(one) for one in several]
    try:
        yield
    finally:
        for one, old in zip(several, lists, strict=True):
            one[:] = old
        for table, kept in zip(tables, before, strict=True):
            table.clear()
            table.update(kept)


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=named)
def test_code_runs(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    torch.manual_seed(0)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    with lists_as_before():
        for line, code in blocks(page, "python"):
            exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), vars(module))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_say_their_language(page: Path) -> None:
    languages = [found[1] for found in FENCE.finditer(page.read_text(encoding="utf-8"))]
    assert set(languages) <= {"python", "sh", "text"}
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(languages)


def given_commands(page: Path) -> Iterator[list[str]]:
    for _, code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["tightverify"]:
                yield words[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if any(given_commands(page))], ids=named)
def test_commands_parse(page: Path) -> None:
    for words in given_commands(page):
        with click.Context(commands) as context:
            name, command, rest = commands.resolve_command(context, words)
            assert command is not None, words
            command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "guide").glob("*.md")), ids=named)
def test_options_exist(page: Path) -> None:
    with click.Context(commands) as context:
        several = [commands.get_command(context, name) for name in commands.list_commands(context)]
    every = [*commands.params, *(parameter for command in several if command is not None for parameter in command.params)]
    exist = {option for parameter in every for option in (*parameter.opts, *parameter.secondary_opts)}
    assert set(OPTION.findall(page.read_text(encoding="utf-8"))) <= {*exist, "--help"}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= MOST_OF_README


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed; the extra `docs` has it")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    # Names of places that nothing answers: the site must not need the network.
    alone = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **alone}, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f"tightverify {name}" in reference for name in commands.commands)
    assert "--time-limit" in reference
