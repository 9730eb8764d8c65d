"""A run from inputs to records: which inputs, each record written as it comes, the table printed however the run ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tightverify.api import certify as certifying
from tightverify.api.bounds import bounds
from tightverify.console import output, progress, say
from tightverify.disk import STDOUT, alone_in, is_stream
from tightverify.errors import UsageError
from tightverify.inputs.dataset import DataSet, prepared
from tightverify.json_lines import finite
from tightverify.region import Perturbation
from tightverify.report.earlier import NOTHING, Earlier, read_earlier
from tightverify.report.origin import Origin, now
from tightverify.report.outputs import NOWHERE, Output, Write, nowhere, picture_of, sink
from tightverify.report.records import Record, place_of
from tightverify.report.tables import duration, summary, table
from tightverify.report.trace import TracePoint, read_trace
from tightverify.settings import Settings
from tightverify.stages.progress import Callback, Step, no_callback
from tightverify.verify import Result, Verdict

Deliver = Callable[[Record], None]
"""Takes a record when its input is decided."""
Prepare = Callable[[DataSet, Perturbation, Settings, int, Callback], Callable[[certifying.Deliver], None]]
"""Checks inputs, and gives what decides them: `inputs.dataset.prepared`, or the same over several processes."""

SENTENCES = 20
"""Counterexamples that are printed in words."""


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is still open in the batch at work, in words for people who wait."""

    limit: float
    margins: dict[int, float] = field(default_factory=dict)

    def after(self, step: Step) -> str:
        """The stage, how many inputs are open, between what their margins lie, and the time that there is left."""
        for number, worst, still_open in zip(step.inputs.tolist(), step.worst.tolist(), step.open.tolist(), strict=True):
            self.margins.pop(number, None)
            if still_open:
                self.margins[number] = worst
        words = f"{step.stage} round {step.round}" if step.round else step.stage
        words += f", {len(self.margins)} open"
        if self.margins:
            words += f", margins {min(self.margins.values()):+.3f} to {max(self.margins.values()):+.3f}"
        if any(step.leaves):
            words += f", {sum(step.leaves)} leaves"
        left = max(0.0, self.limit - step.seconds)
        return words if math.isinf(left) else f"{words}, {duration(left)} left per input"


def all_told(callbacks: Sequence[Callback], step: Step) -> None:
    for callback in callbacks:
        callback(step)


