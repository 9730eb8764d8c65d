"""What a picture of results needs of them: groups of inputs of one model, region and method, and how these are told apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tightverify.api.results import Results
from tightverify.errors import InputError
from tightverify.json_lines import finite
from tightverify.plots.names import Look, looks, numbered
from tightverify.region.perturbation import BALLS, limit_words
from tightverify.report.records import Record
from tightverify.verify import Result

MANY = 4
"""Levels of a region from which on they are not shown one by one."""
LEVELS = {
    "": ("decibel ball", "change of any sample, dB relative to the peak"),
    "SNR": ("SNR ball", "least signal-to-noise ratio, dB"),
    "gain": ("gain", "most gain up or down, dB"),
    "shift": ("shift in time", "most shift, samples"),
}
"""Regions that one number states: what they are called, and what the number says."""
STATED = re.compile(r"(?:(SNR|gain|shift) )?([-+]?[\d.]+(?:e[-+]?\d+)?)(?: dB)?")


@dataclass(frozen=True)
class Outcome:
    """How the work on one input ended; `margin` is None where none was proved, `level` where no number states its region."""

    verdict: str
    margin: float | None
    seconds: float
    level: float | None


@dataclass(frozen=True)
class Series:
    """The outcomes of one model on one kind of region by one method, at one level or at all; what nobody knows is empty."""

    model: str
    region: str
    method: str
    unit: str
    outcomes: tuple[Outcome, ...]

    @property
    def levels(self) -> list[float]:
        """The levels that were tried, each once, by size."""
        return sorted({outcome.level for outcome in self.outcomes if outcome.level is not None})

    def at(self, level: float) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.level == level]

    @property
    def inputs(self) -> int:
        """How many inputs were tried, at one level."""
        return max((len(self.at(level)) for level in self.levels), default=len(self.outcomes))


def all_known(results: Iterable[Record | Result]) -> list[Record | Result]:
    """Results as records where they know what was asked, as those of `certify` do."""
    return list(results.records if isinstance(results, Results) else results)


def series(results: Iterable[Record | Result], by_level: bool) -> list[Series]:
    """The groups in the order in which they come; inputs at different levels are in groups of their own if `by_level`."""
    groups: dict[tuple[str, str, str, str], list[Outcome]] = {}
    for result in results:
        *key, outcome = of_result(result) if isinstance(result, Result) else of_record(result, by_level)
        groups.setdefault((key[0], key[1], key[2], key[3]), []).append(outcome)
    if not groups:
        raise InputError("there are no results to draw; give some")
    return [Series(*key, tuple(outcomes)) for key, outcomes in groups.items()]


def few_levels(results: Sequence[Record | Result]) -> bool:
    """Whether so few levels of a region were tried that each is shown on its own."""
    return max(len(one.levels) for one in series(results, by_level=False)) < MANY


def of_result(result: Result) -> tuple[str, str, str, str, Outcome]:
    return "", "", "", "", Outcome(result.verdict.name, finite(result.margin), result.seconds, None)


def of_record(record: Record, by_level: bool) -> tuple[str, str, str, str, Outcome]:
    kind, unit, level = stated(record)
    exact = f" {level:g}" if by_level and level is not None else ""
    region = kind + exact + (" dB" if exact and unit.endswith((" dB", "the peak")) else "") + limit_words(record.limits or {})
    outcome = Outcome(record.verdict, record.margin, record.seconds, level)
    return Path(record.model).name, region, record.method, unit, outcome


def stated(record: Record) -> tuple[str, str, float | None]:
    """What a record's region is called, what its level is a number of, and the level."""
    if record.region is not None:
        found = STATED.fullmatch(record.region)
        if found is None:
            return record.region, "", None
        kind, unit = LEVELS[found[1] or ""]
        return kind, unit, float(found[2])
    ball = BALLS.get(record.norm or "", "ball")
    return ball, "radius eps, in units of the inputs", record.eps


def detail(several: Sequence[Series]) -> str:
    """What all have in common, and how many inputs there are."""
    counts = {one.inputs for one in several}
    return " · ".join([*common(several), *([f"{counts.pop()} inputs"] if len(counts) == 1 else [])])


def common(several: Sequence[Series]) -> list[str]:
    """The one model, region and method of all, those of them that there are."""
    return [words[0] for words in by_field(several) if len(words) == 1 and words[0]]


def by_field(several: Sequence[Series]) -> tuple[list[str], list[str], list[str]]:
    """The models, the regions and the methods, each once."""
    models, regions = ([*dict.fromkeys(words)] for words in ((s.model for s in several), (s.region for s in several)))
    return models, regions, [*dict.fromkeys(f"method {one.method}" if one.method else "" for one in several)]


def labels(several: Sequence[Series]) -> list[str]:
    """What tells each from the others."""
    models, regions, methods = (len(words) > 1 for words in by_field(several))
    return [
        ", ".join(filter(None, [models * one.model, regions * one.region, methods * one.method])) or "all" for one in several
    ]


def looks_of(several: Sequence[Series]) -> list[Look]:
    """What each is drawn with: a method's own colour where methods differ, and marker and line by what else does."""
    methods = list(dict.fromkeys(one.method for one in several))
    others = list(dict.fromkeys((one.model, one.region) for one in several))
    if len(methods) == 1:
        return [numbered(others.index((one.model, one.region))) for one in several]
    own = looks(methods)
    if len(others) == 1:
        return [own[one.method] for one in several]
    each = (numbered(others.index((one.model, one.region))) for one in several)
    return [Look(own[one.method].colour, other.marker, other.line) for one, other in zip(several, each, strict=True)]
