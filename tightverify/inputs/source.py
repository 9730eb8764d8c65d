"""Where the inputs of a run come from: a file of arrays, or audio files and folders of them."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from tightverify.api.checks import as_rows
from tightverify.errors import InputError, UsageError
from tightverify.inputs.arrays import Arrays, read_arrays
from tightverify.inputs.audio import SUFFIXES, Reading, passed_over, read_labels, read_sounds, sound_files, unchecked
from tightverify.inputs.classes import read_classes
from tightverify.inputs.clips import AnyLength, Clips, said_of
from tightverify.inputs.dataset import DataSet
from tightverify.inputs.importing import Importing
from tightverify.inputs.npz import ARRAYS, read_inputs, read_lengths, read_rows
from tightverify.inputs.text import TEXTS, Vocabulary, read_text
from tightverify.spec import linear_property
from tightverify.statements import Statement


@dataclass(frozen=True)
class Source:
    """The files of a model, of inputs and of their labels, and how they are to be read."""

    model: Path
    inputs: tuple[Path, ...]
    labels: Path | None
    importing: Importing
    reading: Reading
    rows: Path | None = None
    names: Path | None = None
    vocabulary: Path | None = None
    unknown: str | None = None
    statement: Statement | None = None
    perturbed: tuple[str, ...] = ()

    def stating(self, statement: Statement | None) -> Source:
        """The same, asked of the outputs by a number if there is one."""
        if self.rows is not None and statement is not None:
            raise UsageError(f"--rows and {statement.switch} were both given; ask for one of them")
        return replace(self, statement=statement)

    @property
    def files(self) -> list[Path]:
        """All files that a run reads, those in folders among them: results must not replace them."""
        found = [path for path in (self.model, self.labels, self.rows, self.names, self.vocabulary) if path is not None]
        found.extend(self.importing.files)
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
        """The files that inputs, labels and rows are read from."""
        found = sound_files(self.inputs) if any(path.is_dir() for path in self.inputs) else list(self.inputs)
        others = (self.labels, self.rows, self.names, self.vocabulary, *self.importing.files)
        return [*found, *(path for path in others if path is not None)]

    @property
    def said(self) -> dict[str, Any]:
        """How files are read, in plain values: what is not as it is if nothing is said."""
        told = {**asdict(self.reading), "rows": None if self.rows is None else self.rows.name}
        told["statement"] = None if self.statement is None else repr(self.statement)
        told["unknown"] = self.unknown
        usual = {**asdict(Reading()), "rows": None, "statement": None, "unknown": None}
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in told.items() if value != usual[name]}
        return {**self.importing.said, **own}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, if there are any."""
        return () if self.names is None else read_classes(self.names)

    @cached_property
    def words(self) -> Vocabulary | None:
        """The names of the words, if there are any."""
        return None if self.vocabulary is None else Vocabulary.read(self.vocabulary, self.unknown)

    def read(self, top: int) -> DataSet:
        """Inputs, their labels, or the rows that are asked for in place of these."""
        found = self._inputs(top)
        if self.rows is None and self.statement is None and not self.classes:
            return found
        outputs = next(found.groups()).model.graph.output_size
        if self.classes and len(self.classes) != outputs:
            raise InputError(f"{self.names} names {len(self.classes)} classes; {self.model} has {outputs}")
        if self.rows is None and self.statement is None:
            return found
        name = "--rows" if self.statement is None else self.statement.switch
        if top != 1:
            raise UsageError(f"--top {top} was given beside {name}, which asks nothing of labels; leave one of them out")
        if self.statement is not None:
            return replace(found, y=None, rows=self.statement)
        assert self.rows is not None
        return replace(found, y=None, rows=linear_property(*as_rows(read_rows(self.rows)), len(found), outputs))

    def _inputs(self, top: int) -> Arrays | Clips:
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
        if inputs[0].suffix.lower() in TEXTS:
            return self.sentences()
        if inputs[0].is_file() and inputs[0].suffix.lower() not in (ARRAYS, ".npy") and not zipfile.is_zipfile(inputs[0]):
            raise InputError(
                f"{inputs[0]} is not an {ARRAYS} file of arrays, and of audio files only {', '.join(SUFFIXES)} are read; "
                "convert it"
            )
        if self.perturbed and self.vocabulary is not None:
            raise UsageError("--region is about inputs of floats, and --vocabulary about words; leave one of them out")
        if self.reading != Reading() or self.labels is not None:
            raise UsageError(
                f"options for audio files were given with {inputs[0]}, which is none; leave them out, or give clips"
            )
        names = () if self.words is None else self.words.words
        lengths = None if self.perturbed else read_lengths(inputs[0])
        if lengths is None:
            return read_arrays(self.model, inputs[0], self.importing, top, self.classes, names, self.perturbed)
        tokens, y = read_inputs(inputs[0], self.classes)
        network = AnyLength(self.model, vocabulary=names, **self.importing.keywords)
        called = [f"input {k}" for k in range(len(tokens))]
        return Clips.of(network, [one[:n] for one, n in zip(tokens, lengths, strict=True)], y, called)

    def sentences(self) -> Clips:
        """The sentences of a file of text, by a vocabulary."""
        if self.words is None:
            raise UsageError(f"{self.inputs[0]} holds text, and nothing says which words the model knows; give --vocabulary")
        lines = read_text(self.inputs[0], self.classes)
        tokens = [self.words.numbers(line.text, line.where) for line in lines]
        labels = [line.label for line in lines]
        y = None if None in labels else labels
        network = AnyLength(self.model, vocabulary=self.words.words, **self.importing.keywords)
        return Clips.of(network, tokens, y, [line.where for line in lines])

    def _clips(self) -> Clips:
        """Audio files, and their labels if there is a file of them, in the shape that an ONNX model takes."""
        sounds = read_sounds(self.inputs, self.reading)
        network, files = AnyLength(self.model, **self.importing.keywords), [sound.path for sound in sounds]
        y = None if self.labels is None else read_labels(self.labels, files, self.classes)
        clips: list[Tensor] = []
        for sound in sounds:
            with said_of(str(sound.path)):
                clips.append(sound.values.view(network.shaped(len(sound.values))))
        said = (note for sound in sounds for note in sound.notes)
        notes = (*passed_over(self.inputs), *unchecked(self.reading, sounds[0]), *said)
        return Clips.of(network, clips, y, [str(file) for file in files], notes=notes)

    def notes(self, given: DataSet) -> tuple[str, ...]:
        """What people should know of what was read."""
        if given.y is not None or given.rows is not None:
            return given.notes
        missing = f"{self.inputs[0]} has no y" if self.inputs[0].suffix == ARRAYS else "no labels were given"
        return (*given.notes, f"{missing}: the model's own answers are the labels")
