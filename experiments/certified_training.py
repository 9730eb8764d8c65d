"""Networks trained by what is certified of them, beside the same trained as usual.

    python -m experiments.certified_training frames [--frames 7] [--images 20000] [--epochs 15] [--eps 0.1] [--count 100]
    python -m experiments.certified_training pictures [--network small] [--images 10000] [--epochs 12] [--eps 0.1] [--count 50]
    python -m experiments.certified_training colours [--images 9000] [--epochs 12] [--eps 0.00784] [--count 50]
    python -m experiments.certified_training vowels [--epochs 60] [--eps 0.1]
    python -m experiments.certified_training digits [--epochs 40] [--db -60] [--count 100]
    python -m experiments.certified_training hapt [--epochs 60] [--eps 0.05] [--count 100]

`frames`: an RNN, a GRU, an LSTM of 32 units on MNIST by rows. `pictures`: Gowal et al.'s networks with ReLU and ParamRamp,
`colours`: on CIFAR-10. `vowels`: a GRU on Japanese vowels. `digits`: a GRU on the waveforms of spoken digits. `hapt`: an LSTM
on a gyroscope's windows. What is certified is certified by the verifier in float64. One thread.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from rich.table import Table
from torch import Tensor, nn

import tightverify as tv
from experiments.data import FrameCells, FrameLSTM, folder, mnist_test, spoken_digits
from experiments.figures import table_of
from experiments.pages import Experiment, report
from experiments.series import BASIC, FRAMES, Vowels, hapt_windows
from experiments.series import vowels as recorded
from experiments.speech_network import Digits
from tightverify.inputs.audio import FULL_SCALE_16
from tightverify.training import Balls, Data, Decibels, ParamRamp, Plan, Schedule, Training, accuracies

CLIP = (0.0, 1.0)
HELD, SAMPLES = 1000, 4000
"""Images that weights are chosen by; numbers of a waveform."""
START = 0.3
"""Recurrent weights begin as so many times torch's."""
KAPPA = 0.3
"""The share of the ordinary loss, from the start: where it is large first, weights grow until intervals hold everything."""
RADII = 20
"""Inputs whose largest certified radius is looked for"""


@dataclass(frozen=True)
class Task:
    """Data that is learned from, with what weights are chosen by, the test set (N, ...), and the region that is trained for."""

    data: Data
    x: Tensor
    y: Tensor
    region: Balls | Decibels


def trained(module: nn.Module, task: Task, plan: Plan) -> tuple[nn.Module, float]:
    """A trained copy, and the seconds of its last epoch."""
    found = copy.deepcopy(module)
    run = Training(found, task.data, task.region, plan)
    epochs = list(run.run())
    return found, epochs[-1].seconds


def usual(plan: Plan) -> Plan:
    """The same without regions."""
    return replace(plan, schedule=Schedule(warm=plan.epochs + 1))


def learned(x: Tensor, y: Tensor, held: int) -> Data:
    """What is learned from; the last so many inputs are what weights are chosen by."""
    x = x.float()
    return Data(x[:-held], y[:-held], x[-held:], y[-held:])


