"""The command line on networks that take words."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.refusals import assert_one_sentence
from tests.helpers.texts import exported, reader, sentences
from tightverify.cli.main import main

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of sentences of any length, and some sentences."""
    folder = tmp_path_factory.mktemp("texts")
    network, tokens = reader(dtype=torch.float32), sentences(4)
    exported(network, folder / "model.onnx")
    y = network(tokens).argmax(1).numpy()
    np.savez(folder / "tokens.npz", tokens=tokens.numpy(), y=y)
    np.savez(folder / "unknown.npz", tokens=tokens.numpy() + 9, y=y)
    padded = np.where(np.arange(4) < np.array([[4], [2], [3], [2]]), tokens.numpy(), 0)
    np.savez(folder / "padded.npz", tokens=padded, lengths=[4, 2, 3, 2])
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in NAMES))
    (folder / "short.txt").write_text("one\ntwo\n")
    several = [" ".join(NAMES[k] for k in sentence) for sentence in tokens.tolist()]
    (folder / "plain.txt").write_text(f"{several[0]}\none two\nfour four five zero\n")
    (folder / "labelled.csv").write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in zip(several, y, strict=True)))
    (folder / "strange.txt").write_text("one nought two\n")
    (folder / "blank.txt").write_text("one two\n\nthree\n")
    (folder / "choices.txt").write_text("one: two, three\nfour: five\n\nten: nine\n")
    (folder / "choices.json").write_text(json.dumps({"one": ["two", "three"], "four": ["five"], "ten": ["nine"]}))
    return folder


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_token_numbers_in_place_of_inputs(texts: Path, tmp_path: Path) -> None:
    given = [str(texts / "model.onnx"), str(texts / "tokens.npz")]
    out = tmp_path / "out.jsonl"
    assert main(["certify", *given, "--eps", "0.001", "--method", "linear", "--out", str(out)]) == 0
    assert [line["verdict"] for line in lines(out)] == ["ROBUST"] * 4
    radii = ["--per", "frame", "--method", "linear", "--restarts", "1", "--limit", "1", "--out", str(tmp_path / "radii")]
    assert main(["radius", *given, *radii]) == 0
    assert len((tmp_path / "radii" / "radii.csv").read_text().splitlines()) == 5
    assert main(["bounds", *given, "--eps", "0.001", "--limit", "1"]) == 0


