"""`tightverify certify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tightverify.cli.options import AT_LEAST_ONE, FILE, MODEL, SOUND, common, options, region_of, use_threads


@click.command()
@options(MODEL, click.argument("inputs", type=FILE, metavar="INPUTS.npz|CLIPS...", nargs=-1, required=True))
@common("interval, linear, planes, combine, complete, lp or milp")
@options(*SOUND)
@click.option("--top", type=AT_LEAST_ONE, default=1, show_default=True, help="The label shall stay among so many best outputs.")
@click.option("--skip-wrong/--keep-wrong", default=False, help="Leave misclassified inputs out, or report them (default).")
@click.option("--time-limit", type=float, default=float("inf"), help="Seconds per input; no limit if not given.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the search's random starts.")
@click.option("--restarts", type=click.IntRange(min=0), default=4, show_default=True, help="Starts of the search; 0 for none.")
@click.option("--directions", type=int, help="How many sums of a gate's operands to bound too: even, 0 to 16; by method.")
@click.option("--solver", default="batched", show_default=True, help="What fits planes: batched, highs, gurobi, ...")
@click.option("--rounds", type=click.IntRange(1, 3), default=2, show_default=True, help="Of combine, at most.")
@click.option(
    "--splits", type=click.IntRange(min=0), default=1000, show_default=True, help="Of a region, at most, by complete."
)
@click.option("--trees", type=FILE, help="Folder in which complete keeps its search trees, and goes on from them.")
@click.option("--lp-solver", default="highs", show_default=True, help="What solves the programs of lp and milp.")
@click.option("--tighten", type=click.IntRange(min=0), default=0, show_default=True, help="Neurons that lp bounds by programs.")
@click.option("--processes", type=AT_LEAST_ONE, default=1, show_default=True, help="For --tighten.")
@click.option("--dump", type=FILE, help="Folder for the programs of lp and milp, as MPS files.")
@click.option("--evidence", type=FILE, help="Folder for all that led to each input's verdict, a file for each.")
@click.option("--thorough", is_flag=True, help="Send decided inputs on through all stages, for bounds rather than verdicts.")
@click.option("--trace", type=FILE, help="File for one JSON line per input and step; drawn in a .png beside it.")
def certify(
    model: Path,
    inputs: tuple[Path, ...],
    method: str,
    top: int,
    limit: int | None,
    skip_wrong: bool,
    time_limit: float,
    batch: int,
    batch_axis: int | None,
    device: str,
    threads: int | None,
    seed: int,
    restarts: int,
    directions: int | None,
    solver: str,
    rounds: int,
    splits: int,
    trees: Path | None,
    lp_solver: str,
    tighten: int,
    processes: int,
    dump: Path | None,
    evidence: Path | None,
    thorough: bool,
    trace: Path | None,
    out: Path | None,
    force: bool,
    quiet: bool,
    labels: Path | None,
    rate: int | None,
    resample: bool,
    channel: int | None,
    cut: tuple[float, float] | None,
    int16: bool,
    **region: Any,
) -> None:
    """Decide for every input whether the model keeps its answer on the region around it.

    Inputs are arrays in a file INPUTS.npz, or clips: audio files, or folders of them, each verified at its own length.
    """
    from tightverify.inputs.audio import Reading
    from tightverify.inputs.dataset import correct, files_read, read_given
    from tightverify.inputs.npz import ARRAYS
    from tightverify.report.outputs import refuse_evidence, refuse_file, refuse_trace
    from tightverify.runs import Run
    from tightverify.settings import Settings
    from tightverify.stages import passed_by, stages_of
    from tightverify.threads import busy

    settings = Settings(
        method=method,
        time_limit=time_limit,
        device=device,
        seed=seed,
        restarts=restarts,
        directions=directions,
        solver=solver,
        rounds=rounds,
        splits=splits,
        trees=trees,
        thorough=thorough,
        lp_solver=lp_solver,
        tighten=tighten,
        processes=processes,
        dump=dump,
        evidence=evidence,
    )
    stages_of(method)
    use_threads(threads)
    stated = region_of(**region)
    files = files_read(inputs, model, labels)
    refuse_file(out, force, *files)
    refuse_trace(trace, out, force, *files)
    given = read_given(model, inputs, Reading(rate, resample, channel, cut, int16), labels, batch_axis, top)
    most = len(given) if limit is None else limit
    chosen, skipped = correct(given, top, most, batch) if skip_wrong else (given[:most], 0)
    refuse_evidence(evidence, chosen, force)
    notes = list(given.notes)
    if given.y is None:
        missing = f"{inputs[0]} has no y" if inputs[0].suffix == ARRAYS else "no labels were given"
        notes.append(f"{missing}: the model's own answers are the labels")
    notes.extend(passed_by(method, stated.boxes, stated.words))
    notes.extend(filter(None, [busy()]))
    if skipped:
        notes.append(f"{skipped} misclassified {'input was' if skipped == 1 else 'inputs were'} left out")
    Run(chosen, str(model), stated, settings, top, batch, out, force, quiet, tuple(notes), trace).show()
