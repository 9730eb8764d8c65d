"""Where a run writes to, and what may not be replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tightverify.disk import is_stream, refuse_unwritable, standard
from tightverify.errors import UsageError
from tightverify.inputs.dataset import DataSet
from tightverify.json_lines import JsonLines
from tightverify.recording.record import evidence_file

Write = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Output:
    """Where a run writes its records and its steps, whether it may replace what is there, and whether it is silent.

    With `resume` it goes on with what is there, and tries again for the verdicts to `retry`. With `json` records go to stdout
    in place of the table.
    """

    out: Path | None = None
    trace: Path | None = None
    force: bool = False
    quiet: bool = False
    json: bool = False
    resume: bool = False
    retry: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether what an earlier run left is kept."""
        return self.resume or bool(self.retry)

    @property
    def lines_on_stdout(self) -> bool:
        """Whether stdout is for lines, so that tables go elsewhere."""
        return self.json or any(path is not None and standard(path) is sys.stdout for path in (self.out, self.trace))

    def refuse(self, *read: Path) -> None:
        """Say at once that a file is in the way; what is read is never replaced."""
        if self.goes_on and (self.out is None or is_stream(self.out)):
            raise UsageError(
                f"--{'retry' if self.retry else 'resume'} was given, and no file to go on with: give the run's file to --out"
            )
        if self.goes_on and self.force:
            raise UsageError(
                "--force was given, which replaces what there is, and --resume or --retry, which goes on with it; give one"
            )
        if self.json and self.out is not None and standard(self.out) is sys.stdout:
            raise UsageError(f"--json and --out {self.out} both write lines to stdout; give one of them")
        refuse_file(self.out, self.force or self.goes_on, *read)
        refuse_trace(self.trace, self.out, self.force or self.goes_on, *read)


NOWHERE = Output()
"""No file at all."""


@dataclass(frozen=True)
class Folder:
    """Where a command writes several files, whether it may replace those of an earlier run, and whether it is silent."""

    out: Path
    force: bool = False
    quiet: bool = False
    format: str = "png"
    """Of pictures."""

    def refuse(self, files: Sequence[str]) -> None:
        """Say at once that results cannot go there."""
        refuse_folder(self.out, self.force, files)


@contextmanager
def sink(path: Path | None, force: bool, go_on: bool = False) -> Iterator[Write]:
    """Where records go: a new file of JSON lines or one to `go_on` with, stdout or another stream, or nowhere."""
    if path is None:
        yield nowhere
        return
    with JsonLines(path, force, go_on) as lines:
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


def refuse_evidence(folder: Path | None, inputs: DataSet, force: bool) -> None:
    """Say at once that evidence of other runs is in the way."""
    if folder is not None:
        for number in inputs.numbers.tolist():
            refuse_existing(evidence_file(folder, number), force, option="--evidence")


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


def refuse_file(path: Path | None, force: bool, *read: Path, option: str = "--out") -> None:
    """Say at once that results cannot be written to a file, or that another is in the way."""
    refuse_existing(path, force, *read, option=option)
    if path is not None and not is_stream(path) and not path.exists():
        refuse_unwritable(path)


def refuse_folder(folder: Path, force: bool, files: Sequence[str]) -> None:
    """Say at once that results cannot go to a folder, or that others are in the way."""
    from tightverify.disk import STDOUT, refuse_unwritable_folder
    from tightverify.report.outputs import refuse_existing

    if str(folder) == STDOUT:
        raise UsageError(f"{folder} was given to --out, which stands for stdout; several files are written: give a folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder to --out")
    for name in files:
        refuse_existing(folder / name, force)
    refuse_unwritable_folder(folder)
