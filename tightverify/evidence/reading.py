"""Evidence read back: the entries of a file, in their order. Nothing in a file is ever run."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightverify.errors import InputError
from tightverify.evidence.entries import FORMAT, KINDS, Entry


def read_evidence(path: Path | str) -> tuple[Entry, ...]:
    """The entries of a file that `certify` wrote."""
    if (number := format_of(path)) != FORMAT:
        raise InputError(
            f"{path} is evidence of format {number}; wanted format {FORMAT}, that of this version: "
            "write it anew with certify --evidence"
        )
    with readable(path):
        with np.load(path, allow_pickle=False) as file:
            blocks = {name: file[name] for name in file.files}
        lines = [json.loads(line) for line in bytes(blocks.pop("entries")).decode().splitlines()]
        return tuple(KINDS[kind](**{name: value_of(blocks, value) for name, value in values.items()}) for kind, values in lines)


def format_of(path: Path | str) -> int:
    """The number of a file's format; the first one was written nowhere."""
    with readable(path), np.load(path, allow_pickle=False) as file:
        return int(file["format"]) if "format" in file.files else 1


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Says what is wrong where a file is none of evidence."""
    try:
        yield
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as evidence ({error}); wanted a file of certify --evidence") from error


def value_of(blocks: dict[str, NDArray[Any]], value: Any) -> Any:
    """A value as it is, or the numbers at its place."""
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)):
        return value
    block, start, shape = value
    if 0 in shape and block not in blocks:
        return np.zeros(shape, dtype=block.partition("-")[0])
    found = blocks[block][start : start + math.prod(shape)].reshape(shape)
    return found if shape else float(found)
