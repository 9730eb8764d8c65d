"""What a run leaves behind: a record per input, as JSON lines, as a table, as one line of summary, and as a picture.

A trace is the way there: what was known of each input after each step, as JSON lines and as a picture.

A record says everything about one input in plain Python values, so that it can be written, read back and drawn without
the network.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tightverify.json_lines import JsonLines, finite, read_lines
from tightverify.verify import Result

Line = TypeVar("Line")
SCHEMA = "tightverify.record.2"
"""The name of the format, with its number: docs/record.schema.json states it. The first one had no name."""


@dataclass(frozen=True)
class Record:
    """One input's outcome. Numbers that are not finite are None.

    `eps` is the radius of the input's own region and `norm` its norm, "inf", "2" or "1": None where it is no ball. `region`
    says how it was stated where that is not by its radius, `limits` what kept changes to less than that (`clip`, `frames`,
    `features`, the first and last of `samples`), and `file` where a clip is from. The label had to stay among the `top`
    greatest outputs. `tree` has the nodes of the search tree of a region that was split. `note` says what kept a stage from
    trying all it could.

    `sentence` has the words of a counterexample that is made of words.

    `schema` names the format, None for what was written before there was a name. `attempt` counts from 1 how often the input
    was tried: the last one counts. `written` is the moment (UTC), `carried` that the verdict follows from that at a smaller eps
    without any work, and `made` how it was made: an `Origin` in plain values.
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
    schema: str | None = None
    attempt: int = 1
    written: str | None = None
    carried: bool = False
    made: Any = None
    sentence: str | None = None

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
            schema=SCHEMA,
            sentence=result.sentence or None,
        )


def write_records(path: Path, records: Iterable[Record], replace: bool = False) -> None:
    """All records at once."""
    with JsonLines(path, replace) as lines:
        for record in records:
            lines.write(asdict(record))


def read_records(path: str | os.PathLike[str], cut_short: bool = False) -> list[Record]:
    """The records of a file that `certify --out` wrote: of inputs that were tried again, the last.

    `cut_short` lets a last line without its end pass.
    """
    return latest(read_all(path, cut_short))


def read_all(path: str | os.PathLike[str], cut_short: bool = False) -> list[Record]:
    """Every record of a file, those of earlier tries among them."""
    return read_lines(path, of_any_version, "a record of a run", names_of(Record), cut_short)


def of_any_version(values: dict[str, Any]) -> Record:
    """A record of what a line of JSON holds, whichever version wrote it: a later one may have said more."""
    if not isinstance(values, dict):
        raise TypeError("a record is an object")
    known = {each.name for each in fields(Record)}
    later = values.get("schema") not in (None, SCHEMA)
    return of_values(Record, {name: value for name, value in values.items() if name in known or not later})


Place = tuple[int, int, float | None, str | None, str | None, str]
"""Which question of a run a record answers: of which input, among how many outputs its label shall stay, and of which
region."""


def place_of(record: Record) -> Place:
    limits = json.dumps(record.limits, sort_keys=True)
    return record.index, record.top, record.eps, record.norm, record.region, limits


def latest(records: Iterable[Record]) -> list[Record]:
    """Of each question and method the last record; a further try counts in place of every one before it."""
    found: dict[tuple[str, str | None, Place], dict[str, Record]] = {}
    for record in records:
        several = found.setdefault((record.model, record.file, place_of(record)), {})
        if record.attempt > 1:
            several.clear()
        several[record.method] = record
    return [record for several in found.values() for record in several.values()]


def of_values(kind: Callable[..., Line], values: dict[str, Any]) -> Line:
    """A record of what a line of JSON holds."""
    return kind(**{**values, "margins": tuple(values["margins"])})


def names_of(kind: type[Any]) -> str:
    """What fields a line of JSON has to have, in words."""
    return ", ".join(sorted(field.name for field in fields(kind)))