def mnist(frames: int | None, images: int, eps: float) -> Task:
    """So many training images, and some more, and the test images, by frames or as pictures."""
    (x, y), (test_x, test_y) = mnist_test("train"), mnist_test()
    shape = (1, 28, 28) if frames is None else (frames, 784 // frames)
    data = learned(x[: images + HELD].view(-1, *shape), y[: images + HELD], HELD)
    return Task(data, test_x.float().view(-1, *shape), test_y, Balls(eps, clip=CLIP))


def certified(module: nn.Module, task: Task, count: int, method: str) -> tuple[float, float]:
    """The share of the first inputs that is right and certified, and their accuracy."""
    x, y = task.x[:count], task.y[:count]
    found = tv.certify(module, x, y, task.region(1.0), method=method, time_limit=20)
    right = sum(result.verdict is not tv.Verdict.MISCLASSIFIED for result in found)
    return sum(result.verdict is tv.Verdict.ROBUST for result in found) / count, right / count


def typical_radius(module: nn.Module, task: Task) -> float:
    """Of the first inputs: the mean, 0 for those that are wrong; of decibels the median."""
    x, y = task.x[:RADII], task.y[:RADII]
    with torch.no_grad():
        right = module(x).argmax(1) == y
    if not bool(right.any()):
        return 0.0 if isinstance(task.region, Balls) else -math.inf
    asked: dict[str, Any] = (
        {"norm": torch.inf, "clip": task.region.clip} if isinstance(task.region, Balls) else {"family": "db"}
    )
    found = tv.radius(module, x[right], y[right], method="linear", tolerance=0.05, **asked)
    if isinstance(task.region, Balls):
        return float(sum(one.proved for one in found)) / len(x)
    return statistics.median([*(float(one.proved) for one in found), *[-math.inf] * int((~right).sum())])


def accuracy(module: nn.Module, task: Task) -> float:
    with torch.no_grad():
        return float((module(task.x).argmax(1) == task.y).double().mean())


def row(name: str, how: str, module: nn.Module, task: Task, count: int, seconds: float, ratio: float) -> list[str]:
    shares = [certified(module, task, count, method)[0] for method in ("ibp", "linear")]
    known = [f"{share:.0%}" for share in shares]
    radius = f"{typical_radius(module, task):.4g}"
    return [name, how, f"{accuracy(module, task):.2%}", *known, radius, f"{seconds:.1f}", f"{ratio:.1f}"]


def compared(title: str, networks: dict[str, nn.Module], task: Task, plan: Plan, count: int) -> Table:
    columns = ("trained", "right", "certified, ibp", "certified, linear", "radius", "s an epoch", "ratio")
    table = table_of(title, "network", *columns)
    for name, module in networks.items():
        plain, plain_seconds = trained(module, task, usual(plan))
        table.add_row(*row(name, "as usual", plain, task, count, plain_seconds, 1.0))
        strong, seconds = trained(module, task, plan)
        table.add_row(*row(name, "certified", strong, task, count, seconds, seconds / plain_seconds))
    return table


@click.group()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@main.command(cls=Experiment)
@click.option("--frames", default=7, show_default=True)
@click.option("--images", default=20_000, show_default=True)
@click.option("--epochs", default=15, show_default=True)
@click.option("--eps", default=0.1, show_default=True)
@click.option("--rate", default=5e-3, show_default=True)
@click.option("--count", default=100, show_default=True)
def frames(frames: int, images: int, epochs: int, eps: float, rate: float, count: int) -> None:
    task = mnist(frames, images, eps)
    networks: dict[str, nn.Module] = {
        "rnn": FrameCells("rnn_tanh", frames, 32, 1),
        "gru": FrameCells("gru", frames, 32, 1),
        "lstm": FrameLSTM(frames, 32, 1),
    }
    plan = Plan(epochs, Schedule(1, epochs / 2, (KAPPA, KAPPA)), rate=rate, recurrent_start=START)
    title = f"{frames} frames, {images} images, {epochs} epochs, eps {eps:g}; certified of the first {count}"
    report(compared(title, networks, task, plan, count))


NETWORKS: dict[str, tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]] = {
    "small": (((16, 4, 2), (32, 4, 1)), (100,)),
    "medium": (((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)), (512, 512)),
    "large": (((64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)), (512,)),
}
"""Gowal et al.'s networks: convolutions (channels, width, stride) without padding, and dense layers."""


def convolutional(name: str, activation: Callable[[int], nn.Module], channels: int = 1, size: int = 28) -> nn.Module:
    filters, dense = NETWORKS[name]
    layers: list[nn.Module] = []
    for out, width, stride in filters:
        layers += [nn.Conv2d(channels, out, width, stride), activation(out)]
        channels, size = out, (size - width) // stride + 1
    layers.append(nn.Flatten())
    for before, after in pairwise((channels * size**2, *dense)):
        layers += [nn.Linear(before, after), activation(after)]
    return nn.Sequential(*layers, nn.Linear(dense[-1], 10))


def attacked(module: nn.Module, task: Task, count: int, steps: int = 40) -> float:
    """The share of the first inputs that are right wherever a projected gradient search goes."""
    x, y = task.x[:count], task.y[:count]
    assert isinstance(task.region, Balls)
    eps = task.region.eps
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    torch.manual_seed(0)
    moved = torch.lerp(low, high, torch.rand_like(x))
    kept = module(x).argmax(1) == y
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(module(moved), y, reduction="sum"), moved)
        moved = torch.minimum(torch.maximum(moved + eps / 8 * slope.sign(), low), high)
        kept &= module(moved).argmax(1) == y
    return float(kept.double().mean())


def by_activation(task: Task, plan: Plan, count: int, title: str, name: str, channels: int = 1, size: int = 28) -> Table:
    columns = ("clean error", "ibp, training's", "ibp", "crown-ibp", "crown-lbp", "search", "s an epoch")
    table = table_of(f"{title}; errors of the first {count} (the first two of all)", "activation", *columns)
    for kind, activation in (("ReLU", lambda _: nn.ReLU()), ("ParamRamp", ParamRamp)):
        torch.manual_seed(0)
        module, seconds = trained(convolutional(name, activation, channels, size), task, plan)
        began = time.perf_counter()
        errors = [1 - certified(module, task, count, method)[0] for method in ("ibp", "crown-ibp", "crown-lbp")]
        right, kept = accuracies(module, task.x, task.y, task.region(1.0))
        known = [f"{error:.2%}" for error in (1 - right, 1 - kept, *errors, 1 - attacked(module, task, count))]
        table.add_row(kind, *known, f"{seconds:.1f}")
        click.echo(f"{kind}: {time.perf_counter() - began:.0f} s to certify", err=True)
    return table