def test_words_that_are_not_known(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    given = ["certify", str(texts / "model.onnx"), str(texts / "unknown.npz"), "--eps", "0.1", "--quiet", "--out", str(out)]
    assert main(given) == 2
    assert_one_sentence(capsys, "wanted token numbers", out)


def certified(texts: Path, out: Path, inputs: str, *options: str) -> list[dict[str, object]]:
    given = [str(texts / "model.onnx"), str(texts / inputs), "--method", "linear", "--out", str(out), "--quiet"]
    assert main(["certify", *given, *options]) == 0
    return lines(out)


def test_each_sentence_at_its_own_length(texts: Path, tmp_path: Path) -> None:
    found = certified(texts, tmp_path / "a.jsonl", "padded.npz", "--eps", "0.001")
    assert [line["verdict"] for line in found] == ["ROBUST"] * 4
    vocabulary = ["--vocabulary", str(texts / "words.txt")]
    found = certified(texts, tmp_path / "b.jsonl", "plain.txt", "--eps", "0.001", *vocabulary)
    assert sorted(str(line["file"]) for line in found) == [f"{texts}/plain.txt:{k}" for k in (1, 2, 3)]
    found = certified(texts, tmp_path / "c.jsonl", "labelled.csv", "--eps", "0.001", *vocabulary)
    assert [line["verdict"] for line in found] == ["ROBUST"] * 4


def test_words_are_replaced(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary = ["--vocabulary", str(texts / "words.txt")]
    near = certified(texts, tmp_path / "a.jsonl", "labelled.csv", "--nearest", "5", "--most", "2", *vocabulary)
    broken = [line for line in near if line["verdict"] == "COUNTEREXAMPLE"]
    assert broken
    printed = capsys.readouterr().out
    for line in broken:
        words = str(line["sentence"]).split()
        own = (texts / "labelled.csv").read_text().splitlines()[1 + int(str(line["index"]))].split(",")[0].split()
        assert 1 <= sum(a != b for a, b in zip(words, own, strict=True)) <= 2
        assert f":{2 + int(str(line['index']))}: {line['sentence']}" in printed
    assert {line["region"] for line in near} == {"up to 2 words replaced"}
    by_file = [
        certified(
            texts, tmp_path / f"{kind}.jsonl", "labelled.csv", "--substitute", str(texts / f"choices.{kind}"), *vocabulary
        )
        for kind in ("txt", "json")
    ]
    assert [line["margin"] for line in by_file[0]] == [line["margin"] for line in by_file[1]]
    given = ["--nearest", "5", "--most", "2", *vocabulary, "--resume"]
    assert len(certified(texts, tmp_path / "a.jsonl", "labelled.csv", *given)) == 4


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ("plain.txt", ["--eps", "0.1"], "give --vocabulary"),
        ("strange.txt", ["--eps", "0.1", "--vocabulary", "words.txt"], "strange.txt:1 has the word 'nought'"),
        ("blank.txt", ["--eps", "0.1", "--vocabulary", "words.txt"], "blank.txt:2 is an empty sentence"),
        ("plain.txt", ["--eps", "0.1", "--vocabulary", "short.txt"], "has the word"),
        ("tokens.npz", ["--eps", "0.1", "--vocabulary", "short.txt"], "the vocabulary has 2 words, and the ONNX model"),
        ("plain.txt", ["--eps", "0.1", "--vocabulary", "words.txt", "--unknown", "other"], "has no word 'other'"),
        ("tokens.npz", ["--substitute", "choices.txt"], "give --vocabulary"),
        ("tokens.npz", ["--substitute", "tokens.npz", "--vocabulary", "words.txt"], "cannot be read"),
        ("tokens.npz", ["--substitute", "short.txt", "--vocabulary", "words.txt"], "line 1 of"),
        ("tokens.npz", ["--nearest", "2", "--features", "0"], "--features was given beside --nearest"),
        ("tokens.npz", ["--eps", "0.1", "--most", "1"], "--most was given beside --eps"),
    ],
)
def test_what_makes_no_sense_is_refused(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], inputs: str, options: list[str], words: str
) -> None:
    out = tmp_path / "out.jsonl"
    files = [str(texts / name) if (texts / name).exists() else name for name in options]
    assert main(["certify", str(texts / "model.onnx"), str(texts / inputs), *files, "--quiet", "--out", str(out)]) == 2
    assert_one_sentence(capsys, words, out)


def test_words_have_radii(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["radius", str(texts / "model.onnx"), str(texts / "plain.txt"), "--vocabulary", str(texts / "words.txt")]
    quick = ["--per", "word", "--method", "linear", "--restarts", "0", "--tolerance", "0.5", "--quiet"]
    out = tmp_path / "radii"
    assert main([*given, *quick, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = list(csv.DictReader((out / "radii.csv").open()))
    several = (texts / "plain.txt").read_text().splitlines()
    assert [row["text"] for row in rows] == [word for line in several for word in line.split()]
    assert [row["word"] for row in rows] == [str(k) for line in several for k in range(len(line.split()))]
    assert {row["file"] for row in rows} == {f"{texts}/plain.txt:{k}" for k in (1, 2, 3)}
    assert all(float(row["proved"]) > 0 for row in rows)
    assert "plain.txt:2" in printed
    assert "0 one" in printed
    page = (out / "words.html").read_text()
    for row in rows:
        assert f">{row['text']}</span>" in page
    assert main([*given, *quick, "--plot", "map", "--out", str(tmp_path / "plot")]) == 2
    assert "of several lengths" in capsys.readouterr().err


def test_unknown_words_become_the_word_that_stands_for_them(texts: Path, tmp_path: Path) -> None:
    given = ["--eps", "0.001", "--vocabulary", str(texts / "words.txt"), "--unknown", "zero"]
    (line,) = certified(texts, tmp_path / "a.jsonl", "strange.txt", *given)
    assert line["verdict"] == "ROBUST"
