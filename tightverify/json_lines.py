"""Files of JSON lines: written a line at a time, each on the disk at once, and read back."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tightverify.disk import is_stream, lock, standard
from tightverify.errors import InputError, UsageError

Entry = TypeVar("Entry")


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


class JsonLines:
    """A file of JSON lines, each on the disk as soon as it is written. An existing file is replaced only if asked to, or gone
    on with: a last line that was cut short goes.

    No other run can write to it meanwhile. A line that cannot be written to its end is taken back: the file has whole lines
    only. What is no file but a stream (`disk.is_stream`) is written to as it is.
    """

    def __init__(self, path: Path, replace: bool = False, go_on: bool = False) -> None:
        self.path, self.count = path, 0
        self._stream = standard(path)
        self._file = None if self._stream is not None else opened(path, replace, go_on)
        self._end = self._file.seek(0, os.SEEK_END) if go_on and self._file is not None and self._file.seekable() else 0

    def write(self, values: dict[str, Any]) -> None:
        line = json.dumps(values, allow_nan=False) + "\n"
        if self._file is None:
            assert self._stream is not None
            self._stream.write(line)
            self._stream.flush()
        else:
            self._append(self._file, line.encode())
        self.count += 1

    def _append(self, file: FileIO, line: bytes) -> None:
        try:
            write_all(file, line)
        except OSError as error:
            with suppress(OSError):  # a pipe cannot take anything back
                file.seek(file.truncate(self._end))
            raise UsageError(
                f"{self.path} cannot be written any further ({error.strerror}); "
                f"the first {self.count} lines are in it: make room and run the rest, as --resume does"
            ) from error
        self._end += len(line)

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            with suppress(OSError):  # every line was written, so that closing can only repeat a failure that was reported
                self._file.close()


def opened(path: Path, replace: bool, go_on: bool = False) -> FileIO:
    """A file for this run alone, empty or of whole lines to `go_on` with, on a disk that has room for something."""
    kept = go_on and path.exists()
    try:
        if is_stream(path):
            return path.open("wb", buffering=0)
        file = path.open("a+b" if kept else "ab" if replace else "xb", buffering=0)  # emptied only if no other run writes to it
    except FileExistsError as error:
        raise UsageError(f"{path} exists already; give another name, or --force to replace it") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a file in a folder that can be") from error
    try:
        if not lock(file.fileno()):
            raise UsageError(f"another run is writing to {path}; wait for its end, or give another name")
        end = whole_lines(file) if kept else file.truncate(0)
        write_all(file, b"\n")
        file.seek(file.truncate(end))
    except OSError as error:
        if not kept:
            path.unlink()  # it is empty, and would be in the way of another try
        raise UsageError(f"{path} cannot be written ({error.strerror}); make room, or give a file on another disk") from error
    except UsageError:
        file.close()
        raise
    return file


def whole_lines(file: FileIO) -> int:
    """The length of a file of which a last line that was cut short is gone; one that only lacks its end has it now."""
    file.seek(0)
    content = file.readall() or b""
    end = content.rfind(b"\n") + 1
    if content[end:]:
        try:
            json.loads(content[end:])
            write_all(file, b"\n")
            return len(content) + 1
        except ValueError:
            pass
    return file.truncate(end)


def write_all(file: FileIO, data: bytes) -> None:
    """All of it: the system may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def read_lines(
    path: str | os.PathLike[str], entry: Callable[[Any], Entry], what: str, wanted: str, cut_short: bool = False
) -> list[Entry]:
    """What `entry` makes of each line's values.

    A line that is none is an error that says which. So is a last line without its end, which a full disk or a kill has cut
    short, unless `cut_short` lets it pass: it is left out then, with a warning.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); wanted a file of JSON lines") from error
    complete = not lines[-1]
    lines = lines[:-1] if complete else lines
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(entry(json.loads(line.decode())))
        except (ValueError, TypeError, KeyError) as error:
            if complete or number < len(lines):
                raise InputError(f"line {number} of {path} is not {what}; wanted a JSON object with {wanted}") from error
            words = f"line {number} of {path}, its last, was cut short by a full disk or a run that was killed"
            if not cut_short:
                raise InputError(f"{words}; remove it, or read the file with cut_short=True, which leaves it out") from error
            warnings.warn(f"{words}, and is left out", stacklevel=3)
    return found


def add_line(path: Path, values: dict[str, Any]) -> None:
    """One more line at the end of a file, in place of a last one that was cut short."""
    with path.open("a+b", buffering=0) as file:
        whole_lines(file)
        write_all(file, json.dumps(values).encode() + b"\n")
