"""`tightverify radius`: a table, a file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.refusals import assert_one_sentence
from tightverify.cli.main import main
from tightverify.demo import NETWORKS


def test_radii(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["radius", str(NETWORKS["GRU"]), str(folder / "good.npz"), "--limit", "2", "--method", "linear", "--restarts", "1"]
    out = tmp_path / "out"
    assert main([*given, "--out", str(out)]) == 0
    printed, told = capsys.readouterr()
    for words in ("proved", "refuted", "2 inputs, 1 misclassified; mean proved"):
        assert words in printed
    assert "radii.csv" in told
    lines = (out / "radii.csv").read_text().splitlines()
    assert lines[0] == "index,label,proved,refuted,misclassified,seconds"
    assert len(lines) == 3
    proved, refuted = map(float, lines[1].split(",")[2:4])
    assert 0 < proved < refuted
    assert main([*given, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "db"), "--family", "db", "--target", "each", "--quiet"]) == 0
    printed, told = capsys.readouterr()
    assert "proved, dB" in printed
    assert "target" in printed
    assert told == ""
    assert main([*given, "--out", str(tmp_path / "each"), "--norm", "2", "--ball-per", "frame", "--quiet"]) == 0
    assert float((tmp_path / "each" / "radii.csv").read_text().splitlines()[1].split(",")[2]) > 0
    capsys.readouterr()
    assert main([*given, "--out", str(tmp_path / "per"), "--per", "frame", "--fragile", "1", "--quiet"]) == 0
    assert capsys.readouterr().out.count("│ ") < 12
    assert (tmp_path / "per" / "radii.csv").read_text().startswith("index,label,frame,proved")


def test_a_radius_of_what_is_asked_in_place_of_labels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["radius", str(NETWORKS["GRU"]), str(folder / "good.npz"), "--limit", "1", "--method", "linear", "--restarts", "0"]
    given.append("--quiet")
    np.savez(tmp_path / "rows.npz", C=np.eye(10), d=np.full(10, 9.0))
    found = {}
    for name, how in {
        "above": ["--above", "-9"],
        "rows": ["--rows", str(tmp_path / "rows.npz")],
        "far": ["--above", "-12"],
    }.items():
        assert main([*given, *how, "--out", str(tmp_path / name)]) == 0
        found[name] = float((tmp_path / name / "radii.csv").read_text().splitlines()[1].split(",")[2])
    assert 0 < found["above"] == found["rows"] < found["far"]
    assert main([*given, "--above", "-9", "--target", "3", "--out", str(tmp_path / "both")]) == 2
    assert "rows were given beside labels, a target or top" in capsys.readouterr().err


def test_a_trace_says_what_was_tried(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["radius", str(NETWORKS["GRU"]), str(folder / "good.npz"), "--limit", "1", "--method", "linear", "--restarts", "1"]
    trace, out = tmp_path / "trace.jsonl", tmp_path / "out"
    assert main([*given, "--out", str(out), "--trace", str(trace), "--quiet"]) == 0
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert set(lines[0]) == {"index", "part", "method", "tried", "proved", "refuted", "seconds"}
    proved, refuted = map(float, (out / "radii.csv").read_text().splitlines()[1].split(",")[2:4])
    assert (lines[-1]["proved"], lines[-1]["refuted"]) == (proved, refuted)
    capsys.readouterr()
    assert main([*given, "--out", str(tmp_path / "more"), "--trace", str(trace)]) == 2
    assert_one_sentence(capsys, "trace.jsonl", tmp_path / "more")


def test_classes_have_names(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    given = ["radius", str(NETWORKS["GRU"]), str(folder / "good.npz"), "--limit", "1", "--method", "linear", "--restarts", "0"]
    named = [*given, "--classes", str(tmp_path / "names.txt"), "--quiet"]
    assert main([*given, "--out", str(tmp_path / "numbers"), "--target", "7", "--quiet"]) == 0
    capsys.readouterr()
    assert main([*named, "--out", str(tmp_path / "words"), "--target", "seven"]) == 0
    label = np.load(folder / "good.npz")["y"][0]
    assert f" {names[label]} " in capsys.readouterr().out
    one, other = (Path(tmp_path / out / "radii.csv").read_text().splitlines()[1].split(",") for out in ("numbers", "words"))
    assert one[:-1] == other[:-1], "all but the seconds"
    assert main([*named, "--out", str(tmp_path / "each"), "--target", "each"]) == 0
    assert " seven " in capsys.readouterr().out
    assert main([*named, "--out", str(tmp_path / "wrong"), "--target", "sevn"]) == 2
    assert_one_sentence(capsys, "did you mean 'seven'?", tmp_path / "wrong")


def test_pictures_of_groups(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(folder / "good.npz") as arrays:
        np.savez(tmp_path / "groups.npz", x=arrays["x"][:1], y=arrays["y"][:1], groups=[[7], *[[3]] * 7])
    given = ["radius", str(NETWORKS["GRU"]), str(tmp_path / "groups.npz"), "--method", "linear", "--restarts", "0"]
    out = tmp_path / "out"
    assert main([*given, "--out", str(out), "--per", "group", "--plot", "map", "--format", "svg"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["map-0.svg", "radii.csv"]
    assert "map-0.svg" in capsys.readouterr().err
    lines = [line.split(",") for line in (out / "radii.csv").read_text().splitlines()]
    assert [line[2] for line in lines] == ["group", "3", "7"]
    assert float(lines[1][3]) < float(lines[2][3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "some"], "wanted a class number from 0 on"),
        (["--tolerance", "0"], "wanted a number above 0"),
        (["--family", "db", "--norm", "2"], "says nothing there"),
        (["--target", "1", "--top", "2"], "leave one of them out"),
        (["--plot", "map"], "give --per"),
        (["--length", "2"], "no parts are asked for"),
        (["--per", "group"], "wanted groups beside x"),
        (["--fragile", "2"], "give --per or --target each"),
        (["--per", "frame", "--family", "db"], "leave one out"),
        (["--per", "frame", "--norm", "2", "--ball-per", "frame"], "leave one out"),
        (["--ball-per", "frame", "--family", "db"], "let the regions themselves"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    out = tmp_path / "out"
    assert main(["radius", str(NETWORKS["GRU"]), str(folder / "good.npz"), "--quiet", "--out", str(out), *options]) == 2
    assert_one_sentence(capsys, words, out)
