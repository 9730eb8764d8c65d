"""A run from inputs to records: which inputs, each record written as it comes, the table printed however the run ends."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from tightverify.api import as_inputs, as_labels, bounds, fitting, load, rightly_answered, stream
from tightverify.audio import Reading, passed_over, read_labels, read_sounds, unchecked
from tightverify.clips import AnyLength, Clips, said_of
from tightverify.console import output, progress, say
from tightverify.disk import alone_in, is_stream, refuse_unwritable, standard
from tightverify.errors import UsageError
from tightverify.evidence import evidence_file
from tightverify.files import read_inputs
from tightverify.json_lines import JsonLines
from tightverify.models.model import Model
from tightverify.region import LpBall, Perturbation
from tightverify.report import Record, TracePoint, duration, finite, summary, table, trace_picture
from tightverify.settings import Settings
from tightverify.spec import classify_as
from tightverify.stages.problem import Step, Watch, unwatched
from tightverify.values import Interval
from tightverify.verify import Result


@dataclass(frozen=True, eq=False)
class Inputs:
    """A model and inputs that fit it, checked; `numbers` are the inputs' positions in their file."""

    model: Model
    x: Tensor
    y: Tensor | None
    numbers: Tensor

    def __getitem__(self, chosen: Tensor | slice) -> Inputs:
        return replace(self, x=self.x[chosen], y=None if self.y is None else self.y[chosen], numbers=self.numbers[chosen])

    def __len__(self) -> int:
        return len(self.x)

    def right(self, top: int) -> Tensor:
        """(N,): which inputs the model itself classifies as their labels say."""
        if self.y is None:
            return torch.ones(len(self), dtype=torch.bool)
        wanted = classify_as(self.y, self.model.graph.output_size, top)
        return rightly_answered(self.model, wanted, self.x)

    def stream(self, region: Perturbation, settings: Settings, top: int, batch: int, watch: Watch) -> Iterator[Result]:
        return stream(self.model, self.x, self.y, region, settings, None, top, batch, watch, self.numbers)

    def balls(self, region: Perturbation) -> list[tuple[float, float]]:
        """Radius and norm of each input's own region; a radius is infinite where it is no ball."""
        regions = region.around(self.x)
        return [(radius, regions.norm) for radius in regions.radius.tolist()]

    @property
    def notes(self) -> tuple[str, ...]:
        return self.model.notes


def read(model: Path, inputs: Path, batch_axis: int | None = None, top: int = 1) -> Inputs:
    """Both files, every input and label checked, those that a limit will leave out among them."""
    arrays = read_inputs(inputs)
    x = as_inputs(arrays[0])
    y = None if arrays[1] is None else as_labels(arrays[1], len(x))
    loaded = load(model, batch_axis=batch_axis, inputs=x)
    x = fitting(loaded, x)
    if y is not None:
        classify_as(torch.stack([y.min(), y.max()]), loaded.graph.output_size, top)
    return Inputs(loaded, x, y, torch.arange(len(x)))


def read_clips(model: Path, paths: Sequence[Path], reading: Reading, labels: Path | None, batch_axis: int | None) -> Clips:
    """Audio files, and their labels if there is a file of them, in the shape that an ONNX model takes."""
    sounds = read_sounds(paths, reading)
    network, files = AnyLength(model, batch_axis), [sound.path for sound in sounds]
    y = None if labels is None else read_labels(labels, files)
    clips: list[Tensor] = []
    for sound in sounds:
        with said_of(str(sound.path)):
            clips.append(sound.values.view(network.shaped(len(sound.values))))
    notes = (*passed_over(paths), *unchecked(reading, sounds[0]), *(note for sound in sounds for note in sound.notes))
    return Clips.of(network, clips, y, [str(file) for file in files], notes=notes)


def correct(inputs: Inputs | Clips, top: int, limit: int, batch: int) -> tuple[Inputs | Clips, int]:
    """The first inputs that the model classifies as their labels say, and how many others came before the last of them."""
    if inputs.y is None:
        return inputs[:limit], 0
    found: list[int] = []
    for start in range(0, len(inputs), batch):
        found.extend((start + torch.nonzero(inputs[start : start + batch].right(top)).flatten()).tolist())
        if len(found) >= limit:
            break
    chosen = torch.tensor(found[:limit], dtype=torch.long)
    seen = int(chosen[-1]) + 1 if len(found) >= limit else len(inputs)
    return inputs[chosen], seen - len(chosen)


