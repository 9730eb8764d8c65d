"""PROVER's classifier of spoken digits, from the waveform to the verdict, each clip at its own length.

    python -m experiments.speech_prover [--method linear] [--db -90 --db -80 ...] [--clips 20]
    python -m experiments.speech_prover --all [--limit 300] [--time-limit 60] [--method combine] [--db -90 --db -80 ...]
    python -m experiments.speech_prover --forward 10000

The first prints a row for each loudness: the first clips of at most 3,400 samples that are answered rightly, in the order of
their names; how many are certified, the mean of the smallest margin bounds, and beside it the least margin that a search
found. The second decides all test clips, cheap stages first, and keeps a line for each as it goes: what is in its file is not
run again. The third holds the network's own values on perturbed clips against every bound, and wants none outside.
"""

from __future__ import annotations

import statistics
import time
from functools import lru_cache
from pathlib import Path

import click
import torch
from rich.table import Table
from torch import Tensor

import tightverify as tv
from experiments.data import Clip, ProverSpeech, prover_speech, rightly_heard, spoken_digits
from experiments.pages import Experiment, report
from tightverify.attack import Search, descend
from tightverify.budget import UNLIMITED
from tightverify.json_lines import add_line, read_lines
from tightverify.models.model import Model
from tightverify.spec import classify_as

OUT = Path(__file__).parent / "out"
LONGEST = 3400
SEARCH = Search(restarts=8, steps=60, seed=0)
PROVER_LP = {  # smallest margin bound and CPU seconds, by clip and decibels
    "2_theo_0": {-90: (0.723, 6.6), -80: (0.436, 7.3), -70: (-3.300, 6.4)},
    "6_nicolas_3": {-90: (4.390, 12.0), -80: (4.261, 11.3), -70: (0.404, 10.6)},
    "3_theo_4": {-90: (4.160, 5.6), -80: (4.114, 5.3), -70: (3.658, 5.0)},
    "9_theo_0": {-90: (0.562, 11.7), -70: (-13.022, 10.3)},
}


class Imported:
    """The classifier imported once for each length, and the CPU seconds that it took."""

    def __init__(self, module: ProverSpeech) -> None:
        self.module = module
        self.seconds = 0.0
        self.of_length = lru_cache(maxsize=None)(self._of_length)

    def _of_length(self, length: int) -> Model:
        began = time.process_time()
        model = tv.load(self.module, shape=(length,))
        self.seconds += time.process_time() - began
        return model


def least_found(model: Model, clip: Clip, region: tv.LpBall) -> float:
    """The least margin that a search finds."""
    wanted = classify_as(torch.tensor([clip.digit]), model.graph.output_size)
    around = region.around(clip.samples[None])
    points = torch.cat(descend(model.graph, around, wanted, SEARCH, UNLIMITED))
    with torch.no_grad():
        return float(wanted.margins(model.original(points))[0].amin())


def compare(imported: Imported, clips: list[Clip], decibels: tuple[float, ...], method: str) -> None:
    """The first table, and PROVER's own clips."""
    table = Table(title=f"method {method}, first {len(clips)} correct clips of at most {LONGEST} samples")
    for name in ("dB", "certified", "mean margin", "search falsifies", "search's mean margin", "CPU s per clip"):
        table.add_column(name)
    for level in decibels:
        margins, found, spent = [], [], 0.0
        for clip in clips:
            model, region = imported.of_length(len(clip.samples)), tv.LinfBall(clip.radius(level))
            margin, seconds = bound(model, clip, region, method)
            margins.append(margin)
            spent += seconds
            found.append(least_found(model, clip, region))
        certified, falsified = sum(m > 0 for m in margins), sum(m <= 0 for m in found)
        mean, reached = sum(margins) / len(margins), sum(found) / len(found)
        table.add_row(
            f"{level:g}", str(certified), f"{mean:.2f}", str(falsified), f"{reached:.2f}", f"{spent / len(clips):.2f}"
        )
    report(table)
    table = Table(title="PROVER's four clips")
    for name in ("clip", "dB", "margin", "CPU s", "search", "PROVER's lp", "its CPU s"):
        table.add_column(name)
    named = {clip.name: clip for clip in spoken_digits()}
    for name, theirs in PROVER_LP.items():
        for level in decibels:
            clip = named[name]
            model, region = imported.of_length(len(clip.samples)), tv.LinfBall(clip.radius(level))
            margin, seconds = bound(model, clip, region, method)
            their = [f"{value:g}" for value in theirs[int(level)]] if int(level) in theirs else ["", ""]
            table.add_row(
                name, f"{level:g}", f"{margin:.3f}", f"{seconds:.2f}", f"{least_found(model, clip, region):.3f}", *their
            )
    report(table)
    used = imported.of_length.cache_info().misses
    report(f"import: {imported.seconds / used:.2f} CPU s for each of {used} lengths")


