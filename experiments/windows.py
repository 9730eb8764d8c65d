"""Linear bounds that cost what the network costs: LBP and windows beside interval arithmetic and back-substitution.

    python -m experiments.windows cost [--cell LSTM] [--units 32 ...] [--frames 12 ...]
    python -m experiments.windows margins [--model prover/07f_032h_1l ...] [--count 20]

`cost` bounds one input of LSTMs and GRUs with random weights, 40 features a frame, in a ball of radius .01; each case in a
process of its own, whose memory before and after is told. The exponent is that of the seconds from 50 frames on. `margins` has
the mean of the smallest margins over the first images that trained networks classify correctly. One thread.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.data import correctly_classified, mnist_test
from experiments.figures import table_of
from experiments.pages import Experiment, report
from experiments.radius import SEVERAL, network

FEATURES, RADIUS = 40, 0.01
CASES = (("interval", 0), ("lbp", 0), ("window", 4), ("window", 8), ("window", 16), ("linear", 0))
MOST_FRAMES = {"linear": 100}
"""What takes longer is not run."""
FROM = 50
EPS = {4: 0.01, 7: 0.01, 14: 0.005}
"""Radii of the margins, by frames."""
WINDOWS = 2, 4, 8


class Reader(nn.Module):
    def __init__(self, cell: str, units: int) -> None:
        super().__init__()
        self.layer, self.head = getattr(nn, cell)(FEATURES, units, batch_first=True), nn.Linear(units, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


def named(method: str, window: int) -> str:
    return f"{method} {window}" if method == "window" else method


def measured(cell: str, units: int, frames: int, method: str, window: int) -> dict[str, float]:
    """One case, in a process that has done nothing else: CPU seconds and MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x = tv.load(Reader(cell, units).double(), (frames, FEATURES)), torch.rand(1, frames, FEATURES, dtype=torch.float64)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    tv.bounds(model, x, tv.LinfBall(RADIUS), method, window=window)
    took = time.process_time() - began
    return {"seconds": took, "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3}


def exponent(seconds: dict[int, float]) -> str:
    """By which power of the frames seconds grow, from the least number of frames that counts to the largest."""
    long = sorted(frames for frames in seconds if frames >= FROM)
    if len(long) < 2:
        return ""
    first, last = long[0], long[-1]
    return f"{math.log(seconds[last] / seconds[first]) / math.log(last / first):.2f}"


@click.group()
def main() -> None:
    """What bounds cost that grow with the length."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@click.option("--cell", "cells", multiple=True, default=("LSTM", "GRU"), help="A kind of layer; several.")
@click.option("--units", "sizes", type=int, multiple=True, default=(32, 128), help="Units; several.")
@click.option("--frames", "lengths", type=int, multiple=True, default=(12, 25, 50, 100, 200), help="Frames; several.")
@click.option("--one", hidden=True, help="One case alone, as a line of JSON.")
def cost(cells: Sequence[str], sizes: Sequence[int], lengths: Sequence[int], one: str | None) -> None:
    """Seconds and memory of one input, by frames."""
    if one is not None:
        click.echo(json.dumps(measured(*json.loads(one))))
        return
    columns = "network", "method", *(f"{frames} frames" for frames in lengths), "exponent"
    table = table_of("CPU s, and MB more, of one input", *columns)
    for cell in cells:
        for units in sizes:
            for method, window in CASES:
                seconds, shown = dict[int, float](), list[str]()
                for frames in lengths:
                    if frames > MOST_FRAMES.get(method, frames):
                        shown.append("")
                        continue
                    found = apart(cell, units, frames, method, window)
                    seconds[frames] = found["seconds"]
                    shown.append(f"{found['seconds']:.2f}, {found['memory']:.0f}")
                table.add_row(f"{cell} {units}", named(method, window), *shown, exponent(seconds))
    report(table)


def apart(*case: Any) -> dict[str, float]:
    """A case in a process of its own."""
    command = [sys.executable, "-m", "experiments.windows", "cost", "--one", json.dumps(case)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@main.command(cls=Experiment)
@click.option("--model", "models", multiple=True, default=SEVERAL, help="A network; several.")
@click.option("--count", default=20, show_default=True, help="So many images of each.")
def margins(models: Sequence[str], count: int) -> None:
    """Mean smallest margins of trained networks, and how many images are certified."""
    cases = [("interval", 0), ("crown-ibp", 0), ("lbp", 0), ("crown-lbp", 0), *(("window", k) for k in WINDOWS), ("linear", 0)]
    table = table_of(f"certified of {count}, and mean smallest margin", "network", "eps", *(named(*case) for case in cases))
    pixels, labels = mnist_test()
    for name in models:
        module = network(name)
        chosen = correctly_classified(module, pixels, labels, count)
        x, y = module.cut(pixels[chosen]), labels[chosen]
        model, eps = tv.load(module, tuple(x.shape[1:])), EPS[x.shape[1]]
        shown = []
        for method, window in cases:
            region = tv.LinfBall(eps, clip=(0, 1))
            found = tv.certify(model, x, y, region, method=method, window=window, thorough=True, restarts=0)
            certified = sum(result.verdict is tv.Verdict.ROBUST for result in found)
            shown.append(f"{certified} / {sum(result.margin for result in found) / count:.2f}")
        table.add_row(name, f"{eps:g}", *shown)
    report(table)


if __name__ == "__main__":
    main()
