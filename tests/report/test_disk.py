"""Disks that are full, other runs, and outputs that are no files: a sentence, and nothing that was finished is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile

import tightverify as tv
from tests.evidence.test_evidence import network
from tests.helpers.onnx_models import HEAD, SINGLE, build, head, node, normal, save
from tests.helpers.sounds import Listener, recordings, to_onnx
from tightverify.branch.saved import Saved
from tightverify.cli.main import main
from tightverify.demo import NETWORKS, held_out
from tightverify.disk import alone_in
from tightverify.errors import UsageError
from tightverify.json_lines import JsonLines
from tightverify.recording import record
from tightverify.report.records import read_records
from tightverify.report.trace import read_trace
from tightverify.stages import branch

GRU = str(NETWORKS["GRU"])
FULL = Path("/dev/full")
SEARCH = ["--method", "complete", "--splits", "1", "--directions", "0", "--restarts", "0"]
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some digits."""
    x, y = held_out()
    path = tmp_path_factory.mktemp("inputs") / "good.npz"
    np.savez(path, x=x[:6], y=y[:6])
    return str(path)


@pytest.fixture(scope="module")
def digits(inputs: str) -> list[str]:
    """The demonstration's GRU, and a radius at which some of them are proved."""
    return [GRU, inputs, "--eps", "0.09"]


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny network, inputs that it answers, and a radius at which those take a search."""
    folder = tmp_path_factory.mktemp("hard")
    weights = {"W": 2 * normal(2, 6, seed=1), "b": normal(6, seed=2)} | head(6)
    model = build([node("Gemm", "x W b", "z"), node("Tanh", "z", "features"), HEAD], ["N", 2], weights, SINGLE)
    np.savez(folder / "inputs.npz", x=np.random.default_rng(0).random((5, 2), dtype=np.float32)[2:])
    return [str(save(folder, model)), str(folder / "inputs.npz"), "--eps", "1.5"]


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    returncode: int
    stdout: str
    stderr: str


@contextmanager
def full_after(most: int | None) -> Iterator[None]:
    """Files of this process can have so many bytes at most: another one is refused, as on a full disk."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


Certify = Callable[..., Run]


@pytest.fixture
def certify(capsys: pytest.CaptureFixture[str]) -> Certify:
    def run(given: list[str], *options: str, most: int | None = None) -> Run:
        with full_after(most):
            code = main(["certify", *given, "--quiet", *options])
        return Run(code, *capsys.readouterr())

    return run


def process(given: list[str], *options: str, stdout: int | IO[Any] = subprocess.PIPE) -> Any:
    """A process of its own, with a stdout of its own."""
    command = [sys.executable, "-m", "tightverify", "certify", *given, "--quiet", *options]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=200, check=False)


def sentence(run: Run, words: str) -> None:
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert words in run.stderr


def test_a_full_disk_under_the_results(certify: Certify, digits: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run = certify(digits, "--out", str(out), "--batch", "3", most=3000)
    kept = len(read_records(out))
    assert 0 < kept < 3
    sentence(run, f"the first {kept} lines are in it")
    assert "3 inputs: " in run.stdout, "all of the batch that was decided"


def test_a_full_disk_under_the_trace(certify: Certify, digits: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    run = certify(digits, "--trace", str(trace), "--json", "--batch", "1", most=3500)
    sentence(run, f"{trace} cannot be written any further")
    assert 1 < len(run.stdout.splitlines()) < 6, "the input at work is still decided, no other one is begun"
    assert read_trace(trace)


@pytest.mark.parametrize("beside_trees", [False, True])
def test_a_full_disk_under_the_evidence(certify: Certify, hard: list[str], tmp_path: Path, beside_trees: bool) -> None:
    out, folder, trees = tmp_path / "out.jsonl", tmp_path / "evidence", tmp_path / "trees"
    options = [*SEARCH, "--trees", str(trees)] if beside_trees else []
    run = certify(hard, "--evidence", str(folder), "--out", str(out), "--restarts", "0", *options, most=2600)
    sentence(run, "evidence cannot be written to")
    assert len(read_records(out)) == 1, "it was decided, though its evidence could not be kept"
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".part", ".npz")]


