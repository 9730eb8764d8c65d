"""Where the inputs of a run come from: a file of arrays, or audio files and folders of them."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tightverify.errors import InputError, UsageError
from tightverify.inputs.arrays import read_arrays
from tightverify.inputs.audio import SUFFIXES, Reading, passed_over, read_labels, read_sounds, sound_files, unchecked
from tightverify.inputs.clips import AnyLength, Clips, said_of
from tightverify.inputs.dataset import DataSet
from tightverify.inputs.npz import ARRAYS


@dataclass(frozen=True)
class Source:
    """The files of a model, of inputs and of their labels, and how they are to be read."""

    model: Path
    inputs: tuple[Path, ...]
    labels: Path | None
    batch_axis: int | None
    reading: Reading

    @property
    def files(self) -> list[Path]:
        """All files that a run reads, those in folders among them: results must not replace them."""
        found = [path for path in (self.model, self.labels) if path is not None]
        for path in self.inputs:
            found.extend(path.iterdir() if path.is_dir() else [path])
        return found

    @property
    def network(self) -> list[Path]:
        """The model's file, and those in which it keeps its weights, if these are apart."""
        import onnx

        tensors = onnx.load(str(self.model), load_external_data=False).graph.initializer
        apart = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
        return [self.model, *(self.model.parent / name for name in sorted(apart))]

    @property
    def data(self) -> list[Path]:
        """The files that inputs and labels are read from."""
        found = sound_files(self.inputs) if any(path.is_dir() for path in self.inputs) else list(self.inputs)
        return found if self.labels is None else [*found, self.labels]

    @property
    def said(self) -> dict[str, Any]:
        """How files are read, in plain values: what is not as it is if nothing is said."""
        told = {"batch_axis": self.batch_axis, **asdict(self.reading)}
        usual = {"batch_axis": None, **asdict(Reading())}
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in told.items() if value != usual[name]
        }

    def read(self, top: int) -> DataSet:
        """Arrays from a file, or clips from audio files and folders."""
        inputs = self.inputs
        sounds = [path for path in inputs if path.is_dir() or path.suffix.lower() in SUFFIXES]
        if len(sounds) == len(inputs):
            return self._clips()
        if len(inputs) > 1:
            other = next(path for path in inputs if path not in sounds)
            raise UsageError(
                f"{other} was given beside others; wanted one {ARRAYS} file of arrays, or audio files "
                f"({', '.join(SUFFIXES)}) and folders of them"
            )
        if inputs[0].is_file() and inputs[0].suffix.lower() not in (ARRAYS, ".npy") and not zipfile.is_zipfile(inputs[0]):
            raise InputError(
                f"{inputs[0]} is not an {ARRAYS} file of arrays, and of audio files only {', '.join(SUFFIXES)} are read; "
                "convert it"
            )
        if self.reading != Reading() or self.labels is not None:
            raise UsageError(
                f"options for audio files were given with {inputs[0]}, which is none; leave them out, or give clips"
            )
        return read_arrays(self.model, inputs[0], self.batch_axis, top)

    def _clips(self) -> Clips:
        """Audio files, and their labels if there is a file of them, in the shape that an ONNX model takes."""
        sounds = read_sounds(self.inputs, self.reading)
        network, files = AnyLength(self.model, self.batch_axis), [sound.path for sound in sounds]
        y = None if self.labels is None else read_labels(self.labels, files)
        clips: list[Tensor] = []
        for sound in sounds:
            with said_of(str(sound.path)):
                clips.append(sound.values.view(network.shaped(len(sound.values))))
        said = (note for sound in sounds for note in sound.notes)
        notes = (*passed_over(self.inputs), *unchecked(self.reading, sounds[0]), *said)
        return Clips.of(network, clips, y, [str(file) for file in files], notes=notes)

    @property
    def missing_labels(self) -> str:
        """Why there are no labels, where there are none."""
        return f"{self.inputs[0]} has no y" if self.inputs[0].suffix == ARRAYS else "no labels were given"
