"""Sentences from files of text, and the words that files name: a vocabulary, and what may take a word's place.

Words are what blanks part, as they stand: nothing is made lower case, and no sign is cut off. Each sentence keeps its own
length.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tightverify.errors import InputError
from tightverify.inputs.classes import class_of

TEXTS = (".txt", ".csv")
"""Of files that hold sentences: one a line, or a column `text` beside another of labels."""
WANTED = "wanted a text file with a word on each line, that of token number 0 first"
WANTED_CHOICES = 'wanted JSON, {"word": ["other", "third"]}, or lines such as word: other, third'


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of a file, in the order of their numbers; `unknown` is the one that stands for all others."""

    path: Path
    words: tuple[str, ...]
    unknown: str | None = None

    @classmethod
    def read(cls, path: Path, unknown: str | None = None) -> Vocabulary:
        lines = [line.strip() for line in lines_of(path, WANTED)]
        if not lines:
            raise InputError(f"{path} is empty; {WANTED}")
        found = cls(path, tuple(lines), unknown)
        if unknown is not None and unknown not in found._numbers:
            raise InputError(f"{path} has no word {unknown!r}, which shall stand for unknown ones; name one that it has")
        return found

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in reversed(list(enumerate(self.words)))}

    def numbers(self, sentence: str, where: str) -> Tensor:
        """The token numbers (T,) of a sentence."""
        words = sentence.split()
        if not words:
            raise InputError(f"{where} is an empty sentence; leave it out")
        stranger = next((word for word in words if word not in self._numbers), None)
        if stranger is not None and self.unknown is None:
            raise InputError(
                f"{where} has the word {stranger!r}, which is not in {self.path}; leave it out, or say with --unknown which "
                "word of the vocabulary stands for others"
            )
        other = self._numbers.get(self.unknown or "", -1)
        return torch.tensor([self._numbers.get(word, other) for word in words])


@dataclass(frozen=True)
class Line:
    """A sentence of a file, where it stands, and its label, if it has one."""

    text: str
    where: str
    label: int | None


def read_text(path: Path, classes: Sequence[str] = ()) -> list[Line]:
    """The sentences of a file, with labels or without."""
    lines = lines_of(path, "wanted a sentence on each line, or a CSV file with the heading text,label")
    if path.suffix.lower() != ".csv":
        return [Line(line, f"{path}:{number}", None) for number, line in enumerate(lines, start=1)]
    rows = list(csv.DictReader(lines))
    if not rows or "text" not in rows[0]:
        raise InputError(f"{path} has the heading {','.join(rows[0]) if rows else '(nothing)'}; wanted text,label, or text")
    found = []
    for number, row in enumerate(rows, start=2):
        where, word = f"{path}:{number}", (row.get("label") or "").strip()
        found.append(Line(row["text"] or "", where, class_of(word, classes, where) if "label" in row else None))
    return found


def read_choices(path: Path) -> dict[str, list[str]]:
    """For words those that may take their places."""
    text = "\n".join(lines_of(path, WANTED_CHOICES))
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is no JSON ({error}); {WANTED_CHOICES}") from error
        if not all(isinstance(each, list) and all(isinstance(word, str) for word in each) for each in found.values()):
            raise InputError(f"{path} has something else than lists of words; {WANTED_CHOICES}")
        return dict(found)
    choices: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        word, colon, others = line.partition(":")
        if not line.strip():
            continue
        if not colon or not word.strip():
            raise InputError(f"line {number} of {path} is {line!r}; {WANTED_CHOICES}")
        choices[word.strip()] = [other.strip() for other in others.split(",") if other.strip()]
    return choices


def lines_of(path: Path, wanted: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {wanted}") from error
