"""The history of every margin, as lines of JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tightverify.json_lines import finite, read_lines
from tightverify.report.records import names_of, of_values
from tightverify.stages.progress import Step


@dataclass(frozen=True)
class TracePoint:
    """What was known of one input after one step of a run; see `Step`. Numbers that are not finite are None."""

    index: int
    stage: str
    round: int
    seconds: float
    open: bool
    margin: float | None
    margins: tuple[float | None, ...]

    @classmethod
    def of(cls, step: Step, numbers: Sequence[int]) -> Iterator[TracePoint]:
        """One for each of the step's inputs; `numbers` are the names of all inputs."""
        each = zip(step.inputs.tolist(), step.open.tolist(), step.worst.tolist(), step.margins.tolist(), strict=True)
        for number, still_open, worst, margins in each:
            found = tuple(finite(margin) for margin in margins)
            yield cls(numbers[number], step.stage, step.round, step.seconds, still_open, finite(worst), found)


def read_trace(path: str | os.PathLike[str], cut_short: bool = False) -> list[TracePoint]:
    """The lines of a file that `certify --trace` wrote; `cut_short` lets a last line without its end pass."""
    return read_lines(path, partial(of_values, TracePoint), "a step of a run", names_of(TracePoint), cut_short)
