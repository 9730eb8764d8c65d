"""`tightverify certify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import AT_LEAST_ONE, FILE, Command, gathered, option, settings_of, threads
from tightverify.cli.options import (
    BATCH_AXIS,
    FORCE,
    LIMIT,
    MODEL,
    OUT,
    QUESTION,
    QUIET,
    READING,
    REGION,
    SOUNDS,
    WRITTEN,
    output_of,
    reading_of,
)

if TYPE_CHECKING:
    from tightverify.inputs.source import Source
    from tightverify.region import Perturbation
    from tightverify.report.outputs import Output
    from tightverify.settings import Settings

INPUTS = click.argument("inputs", type=FILE, metavar="INPUTS.npz|CLIPS...", nargs=-1, required=True)
LABELS = option(SOUNDS, "--labels", type=FILE, metavar="LABELS.csv", help="Labels of audio files: lines of file,label.")
TOP = option(
    QUESTION, "--top", type=AT_LEAST_ONE, default=1, show_default=True, help="The label shall stay among so many best outputs."
)
SKIP = option(
    QUESTION, "--skip-wrong/--keep-wrong", default=False, help="Leave misclassified inputs out, or report them (default)."
)
TRACE = option(WRITTEN, "--trace", type=FILE, help="File for one JSON line per input and step; drawn in a .png beside it.")


def source_of(model: Path, inputs: tuple[Path, ...], labels: Path | None, batch_axis: int | None, **reading: Any) -> Source:
    """Where inputs come from."""
    from tightverify.inputs.source import Source

    return Source(model, inputs, labels, batch_axis, reading_of(**reading))


EXAMPLES = (
    "tightverify certify model.onnx inputs.npz --eps 0.01 --clip 0 1",
    "tightverify certify model.onnx inputs.npz --eps 0.02 --method complete \\",
    "    --time-limit 60 --out results.jsonl",
    "tightverify certify speech.onnx clips/ --db -80 --labels labels.csv",
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Decide for every input whether the answer stays.")
@gathered("source", source_of, MODEL, INPUTS, BATCH_AXIS, LABELS, *READING)
@TOP
@LIMIT
@SKIP
@REGION
@settings_of()
@threads
@gathered("output", output_of, OUT, TRACE, FORCE, QUIET)
def certify(
    source: Source,
    top: int,
    limit: int | None,
    skip_wrong: bool,
    region: Perturbation,
    settings: Settings,
    output: Output,
) -> None:
    """Decide for every input whether the model keeps its answer on the region around it.

    Inputs are arrays in a file INPUTS.npz, or clips: audio files, or folders of them, each verified at its own length.
    """
    from tightverify.inputs.dataset import correct
    from tightverify.report.outputs import refuse_evidence
    from tightverify.runs import Run
    from tightverify.stages import passed_by, stages_of
    from tightverify.threads import busy

    stages_of(settings.method)
    output.refuse(*source.files)
    given = source.read(top)
    most = len(given) if limit is None else limit
    chosen, skipped = correct(given, top, most, settings.batch) if skip_wrong else (given[:most], 0)
    refuse_evidence(settings.evidence, chosen, output.force)
    notes = list(given.notes)
    if given.y is None:
        notes.append(f"{source.missing_labels}: the model's own answers are the labels")
    notes.extend(passed_by(settings.method, region.boxes, region.words))
    notes.extend(filter(None, [busy()]))
    if skipped:
        notes.append(f"{skipped} misclassified {'input was' if skipped == 1 else 'inputs were'} left out")
    Run(chosen, str(source.model), region, settings, top, output, tuple(notes)).show()
