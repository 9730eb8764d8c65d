"""Records that an earlier run left in a file, for another to go on from: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tightverify.disk import is_stream
from tightverify.errors import UsageError
from tightverify.report.origin import Origin, differences
from tightverify.report.records import Place, Record, latest, place_of, read_all

RETRIED = {"timed-out": "TIMED_OUT", "unknown": "UNKNOWN"}
"""Verdicts that may be tried for again, by what the command line calls them."""


@dataclass(frozen=True)
class Earlier:
    """What is there already: the last record of each question, and how often each was tried."""

    records: dict[Place, Record] = field(default_factory=dict)
    tries: dict[Place, int] = field(default_factory=dict)
    retry: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=dict)

    def done(self, place: Place) -> bool:
        """Whether nothing is left to do: what is to be tried again was tried again with these settings already."""
        found = self.records.get(place)
        if found is None:
            return False
        if found.verdict not in self.retry or found.carried:
            return True
        return self.tries[place] > 1 and (found.made or {}).get("settings") == self.settings

    def attempt(self, place: Place) -> int:
        """The number of the next try."""
        return self.tries.get(place, 0) + 1


NOTHING = Earlier()
"""A run that begins anew."""


def read_earlier(path: Path, origin: Origin, retry: Iterable[str] = ()) -> Earlier:
    """What an earlier run left, if it asked the same; a last line that was cut short is as if it had not been begun."""
    if is_stream(path) or not path.exists():
        return NOTHING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is written again
        records = read_all(path, cut_short=True)
    verdicts = frozenset(RETRIED[name] for name in retry)
    refuse_others(path, records, origin, bool(verdicts))
    tries: dict[Place, int] = {}
    for record in records:
        tries[place_of(record)] = tries.get(place_of(record), 0) + 1
    return Earlier({place_of(record): record for record in latest(records)}, tries, verdicts, origin.settings)


def refuse_others(path: Path, records: Sequence[Record], origin: Origin, retrying: bool) -> None:
    """Refuse to go on with records of another question, or, but for a retry, that were looked for with other settings."""
    if not records:
        return
    if any(record.made is None for record in records):
        raise UsageError(
            f"{path} does not say how its records were made, as it is of an earlier version; give another name to --out"
        )
    made = {repr(record.made): record.made or {} for record in records}
    others = [found for each in made.values() if (found := differences(each, origin, question_alone=True))]
    if not others and not retrying:
        apart = [differences(each, origin) for each in made.values()]
        others = [] if any(not found for found in apart) else apart
    if others:
        raise UsageError(
            f"{path} was made otherwise, and cannot be gone on with: {', '.join(others[0])} differs; "
            "give what it was made with, or another name to --out"
        )
