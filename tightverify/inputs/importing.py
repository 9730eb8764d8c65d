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

WANTED_STATE = "wanted OUTPUT=INPUT, such as --state stateN=state"


@dataclass(frozen=True)
class Importing:
    """The words as they were given; files are read when they are wanted."""

    batch_axis: int | None = None
    fix: tuple[str, ...] = ()
    output: str | None = None
    frame: str | None = None
    unroll: int | None = None
    state: tuple[str, ...] = ()
    progress: bool = False

    @property
    def keywords(self) -> LoadOptions:
        """What `load` takes."""
        fixed = {name: fixed_at(name, value) for name, value in self.pairs}
        how: LoadOptions = {"batch_axis": self.batch_axis, "fix": fixed, "output": self.output, "frame": self.frame}
        if self.unroll is not None or self.state:
            how |= {"unroll": self.unroll, "state": dict(pairs_of(self.state, "--state", WANTED_STATE))}
        return {**how, "progress": True} if self.progress else how

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of inputs, and what they are fixed at."""
        return pairs_of(self.fix, "--fix", WANTED)

    @property
    def files(self) -> list[Path]:
        """Those with what inputs are fixed at."""
        return [Path(value) for _, value in self.pairs if number(value) is None]

    @property
    def said(self) -> dict[str, Any]:
        """What is not as it is if nothing is said, in plain values."""
        told: dict[str, Any] = {"batch_axis": self.batch_axis, "fix": dict(self.pairs), "output": self.output}
        told |= {"frame": self.frame, "unroll": self.unroll, "state": list(self.state)}
        return {name: value for name, value in told.items() if value not in (None, {}, [])}


PLAIN = Importing()
"""Nothing is said."""


def pairs_of(given: Sequence[str], option: str, wanted: str) -> list[tuple[str, str]]:
    """What an option says of names: NAME=VALUE, several with commas between them."""
    return named_apart([part for words in given for part in words.split(",")], option, wanted)


def named_apart(given: Sequence[str], option: str, wanted: str) -> list[tuple[str, str]]:
    """What an option says of each name, once."""
    found: list[tuple[str, str]] = []
    for word in map(str.strip, given):
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} {word or repr('')} cannot be read; {wanted}")
        if name in dict(found):
            raise UsageError(f"{option} was given twice for '{name}'; give it once")
        found.append((name, value))
    return found


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