@dataclass(frozen=True, eq=False)
class Run:
    """What to certify, what to call it, where its records go, and what people should know about it.

    Several `regions` are nested, the smallest first: a larger one is tried only for inputs for which the smaller one was
    proved. For the others what follows is recorded without any work: a counterexample of the smaller region is one of the
    larger, and what was not proved for less is unknown.
    """

    inputs: DataSet
    name: str
    regions: tuple[Perturbation, ...]
    settings: Settings
    top: int = 1
    output: Output = NOWHERE
    notes: tuple[str, ...] = ()
    origin: Origin | None = None
    prepare: Prepare = prepared
    classes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many records there are in the end."""
        return len(self.inputs) * len(self.regions)

    def prepared(self, earlier: Earlier = NOTHING, callback: Callback = no_callback) -> Callable[[Deliver], None]:
        """What decides all inputs but those done earlier, and delivers each record when its input is decided.

        All is checked before this returns.
        """
        if not len(self.inputs):
            return lambda _deliver: None
        for region in self.regions[1:]:
            self.inputs.check(region, self.top)
        first = self._at(self.regions[0], {}, earlier, callback)

        def run(deliver: Deliver) -> None:
            found = first(deliver)
            for region in self.regions[1:]:
                found = self._at(region, found, earlier, callback)(deliver)

        return run

    def _at(
        self, region: Perturbation, smaller: dict[int, Record], earlier: Earlier, callback: Callback
    ) -> Callable[[Deliver], dict[int, Record]]:
        """What decides all inputs on one region, given the records at the smaller one, and returns those at this one."""
        inputs, balls = self.inputs, self.inputs.balls(region)
        blanks = [self._record(region, balls[k], blank(number)) for k, number in enumerate(inputs.numbers.tolist())]
        places = [place_of(record) for record in blanks]
        found = {k: earlier.records[place] for k, place in enumerate(places) if earlier.done(place)}
        rest = [k for k in range(len(places)) if k not in found]
        carried = [k for k in rest if k in smaller and smaller[k].verdict != Verdict.ROBUST.name]
        left = torch.tensor([k for k in rest if k not in carried], dtype=torch.long)

        def reported(step: Step) -> None:
            callback(replace(step, inputs=left[step.inputs]))

        decide = self.prepare(inputs[left], region, self.settings, self.top, reported)

        def run(deliver: Deliver) -> dict[int, Record]:
            def enter(k: int, record: Record) -> None:
                found[k] = replace(record, attempt=earlier.attempt(places[k]), written=now(), made=self._made)
                deliver(found[k])

            def end(result: Result) -> None:
                k = int(left[result.index])
                enter(k, self._record(region, balls[k], replace(result, index=blanks[k].index), inputs.names[k]))

            for k in carried:
                enter(k, carried_over(smaller[k], blanks[k]))
            decide(end)
            return found

        return run

    @cached_property
    def _made(self) -> dict[str, Any] | None:
        return None if self.origin is None else asdict(self.origin)

    def _record(self, region: Perturbation, ball: tuple[float, float], result: Result, file: str | None = None) -> Record:
        return Record.of(result, self.name, *ball, self.settings.method, region.stated, file, region.limits, self.top)

    def records(self) -> list[Record]:
        """All records: those of each region in the order of the inputs."""
        found: list[Record] = []
        self.prepared()(found.append)
        return self._in_order(found)

    def _in_order(self, records: Iterable[Record]) -> list[Record]:
        """By the regions, which are told apart by their eps, and the inputs."""
        return sorted(records, key=lambda record: (record.eps or 0.0 if len(self.regions) > 1 else 0.0, record.index))

    def show(self) -> list[Record]:
        """Certify, writing every record at once; print the table and its summary at the end, whatever the end is."""
        out, trace, goes_on = self.output.out, self.output.trace, self.output.goes_on
        earlier = NOTHING
        if goes_on and out is not None and self.origin is not None:
            earlier = read_earlier(out, self.origin, self.output.retry)
        gathering = Gathering(self, earlier)
        decide = self.prepared(earlier, lambda step: all_told(gathering.callbacks, step))
        alone, force = alone_in(**self.settings.folders), self.output.force
        with (
            alone,
            sink(trace, force, goes_on) as write_step,
            sink(out, force, goes_on) as write,
            sink(Path(STDOUT) if self.output.json else None, force) as show,
        ):
            gathering.trace(write_step)
            for note in () if self.output.quiet else self.notes:
                say(f"note: {note}")
            try:
                gathering.run(decide, (write, show))
            except KeyboardInterrupt:
                where = "above" if out is None or is_stream(out) else f"above and in {out}"
                more = "" if out is None or is_stream(out) else "; the same command with --resume does the rest"
                say(f"{len(gathering.all)} of {self.total} inputs are done; their results are {where}{more}")
                self._draw(gathering.all)
                raise
        self._draw(gathering.all)
        return gathering.all

    def _draw(self, done: Sequence[Record]) -> None:
        trace = self.output.trace
        if trace is not None and not is_stream(trace):
            from tightverify import plots  # only what is used: matplotlib starts slowly

            drawn = plots.save(plots.trace(read_trace(trace), results=done), picture_of(trace))
            if not self.output.quiet:
                say(f"every step: {trace}, drawn in {drawn}")


def blank(number: int) -> Result:
    """Of an input of which nothing is said yet."""
    return Result(Verdict.UNKNOWN, torch.zeros(0), -math.inf, "", 0.0, None, index=number)


def carried_over(smaller: Record, blank: Record) -> Record:
    """What follows for a larger region where the smaller one was not proved."""
    refuted = smaller.verdict in (Verdict.COUNTEREXAMPLE.name, Verdict.MISCLASSIFIED.name)
    words = f"carried over from eps {smaller.eps:g}" if refuted else f"not tried, as it was not proved at eps {smaller.eps:g}"
    return replace(
        blank,
        label=smaller.label,
        file=smaller.file,
        verdict=smaller.verdict if refuted else Verdict.UNKNOWN.name,
        margins=(None,) * len(smaller.margins),
        counterexample=smaller.counterexample,
        note=smaller.note if smaller.carried else words,
        carried=True,
    )


@dataclass(eq=False)
class Gathering:
    """The records of a run as they come: to its files, and in the end to the terminal."""

    what: Run
    earlier: Earlier
    done: list[Record] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)

    @property
    def all(self) -> list[Record]:
        """The last record of every input that is done, by this run or an earlier one."""
        asked = set(self.what.inputs.numbers.tolist())
        found = {place: record for place, record in self.earlier.records.items() if record.index in asked}
        return self.what._in_order({**found, **{place_of(record): record for record in self.done}}.values())

    def trace(self, write: Write) -> None:
        """Write every step from now on."""
        numbers = self.what.inputs.numbers.tolist()

        def trace(step: Step) -> None:
            if self.failed:
                return
            try:
                for point in TracePoint.of(step, numbers):
                    write(asdict(point))
            except (UsageError, OSError) as error:
                self.failed.append(error)

        if self.what.output.trace is not None:
            self.callbacks.append(trace)

    def run(self, decide: Callable[[Deliver], None], sinks: Sequence[Write]) -> None:
        """All records. Once something cannot be written (`failed`), only those of inputs that are decided already."""
        began, what = time.monotonic(), self.what
        writes = list(sinks)
        before = len(self.all)
        if before and not what.output.quiet:
            again = sum(not self.earlier.done(place) for place in map(place_of, self.all))
            say(f"going on: {before} of {what.total} inputs were done before" + (f", {again} are tried again" if again else ""))
            before -= again
        outlook = Outlook(what.settings.time_limit)

        def stop(_step: Step) -> None:
            raise self.failed[0]

        try:
            with progress(f"certifying {Path(what.name).name}", what.total, what.output.quiet, before) as bar:
                self.callbacks.append(lambda step: bar.note(outlook.after(step)))

                def deliver(record: Record) -> None:
                    self.done.append(record)
                    for k, write in enumerate(writes):
                        try:
                            write(asdict(record))
                        except (UsageError, OSError) as error:
                            self.failed.append(error)
                            writes[k] = nowhere
                    if self.failed and stop not in self.callbacks:
                        self.callbacks.append(stop)
                    bar.advance()

                decide(deliver)
            if self.failed:
                raise self.failed[0]
        finally:
            self._print(time.monotonic() - began)

    def _print(self, seconds: float) -> None:
        """The table and its summary: on stderr where stdout is for lines, or cannot be written, unless all shall be quiet."""
        quiet, lines = self.what.output.quiet, self.what.output.lines_on_stdout
        records = self.all
        noted = [record for record in records if record.note is not None and not record.carried]
        if noted and not quiet:
            others = f"; {len(noted)} inputs have notes" if len(noted) > 1 else ""
            say(f"note: input {noted[0].file or noted[0].index}: {noted[0].note}{others}")
        if quiet and lines:
            return
        grid, words = table(records, classes=self.what.classes), [*found_sentences(records), summary(records, seconds)]
        if len(self.what.regions) > 1:
            by_eps: dict[float, list[Record]] = {}
            for record in records:
                by_eps.setdefault(record.eps or 0.0, []).append(record)
            words = [f"eps {eps:g}: {summary(some, sum(r.seconds for r in some))}" for eps, some in by_eps.items()]

        def show(console: Console) -> None:
            if not self.what.output.json:
                console.print(grid)
            for line in words:
                console.print(line, soft_wrap=True)

        try:
            show(output(lines))
        except BrokenPipeError:
            raise
        except OSError:
            with suppress(OSError):
                show(output(beside=True))
            raise


def found_sentences(records: Sequence[Record]) -> list[str]:
    """Counterexamples that are sentences, the first few of them."""
    sentences = [f"{record.file or record.index}: {record.sentence}" for record in records if record.sentence]
    more = [f"{len(sentences) - SENTENCES} more sentences are in the records"] if len(sentences) > SENTENCES else []
    return [*sentences[:SENTENCES], *more]


@dataclass(frozen=True, eq=False)
class Bounding:
    """Inputs whose outputs are bounded, without any property."""

    inputs: DataSet
    name: str
    region: Perturbation
    settings: Settings

    def lines(self) -> Iterator[dict[str, Any]]:
        """A line of plain values per input; what was asked for is checked, on the first input, before this returns."""
        for _ in self._bounds(self.inputs[:1]):
            self.inputs.check(self.region, 1)
        return self._lines()

    def _bounds(self, part: DataSet) -> Iterator[tuple[int, list[float], list[float]]]:
        """The place of each input, and the lower and upper bounds of its outputs."""
        for group in part.groups():
            own = self.region.chosen(part.numbers[group.places], group.x.dim())
            found = bounds(group.model, group.x, own, settings=self.settings)
            yield from zip(group.places.tolist(), found.lower.tolist(), found.upper.tolist(), strict=True)

    def _lines(self) -> Iterator[dict[str, Any]]:
        stated: dict[str, Any] = {} if self.region.stated is None else {"region": self.region.stated}
        stated |= {"limits": self.region.limits} if self.region.limits else {}
        for start in range(0, len(self.inputs), self.settings.batch):
            part = self.inputs[start : start + self.settings.batch]
            numbers, balls = part.numbers.tolist(), part.balls(self.region)
            for place, lower, upper in self._bounds(part):
                radius, norm = balls[place]
                ball = {"eps": finite(radius), "norm": f"{norm:g}" if finite(radius) is not None else None}
                sides = {"lower": [finite(v) for v in lower], "upper": [finite(v) for v in upper]}
                line = {"model": self.name, "index": numbers[place], **ball, "method": self.settings.method}
                yield {**line, **stated, **sides}
