"""Disks that are full, other runs, and outputs that are no files: a sentence, and nothing that was finished is lost."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

import tightverify as tv
from tightverify.branch.saved import Saved
from tightverify.cli.main import main
from tightverify.demo import NETWORKS, held_out
from tightverify.disk import alone_in
from tightverify.errors import UsageError
from tightverify.json_lines import JsonLines
from tightverify.report.records import read_records
from tightverify.report.trace import read_trace

GRU = str(NETWORKS["GRU"])
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    x, y = held_out()
    path = tmp_path_factory.mktemp("inputs") / "good.npz"
    np.savez(path, x=x[:6], y=y[:6])
    return str(path)


def certify(inputs: str, *options: str, most: int | None = None, stdout: int | IO[Any] = subprocess.PIPE) -> Any:
    """A process whose files can have so many bytes at most: another one is refused, as on a full disk."""

    def limit() -> None:
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    command = [sys.executable, "-m", "tightverify", "certify", GRU, inputs, "--eps", "0.09", "--quiet", *options]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=200, preexec_fn=limit, check=False)


def sentence(run: Any, words: str) -> None:
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert words in run.stderr


def test_a_full_disk_under_the_results(inputs: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run = certify(inputs, "--out", str(out), "--batch", "3", most=1000)
    kept = len(read_records(out))
    assert 0 < kept < 3
    sentence(run, f"the first {kept} lines are in it")
    assert "3 inputs: " in run.stdout, "all of the batch that was decided"


def test_a_full_disk_under_the_trace(inputs: str, tmp_path: Path) -> None:
    out, trace = tmp_path / "out.jsonl", tmp_path / "trace.jsonl"
    run = certify(inputs, "--trace", str(trace), "--out", str(out), "--batch", "1", most=3500)
    sentence(run, f"{trace} cannot be written any further")
    done = len(read_records(out))
    assert 1 < done < 6, "the input at work is still decided, no other one is begun"
    assert f"{done} inputs: " in run.stdout
    assert read_trace(trace)


@pytest.mark.parametrize("beside_trees", [False, True])
def test_a_full_disk_under_the_evidence(inputs: str, tmp_path: Path, beside_trees: bool) -> None:
    out, folder, trees = tmp_path / "out.jsonl", tmp_path / "evidence", tmp_path / "trees"
    options = ["--method", "complete", "--splits", "1", "--trees", str(trees)] if beside_trees else []
    run = certify(inputs, "--evidence", str(folder), "--out", str(out), "--restarts", "0", *options, most=10_000)
    sentence(run, "evidence cannot be written to")
    if not beside_trees:
        assert len(read_records(out)) == 1, "it was decided, though its evidence could not be kept"
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".npz")]


def test_a_full_disk_under_the_trees(inputs: str, tmp_path: Path) -> None:
    options = ["--method", "complete", "--splits", "1", "--limit", "1", "--restarts", "0", "--trees", str(tmp_path / "trees")]
    sentence(certify(inputs, *options, most=5000), "the search tree")
    assert not list((tmp_path / "trees").iterdir())


def test_a_full_disk_under_the_programs(inputs: str, tmp_path: Path) -> None:
    options = ["--method", "lp", "--rounds", "1", "--limit", "1", "--restarts", "0", "--dump", str(tmp_path / "programs")]
    sentence(certify(inputs, *options, most=1000), ".mps cannot be written")


@needs_full
def test_a_full_disk_under_stdout(inputs: str, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        run = certify(inputs, "--out", str(tmp_path / "out.jsonl"), stdout=full)
        lines = certify(inputs, "--out", "-", stdout=full)
        bounds = [sys.executable, "-m", "tightverify", "bounds", GRU, inputs, "--eps", "0.1", "--json", "--quiet"]
        told = subprocess.run(bounds, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
    for each in (run, lines, told):
        assert each.returncode == 2
        assert each.stderr.splitlines()[-1].startswith("error: stdout cannot be used (No space left on device)")
    assert "6 inputs: " in run.stderr, "the table is not lost with stdout"
    assert "6 inputs: " in lines.stderr
    assert len(read_records(tmp_path / "out.jsonl")) == 6


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_lines_on_stdout(inputs: str, tmp_path: Path, name: str) -> None:
    if not Path("/dev/stdout").exists() and name != "-":
        pytest.skip("needs /dev/stdout")
    run = certify(inputs, "--out", name)
    with (tmp_path / "file").open("w") as file:
        into = certify(inputs, "--out", name, stdout=file)
    for text, each in ((run.stdout, run), ((tmp_path / "file").read_text(), into)):
        assert each.returncode == 0, each.stderr
        assert [json.loads(line)["index"] for line in text.splitlines()] == list(range(6))
        assert "6 inputs: " in each.stderr
    sentence(certify(inputs, "--out", name, "--trace", name), "are the same")


def test_bounds_on_stdout(inputs: str, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--json"]):
        assert main(["bounds", GRU, inputs, "--eps", "0.01", "--out", "-", "--limit", "2", "--quiet", *more]) == 0
        printed, told = capsys.readouterr()
        assert [json.loads(line)["index"] for line in printed.splitlines()] == [0, 1]
        assert ("lower" in told) is not bool(more)


def test_names_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, words in (
        (["--out", str(tmp_path)], "is a folder and cannot be written as a file"),
        (["--out", str(tmp_path), "--force"], "is a folder and cannot be written as a file"),
        (["--out", str(tmp_path / "none" / "out.jsonl")], "cannot be written"),
        (["--trace", str(tmp_path / "none" / "out.jsonl")], "cannot be written"),
        (["--out", str(tmp_path / ("a" * 300))], "too long"),
    ):
        assert main(["certify", GRU, str(tmp_path / "not read before this is said.npz"), "--eps", "0.1", *options]) == 2
        assert words in capsys.readouterr().err


def test_one_run_alone_writes(inputs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, folder = tmp_path / "out.jsonl", tmp_path / "folder"
    given = ["certify", GRU, inputs, "--eps", "0.01", "--limit", "1", "--force", "--quiet"]
    with JsonLines(out) as lines, alone_in(evidence=folder, trees=None):
        lines.write({"a": 1})
        for option, path in (("--out", out), ("--trace", out), ("--evidence", folder), ("--trees", folder)):
            assert main([*given, option, str(path)]) == 2
            assert f"another run is writing to {path}; wait for its end" in capsys.readouterr().err
        with pytest.raises(UsageError, match="another run is writing to"):
            tv.certify(GRU, held_out()[0][:1], None, tv.LinfBall(0.01), evidence=folder)
        assert out.read_text() == '{"a": 1}\n'
    assert main([*given, "--out", str(out), "--evidence", str(folder)]) == 0
    assert main([*given, "--trees", str(folder), "--evidence", str(folder)]) == 2
    assert "both to go to" in capsys.readouterr().err


def test_a_tree_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    np.savez_compressed(path, closed=np.zeros(1000), fingerprint=np.array("mark"))
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="no search tree that this program wrote"):
            Saved(path, "mark")
