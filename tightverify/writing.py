"""Files that are written whole or not at all: lines of JSON, tables, pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightverify.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def canvas() -> tuple[Figure, Axes]:
    """An empty picture, and what to draw in."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error


def drawable(name: str) -> str:
    """A file's name as matplotlib can draw it: bytes that are not UTF-8 as numbers, dollars not as the start of a formula."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


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
