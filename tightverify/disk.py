"""Where results go: what stands in the way is said before the work, and one run alone writes to a file or a folder.

A lock is the system's own, on what is open: it ends with its process, however that ends, and leaves nothing behind. Where a
file system knows no locks, runs go on without them.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

from tightverify.errors import UsageError

STDOUT = "-"
"""The name by which stdout goes among files."""
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
"""What systems say of a lock that another process has."""
FAR = 2**62
"""The byte that is locked on Windows, where nobody can read or write what is: one that no file has."""
NUMBERED = "evidence", "trees"
"""What goes into files whose names are an input's number: two of them cannot share a folder."""


@dataclass(frozen=True)
class Unwritten:
    """What a disk refused while inputs were at work: said once all that was decided of them is handed out."""

    errors: list[UsageError] = field(default_factory=list)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """What cannot be written here stops nothing for now."""
        try:
            yield
        except UsageError as error:
            self.errors.append(error)

    def say(self) -> None:
        """Raise the first of the errors, if there are any."""
        if self.errors:
            raise self.errors[0]


def standard(path: Path) -> TextIO | None:
    """stdout or stderr, if the path is another name of it, such as - or /dev/stdout, or the file that a shell sends it to."""
    if str(path) == STDOUT:
        return sys.stdout
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # there is no such file, or the stream is none of the system's
            if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
    return None


def is_stream(path: Path) -> bool:
    """Whether what is written there passes by: a standard stream, a pipe, a device."""
    return standard(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())


def lock(descriptor: int) -> bool:
    """Whether this process alone may write to what is open, from now on until it is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, FAR, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, place, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD
    return True


def refuse_unwritable(path: Path) -> None:
    """Say at once, not after hours, that a file cannot be made: its folder is not there or not ours, or the disk is full."""
    try:
        probe(path.parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a file in a folder that can be") from error


def refuse_unwritable_folder(folder: Path) -> None:
    """Say at once that a folder cannot be made or written to, and make nothing yet."""
    try:
        probe(next(above for above in (folder, *folder.absolute().parents) if above.exists()))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror}); give another folder") from error


def probe(folder: Path) -> None:
    """Fail if nothing can be written in a folder."""
    with TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"\n")


@contextmanager
def alone_in(**folders: Path | None) -> Iterator[None]:
    """Make folders that are wanted, and keep every other run out of them: files of two runs belong to neither.

    A folder that was made for nothing, as it is empty in the end, is removed again.
    """
    wanted = {what: folder for what, folder in folders.items() if folder is not None}
    with ExitStack() as held:
        places: dict[Path, list[str]] = {}
        for what, folder in wanted.items():
            if not folder.exists():
                held.callback(remove_if_empty, folder)
            make_folder(folder, what)
            others = places.setdefault(folder.resolve(), [])
            if what in NUMBERED and (same := [other for other in others if other in NUMBERED]):
                raise UsageError(f"{same[0]} and {what} were both to go to {folder}, under the same names; give two folders")
            others.append(what)
            if len(others) > 1:
                continue
            descriptor = opened(folder)
            held.callback(os.close, descriptor)
            if not lock(descriptor):
                raise UsageError(f"another run is writing to {folder}; wait for its end, or give another folder for {what}")
        yield


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # there is something in it
        folder.rmdir()


def opened(folder: Path) -> int:
    """A folder to be locked: itself, or on Windows, which opens none, a file in it that goes when it is closed."""
    if sys.platform == "win32":
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_TEMPORARY)
    return os.open(folder, os.O_RDONLY)


def make_folder(folder: Path, what: str) -> None:
    """Say at once that no files can be written to a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe(folder)
    except OSError as error:
        raise UsageError(
            f"{what} cannot be written to {folder} ({error.strerror}); give a folder in which files can be made"
        ) from error
