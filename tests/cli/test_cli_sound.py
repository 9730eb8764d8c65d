"""The command line on sounds: from a folder of clips, a model and labels to records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.helpers.refusals import assert_one_sentence
from tests.helpers.sounds import Listener, recordings, to_onnx
from tightverify.cli.main import main
from tightverify.report.records import read_records

RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, clips with labels (the fourth one's is wrong), and all that is wrong with others."""
    folder = tmp_path_factory.mktemp("sounds")
    to_onnx(Listener(), folder / "listener.onnx")
    to_onnx(Listener(), folder / "fixed.onnx", samples=100)
    clips = folder / "clips"
    clips.mkdir()
    lines = ["file,label"]
    for k, clip in enumerate(recordings()):
        soundfile.write(clips / f"{k}.wav", clip.numpy(), RATE)
        answer = int(Listener().eval()(clip[None]).argmax())
        lines.append(f"{k}.wav,{answer if k != 3 else (answer + 1) % 3}")
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "high.csv").write_text("\n".join(["file,label", *(f"{k}.wav,3" for k in range(6))]))
    (folder / "few.csv").write_text("\n".join(lines[:3]))
    for name, values, rate in (
        ("silent", np.zeros(100), RATE),
        ("short", np.ones(20) / 2, RATE),
        ("other", np.ones(100) / 2, 16000),
        ("stereo", np.ones((100, 2)) / 2, RATE),
        ("loud", np.ones(100), RATE),
    ):
        soundfile.write(folder / f"{name}.wav", values, rate)
    (folder / "song.mp3").write_bytes(b"ID3 a song")
    np.savez(folder / "waves.npz", x=torch.stack([clip for clip in recordings() if len(clip) == 100]).numpy())
    return folder


def test_info_says_the_option_that_a_file_of_any_length_needs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["info", str(folder / "listener.onnx")]
    assert main(given) == 2
    assert "--shape 8000 on the command line, shape=(8000,) from Python" in capsys.readouterr().err
    assert main([*given, "--shape", "100"]) == 0
    assert "LSTM" in capsys.readouterr().out


def run(
    folder: Path, tmp_path: Path, *options: str, model: str = "listener.onnx", inputs: str = "clips"
) -> list[dict[str, Any]]:
    out = tmp_path / "results.jsonl"
    given = ["certify", str(folder / model), str(folder / inputs), *options, "--out", str(out), "--force"]
    assert main(given) == 0
    assert len(read_records(out)) == len(out.read_text().splitlines())
    return [json.loads(line, parse_constant=pytest.fail) for line in out.read_text().splitlines()]


