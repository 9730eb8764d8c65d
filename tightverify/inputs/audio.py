"""Sounds from files: WAV, FLAC, OGG and whatever else soundfile reads, as one channel of samples each; and their labels.

Nothing is guessed: a file of several channels, or of another sampling rate than wanted, is refused unless it was said what to
take of it. Samples are what the file holds, divided by full scale (so that they lie in [-1, 1]), or in units of 16 bits.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightverify.errors import InputError, UsageError
from tightverify.inputs.classes import class_of

SUFFIXES = (".wav", ".flac", ".ogg")
"""Of the files that are taken from a folder."""
FULL_SCALE_16 = 32768.0
AT_FULL_SCALE = 1 - 2.0**-7
"""From here on a sample counts as one at full scale: 8 bits have 127 / 128 for it."""
WANTED_LABELS = "wanted a CSV file with the heading file,label and a line for each clip, such as seven_03.wav,7"


@dataclass(frozen=True)
class Reading:
    """What to take of a file: the sampling rate wanted in hertz, one channel, a segment in seconds, the unit of samples.

    A file of another rate than `rate` is refused, unless `resample` is set. Channels count from 0; None takes the only one.
    `cut` is a segment's start and end. `int16` gives samples in units of 16 bits, -32768 to 32767, in place of -1 to 1.
    """

    rate: int | None = None
    resample: bool = False
    channel: int | None = None
    cut: tuple[float, float] | None = None
    int16: bool = False

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate < 1:
            raise UsageError(f"the sampling rate is {self.rate} Hz; wanted 1 or more, such as 8000")
        if self.resample and self.rate is None:
            raise UsageError("clips are to be resampled, but not to what rate; give the sampling rate that the model wants")
        if self.cut is not None and not 0 <= self.cut[0] < self.cut[1] < float("inf"):
            raise UsageError(
                f"the cut is {self.cut[0]:g} to {self.cut[1]:g} seconds; wanted a start of 0 or more, then a later end"
            )


@dataclass(frozen=True, eq=False)
class Sound:
    """A clip: its samples (n,) in float64, its sampling rate, the file that it is from, and what a user may want to know."""

    values: Tensor
    rate: int
    path: Path
    notes: tuple[str, ...] = ()


def read_sound(path: str | Path, reading: Reading | None = None) -> Sound:
    """One file, as asked."""
    path, reading = Path(path), reading or Reading()
    everything, rate = decoded(path)
    values = one_channel(everything, reading.channel, path)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(f"{path}: sample {bad[0]} is NaN or infinite; every sample must be a finite number")
    notes = clipping(values, path)
    if reading.rate is not None and rate != reading.rate:
        if not reading.resample:
            raise InputError(
                f"{path} has {rate} samples per second, wanted {reading.rate}; resample it, here (--resample, or "
                "Reading(rate, resample=True)) or with the tool that made the training data"
            )
        values, rate = resampled(values, rate, reading.rate), reading.rate
    if reading.cut is not None:
        values = cut(values, rate, reading.cut, path)
    if reading.int16:
        values = values * FULL_SCALE_16
    return Sound(torch.from_numpy(np.ascontiguousarray(values)), rate, path, notes)


def read_sounds(paths: Sequence[str | Path], reading: Reading | None = None) -> list[Sound]:
    """Several files and folders of them, in order, folders by file name; all must have one sampling rate."""
    found = [read_sound(path, reading) for path in sound_files(paths)]
    other = next((sound for sound in found if sound.rate != found[0].rate), None)
    if other is not None:
        raise InputError(
            f"{found[0].path} has {found[0].rate} samples per second, {other.path} has {other.rate}: a network takes one rate; "
            "say which (--rate, or Reading(rate)) and resample the others (--resample)"
        )
    return found


def sound_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files themselves, with those of folders in place of the folders."""
    found: list[Path] = []
    for path in map(Path, paths):
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not files:
                below = f" (its subfolders hold {inside(path)}, and are not read)" if inside(path) else ""
                raise InputError(
                    f"the folder {path} holds no {', '.join(SUFFIXES)} files{below}; give one with clips, or files"
                )
        found.extend(files)
    return found


def passed_over(paths: Sequence[str | Path]) -> tuple[str, ...]:
    """A note for each folder that has sounds in folders of its own, which are not read."""
    notes = []
    for path in map(Path, paths):
        count = inside(path) if path.is_dir() else 0
        if count:
            were = "1 sound in its subfolders was" if count == 1 else f"{count} sounds in its subfolders were"
            notes.append(f"{path}: {were} passed over; name the folders that hold them to have them read")
    return tuple(notes)


