"""A run from inputs to records: which inputs, each record written as it comes, the table printed however the run ends."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tightverify.api.bounds import bounds
from tightverify.console import output, progress, say
from tightverify.disk import alone_in, is_stream, standard
from tightverify.errors import UsageError
from tightverify.inputs.dataset import DataSet, prepared
from tightverify.json_lines import finite
from tightverify.region import Perturbation
from tightverify.report.outputs import NOWHERE, Output, Write, nowhere, picture_of, sink
from tightverify.report.records import Record
from tightverify.report.tables import duration, summary, table
from tightverify.report.trace import TracePoint, read_trace
from tightverify.settings import Settings
from tightverify.stages.progress import Callback, Step, no_callback
from tightverify.verify import Result

Deliver = Callable[[Record], None]
"""Takes a record when its input is decided."""


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
    """What to certify, what to call it, where its records go, and what people should know about it."""

    inputs: DataSet
    name: str
    region: Perturbation
    settings: Settings
    top: int = 1
    output: Output = NOWHERE
    notes: tuple[str, ...] = ()

    def prepared(self, callback: Callback = no_callback) -> Callable[[Deliver], None]:
        """What decides all inputs, and delivers each record when its input is decided; all is checked before this returns."""
        inputs = self.inputs
        if not len(inputs):
            return lambda _deliver: None
        decide = prepared(inputs, self.region, self.settings, self.top, callback)
        balls, numbers = inputs.balls(self.region), inputs.numbers.tolist()
        stated = self.region.stated

        def record(result: Result) -> Record:
            place, method = result.index, self.settings.method
            named = replace(result, index=numbers[place])
            return Record.of(named, self.name, *balls[place], method, stated, inputs.names[place], self.region.limits, self.top)

        return lambda deliver: decide(lambda result: deliver(record(result)))

    def records(self) -> list[Record]:
        """All records, in the order of the inputs."""
        found: list[Record] = []
        self.prepared()(found.append)
        return sorted(found, key=lambda record: record.index)

    def show(self) -> list[Record]:
        """Certify, writing every record at once; print the table and its summary at the end, whatever the end is."""
        done: list[Record] = []
        callbacks: list[Callback] = []
        failed: list[Exception] = []
        decide = self.prepared(lambda step: all_told(callbacks, step))
        alone = alone_in(**self.settings.folders)
        with alone, sink(self.output.trace, self.output.force) as write_step, sink(self.output.out, self.output.force) as write:
            callbacks.append(self._tracing(write_step, failed))
            for note in () if self.output.quiet else self.notes:
                say(f"note: {note}")
            try:
                self._gather(decide, done, write, callbacks, failed)
            except KeyboardInterrupt:
                where = "above" if self.output.out is None or is_stream(self.output.out) else f"above and in {self.output.out}"
                say(f"{len(done)} of {len(self.inputs)} inputs are done; their results are {where}")
                self._draw(done)
                raise
        self._draw(done)
        return done

    def _tracing(self, write: Write, failed: list[Exception]) -> Callback:
        numbers = self.inputs.numbers.tolist()

        def trace(step: Step) -> None:
            if failed:
                return
            try:
                for point in TracePoint.of(step, numbers):
                    write(asdict(point))
            except (UsageError, OSError) as error:
                failed.append(error)

        return no_callback if self.output.trace is None else trace

    def _draw(self, done: Sequence[Record]) -> None:
        trace = self.output.trace
        if trace is not None and not is_stream(trace):
            from tightverify import plots  # only what is used: matplotlib starts slowly

            drawn = plots.save(plots.trace(read_trace(trace), results=done), picture_of(trace))
            if not self.output.quiet:
                say(f"every step: {trace}, drawn in {drawn}")

    def _gather(
        self,
        decide: Callable[[Deliver], None],
        done: list[Record],
        write: Write,
        callbacks: list[Callback],
        failed: list[Exception],
    ) -> None:
        """All records. Once something cannot be written (`failed`), only those of inputs that are decided already."""
        began, outlook = time.monotonic(), Outlook(self.settings.time_limit)

        def stop(_step: Step) -> None:
            raise failed[0]

        try:
            with progress(f"certifying {Path(self.name).name}", len(self.inputs), self.output.quiet) as bar:
                callbacks.append(lambda step: bar.note(outlook.after(step)))

                def deliver(record: Record) -> None:
                    nonlocal write
                    done.append(record)
                    try:
                        write(asdict(record))
                    except (UsageError, OSError) as error:
                        failed.append(error)
                        write = nowhere
                    if failed and stop not in callbacks:
                        callbacks.append(stop)
                    bar.advance()

                decide(deliver)
            if failed:
                raise failed[0]
        finally:
            self._print(done, time.monotonic() - began)

    def _print(self, done: Sequence[Record], seconds: float) -> None:
        """The table and its summary: on stderr where stdout is for lines, or cannot be written."""
        grid, words = table(sorted(done, key=lambda record: record.index)), summary(done, seconds)
        noted = [record for record in done if record.note is not None]
        if noted and not self.output.quiet:
            others = f"; {len(noted)} inputs have notes" if len(noted) > 1 else ""
            say(f"note: input {noted[0].file or noted[0].index}: {noted[0].note}{others}")

        def show(console: Console) -> None:
            console.print(grid)
            console.print(words, soft_wrap=True)

        lines = any(path is not None and standard(path) is sys.stdout for path in (self.output.out, self.output.trace))
        try:
            show(output(lines))
        except BrokenPipeError:
            raise
        except OSError:
            with suppress(OSError):
                show(output(beside=True))
            raise


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