def test_a_folder_of_clips(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(folder, tmp_path, "--db", "-90", "--labels", str(folder / "labels.csv"))
    printed, told = capsys.readouterr()
    for word in ("0.wav", "region", "-90 dB", "6 inputs: 5 ROBUST, 1 MISCLASSIFIED"):
        assert word in printed
    assert printed.index("0.wav") < printed.index("1.wav") < printed.index("5.wav")
    assert "the model's own answers" not in told
    assert sorted(line["index"] for line in found) == list(range(6))
    for line in found:
        assert line["file"] == str(folder / "clips" / f"{line['index']}.wav")
        assert line["region"] == "-90 dB"
        assert line["norm"] == "inf"
        peak = float(recordings()[line["index"]].abs().max())
        assert line["eps"] == pytest.approx(peak * 10 ** (-90 / 20), rel=1e-6)
        assert line["verdict"] == ("MISCLASSIFIED" if line["index"] == 3 else "ROBUST")


def test_files_and_other_regions(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (str(folder / "clips" / f"{k}.wav") for k in (2, 0))
    out = tmp_path / "out.jsonl"
    for options, region, eps in (
        (["--snr", "80", "--samples", "10-19"], "SNR 80 dB", True),
        (["--gain", "0.01"], "gain 0.01 dB", False),
        (["--eps", "0.0001", "--norm", "2"], None, True),
    ):
        given = ["certify", str(folder / "listener.onnx"), one, two, *options, "--out", str(out), "--force"]
        assert main(given) == 0
        first, second = read_records(out)
        assert [Path(str(record.file)).name for record in (first, second)] == ["2.wav", "0.wav"]
        assert (first.region, first.eps is not None, first.verdict) == (region, eps, "ROBUST")
        assert (first.norm is None) == (not eps)
        assert "no labels were given: the model's own answers are the labels" in capsys.readouterr().err


def test_skipping_tracing_and_reading(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["--labels", str(folder / "labels.csv")]
    trace = tmp_path / "trace.jsonl"
    options = ["--db", "-90", *labels, "--skip-wrong", "--limit", "4", "--trace", str(trace), "--batch", "1"]
    assert {line["index"] for line in run(folder, tmp_path, *options)} == {0, 1, 2, 4}
    assert "1 misclassified input was left out" in capsys.readouterr().err
    assert {json.loads(line)["index"] for line in trace.read_text().splitlines()} == {0, 1, 2, 4}
    (line,) = run(folder, tmp_path, "--db", "-90", "--rate", "8000", "--resample", "--cut", "0", "0.006", inputs="other.wav")
    assert line["verdict"] == "ROBUST"
    (line,) = run(folder, tmp_path, "--db", "-90", "--channel", "1", inputs="stereo.wav")
    assert line["eps"] == pytest.approx(0.5 * 10**-4.5, rel=1e-6)
    (line,) = run(folder, tmp_path, "--db", "-90", "--int16", "--channel", "0", inputs="stereo.wav")
    assert line["eps"] == pytest.approx(16384 * 10**-4.5, rel=1e-6)
    run(folder, tmp_path, "--db", "-90", inputs="loud.wav")
    assert "note: " in (told := capsys.readouterr().err)
    assert "seems to be clipped" in told


def test_arrays_of_waveforms(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(folder, tmp_path, "--db", "-90", inputs="waves.npz")
    assert len({line["eps"] for line in found}) == 3
    assert {line["file"] for line in found} == {None}
    capsys.readouterr()
    given = ["bounds", str(folder / "listener.onnx"), str(folder / "waves.npz"), "--db", "-90", "--json"]
    assert main(given) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["eps"], line["region"]) for line in lines] == [(line["eps"], "-90 dB") for line in found]


BAD = [
    ("clips", ["--db", "80"], "db is 80"),
    ("clips", [], "no size was given"),
    ("clips", ["--db", "-80", "--eps", "0.1"], "--eps and --db"),
    ("clips", ["--db", "-80", "--frames", "1"], "--frames was given beside --db"),
    ("clips", ["--db", "-80", "--ball-per", "frame"], "--ball-per was given beside --db"),
    ("clips", ["--db", "-80", "--norm", "2"], "--norm was given beside --db"),
    ("clips", ["--gain", "1", "--samples", "0-3"], "--samples was given beside --gain"),
    ("clips", ["--db", "-80", "--samples", "9-3"], "such as 1000-1999"),
    ("clips", ["--db", "-80", "--samples", "0-100"], "samples 0 to 99"),
    ("clips", ["--db", "-80", "--labels", "few.csv"], "no label for"),
    ("clips", ["--db", "-80", "--labels", "high.csv"], "classes 0 to 2"),
    ("clips", ["--db", "-80", "--labels", "gone.csv"], "cannot be read"),
    ("clips", ["--db", "-80", "--rate", "16000"], "wanted 16000"),
    ("clips", ["--db", "-80", "--resample"], "not to what rate"),
    ("clips", ["--db", "-80", "--cut", "0", "1"], "lasts"),
    ("silent.wav", ["--db", "-80"], "silent.wav is silent"),
    ("silent.wav", ["--snr", "60"], "silent.wav is silent"),
    ("short.wav", ["--db", "-80"], "short.wav, an input of shape (20,)"),
    ("stereo.wav", ["--db", "-80"], "2 channels"),
    ("gone.wav", ["--db", "-80"], "does not exist"),
    ("listener.onnx", ["--db", "-80"], "not an .npz file"),
    ("song.mp3", ["--db", "-80"], "of audio files only .wav, .flac, .ogg are read"),
    ("song.mp3", ["--db", "-80", "--rate", "8000"], "of audio files only .wav, .flac, .ogg are read"),
    ("waves.npz", ["--db", "-80", "--rate", "8000"], "options for audio files"),
]


@pytest.mark.parametrize(("inputs", "options", "words"), BAD, ids=[f"{b[0]} {' '.join(b[1])}" for b in BAD])
def test_bad_input_gets_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], inputs: str, options: list[str], words: str
) -> None:
    out = tmp_path / "results.jsonl"
    given = [str(folder / word) if word.endswith(".csv") else word for word in options]
    assert main(["certify", str(folder / "listener.onnx"), str(folder / inputs), *given, "--out", str(out)]) == 2
    assert_one_sentence(capsys, words, out)


