"""Problems to and from files that other tools read: `.mps` (free format) and `.lp`, each also with `.gz`.

Every number is written with all its digits, and reading gives back the same problem, value for value. A file of another tool
that maximises is turned into a minimisation: cost and offset are negated. Columns and rows keep their order, not their names.
An infinity is the word; 1e30 is a number.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from types import ModuleType

from solvers.errors import ProblemError
from solvers.formats import lp, mps
from solvers.problem import Problem

FORMATS = {".mps": mps, ".lp": lp}


def write(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write a problem; the ending of the name says in which format."""
    path = Path(path)
    text = "\n".join(_format(path).lines(problem)) + "\n"
    data = text.encode("ascii")
    try:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise ProblemError(f"{path} cannot be written ({error.strerror or error})") from error


def read(path: str | os.PathLike[str]) -> Problem:
    """The problem of a file; the ending of the name says in which format it is."""
    path = Path(path)
    form = _format(path)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path} is no text, and so no {form.__name__.rpartition('.')[2].upper()} file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ProblemError(f"{path} cannot be read to its end ({getattr(error, 'strerror', None) or error})") from error
    try:
        problem: Problem = form.parse(text.splitlines())
        return problem
    except ProblemError as error:
        raise ProblemError(f"{path} cannot be read: {error}") from error


def _format(path: Path) -> ModuleType:
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending not in FORMATS:
        raise ProblemError(f"{path} ends in {path.suffix or 'nothing'}; wanted one of .mps, .lp, .mps.gz, .lp.gz")
    return FORMATS[ending]