Write = Callable[[dict[str, Any]], None]


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


def all_told(watches: Sequence[Watch], step: Step) -> None:
    for watch in watches:
        watch(step)


@dataclass(frozen=True, eq=False)
class Run:
    """What to certify, what to call it, where its records go, and what people should know about it."""

    inputs: Inputs | Clips
    name: str
    region: Perturbation
    settings: Settings
    top: int = 1
    batch: int = 100
    out: Path | None = None
    force: bool = False
    quiet: bool = False
    notes: tuple[str, ...] = ()
    trace: Path | None = None

    def records(self, watch: Watch = unwatched) -> Iterator[Record]:
        """One record after the other; everything is checked before this returns."""
        inputs = self.inputs
        if not len(inputs):
            return iter(())
        results = inputs.stream(self.region, self.settings, self.top, self.batch, watch)
        balls, numbers = inputs.balls(self.region), inputs.numbers.tolist()
        files = inputs.names if isinstance(inputs, Clips) else (None,) * len(inputs)
        stated = None if isinstance(self.region, LpBall) else self.region.words

        def record(result: Result) -> Record:
            place, method = result.index, self.settings.method
            named = replace(result, index=numbers[place])
            return Record.of(named, self.name, *balls[place], method, stated, files[place], self.region.limits, self.top)

        return map(record, results)

    def show(self) -> list[Record]:
        """Certify, writing every record at once; print the table and its summary at the end, whatever the end is."""
        done: list[Record] = []
        watches: list[Watch] = []
        failed: list[Exception] = []
        records = self.records(lambda step: all_told(watches, step))
        alone = alone_in(**self.settings.folders)
        with alone, sink(self.trace, self.force) as write_step, sink(self.out, self.force) as write:
            watches.append(self._tracing(write_step, failed))
            for note in () if self.quiet else self.notes:
                say(f"note: {note}")
            try:
                self._gather(records, done, write, watches, failed)
            except KeyboardInterrupt:
                where = "above" if self.out is None or is_stream(self.out) else f"above and in {self.out}"
                say(f"{len(done)} of {len(self.inputs)} inputs are done; their results are {where}")
                self._draw()
                raise
        self._draw()
        return done

    def _tracing(self, write: Write, failed: list[Exception]) -> Watch:
        numbers = self.inputs.numbers.tolist()

        def trace(step: Step) -> None:
            if failed:
                return
            try:
                for point in TracePoint.of(step, numbers):
                    write(asdict(point))
            except (UsageError, OSError) as error:
                failed.append(error)

        return unwatched if self.trace is None else trace

    def _draw(self) -> None:
        if self.trace is not None and not is_stream(self.trace):
            drawn = picture_of(self.trace)
            trace_picture(self.trace, drawn)
            if not self.quiet:
                say(f"every step: {self.trace}, drawn in {drawn}")

    def _gather(
        self, records: Iterator[Record], done: list[Record], write: Write, watches: list[Watch], failed: list[Exception]
    ) -> None:
        """All records. Once something cannot be written (`failed`), only those of the batch that is decided already."""
        began, outlook = time.monotonic(), Outlook(self.settings.time_limit)

        def stop(_step: Step) -> None:
            raise failed[0]

        try:
            with progress(f"certifying {Path(self.name).name}", len(self.inputs), self.quiet) as bar:
                watches.append(lambda step: bar.note(outlook.after(step)))
                for record in records:
                    done.append(record)
                    try:
                        write(asdict(record))
                    except (UsageError, OSError) as error:
                        failed.append(error)
                        write = nowhere
                    if failed and stop not in watches:
                        watches.append(stop)
                    outlook.margins.clear()  # records come when their batch is done
                    bar.advance()
            if failed:
                raise failed[0]
        finally:
            self._print(done, time.monotonic() - began)

    def _print(self, done: Sequence[Record], seconds: float) -> None:
        """The table and its summary: on stderr where stdout is for lines, or cannot be written."""
        grid, words = table(sorted(done, key=lambda record: record.index)), summary(done, seconds)
        noted = [record for record in done if record.note is not None]
        if noted and not self.quiet:
            others = f"; {len(noted)} inputs have notes" if len(noted) > 1 else ""
            say(f"note: input {noted[0].file or noted[0].index}: {noted[0].note}{others}")

        def show(console: Console) -> None:
            console.print(grid)
            console.print(words, soft_wrap=True)

        lines = any(path is not None and standard(path) is sys.stdout for path in (self.out, self.trace))
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

    inputs: Inputs
    name: str
    region: Perturbation
    method: str
    batch: int
    device: str

    def lines(self) -> Iterator[dict[str, Any]]:
        """A line of plain values per input; what was asked for is checked, on the first input, before this returns."""
        self._bounds(self.inputs[:1])
        self.region.around(self.inputs.x)
        return self._lines()

    def _bounds(self, part: Inputs) -> Interval:
        return bounds(part.model, part.x, self.region, self.method, batch=self.batch, device=self.device)

    def _lines(self) -> Iterator[dict[str, Any]]:
        stated: dict[str, Any] = {} if isinstance(self.region, LpBall) else {"region": self.region.words}
        stated |= {"limits": self.region.limits} if self.region.limits else {}
        for start in range(0, len(self.inputs), self.batch):
            part = self.inputs[start : start + self.batch]
            found = self._bounds(part)
            each = zip(part.numbers.tolist(), part.balls(self.region), found.lower.tolist(), found.upper.tolist(), strict=True)
            for number, (radius, norm), lower, upper in each:
                ball = {"eps": finite(radius), "norm": f"{norm:g}" if finite(radius) is not None else None}
                sides = {"lower": [finite(v) for v in lower], "upper": [finite(v) for v in upper]}
                yield {"model": self.name, "index": number, **ball, "method": self.method, **stated, **sides}


