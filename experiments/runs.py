"""What runs cost beside the work itself, and gain by several processes: records written at once, and --jobs.

    python -m experiments.runs [--model 04f_032h_1l] [--inputs 360] [--jobs 2] [--method combine ...]

The demonstration's GRU on its digits at eps 0.03, or one of PROVER's LSTMs on MNIST at eps 0.01. Prints the tables of
docs/experiments/runs.md. Run it with nothing else running: the second table is in seconds of the clock.
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
import torch
from rich.table import Table

from experiments.data import mnist_test, prover_lstm
from experiments.pages import Experiment, report
from tightverify.demo import NETWORKS, held_out
from tightverify.json_lines import JsonLines
from tightverify.report.records import read_records

METHODS = ("linear", "combine", "complete")
REPEATS = 20


def task_in(folder: Path, name: str | None, count: int) -> list[str]:
    """A network, a file of so many inputs, and the radius, as the command line takes them."""
    inputs = folder / "inputs.npz"
    if name is None:
        digits, shown = held_out()
        np.savez(inputs, x=digits[:count], y=shown[:count])
        return [str(NETWORKS["GRU"]), str(inputs), "--eps", "0.03"]
    module, (images, labels) = prover_lstm(name).float(), mnist_test()
    x = module.cut(images[:count]).float()
    np.savez(inputs, x=x.numpy(), y=labels[:count].numpy())
    axes = {"x": {0: "batch"}}
    torch.onnx.export(module, (x[:1],), str(folder / "model.onnx"), dynamo=False, input_names=["x"], dynamic_axes=axes)
    return [str(folder / "model.onnx"), str(inputs), "--eps", "0.01", "--clip", "0", "1"]


def certify(task: list[str], out: Path, method: str, jobs: int) -> tuple[float, float]:
    """Seconds of the clock and of all processors that a run takes, its start included."""
    given = ["certify", *task, "--method", method, "--splits", "20", "--quiet"]
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
@click.option("--model", "name", help="One of PROVER's LSTMs, in place of the demonstration's GRU.")
@click.option("--inputs", "count", type=click.IntRange(1, 360), default=360, show_default=True)
@click.option("--jobs", type=click.IntRange(min=2), default=2, show_default=True)
@click.option("--method", "methods", multiple=True, default=METHODS, help="A method; several.")
def main(name: str | None, count: int, jobs: int, methods: tuple[str, ...]) -> None:
    """What runs cost beside the work, and gain by several processes."""
    cost = Table(title=f"writing {count} records at once, one thread")
    for column in ("method", "CPU s of the run", "CPU s of writing", "share"):
        cost.add_column(column, justify="right")
    gain = Table(title=f"{count} inputs over {jobs} processes")
    for column in ("method", "s, one process", f"s, {jobs} processes", "times as fast", "CPU s, one", f"CPU s, {jobs}"):
        gain.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        task = task_in(folder, name, count)
        for method in methods:
            out = folder / f"{method}.jsonl"
            one, work = certify(task, out, method, 1)
            wrote = writing(out, folder)
            several, works = certify(task, folder / "several.jsonl", method, jobs)
            cost.add_row(method, f"{work:.1f}", f"{wrote:.3f}", f"{100 * wrote / work:.2f} %")
            gain.add_row(method, f"{one:.1f}", f"{several:.1f}", f"{one / several:.2f}", f"{work:.1f}", f"{works:.1f}")
    report(cost, gain)


if __name__ == "__main__":
    main()
