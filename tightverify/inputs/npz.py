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
from tightverify.inputs.classes import class_of

WANTED = "wanted an .npz file with x (N, time, features) or (N, features), and y (N,): np.savez(path, x=x, y=y) writes one"


WANTED_ROWS = "wanted an .npz file with C (R, classes) or (N, R, classes), and d (R,) or (N, R): np.savez(path, C=C, d=d)"


def read_inputs(path: Path, classes: Sequence[str] = ()) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """x, or tokens in its place, and y if the file has it; labels may be names of classes."""
    found = read_named(path, ("x", "y"), instead="tokens")
    y = labels_of(found.get("y"), classes, path)
    return found["x"] if "x" in found else found["tokens"], y


def read_several(
    path: Path, names: Sequence[str], classes: Sequence[str] = ()
) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
    """An array for each of several inputs by its name, and y if the file has it."""
    wanted = f"wanted an array for each of {', '.join(names)}, the batch first"
    found = {name: read_named(path, (name,), wanted)[name] for name in names}
    labels = read_named(path, (names[0], "y"), wanted).get("y") if "y" not in names else None
    return found, labels_of(labels, classes, path)


def labels_of(y: NDArray[Any] | None, classes: Sequence[str], path: Path) -> NDArray[Any] | None:
    """Labels as numbers, where they may be names of classes."""
    if y is None or y.dtype.kind != "U":
        return y
    words = y.reshape(-1).tolist()
    return np.array([class_of(word, classes, f"y in {path}") for word in words], dtype=np.int64).reshape(y.shape)


def read_lengths(path: Path) -> NDArray[Any] | None:
    """How many of the `tokens` (N, T) of each input are its own, where a file says that."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            there = {"tokens", "lengths"} <= set(arrays.files)
    except Exception:  # whatever is wrong with the file is said when its inputs are read
        return None
    if not there:
        return None
    found = read_named(path, ("tokens", "lengths"))
    tokens, lengths = found["tokens"], found["lengths"]
    most = tokens.shape[1] if tokens.ndim > 1 else 0
    if lengths.dtype.kind not in "iu" or lengths.shape != tokens.shape[:1] or bool(((lengths < 1) | (lengths > most)).any()):
        raise InputError(
            f"lengths in {path} do not fit tokens of shape {tokens.shape}; wanted (N,), whole numbers from 1 to {most}"
        )
    return lengths


def read_rows(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The rows C and the offsets d of a property C y + d > 0."""
    found = read_named(path, ("C", "d"), WANTED_ROWS)
    return found["C"], found.get("d")


def read_named(path: Path, names: Sequence[str], wanted: str = WANTED, instead: str = "") -> dict[str, NDArray[Any]]:
    """The first of some arrays, or another `instead`, and of the others those that the file has.

    Pickled objects are refused, never opened.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; {wanted}")
    if not path.is_file():
        raise InputError(f"{path} is not a file; {wanted}")
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise InputError(f"{path} holds a single array without a name; {wanted}")
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path} is not an .npz file, or was cut short; {wanted}")
        with np.load(path, allow_pickle=False) as arrays:
            if names[0] not in arrays.files and instead in arrays.files:
                names = (instead, *names[1:])
            if names[0] not in arrays.files:
                raise InputError(f"{path} has no array {names[0]}, only {', '.join(arrays.files) or 'nothing'}; {wanted}")
            return {name: _array(arrays, name, path, wanted) for name in names if name in arrays.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read to its end ({error}); write it again") from error


def _array(arrays: Any, name: str, path: Path, wanted: str) -> NDArray[Any]:
    try:
        values: NDArray[Any] = arrays[name]
    except ValueError as error:
        raise InputError(f"{name} in {path} is not an array of numbers, or was cut short ({error}); {wanted}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in ("biufU" if name == "y" else "biuf"):
        raise InputError(f"{name} in {path} does not hold numbers; {wanted}")
    return values


ARRAYS = ".npz"
