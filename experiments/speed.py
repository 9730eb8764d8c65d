"""Speed and memory of the linear bounds: inputs a second, growth with the number of frames, peak memory.

    python -m experiments.speed [--out experiments/out]

Prints the tables of docs/experiments/speed.md and writes the plot growth.png. Run it with nothing else running.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import torch
from rich.table import Table
from torch import Tensor

import tightverify as tv
from experiments.curves import growth as draw_growth
from experiments.data import FrameLSTM, correctly_classified, mnist_test, prover_lstm
from experiments.pages import Experiment, report

BATCH = 100
FRAMES = (4, 7, 14, 28)
REPEATS = 5


def seconds(model: tv.Model, x: Tensor, labels: Tensor, eps: float) -> float:
    """The shortest of several runs over one batch, intervals and linear bounds, without the attack."""
    best = math.inf
    for _ in range(REPEATS):
        began = time.perf_counter()
        tv.certify(model, x, labels, tv.LinfBall(eps, clip=(0, 1)), method="linear", batch=len(x), restarts=0)
        best = min(best, time.perf_counter() - began)
    return best


def random_lstm(frames: int, hidden: int) -> FrameLSTM:
    """An LSTM with torch's own initial weights: the cost of the bounds does not depend on the weights."""
    torch.manual_seed(0)
    return FrameLSTM(frames, hidden, 1).double().eval()


def rate() -> None:
    """Inputs a second on PROVER's models."""
    images, labels = mnist_test()
    table = Table(title=f"linear bounds, one batch of {BATCH}, {torch.get_num_threads()} threads")
    for name in ("model", "eps", "inputs / s", "auto_LiRPA CROWN, inputs / s, batches of 20, one thread"):
        table.add_column(name)
    for name, eps, theirs in (("04f_032h_1l", 0.010, 1 / 0.019), ("04f_032h_2l", 0.013, 1 / 0.057)):
        module = prover_lstm(name)
        chosen = correctly_classified(module, images, labels, BATCH)
        x = module.cut(images[chosen])
        took = seconds(tv.load(module, tuple(x.shape[1:])), x, labels[chosen], eps)
        table.add_row(name, f"{eps:.3f}", f"{BATCH / took:.0f}", f"{theirs:.0f}")
    report(table)


def growth(out: Path) -> None:
    """Seconds a batch against the number of frames, with the exponent between neighbours."""
    table = Table(title=f"growth: one layer of 32 units, random weights, one batch of {BATCH}")
    for name in ("frames", "seconds", "growth with frames ** ..."):
        table.add_column(name)
    images, _ = mnist_test()
    found: list[float] = []
    for frames in FRAMES:
        module = random_lstm(frames, 32)
        x = module.cut(images[:BATCH])
        model = tv.load(module, tuple(x.shape[1:]))
        found.append(seconds(model, x, model.original(x).argmax(1), 0.01))
        exponent = ""
        if len(found) > 1:
            before = FRAMES[len(found) - 2]
            exponent = f"{math.log(found[-1] / found[-2]) / math.log(frames / before):.2f}"
        table.add_row(str(frames), f"{found[-1]:.2f}", exponent)
    report(table)
    quadratic = [found[0] * (frames / FRAMES[0]) ** 2 for frames in FRAMES]
    curves = {"measured": found, "quadratic growth": quadratic}
    draw_growth(FRAMES, curves, f"seconds for {BATCH} inputs", "one layer of 32 units · method linear", out / "growth.png")


def memory() -> None:
    """Peak memory of a process of its own that bounds 100 inputs of 28 frames and 128 units."""
    took = subprocess.run([sys.executable, "-m", "experiments.speed", "--large"], check=True, capture_output=True, text=True)
    report(took.stdout.strip())


def large() -> None:
    module = random_lstm(28, 128)
    images, _ = mnist_test()
    x = module.cut(images[:BATCH])
    before = peak_memory()
    began = time.perf_counter()
    tv.certify(module, x, None, tv.LinfBall(0.01, clip=(0, 1)), method="linear", batch=BATCH, restarts=0)
    took = time.perf_counter() - began
    print(f"28 frames of 128 units, batch of {BATCH}: peak memory {peak_memory():.2f} GiB ({before:.2f} before), {took:.0f} s")


def peak_memory() -> float:
    """The most memory that this process has held, in GiB (Linux tells it apart from its parent's)."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@click.command(cls=Experiment)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "out", show_default=False)
@click.option("--large", "only_large", is_flag=True, help="Only the large network, in this process.")
def main(out: Path, only_large: bool) -> None:
    if only_large:
        large()
        return
    rate()
    growth(out)
    memory()


if __name__ == "__main__":
    main()