def test_what_was_not_checked_or_read_is_noted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder, tmp_path, "--db", "-90", inputs="other.wav")
    assert (
        f"the model wants 16000 samples per second, which {folder / 'other.wav'} has, was not checked"
        in capsys.readouterr().err
    )
    run(folder, tmp_path, "--db", "-90", "--rate", "8000")
    assert "not checked" not in capsys.readouterr().err
    (tmp_path / "more" / "below").mkdir(parents=True)
    for place in ("more", "more/below"):
        (tmp_path / place / "a.wav").write_bytes((folder / "clips" / "0.wav").read_bytes())
    run(folder, tmp_path, "--db", "-90", inputs=str(tmp_path / "more"))
    assert "1 sound in its subfolders was passed over" in capsys.readouterr().err
    given = ["segments", str(folder / "listener.onnx"), str(folder / "clips" / "0.wav"), "--tolerance", "80"]
    assert main([*given, "--out", str(tmp_path / "st")]) == 0
    assert "was not checked" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can make anything: /proc")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, words in (("/proc/results", "cannot be written to"), ("-", "stands for stdout")):
        assert main(["segments", str(folder / "gone.onnx"), str(folder / "clips" / "0.wav"), "--out", out]) == 2
        assert words in capsys.readouterr().err


def test_clips_of_another_length_than_the_model_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", str(folder / "fixed.onnx"), str(folder / "clips"), "--db", "-80"]) == 2
    assert "1.wav: it has 131 samples" in capsys.readouterr().err
    assert main(["certify", str(folder / "fixed.onnx"), str(folder / "clips" / "0.wav"), "--db", "-80", "--quiet"]) == 0


def test_what_is_read_is_never_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = folder / "clips" / "0.wav"
    before = clip.read_bytes()
    for target in (clip, folder / "labels.csv"):
        given = [
            "certify",
            str(folder / "listener.onnx"),
            str(folder / "clips"),
            "--db",
            "-80",
            "--force",
            "--out",
            str(target),
        ]
        assert main([*given, "--labels", str(folder / "labels.csv")]) == 2
        assert "is to be read" in capsys.readouterr().err
    both = ["certify", str(folder / "listener.onnx"), str(clip), str(folder / "waves.npz"), "--db", "-80"]
    assert main(both) == 2
    assert "waves.npz was given beside others" in capsys.readouterr().err
    assert clip.read_bytes() == before


def test_segments(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["segments", str(folder / "listener.onnx"), str(folder / "clips" / "0.wav"), "--out", str(tmp_path / "out")]
    assert main([*given, "--length", "30", "--tolerance", "10", "--between", "-60", "-10", "--restarts", "1"]) == 0
    printed, told = capsys.readouterr()
    for word in ("0-29", "90-99", "0.011 to 0.013", "proved, dB"):
        assert word in printed
    assert "rounds: 3 of 3" in told
    assert (tmp_path / "out" / "segments.csv").read_text().count("\n") == 5
    assert (tmp_path / "out" / "segments.png").read_bytes().startswith(b"\x89PNG")
    for options, words in (
        ([], "exists already"),
        (["--force", "--label", "7"], "not the label 7"),
        (["--force", "--length", "101"], "give a length from 1 to 100"),
        (["--force", "--between", "0", "-10"], "two finite levels"),
    ):
        assert main([*given, *options]) == 2
        assert words in capsys.readouterr().err
    given[2] = str(folder / "short.wav")
    assert main([*given, "--force"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "short.wav" in told
