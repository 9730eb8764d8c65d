"""Seconds per input of every method, on a small, a middle and a large network.

    python -m experiments.methods [--time-limit 60]

One thread; the seconds are the process's own, so that other work on the machine does not count, but for the time limit.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor

import tightverify as tv
from experiments.data import FrameLSTM, correctly_classified, mnist_test, prover_lstm
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.demo import NETWORKS, held_out
from tightverify.methods import SENTENCES

DECIDED = (tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE)


@dataclass(frozen=True)
class Task:
    """A network, inputs that it classifies as `labels` say, and how much each of their values may change."""

    name: str
    model: tv.Model
    x: Tensor
    labels: Tensor
    eps: float


@dataclass(frozen=True)
class Figure:
    """How many inputs a method decided, of how many, and its seconds for each."""

    decided: int
    count: int
    seconds: float

    @property
    def words(self) -> str:
        return f"{self.seconds:.2g} s, {self.decided} of {self.count}"


def small() -> Task:
    """The demonstration's LSTM, on digits of 8 rows."""
    images, shown = held_out()
    x, labels = torch.tensor(images, dtype=torch.float64), torch.tensor(shown)
    model = tv.load(NETWORKS["LSTM"], tuple(x.shape[1:]))
    right = torch.nonzero(model.original(x).argmax(1) == labels).flatten()[:4]
    return Task("small: 8 frames, 16 units, eps 0.05", model, x[right], labels[right], 0.05)


def middle() -> Task:
    """PROVER's LSTM of two layers, on MNIST's images in four frames."""
    images, labels = mnist_test()
    module = prover_lstm("04f_032h_2l")
    right = correctly_classified(module, images, labels, 3)
    x = module.cut(images[right])
    return Task(
        "middle: 4 frames, 2 layers of 32 units, eps 0.013", tv.load(module, tuple(x.shape[1:])), x, labels[right], 0.013
    )


def large() -> Task:
    """Three times torch's own initial weights, which leave something to decide: what bounds cost does not depend on them."""
    torch.manual_seed(0)
    module = FrameLSTM(28, 64, 1).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
    x = module.cut(mnist_test()[0][:1])
    model = tv.load(module, tuple(x.shape[1:]))
    return Task("large: 28 frames, 64 units, eps 0.01", model, x, model.original(x).argmax(1), 0.01)


TASKS: tuple[Callable[[], Task], ...] = (small, middle, large)


def measured(task: Task, method: str, limit: float) -> Figure:
    """A method on a task's inputs, one by one, as a run over many would meet them."""
    began = time.process_time()
    ball = tv.LinfBall(task.eps, clip=(0, 1))
    results = tv.certify(task.model, task.x, task.labels, ball, method=method, time_limit=limit, batch=1)
    decided = sum(result.verdict in DECIDED for result in results)
    return Figure(decided, len(results), (time.process_time() - began) / len(results))


def processor() -> str:
    """What the machine calls its processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@click.command(cls=Experiment)
@click.option("--time-limit", "limit", default=60.0, show_default=True, help="Seconds per input.")
def main(limit: float) -> None:
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    tasks = [make() for make in TASKS]
    for task in tasks:  # what is imported when it is first used is no method's own
        measured(task, "linear", limit)
    table = table_of(
        f"seconds per input and inputs decided, at most {limit:g} s each", "method", *(task.name for task in tasks)
    )
    for method in SENTENCES:
        table.add_row(method, *(measured(task, method, limit).words for task in tasks))
    report(
        table,
        f"One thread of {processor()}, torch {torch.__version__}; the load of the machine was {load:.1f} when it began: "
        "where others compute, a limit leaves less than its seconds.",
    )


if __name__ == "__main__":
    main()
