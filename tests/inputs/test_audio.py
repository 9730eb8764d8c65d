"""Audio files: what is read of them, what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tightverify.errors import InputError, UsageError
from tightverify.inputs.audio import Reading, passed_over, read_labels, read_sound, read_sounds, sound_files

RATE = 8000
STEPS = np.random.default_rng(0).integers(-20000, 20000, 400)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return written(tmp_path / "clip.wav", STEPS / 32768)


def written(path: Path, values: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    soundfile.write(path, values, rate, subtype=subtype)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_samples_are_what_the_file_holds(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"clip.{suffix}", STEPS / 32768)
    sound = read_sound(path)
    assert sound.rate == RATE
    assert sound.values.dtype == torch.float64
    assert sound.values.tolist() == (STEPS / 32768).tolist()
    assert read_sound(path, Reading(int16=True)).values.tolist() == STEPS.tolist()
    assert sound.notes == ()


def test_ogg_is_read_too(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(4000) / 10)
    sound = read_sound(written(tmp_path / "clip.ogg", tone))
    assert len(sound.values) == 4000
    assert float((sound.values - torch.from_numpy(tone)).abs().max()) < 0.05


def test_rates(tmp_path: Path, clip: Path) -> None:
    assert read_sound(clip, Reading(rate=RATE)).rate == RATE
    with pytest.raises(InputError, match="8000 samples per second, wanted 16000"):
        read_sound(clip, Reading(rate=16000))
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(1600) / 16000)
    slower = read_sound(written(tmp_path / "tone.wav", tone, 16000, "DOUBLE"), Reading(rate=RATE, resample=True))
    assert (slower.rate, len(slower.values)) == (RATE, 800)
    wanted = 0.5 * np.sin(2 * np.pi * 300 * np.arange(800) / RATE)
    assert float((slower.values - torch.from_numpy(wanted))[100:-100].abs().max()) < 1e-3
    with pytest.raises(InputError, match="a network takes one rate"):
        read_sounds([clip, tmp_path / "tone.wav"])
    assert [s.rate for s in read_sounds([clip, tmp_path / "tone.wav"], Reading(rate=RATE, resample=True))] == [RATE] * 2


def test_channels(tmp_path: Path) -> None:
    path = written(tmp_path / "two.wav", np.stack([STEPS, -STEPS], 1) / 32768)
    with pytest.raises(InputError, match="2 channels, wanted one"):
        read_sound(path)
    assert read_sound(path, Reading(channel=1, int16=True)).values.tolist() == (-STEPS).tolist()
    with pytest.raises(InputError, match="no channel 2"):
        read_sound(path, Reading(channel=2))


def test_cuts(clip: Path) -> None:
    assert read_sound(clip, Reading(cut=(0.01, 0.02), int16=True)).values.tolist() == STEPS[80:160].tolist()
    assert len(read_sound(clip, Reading(cut=(0.0, 0.05))).values) == 400
    for segment in ((0.04, 0.06), (0.01, 0.01001)):
        with pytest.raises(InputError, match=r"lasts 0\.05 s"):
            read_sound(clip, Reading(cut=segment))


def test_clipped_samples_are_noted(tmp_path: Path) -> None:
    loud = np.clip(1.5 * np.sin(np.arange(400) / 20), -1, 1)
    for subtype in ("PCM_16", "PCM_U8", "FLOAT"):
        (note,) = read_sound(written(tmp_path / "loud.wav", loud, subtype=subtype)).notes
        assert "seems to be clipped" in note
    once = np.sin(np.arange(400) / 20) * 0.9
    once[50] = 1.0
    assert read_sound(written(tmp_path / "once.wav", once)).notes == ()


def test_what_cannot_be_read(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    (tmp_path / "empty").mkdir()
    written(tmp_path / "nothing.wav", np.zeros(0))
    broken = np.zeros(10)
    broken[3] = np.nan
    written(tmp_path / "nan.wav", broken, subtype="FLOAT")
    for name, words in {
        "gone.wav": "does not exist",
        "text.wav": "cannot be read as audio",
        "nothing.wav": "no samples",
        "nan.wav": "sample 3 is NaN",
        "empty": "holds no .wav",
    }.items():
        with pytest.raises(InputError, match=words):
            read_sounds([tmp_path / name])
    for wrong in ({"rate": 0}, {"resample": True}, {"cut": (0.2, 0.1)}, {"cut": (-1.0, 0.1)}, {"cut": (0.0, float("nan"))}):
        with pytest.raises(UsageError):
            Reading(**wrong)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UsageError, match=r"pip install soundfile .*pip install '\.\[audio\]'"):
        read_sound(clip)


def test_folders_are_read_by_name(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", "c.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in sound_files([tmp_path, tmp_path / "c.txt"])] == ["a.FLAC", "b.wav", "c.txt"]


def test_sounds_in_subfolders_are_counted(tmp_path: Path, clip: Path) -> None:
    assert passed_over([tmp_path, clip]) == ()
    for name in ("a/b.wav", "a/c/d.FLAC", "a/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (note,) = passed_over([tmp_path, clip])
    assert note.startswith(f"{tmp_path}: 2 sounds in its subfolders were passed over")
    clip.unlink()
    with pytest.raises(InputError, match="its subfolders hold 2, and are not read"):
        sound_files([tmp_path])


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/x\xe9.wav"))
    try:
        path.write_bytes(written(tmp_path / "clip.wav", STEPS / 32768).read_bytes())
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(read_sound(path).values) == len(STEPS)
    (tmp_path / "labels.csv").write_bytes(b"file,label\nx\xe9.wav,4\n")
    assert read_labels(tmp_path / "labels.csv", [path]) == [4]


def test_labels(tmp_path: Path) -> None:
    table, files = tmp_path / "labels.csv", [tmp_path / "x" / "a.wav", tmp_path / "b.wav"]

    def labels(text: str) -> list[int]:
        table.write_text(text, encoding="utf-8-sig")
        return read_labels(table, files)

    assert labels("file,label\nb.wav,7\na.wav,2\nc.wav,1\n") == [2, 7]
    assert labels(f"label,file,speaker\n3,{files[0]},x\n4,a.wav,x\n5,b.wav,y\n") == [3, 5]
    for text, words in {
        "": "nothing",
        "name,label\na.wav,1\n": "file,label",
        "file,label\na.wav,seven\n": "line 2",
        "file,label\na.wav,1\nb.wav\n": "line 3",
        "file,label\na.wav,1\na.wav,2\n": "the labels 1 and 2",
        "file,label\na.wav,1\n": "no label for .*b.wav",
    }.items():
        with pytest.raises(InputError, match=words):
            labels(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "gone.csv", files)
