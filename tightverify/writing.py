"""Folders that are made where they are wanted, and tables in them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tightverify.errors import UsageError

FORMATS = ("png", "pdf", "svg")
"""What pictures are written as."""


def folder_of(folder: Path) -> Path:
    """The folder, made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made ({error.strerror}); give another to --out") from error
    return folder


def write_rows(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """A CSV file; numbers in full, nothing where there is no number."""
    path = folder_of(folder) / name
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
    return path
