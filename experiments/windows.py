"""Linear bounds that cost what the network costs: LBP and windows beside interval arithmetic and back-substitution.

    python -m experiments.windows cost [--cell LSTM] [--units 32 ...] [--frames 12 ...]
    python -m experiments.windows margins [--model prover/07f_032h_1l ...] [--count 20]
    python -m experiments.windows mixtures [--cell LSTM] [--frames 25 ...] [--eps 0.015] [--count 1]

`cost` bounds one input of LSTMs and GRUs with random weights, 40 features a frame, in a ball of radius .01; each case in a
process of its own, whose memory before and after is told. The exponent is that of the seconds from 50 frames on. `margins` has
the mean of the smallest margins over the first images that trained networks classify correctly. `mixtures` takes networks of 32
units that are trained on spoken digits (`experiments.long_networks`), and tells what one round of `combine` takes and proves,
over windows of 4 and of 8 frames and without, beside `linear` and `window`. One thread.
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

import tightverify as tv
from experiments import long_networks
from experiments.data import correctly_classified, mnist_test
from experiments.figures import table_of
from experiments.long_networks import BANDS, Reader
from experiments.pages import Experiment, report
from experiments.radius import SEVERAL, network
from tightverify.api.passes import PASSES
from tightverify.settings import Settings
from tightverify.spec import classify_as

RADIUS = 0.01
CASES = (("interval", None), ("lbp", None), ("window", 4), ("window", 8), ("window", 16), ("linear", None))
MOST_FRAMES = {"linear": 100}
"""What takes longer is not run."""
FROM = 50
EPS = {4: 0.01, 7: 0.01, 14: 0.005}
"""Radii of the margins, by frames."""
WINDOWS = 2, 4, 8


MIXTURES = (("window", 8), ("linear", None), ("combine", 4), ("combine", 8), ("combine", None))
"""Methods, and windows, that `mixtures` compares."""
MOST_MIXED = 25
"""Without a window `combine` is not run over more frames."""


def named(method: str, window: int | None) -> str:
    return method if window is None else f"{method} {window}"


def measured(cell: str, units: int, frames: int, method: str, window: int | None) -> dict[str, float]:
    """One case, in a process that has done nothing else: CPU seconds and MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x = tv.load(Reader(cell, units).double(), (frames, BANDS)), torch.rand(1, frames, BANDS, dtype=torch.float64)
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
    alone = [(method, None) for method in ("interval", "crown-ibp", "lbp", "crown-lbp")]
    cases: list[tuple[str, int | None]] = [*alone, *(("window", k) for k in WINDOWS), ("linear", None)]
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


@main.command(cls=Experiment)
@click.option("--cell", "cells", multiple=True, default=("LSTM", "GRU"), help="A kind of layer; several.")
@click.option("--frames", "lengths", type=int, multiple=True, default=(25, 50, 100), help="Frames; several.")
@click.option("--eps", default=0.015, show_default=True)
@click.option("--count", default=1, show_default=True, help="So many clips of each.")
def mixtures(cells: Sequence[str], lengths: Sequence[int], eps: float, count: int) -> None:
    """Seconds and smallest margins of one round of combine, by frames."""
    names = [named(*case) for case in MIXTURES]
    table = table_of(f"CPU s of an input / mean smallest margin, {count} clips, eps {eps:g}", "network", "accuracy", *names)
    for cell in cells:
        for frames in lengths:
            network = long_networks.trained(cell, 32, frames)
            x, y, accuracy = long_networks.rightly_heard(network, frames, count)
            graph, spec = tv.load(network, (frames, BANDS)).graph, classify_as(y, 10)
            shown = []
            for method, window in MIXTURES:
                if method == "combine" and window is None and frames > MOST_MIXED:
                    shown.append("")
                    continue
                began, least = time.process_time(), 0.0
                for k in range(count):
                    one = slice(k, k + 1)
                    found = PASSES[method](graph, tv.LinfBall(eps).around(x[one]), Settings(window=window))
                    least += float((found.lower({graph.output: spec.rows[one]}) + spec.offsets[one]).amin())
                shown.append(f"{(time.process_time() - began) / count:.1f} / {least / count:.2f}")
            table.add_row(f"{cell} 32, {frames} frames", f"{accuracy:.1%}", *shown)
    report(table)


if __name__ == "__main__":
    main()