def bound(model: Model, clip: Clip, region: tv.LpBall, method: str) -> tuple[float, float]:
    """The smallest margin bound and the CPU seconds that it took, without a search."""
    began = time.process_time()
    (result,) = tv.certify(model, clip.samples[None], [clip.digit], region, method=method, thorough=True, restarts=0)
    return result.margin, time.process_time() - began


def decide(imported: Imported, clips: list[Clip], decibels: tuple[float, ...], method: str, limit: float) -> None:
    """The second table: all verdicts."""
    table = Table(title=f"method {method}, {len(clips)} test clips, {limit:g} s each")
    names = list(tv.Verdict)
    for name in ("dB", *(verdict.name for verdict in names), "median s", "longest s", "CPU s per clip"):
        table.add_column(name)
    path = OUT / f"speech_prover-{method}-{limit:g}s.jsonl"
    path.parent.mkdir(exist_ok=True)
    lines = read_lines(path, dict, "a result", "clip, db", cut_short=True) if path.exists() else []
    kept = {(line["clip"], line["db"]): line for line in lines}
    for level in decibels:
        for clip in clips:
            if (clip.name, level) in kept:
                continue
            model, region = imported.of_length(len(clip.samples)), tv.LinfBall(clip.radius(level))
            began = time.process_time()
            (result,) = tv.certify(model, clip.samples[None], [clip.digit], region, method=method, time_limit=limit)
            found = {"verdict": result.verdict.name, "margin": result.margin, "stage": result.stage, "seconds": result.seconds}
            line = {"clip": clip.name, "db": level, **found, "cpu": time.process_time() - began}
            add_line(path, line)
            kept[clip.name, level] = line
        some = [kept[clip.name, level] for clip in clips]
        counts = [str(sum(line["verdict"] == name.name for line in some)) for name in names]
        seconds = [line["seconds"] for line in some if line["verdict"] != tv.Verdict.MISCLASSIFIED.name]
        times = [statistics.median(seconds), max(seconds), sum(line["cpu"] for line in some) / len(some)]
        table.add_row(f"{level:g}", *counts, *(f"{each:.1f}" for each in times))
    report(table)


class FrontEnd(torch.nn.Module):
    """The classifier's front end alone."""

    def __init__(self, module: ProverSpeech) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module.features(x).flatten(1)


def hold(module: ProverSpeech, clips: list[Clip], count: int, decibels: tuple[float, ...]) -> int:
    """How many outputs of torch's front end on so many perturbed clips are outside their bounds."""
    outside, done, widths = 0, 0, []
    generator = torch.Generator().manual_seed(0)
    front_end = FrontEnd(module)
    share = -(-count // (len(decibels) * len(clips)))
    for clip in clips:
        model = tv.load(front_end, shape=(len(clip.samples),))
        for level in decibels:
            region = tv.LinfBall(clip.radius(level))
            bounds = tv.bounds(model, clip.samples[None], region)
            points = region.around(clip.samples[None]).sample(min(share, count - done), generator)[0]
            features = front_end(points)
            outside += int(((features < bounds.lower) | (features > bounds.upper)).sum())
            done += len(points)
            seen = features.amax(0) - features.amin(0)
            widths.append(float((seen / bounds.width[0]).mean()))
    report(
        f"{done} perturbed clips, {outside} outputs outside their bounds; the outputs spread over "
        f"{sum(widths) / len(widths):.0%} of their intervals"
    )
    return outside


@click.command(cls=Experiment)
@click.option("--method", default="linear", show_default=True)
@click.option("--db", "decibels", type=float, multiple=True, default=(-90.0, -80.0, -70.0), show_default=True)
@click.option("--clips", "count", default=20, show_default=True)
@click.option("--all", "everything", is_flag=True, help="decide all test clips")
@click.option("--limit", default=300, show_default=True, help="only the first so many of them")
@click.option("--skip", default=0, help="but not the first so many")
@click.option("--time-limit", default=60.0, show_default=True)
@click.option("--forward", default=0, help="hold so many perturbed clips against the bounds")
def main(
    method: str,
    decibels: tuple[float, ...],
    count: int,
    everything: bool,
    limit: int,
    skip: int,
    time_limit: float,
    forward: int,
) -> None:
    torch.set_num_threads(1)
    module, clips = prover_speech(), spoken_digits()
    right = rightly_heard(module, clips)
    report(f"{len(right)} of {len(clips)} test clips are answered rightly: {len(right) / len(clips):.1%}")
    imported = Imported(module)
    short = [clip for clip in right if len(clip.samples) <= LONGEST][:count]
    if forward:
        raise SystemExit(1 if hold(module, short, forward, decibels) else 0)
    if everything:
        decide(imported, clips[skip:limit], decibels, method, time_limit)
    else:
        compare(imported, short, decibels, method)


if __name__ == "__main__":
    main()
