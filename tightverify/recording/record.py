"""The file of one input's evidence as it grows: entries are written as they come, so that memory stays small.

A file is a zip of NumPy arrays, as `np.load` reads it. `entries` holds JSON, a line for each entry: its kind and its values.
Arrays and floats are in blocks of one type, one after the other, and the entry says where: [block, start, shape]. `format`
is the format's number.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.evidence.entries import FORMAT, NAMES, BoundingPass, Entry, Floats

BLOCK = 2**23
"""bytes of one type that are gathered before they are written"""
QUICK = 1
"""zlib's level: evidence is written while people wait"""


@dataclass(frozen=True)
class Earlier:
    """What earlier runs found of an input, beside their search tree: a folder of parts, how many count, and their passes."""

    folder: Path
    parts: int = 0
    bounding_passes: int = 0

    @property
    def files(self) -> list[Path]:
        return [self.folder / f"{k}.npz" for k in range(self.parts)]


class Record:
    """Writes one input's entries; the file has its name only when it is complete.

    With parts of `earlier` runs the file goes on from these, and what this one finds can be kept beside them. Once the disk has
    refused something nothing more is written, so that the search goes on to its verdict: it is said when the file is to be kept
    or completed.
    """

    def __init__(self, path: Path, earlier: Earlier | None = None) -> None:
        self._path, self._earlier = path, earlier
        self._beside = path.with_name(path.name + ".part") if earlier is None else earlier.folder / "now.part"
        self.stage = ""
        self._failed: UsageError | None = None
        self._passes = 0 if earlier is None else earlier.bounding_passes
        self._open()

    @property
    def goes_on(self) -> bool:
        """Whether there are parts already."""
        return self._earlier is not None and self._earlier.parts > 0

    def _open(self) -> None:
        """Begin a part, the only one where none are kept."""
        self._lines: list[str] = []
        self._blocks: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self._lengths: dict[str, int] = defaultdict(int)
        self._written: dict[str, int] = defaultdict(int)
        with self._disk():
            self._beside.parent.mkdir(parents=True, exist_ok=True)
            self._file = zipfile.ZipFile(self._beside, "w", zipfile.ZIP_DEFLATED, compresslevel=QUICK)

    def _close(self) -> None:
        """Complete the part."""
        for name in list(self._blocks):
            self._write(name)
        self._member("format", np.array(FORMAT))
        self._member("entries", np.frombuffer("\n".join(self._lines).encode(), dtype=np.uint8))
        if self._failed is not None:
            raise self._failed
        with self._disk():
            self._file.close()

    def keep(self) -> tuple[int, int]:
        """Make what was found by now a part from which another run can go on, where such are kept.

        How many parts there are then, and how many bounding passes in them.
        """
        if self._earlier is None:
            return 0, 0
        self._close()
        self._earlier = replace(self._earlier, parts=self._earlier.parts + 1, bounding_passes=self._passes)
        with self._disk():
            os.replace(self._beside, self._earlier.files[-1])
        with suppress(UsageError):  # this part is kept; that there is no next one is said when that one is to be
            self._open()
        return self._earlier.parts, self._earlier.bounding_passes

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Complete the file; what was cut short is removed."""
        try:
            if kind is None:
                self._complete()
        finally:
            with suppress(OSError):  # a full disk takes no end of what is removed anyway
                self._file.close()
            with suppress(OSError):
                self._beside.unlink(missing_ok=True)
            if self._earlier is not None:
                with suppress(OSError):  # it stays where there are parts
                    self._earlier.folder.rmdir()

    def _complete(self) -> None:
        self._close()
        with said_of_disk(self._path.parent):
            if self._earlier is None:
                os.replace(self._beside, self._path)
            else:
                join([*self._earlier.files, self._beside], self._path)

    def new_pass(self, parent: int = -1, node: int = -1, neuron: int = -1, value: float = 0.0, above: bool = False) -> int:
        """The number of a new bounding pass, in the present stage: of the whole region, or of a half of a parent's part."""
        self.add(BoundingPass(self._passes, self.stage, parent, node, neuron, value, above))
        self._passes += 1
        return self._passes - 1

    def add(self, entry: Entry) -> None:
        if self._failed is not None:
            return
        values = {each.name: self._placed(getattr(entry, each.name)) for each in fields(entry)}
        self._lines.append(json.dumps([NAMES[type(entry)], values], allow_nan=False))

    def _placed(self, value: Any) -> Any:
        """A value as it is, or where its numbers are."""
        if not isinstance(value, float | np.ndarray):
            return value
        array = np.asarray(value)
        name = array.dtype.name
        place = [self._block(name), self._lengths[name], list(array.shape)]
        self._blocks[name].append(array.flatten())  # a copy: whose numbers they are may change them
        self._lengths[name] += array.size
        if self._lengths[name] * array.itemsize > BLOCK:
            self._write(name)
        return place

    def _block(self, name: str) -> str:
        """The name of the block in which numbers of a type are gathered; in no other part there is one of that name."""
        part = 0 if self._earlier is None else self._earlier.parts
        return f"{name}-{part}-{self._written[name]}"

    def _write(self, name: str) -> None:
        if self._lengths[name]:
            self._member(self._block(name), np.concatenate(self._blocks[name]))
        self._blocks[name].clear()
        self._lengths[name] = 0
        self._written[name] += 1

    def _member(self, name: str, array: NDArray[Any]) -> None:
        if self._failed is None:
            with suppress(UsageError), self._disk():
                put(self._file, name, array)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """What the disk refuses here is remembered, as well as said."""
        try:
            with said_of_disk(self._beside.parent):
                yield
        except UsageError as error:
            self._failed = error
            raise


@contextmanager
def said_of_disk(folder: Path) -> Iterator[None]:
    """What the disk refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"evidence cannot be written to {folder} ({error.strerror}); make room there, or give another folder, and run what "
            "is not in it"
        ) from error


def put(file: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """One more array in a file."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def join(parts: Sequence[Path], path: Path) -> None:
    """One file of all the parts' entries and blocks."""
    beside = path.with_name(path.name + ".part")
    try:
        _join(parts, beside)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _join(parts: Sequence[Path], path: Path) -> None:
    lines = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=QUICK) as file:
        for part in parts:
            with zipfile.ZipFile(part) as source:
                for name in source.namelist():
                    with source.open(name) as member:
                        if name == "entries.npy":
                            lines.append(np.lib.format.read_array(member, allow_pickle=False).tobytes())
                        if name in ("entries.npy", "format.npy"):
                            continue
                        with file.open(name, "w", force_zip64=True) as into:
                            shutil.copyfileobj(member, into)
        put(file, "format", np.array(FORMAT))
        found = b"\n".join(filter(None, lines))  # a part has no entries where nothing was found between two moments
        put(file, "entries", np.frombuffer(found, dtype=np.uint8))


def evidence_file(folder: Path, number: int) -> Path:
    """Where an input's evidence is."""
    return folder / f"{number}.npz"


def plain(values: Tensor) -> Floats:
    return values.detach().cpu().numpy()
