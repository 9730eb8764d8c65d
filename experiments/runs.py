"""What runs cost beside the work itself, and gain by several processes: records written at once, and --jobs.

    python -m experiments.runs [--inputs 360] [--jobs 2]

Prints the tables of docs/experiments/runs.md. Run it with nothing else running: the second table is in seconds of the clock.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from rich.table import Table

from experiments.pages import Experiment, report
from tightverify.demo import NETWORKS, held_out
from tightverify.json_lines import JsonLines
from tightverify.report.records import read_records

EPS = "0.03"
METHODS = ("linear", "complete")
REPEATS = 20


def certify(inputs: Path, out: Path, method: str, jobs: int) -> tuple[float, float]:
    """Seconds of the clock and of all processors that a run takes, its start included."""
    given = ["certify", str(NETWORKS["GRU"]), str(inputs), "--eps", EPS, "--method", method, "--splits", "20", "--quiet"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "tightverify", *given, "--out", str(out), "--force", "--jobs", str(jobs), "--threads", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def writing(out: Path, folder: Path) -> float:
    """CPU seconds that it takes to write a run's records line by line, each on the disk at once."""
    records, best = read_records(out), float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        with JsonLines(folder / "again.jsonl", replace=True) as lines:
            for record in records:
                lines.write(asdict(record))
        best = min(best, time.process_time() - began)
    return best


@click.command(cls=Experiment)
@click.option("--inputs", "count", type=click.IntRange(1, 360), default=360, show_default=True)
@click.option("--jobs", type=click.IntRange(min=2), default=2, show_default=True)
def main(count: int, jobs: int) -> None:
    """What runs cost beside the work, and gain by several processes."""
    x, y = held_out()
    cost = Table(title=f"writing {count} records at once, one thread")
    for name in ("method", "CPU s of the run", "CPU s of writing", "share"):
        cost.add_column(name, justify="right")
    gain = Table(title=f"{count} inputs over {jobs} processes")
    for name in ("method", "s, one process", f"s, {jobs} processes", "times as fast", "CPU s, one", f"CPU s, {jobs}"):
        gain.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "inputs.npz", x=x[:count], y=y[:count])
        for method in METHODS:
            out = folder / f"{method}.jsonl"
            one, work = certify(folder / "inputs.npz", out, method, 1)
            wrote = writing(out, folder)
            several, works = certify(folder / "inputs.npz", folder / "several.jsonl", method, jobs)
            cost.add_row(method, f"{work:.1f}", f"{wrote:.3f}", f"{100 * wrote / work:.2f} %")
            gain.add_row(method, f"{one:.1f}", f"{several:.1f}", f"{one / several:.2f}", f"{work:.1f}", f"{works:.1f}")
    report(cost, gain)


if __name__ == "__main__":
    main()
