"""Programs written as MPS files, for other solvers and other eyes: `Settings.dump` names the folder."""

from __future__ import annotations

from pathlib import Path

import solvers
from tightverify.errors import UsageError


def dumped(folder: Path | None, problem: solvers.Problem, number: int, row: int, stage: str) -> None:
    """Write a program as `inputN-rowR-STAGE.mps`; nothing without a folder. What an earlier run wrote there is replaced."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made a folder ({error.strerror}); give another to dump") from error
    try:
        solvers.write(problem, folder / f"input{number}-row{row}-{stage}.mps")
    except solvers.ProblemError as error:
        raise UsageError(f"{error}; make room there, or give another folder to dump") from error
