"""`tightverify certify`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.asked import ROWS, STATEMENTS, statement_of
from tightverify.cli.command import AT_LEAST_ONE, FILE, Command, gathered, option, settings_of, threads
from tightverify.cli.options import (
    CLASSES,
    FORCE,
    HOW,
    LIMIT,
    MODEL,
    OUT,
    QUESTION,
    QUIET,
    READING,
    REGIONS,
    SOUNDS,
    TEXT,
    WRITTEN,
    importing_of,
    output_of,
    positions,
    reading_of,
)
from tightverify.errors import UsageError
from tightverify.option import Group

if TYPE_CHECKING:
    from tightverify.inputs.dataset import DataSet
    from tightverify.inputs.source import Source
    from tightverify.region import Perturbation
    from tightverify.report.outputs import Output
    from tightverify.settings import Settings
    from tightverify.statements import Statement

INPUTS = click.argument("inputs", type=FILE, metavar="INPUTS.npz|TEXT|CLIPS...", nargs=-1, required=True)
LABELS = option(SOUNDS, "--labels", type=FILE, metavar="LABELS.csv", help="Labels of audio files: lines of file,label.")
TOP = option(
    QUESTION, "--top", type=AT_LEAST_ONE, default=1, show_default=True, help="The label shall stay among so many best outputs."
)
SKIP = option(
    QUESTION, "--skip-wrong/--keep-wrong", default=False, help="Leave misclassified inputs out, or report them (default)."
)
ONLY = option(
    QUESTION, "--only", callback=positions, metavar="LIST", help="Inputs by their numbers in the file, such as 3,7-20."
)
RESUME = option(
    WRITTEN, "--resume", is_flag=True, help="Go on with the file of --out where a run of the same command stopped, if one did."
)
RETRY = option(
    WRITTEN,
    "--retry",
    type=click.Choice(["timed-out", "unknown"]),
    multiple=True,
    help="The same, and try again for what ended so, with whatever settings are given now.",
)
JSON = option(WRITTEN, "--json", is_flag=True, help="Results as JSON lines on stdout in place of the table.")
JOBS = option(
    Group.COMPUTING.value, "--jobs", type=AT_LEAST_ONE, default=1, show_default=True, help="Processes, each with one thread."
)


def part_of(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """One of several parts, such as 2/8."""
    if value is None:
        return None
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{value!r} cannot be read as a part; write which of how many, such as 2/8")
    return int(part), int(parts)


SHARD = option(
    QUESTION, "--shard", callback=part_of, metavar="K/N", help="The K-th of N parts of the inputs, for as many machines."
)
TRACE = option(WRITTEN, "--trace", type=FILE, help="File for one JSON line per input and step; drawn in a .png beside it.")


def source_of(
    model: Path,
    inputs: tuple[Path, ...],
    labels: Path | None,
    rows: Path | None,
    classes: Path | None,
    vocabulary: Path | None,
    unknown: str | None,
    batch_axis: int | None,
    fix: tuple[str, ...],
    output: str | None,
    frame: str | None,
    unroll: int | None,
    state: tuple[str, ...],
    **reading: Any,
) -> Source:
    """Where inputs come from."""
    from tightverify.inputs.source import Source

    importing = importing_of(batch_axis=batch_axis, fix=fix, output=output, frame=frame, unroll=unroll, state=state)
    return Source(model, inputs, labels, importing, reading_of(**reading), rows, classes, vocabulary, unknown)


EXAMPLES = (
    "tightverify certify model.onnx inputs.npz --eps 0.01 --clip 0 1",
    "tightverify certify model.onnx inputs.npz --eps 0.02 --method complete \\",
    "    --time-limit 60 --jobs 4 --out results.jsonl --resume",
    "tightverify certify speech.onnx clips/ --db -80 --labels labels.csv",
)


@dataclass(frozen=True)
class Chosen:
    """Which of the inputs are wanted."""

    only: tuple[int, ...] | None
    limit: int | None
    skip_wrong: bool
    shard: tuple[int, int] | None

    def of(self, given: DataSet, top: int, batch: int) -> tuple[DataSet, int]:
        """The chosen ones, and how many misclassified ones were left out.

        Parts are of what the others leave: together they are all of it.
        """
        import torch

        from tightverify.inputs.dataset import correct

        if self.only is not None:
            if max(self.only) >= len(given):
                raise UsageError(f"--only names input {max(self.only)}, and there are {len(given)}, numbered from 0")
            given = given[torch.tensor(sorted(set(self.only)))]
        most = len(given) if self.limit is None else self.limit
        chosen, skipped = correct(given, top, most, batch) if self.skip_wrong else (given[:most], 0)
        if self.shard is not None:
            part, parts = self.shard
            chosen = chosen[torch.arange(part - 1, len(chosen), parts)]
        return chosen, skipped


@click.command(cls=Command, examples=EXAMPLES, short_help="Decide for every input whether the answer stays.")
@gathered("source", source_of, MODEL, INPUTS, ROWS, CLASSES, *HOW, LABELS, *TEXT, *READING)
@gathered("statement", statement_of, *STATEMENTS)
@TOP
@gathered("chosen", Chosen, ONLY, LIMIT, SKIP, SHARD)
@REGIONS
@settings_of()
@JOBS
@threads
@gathered("output", output_of, OUT, JSON, RESUME, RETRY, TRACE, FORCE, QUIET)
def certify(
    source: Source,
    statement: Statement | None,
    top: int,
    chosen: Chosen,
    regions: tuple[Perturbation, ...],
    settings: Settings,
    jobs: int,
    output: Output,
) -> None:
    """Decide for every input whether the model keeps its answer on the region around it.

    Inputs are arrays in a file INPUTS.npz, or clips: audio files, or folders of them; or sentences, a .txt file with one a line
    or a .csv file with the heading text,label. Clips and sentences are each verified at their own length.
    """
    from tightverify.report.origin import Origin, sha256_of
    from tightverify.report.outputs import refuse_evidence
    from tightverify.runs import Run
    from tightverify.stages import passed_by, stages_of
    from tightverify.threads import busy

    stages_of(settings.method)
    source = replace(source.stating(statement), perturbed=regions[0].inputs)
    output.refuse(*source.files)
    refuse_folders(settings, regions)
    given = source.read(top)
    inputs, skipped = chosen.of(given, top, settings.batch)
    refuse_evidence(settings.evidence, inputs, output.force or output.goes_on)
    notes = list(source.notes(given))
    notes.extend(passed_by(settings.method, regions[0].boxes, regions[0].words))
    notes.extend(filter(None, [busy()]))
    if skipped:
        notes.append(f"{skipped} misclassified {'input was' if skipped == 1 else 'inputs were'} left out")
    name = str(source.model)
    hashes = sha256_of(source.network), sha256_of(source.data)
    origin = Origin.of(*hashes, regions, top, settings, source.said)
    run = Run(inputs, name, regions, settings, top, output, tuple(notes), origin, classes=source.classes)
    if jobs > 1:
        from tightverify.jobs import Jobs

        notes.append(f"{jobs} processes, each with the network and the inputs; the memory of open leaves is divided among them")
        run = replace(run, prepare=Jobs(source, jobs), notes=tuple(notes), origin=replace(origin, threads=1))
    run.show()


def refuse_folders(settings: Settings, regions: tuple[Perturbation, ...]) -> None:
    """Files named by an input's number are about one region."""
    for what, folder in settings.folders.items():
        if folder is not None and len(regions) > 1:
            raise UsageError(
                f"{len(regions)} radii were given, and {folder} for {what} is about one; give one, or leave the folder out"
            )