@contextmanager
def sink(path: Path | None, force: bool) -> Iterator[Write]:
    """Where records go: a new file of JSON lines, stdout or another stream, or nowhere."""
    if path is None:
        yield nowhere
        return
    with JsonLines(path, force) as lines:
        yield lines.write


def nowhere(values: dict[str, Any]) -> None:
    """Keeps nothing."""


def picture_of(trace: Path) -> Path:
    """Where the picture of a trace goes."""
    return trace.parent / f"{trace.stem}.png"


def refuse_trace(trace: Path | None, out: Path | None, force: bool, *read: Path) -> None:
    """Say at once that a file is in the way of the trace or its picture."""
    if trace is None:
        return
    if is_stream(trace):
        if out is not None and (standard(out) or out.absolute()) == (standard(trace) or trace.absolute()):
            raise UsageError(f"--trace {trace} and --out {out} are the same; give another name to one of them")
        return
    named = [path.absolute() for path in (trace, picture_of(trace), out) if path is not None]
    if len(set(named)) < len(named):
        raise UsageError(
            f"--trace {trace} writes {trace.name} and the picture {picture_of(trace).name}, and these and --out must be "
            "different files; give another name, such as trace.jsonl"
        )
    for path in (trace, picture_of(trace)):
        refuse_file(path, force, *read, option="--trace")


def refuse_evidence(folder: Path | None, inputs: Inputs | Clips, force: bool) -> None:
    """Say at once that evidence of other runs is in the way."""
    if folder is not None:
        for number in inputs.numbers.tolist():
            refuse_existing(evidence_file(folder, number), force, option="--evidence")


def refuse_file(path: Path | None, force: bool, *read: Path, option: str = "--out") -> None:
    """Say at once that results cannot be written to a file, or that another is in the way."""
    refuse_existing(path, force, *read, option=option)
    if path is not None and not is_stream(path) and not path.exists():
        refuse_unwritable(path)


def refuse_existing(path: Path | None, force: bool, *read: Path, option: str = "--out") -> None:
    """Say at once, not after hours, that a file is in the way of the results; what is read is never replaced."""
    if path is None or is_stream(path) or not path.exists():
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder and cannot be written as a file; give the name of a file to {option}")
    if not force:
        raise UsageError(f"{path} exists already; give another name to {option}, or --force to replace it")
    if any(other.exists() and path.samefile(other) for other in read):
        raise UsageError(f"{path} is to be read and cannot be written as well; give another name to {option}")