def inside(folder: Path) -> int:
    """How many sounds there are in a folder's subfolders."""
    below = (name for place, _, names in os.walk(folder) if Path(place) != folder for name in names)
    return sum(Path(name).suffix.lower() in SUFFIXES for name in below)


def unchecked(reading: Reading, sound: Sound) -> tuple[str, ...]:
    """A note where no rate was stated: a model does not say which it was trained on, so that any would have been taken."""
    if reading.rate is not None:
        return ()
    return (
        f"no sampling rate was stated: whether the model wants {sound.rate} samples per second, which {sound.path} has, was "
        "not checked; say what it wants with --rate",
    )


def decoded(path: Path) -> tuple[NDArray[np.float64], int]:
    """All samples (n, channels), and the rate."""
    try:
        import soundfile
    except ImportError as error:
        raise UsageError(
            "reading audio files needs soundfile; install it: pip install soundfile (or, in a clone: pip install '.[audio]')"
        ) from error
    if not path.is_file():
        raise InputError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; wanted an audio file")
    try:
        with path.open("rb") as file:  # opened here: soundfile takes no names that are not UTF-8
            values, rate = soundfile.read(file, dtype="float64", always_2d=True)
    except (OSError, soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read as audio ({error}); wanted WAV, FLAC or OGG") from error
    if not len(values):
        raise InputError(f"{path} holds no samples; leave it out")
    return values, int(rate)


def one_channel(values: NDArray[np.float64], channel: int | None, path: Path) -> NDArray[np.float64]:
    count = values.shape[1]
    if channel is None and count > 1:
        raise InputError(
            f"{path} has {count} channels, wanted one; say which to take (--channel 0, or Reading(channel=0)), or mix them down"
        )
    if channel is not None and not 0 <= channel < count:
        raise InputError(f"{path} has no channel {channel}; it has {count}, counted from 0")
    return values[:, channel or 0]


def clipping(values: NDArray[np.float64], path: Path) -> tuple[str, ...]:
    """A note where neighbours lie at full scale: the recording was too loud, and was cut off there."""
    full = np.abs(values) >= AT_FULL_SCALE
    both = np.flatnonzero(full[1:] & (values[1:] == values[:-1]))
    if not len(both):
        return ()
    return (f"{path} seems to be clipped: {int(full.sum())} samples lie at full scale, the first at {int(both[0])}",)


def resampled(values: NDArray[np.float64], rate: int, wanted: int) -> NDArray[np.float64]:
    """By a polyphase filter (scipy's own)."""
    from scipy.signal import resample_poly

    ratio = Fraction(wanted, rate)
    found: NDArray[Any] = resample_poly(values, ratio.numerator, ratio.denominator)
    return found.astype(np.float64)


def cut(values: NDArray[np.float64], rate: int, segment: tuple[float, float], path: Path) -> NDArray[np.float64]:
    start, stop = (round(second * rate) for second in segment)
    if stop > len(values) or start >= stop:
        raise InputError(
            f"{path} lasts {len(values) / rate:g} s; the segment from {segment[0]:g} s to {segment[1]:g} s is not in it: cut "
            "less, or leave the clip out"
        )
    return values[start:stop]


def read_labels(path: Path, files: Sequence[Path], classes: Sequence[str] = ()) -> list[int]:
    """The class numbers of clips by their files' names, or by their paths as given; labels may be names of classes."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); {WANTED_LABELS}") from error
    if not lines or not {"file", "label"} <= set(lines[0]):
        raise InputError(f"{path} has the heading {','.join(lines[0]) if lines else '(nothing)'}; {WANTED_LABELS}")
    labels: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        name, word = (line["file"] or "").strip(), (line["label"] or "").strip()
        label = class_of(word, classes, f"line {number} of {path}")
        if labels.setdefault(name, label) != label:
            raise InputError(f"{path} gives {name} the labels {labels[name]} and {label}; leave one of them")
    unknown = [file for file in files if str(file) not in labels and file.name not in labels]
    if unknown:
        raise InputError(
            f"{path} has no label for {unknown[0]}{f' and {len(unknown) - 1} others' if len(unknown) > 1 else ''}; "
            "add a line for each clip, or leave the clips out"
        )
    return [labels[str(file) if str(file) in labels else file.name] for file in files]
