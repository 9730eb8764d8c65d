"""What the command line says of how a model is read: its batch axis, the inputs that are fixed, the output, the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightverify.api.load import LoadOptions
from tightverify.errors import InputError, UsageError
from tightverify.inputs.npz import ARRAYS, read_named

WANTED = f"wanted NAME=NUMBER or NAME=FILE{ARRAYS}, such as --fix state=0,sr=16000"


@dataclass(frozen=True)
class Importing:
    """The words as they were given; files are read when they are wanted."""

    batch_axis: int | None = None
    fix: tuple[str, ...] = ()
    output: str | None = None
    frame: str | None = None

    @property
    def keywords(self) -> LoadOptions:
        """What `load` takes."""
        fixed = {name: fixed_at(name, value) for name, value in self.pairs}
        return {"batch_axis": self.batch_axis, "fix": fixed, "output": self.output, "frame": self.frame}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of inputs, and what they are fixed at."""
        found: list[tuple[str, str]] = []
        for word in (part.strip() for words in self.fix for part in words.split(",")):
            name, equals, value = word.partition("=")
            if not (name and equals and value):
                raise UsageError(f"--fix {word or repr('')} cannot be read; {WANTED}")
            if name in dict(found):
                raise UsageError(f"--fix was given twice for '{name}'; give it once")
            found.append((name, value))
        return found

    @property
    def files(self) -> list[Path]:
        """Those with what inputs are fixed at."""
        return [Path(value) for _, value in self.pairs if number(value) is None]

    @property
    def said(self) -> dict[str, Any]:
        """What is not as it is if nothing is said, in plain values."""
        told = {"batch_axis": self.batch_axis, "fix": dict(self.pairs), "output": self.output, "frame": self.frame}
        return {name: value for name, value in told.items() if value not in (None, {})}


PLAIN = Importing()
"""Nothing is said."""


def number(word: str) -> int | float | None:
    """A number, whole if it is written so; None if it is none."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return None


def fixed_at(name: str, word: str) -> int | float | NDArray[Any]:
    """The number, or the array of a file: that of the input's name, or the only one."""
    found = number(word)
    if found is not None:
        return found
    path = Path(word)
    if path.suffix != ARRAYS:
        raise UsageError(f"--fix {name}={word} cannot be read; {WANTED}")
    return read_named(path, (chosen(name, path),), f"wanted an array {name}: np.savez(path, {name}=array)")[chosen(name, path)]


def chosen(name: str, path: Path) -> str:
    """The name of the array that is meant."""
    names: Sequence[str] = ()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
    except Exception:  # whatever is wrong with the file is said when it is read
        return name
    if name not in names and len(names) > 1:
        raise InputError(f"{path} has the arrays {', '.join(names)}, and none for the input '{name}'; give one of that name")
    return names[0] if name not in names and names else name