def refuse_from(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when evidence writes its `count`-th array, in blocks that are written after every few."""
    honest, seen = record.put, []

    def put(file: Any, name: str, array: Any) -> None:
        seen.append(name)
        if len(seen) >= count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(file, name, array)

    monkeypatch.setattr(record, "put", put)
    monkeypatch.setattr(record, "BLOCK", 2**10)


@pytest.mark.covering
@pytest.mark.parametrize("beside_trees", [False, True])
@pytest.mark.parametrize("count", [1, 20])
def test_a_disk_that_fills_while_an_input_is_at_work(
    beside_trees: bool, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model, x), settings, region = (
        network("mlp"),
        tv.Settings("complete", restarts=0, splits=1, without_pairs=True),
        tv.LinfBall(1.0),
    )
    wanted = list(tv.stream(model, x, None, region, settings, batch=1))
    assert len(wanted[0].tree) > 1
    refuse_from(count, monkeypatch)
    trees = tmp_path / "trees" if beside_trees else None
    results = iter(tv.stream(model, x, None, region, replace(settings, evidence=tmp_path / "evidence", trees=trees)))
    assert next(results).margin == wanted[0].margin, "decided all the same"
    with pytest.raises(UsageError, match="evidence cannot be written to"):
        next(results)
    assert not list((tmp_path / "evidence").iterdir())
    assert not (trees and trees.exists() and list(trees.rglob("*.npz"))), "a tree without its evidence could not go on"


def test_a_full_disk_under_the_trees(certify: Certify, hard: list[str], tmp_path: Path) -> None:
    trees = tmp_path / "trees"
    run = certify(hard, *SEARCH, "--batch", "2", "--trees", str(trees), "--json", most=2000)
    sentence(run, "the search tree")
    assert [json.loads(line)["index"] for line in run.stdout.splitlines()] == [0, 1], "what was decided is not lost"
    assert not trees.exists(), "it was made for nothing"


def test_a_tree_that_cannot_be_read(certify: Certify, hard: list[str], tmp_path: Path) -> None:
    """It is one input's, and costs no other one's verdict."""
    out, trees = tmp_path / "out.jsonl", tmp_path / "trees"
    trees.mkdir()
    for number in range(2):
        (trees / f"{number}.npz").write_bytes(b"no tree")
    options = ["--trees", str(trees), "--out", str(out), "--limit", "2"]
    sentence(certify(hard, *SEARCH, *options), "is no search tree that this program wrote")
    assert len(read_records(out)) == 2
    assert {path.read_bytes() for path in trees.iterdir()} == {b"no tree"}


def test_a_save_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could be written in the end is no failure."""
    honest, seen = branch.save, []  # type: ignore[attr-defined]

    def save(path: Path, *rest: Any) -> None:
        seen.append(path)
        if len(seen) == 1:
            raise UsageError("the disk is full")
        honest(path, *rest)

    monkeypatch.setattr(branch, "save", save)
    monkeypatch.setattr(branch, "SAVED_EVERY", -1.0)
    model, x = network("mlp")
    tv.certify(model, x[:1], None, tv.LinfBall(1.0), method="complete", restarts=0, splits=2, trees=tmp_path)
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]


def test_a_full_disk_under_the_programs(certify: Certify, hard: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    options = ["--method", "lp", "--rounds", "1", "--limit", "1", "--restarts", "0", "--dump", str(tmp_path / "programs")]
    sentence(certify(hard, *options, "--out", str(out), most=3000), ".mps cannot be written")
    assert len(read_records(out)) == 1


@needs_full
def test_a_full_disk_under_stdout(digits: list[str], inputs: str, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        run = process(digits, "--out", str(tmp_path / "out.jsonl"), stdout=full)
        bounds = [sys.executable, "-m", "tightverify", "bounds", GRU, inputs, "--eps", "0.1", "--json", "--quiet"]
        told = subprocess.run(bounds, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
    for each in (run, told):
        assert each.returncode == 2
        assert each.stderr.splitlines()[-1].startswith("error: stdout cannot be used (No space left on device)")
    assert "6 inputs: " in run.stderr, "the table is not lost with stdout"
    assert len(read_records(tmp_path / "out.jsonl")) == 6


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_lines_on_stdout(certify: Certify, digits: list[str], tmp_path: Path, name: str) -> None:
    if not Path("/dev/stdout").exists() and name != "-":
        pytest.skip("needs /dev/stdout")
    with (tmp_path / "file").open("w") as file:
        run = process(digits, "--out", name) if name == "-" else process(digits, "--out", name, stdout=file)
    printed = run.stdout or (tmp_path / "file").read_text()
    assert run.returncode == 0, run.stderr
    assert sorted(json.loads(line)["index"] for line in printed.splitlines()) == list(range(6))
    assert run.stderr == ""
    same = "are the same" if name == "-" else "must be different files"  # here /dev/stdout is the file in which pytest keeps it
    sentence(certify(digits, "--out", name, "--trace", name, "--force"), same)


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
        of_folder = [(option, folder) for option in ("--evidence", "--trees", "--dump")]
        for option, path in (("--out", out), ("--trace", out), *of_folder):
            assert main([*given, option, str(path)]) == 2
            assert f"another run is writing to {path}; wait for its end" in capsys.readouterr().err
        with pytest.raises(UsageError, match="another run is writing to"):
            tv.certify(GRU, held_out()[0][:1], None, tv.LinfBall(0.01), evidence=folder)
        assert out.read_text() == '{"a": 1}\n'
    assert main([*given, "--out", str(out), "--evidence", str(folder)]) == 0
    assert main([*given, "--trees", str(folder), "--evidence", str(folder)]) == 2
    assert "both to go to" in capsys.readouterr().err
    assert main([*given, "--trees", str(folder), "--dump", str(folder)]) == 0, "their files have other names"


@pytest.mark.parametrize("command", ["segments", "tightness", "tightness of a model", "demo"])
def test_one_run_alone_writes_to_a_folder(
    command: str, inputs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, sound, model = tmp_path / "out", tmp_path / "a.wav", tmp_path / "listener.onnx"
    wave = recordings()[0].numpy()
    soundfile.write(sound, wave, 8000)
    to_onnx(Listener(), model)
    given = {
        "segments": ["segments", str(model), str(sound)],
        "tightness": ["tightness", "--function", "tanh", "--box", "-1", "2"],
        "tightness of a model": ["tightness", GRU, inputs, "--eps", "0.1"],
        "demo": ["demo"],
    }[command]
    with alone_in(results=folder):
        (folder / "kept").write_text("")
        assert main([*given, "--out", str(folder), "--quiet"]) == 2
    assert f"another run is writing to {folder}; wait for its end" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_folder_that_was_made_for_nothing_goes(tmp_path: Path) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    there.mkdir()
    with alone_in(evidence=made, programs=there):
        assert made.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_tree_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    np.savez_compressed(path, closed=np.zeros(1000), fingerprint=np.array("mark"))
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="no search tree that this program wrote"):
            Saved(path, "mark")