@main.command(cls=Experiment)
@click.option("--images", default=10_000, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--eps", default=0.1, show_default=True)
@click.option("--count", default=50, show_default=True)
@click.option("--network", type=click.Choice(list(NETWORKS)), default="small", show_default=True)
def pictures(images: int, epochs: int, eps: float, count: int, network: str) -> None:
    plan = Plan(epochs, Schedule(1, epochs / 2, (1.0, 0.0), eta=(0.5, 0.01)), rate=1e-3)
    title = f"{network}, {images} images, {epochs} epochs by ibp, eps {eps:g}"
    report(by_activation(mnist(None, images, eps), plan, count, title, network))


@main.command(cls=Experiment)
@click.option("--images", default=9_000, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--eps", default=2 / 255, show_default=True)
@click.option("--count", default=50, show_default=True)
def colours(images: int, epochs: int, eps: float, count: int) -> None:
    arrays = np.load(folder("cifar") / "cifar10_jpeg.npz")
    (x, y), (test_x, test_y) = (
        (torch.tensor(arrays[part]).permute(0, 3, 1, 2).float() / 255, torch.tensor(arrays[f"{part}_labels"]).long())
        for part in ("train", "test")
    )
    task = Task(learned(x[: images + HELD], y[: images + HELD], HELD), test_x, test_y, Balls(eps, clip=CLIP))
    plan = Plan(epochs, Schedule(1, epochs / 2, (1.0, 0.0), eta=(0.5, 0.01)), rate=1e-3)
    title = f"CIFAR-10, {images} images, {epochs} epochs by ibp, eps {eps:.3g}"
    report(by_activation(task, plan, count, title, "small", 3, 32))


@main.command(cls=Experiment)
@click.option("--epochs", default=60, show_default=True)
@click.option("--eps", default=0.1, show_default=True)
@click.option("--count", default=100, show_default=True)
def vowels(epochs: int, eps: float, count: int) -> None:
    (x, y), (test_x, test_y) = recorded("train"), recorded("test")
    order, others = torch.randperm(len(x)), torch.randperm(len(test_x))
    task = Task(learned(x[order], y[order], len(x) // 6), test_x.float()[others], test_y[others], Balls(eps))
    plan = Plan(epochs, Schedule(5, epochs / 2, (KAPPA, KAPPA)), rate=5e-3, batch=32, recurrent_start=START)
    report(compared(f"{epochs} epochs, eps {eps:g}; certified of {count}", {"gru": Vowels(32)}, task, plan, count))


def heard(test: bool) -> tuple[Tensor, Tensor]:
    """(N, SAMPLES): spoken digits cut to their first half second, or with zeros behind, in a random order."""
    clips = spoken_digits(test)
    x = torch.stack([F.pad(clip.samples[:SAMPLES] / FULL_SCALE_16, (0, max(0, SAMPLES - len(clip.samples)))) for clip in clips])
    order = torch.randperm(len(clips))
    return x.float()[order], torch.tensor([clip.digit for clip in clips])[order]


@main.command(cls=Experiment)
@click.option("--epochs", default=40, show_default=True)
@click.option("--db", default=-60.0, show_default=True)
@click.option("--count", default=100, show_default=True)
def digits(epochs: int, db: float, count: int) -> None:
    (x, y), (test_x, test_y) = heard(test=False), heard(test=True)
    task = Task(learned(x, y, len(x) // 9), test_x, test_y, Decibels(db))
    network = Digits("gru")
    with torch.no_grad():
        bands = network.front(task.data.x).flatten(0, 1)
        network.mean.copy_(bands.mean(0))
        network.deviation.copy_(bands.std(0))
    plan = Plan(epochs, Schedule(5, epochs / 2, (KAPPA, KAPPA)), rate=5e-3, batch=64, recurrent_start=START)
    title = f"waveforms of {SAMPLES} samples, {epochs} epochs, trained for {db:g} dB; certified at {db:g} dB of {count}"
    report(compared(title, {"gru": network}, task, plan, count))


@main.command(cls=Experiment)
@click.option("--epochs", default=60, show_default=True)
@click.option("--eps", default=0.05, show_default=True)
@click.option("--count", default=100, show_default=True)
def hapt(epochs: int, eps: float, count: int) -> None:
    (x, y), (test_x, test_y) = hapt_windows(test=False), hapt_windows()
    data = learned(x.view(len(x), FRAMES, -1), y, len(x) // 6)
    task = Task(data, test_x.float().view(len(test_x), FRAMES, -1), test_y, Balls(eps))
    plan = Plan(epochs, Schedule(5, epochs / 2, (KAPPA, KAPPA)), rate=5e-3, batch=32, recurrent_start=START)
    title = f"{len(data.x)} windows of a gyroscope, {epochs} epochs, eps {eps:g} rad/s; certified of {count}"
    report(compared(title, {"lstm": FrameLSTM(FRAMES, 32, 1, BASIC, x.shape[1])}, task, plan, count))


if __name__ == "__main__":
    main()
