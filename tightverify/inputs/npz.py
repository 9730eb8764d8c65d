"""Reading `INPUTS.npz`: the arrays x and y, others by their names, and nothing that could run code."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tightverify.errors import InputError

WANTED = "wanted an .npz file with x (N, time, features) or (N, features), and y (N,): np.savez(path, x=x, y=y) writes one"


def read_inputs(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """x, and y if the file has it."""
    found = read_named(path, ("x", "y"))
    return found["x"], found.get("y")


def read_named(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """x, and of the other names those that the file has. Pickled objects are refused, never opened."""
    if not path.exists():
        raise InputError(f"{path} does not exist; {WANTED}")
    if not path.is_file():
        raise InputError(f"{path} is not a file; {WANTED}")
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise InputError(f"{path} holds a single array without a name; {WANTED}")
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} is not an .npz file, or was cut short; {WANTED}")
        with np.load(path, allow_pickle=False) as arrays:
            if "x" not in arrays.files:
                raise InputError(f"{path} has no array x, only {', '.join(arrays.files) or 'nothing'}; {WANTED}")
            return {name: _array(arrays, name, path) for name in names if name in arrays.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read to its end ({error}); write it again") from error


def _array(arrays: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = arrays[name]
    except ValueError as error:
        raise InputError(f"{name} in {path} is not an array of numbers, or was cut short ({error}); {WANTED}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputError(f"{name} in {path} does not hold numbers; {WANTED}")
    return values


ARRAYS = ".npz"
