"""What a run leaves behind: a record per input, as JSON lines, as a table, as one line of summary, and as a picture.

A trace is the way there: what was known of each input after each step, as JSON lines and as a picture.

A record says everything about one input in plain Python values, so that it can be written, read back and drawn without
the network.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tightverify.json_lines import JsonLines, finite, read_lines
from tightverify.verify import Result

if TYPE_CHECKING:
    pass

Line = TypeVar("Line")


@dataclass(frozen=True)
class Record:
    """One input's outcome. Numbers that are not finite are None.

    `eps` is the radius of the input's own region and `norm` its norm, "inf", "2" or "1": None where it is no ball. `region`
    says how it was stated where that is not by its radius, `limits` what kept changes to less than that (`clip`, `frames`,
    `features`, the first and last of `samples`), and `file` where a clip is from. The label had to stay among the `top`
    greatest outputs. `tree` has the nodes of the search tree of a region that was split. `note` says what kept a stage from
    trying all it could.
    """

    model: str
    index: int
    label: int | None
    eps: float | None
    norm: str | None
    method: str
    verdict: str
    margin: float | None
    margins: tuple[float | None, ...]
    stage: str | None
    seconds: float
    counterexample: Any = None
    region: str | None = None
    file: str | None = None
    tree: Any = None
    limits: Any = None
    top: int = 1
    note: str | None = None

    @classmethod
    def of(
        cls,
        result: Result,
        model: str,
        eps: float,
        norm: float,
        method: str,
        region: str | None = None,
        file: str | None = None,
        limits: Mapping[str, list[float] | list[int]] | None = None,
        top: int = 1,
    ) -> Record:
        return cls(
            model=model,
            index=result.index,
            label=result.label,
            eps=finite(eps),
            norm=f"{norm:g}" if math.isfinite(eps) else None,
            method=method,
            verdict=result.verdict.name,
            margin=finite(result.margin),
            margins=tuple(finite(margin) for margin in result.margins.tolist()),
            stage=result.stage or None,
            seconds=result.seconds,
            counterexample=None if result.counterexample is None else result.counterexample.tolist(),
            region=region,
            file=file,
            tree=[asdict(branch) | {"margins": tuple(map(finite, branch.margins))} for branch in result.tree] or None,
            limits=dict(limits or {}) or None,
            top=top,
            note=result.note or None,
        )


def write_records(path: Path, records: Iterable[Record], replace: bool = False) -> None:
    """All records at once."""
    with JsonLines(path, replace) as lines:
        for record in records:
            lines.write(asdict(record))


def read_records(path: str | os.PathLike[str], cut_short: bool = False) -> list[Record]:
    """The records of a file that `certify --out` wrote; `cut_short` lets a last line without its end pass."""
    return read_lines(path, partial(of_values, Record), "a record of a run", names_of(Record), cut_short)


def of_values(kind: Callable[..., Line], values: dict[str, Any]) -> Line:
    """A record of what a line of JSON holds."""
    return kind(**{**values, "margins": tuple(values["margins"])})


def names_of(kind: type[Any]) -> str:
    """What fields a line of JSON has to have, in words."""
    return ", ".join(sorted(field.name for field in fields(kind)))
