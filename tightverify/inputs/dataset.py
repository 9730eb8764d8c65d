"""Where the questions of a run come from: arrays in a file, or clips."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tightverify.api.certify import stream
from tightverify.api.checks import as_inputs, as_labels, fitting
from tightverify.api.load import load
from tightverify.errors import InputError, UsageError
from tightverify.inputs.audio import Reading, passed_over, read_labels, read_sounds, unchecked
from tightverify.inputs.clips import AnyLength, Clips, said_of
from tightverify.inputs.npz import ARRAYS, read_inputs
from tightverify.models.answers import rightly_answered
from tightverify.models.model import Model
from tightverify.region import Perturbation
from tightverify.settings import Settings
from tightverify.spec import classify_as
from tightverify.stages.progress import Callback
from tightverify.verify import Result


@dataclass(frozen=True, eq=False)
class Inputs:
    """A model and inputs that fit it, checked; `numbers` are the inputs' positions in their file."""

    model: Model
    x: Tensor
    y: Tensor | None
    numbers: Tensor

    def __getitem__(self, chosen: Tensor | slice) -> Inputs:
        return replace(self, x=self.x[chosen], y=None if self.y is None else self.y[chosen], numbers=self.numbers[chosen])

    def __len__(self) -> int:
        return len(self.x)

    def right(self, top: int) -> Tensor:
        """(N,): which inputs the model itself classifies as their labels say."""
        if self.y is None:
            return torch.ones(len(self), dtype=torch.bool)
        wanted = classify_as(self.y, self.model.graph.output_size, top)
        return rightly_answered(self.model, wanted, self.x)

    def stream(self, region: Perturbation, settings: Settings, top: int, batch: int, watch: Callback) -> Iterator[Result]:
        return stream(self.model, self.x, self.y, region, settings, None, top, batch, watch, self.numbers)

    def balls(self, region: Perturbation) -> list[tuple[float, float]]:
        """Radius and norm of each input's own region; a radius is infinite where it is no ball."""
        return region.around(self.x).balls

    @property
    def notes(self) -> tuple[str, ...]:
        return self.model.notes


def read(model: Path, inputs: Path, batch_axis: int | None = None, top: int = 1) -> Inputs:
    """Both files, every input and label checked, those that a limit will leave out among them."""
    arrays = read_inputs(inputs)
    x = as_inputs(arrays[0])
    y = None if arrays[1] is None else as_labels(arrays[1], len(x))
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    if y is not None:
        classify_as(torch.stack([y.min(), y.max()]), loaded.graph.output_size, top)
    return Inputs(loaded, x, y, torch.arange(len(x)))


def read_clips(model: Path, paths: Sequence[Path], reading: Reading, labels: Path | None, batch_axis: int | None) -> Clips:
    """Audio files, and their labels if there is a file of them, in the shape that an ONNX model takes."""
    sounds = read_sounds(paths, reading)
    network, files = AnyLength(model, batch_axis), [sound.path for sound in sounds]
    y = None if labels is None else read_labels(labels, files)
    clips: list[Tensor] = []
    for sound in sounds:
        with said_of(str(sound.path)):
            clips.append(sound.values.view(network.shaped(len(sound.values))))
    notes = (*passed_over(paths), *unchecked(reading, sounds[0]), *(note for sound in sounds for note in sound.notes))
    return Clips.of(network, clips, y, [str(file) for file in files], notes=notes)


def correct(inputs: Inputs | Clips, top: int, limit: int, batch: int) -> tuple[Inputs | Clips, int]:
    """The first inputs that the model classifies as their labels say, and how many others came before the last of them."""
    if inputs.y is None:
        return inputs[:limit], 0
    found: list[int] = []
    for start in range(0, len(inputs), batch):
        found.extend((start + torch.nonzero(inputs[start : start + batch].right(top)).flatten()).tolist())
        if len(found) >= limit:
            break
    chosen = torch.tensor(found[:limit], dtype=torch.long)
    seen = int(chosen[-1]) + 1 if len(found) >= limit else len(inputs)
    return inputs[chosen], seen - len(chosen)


def read_given(
    model: Path, inputs: tuple[Path, ...], reading: Reading, labels: Path | None, batch_axis: int | None, top: int
) -> Inputs | Clips:
    """Arrays from a file, or clips from audio files and folders."""
    from tightverify.inputs.audio import SUFFIXES, Reading
    from tightverify.inputs.dataset import read, read_clips

    sounds = [path for path in inputs if path.is_dir() or path.suffix.lower() in SUFFIXES]
    if len(sounds) == len(inputs):
        return read_clips(model, inputs, reading, labels, batch_axis)
    if len(inputs) > 1:
        other = next(path for path in inputs if path not in sounds)
        raise UsageError(
            f"{other} was given beside others; wanted one {ARRAYS} file of arrays, or audio files ({', '.join(SUFFIXES)}) and "
            "folders of them"
        )
    if inputs[0].is_file() and inputs[0].suffix.lower() not in (ARRAYS, ".npy") and not zipfile.is_zipfile(inputs[0]):
        raise InputError(
            f"{inputs[0]} is not an {ARRAYS} file of arrays, and of audio files only {', '.join(SUFFIXES)} are read; convert it"
        )
    if reading != Reading() or labels is not None:
        raise UsageError(f"options for audio files were given with {inputs[0]}, which is none; leave them out, or give clips")
    return read(model, inputs[0], batch_axis, top)


def files_read(inputs: tuple[Path, ...], *others: Path | None) -> list[Path]:
    """All files that a run reads, those in folders among them: results must not replace them."""
    found = [path for path in others if path is not None]
    for path in inputs:
        found.extend(path.iterdir() if path.is_dir() else [path])
    return found
