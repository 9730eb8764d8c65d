"""Networks trained by what is certified of them, beside the same trained as usual.

    python -m experiments.certified_training frames [--frames 7] [--images 20000] [--epochs 15] [--eps 0.1] [--count 100]
    python -m experiments.certified_training pictures [--images 10000] [--epochs 12] [--eps 0.1] [--count 50]
    python -m experiments.certified_training colours [--images 10000] [--epochs 12] [--eps 0.00784] [--count 100]
    python -m experiments.certified_training vowels [--epochs 60] [--eps 0.1]
    python -m experiments.certified_training digits [--epochs 30] [--db -60] [--count 100]
    python -m experiments.certified_training hapt [--epochs 60] [--eps 0.05] [--count 100]

`frames`: an RNN, a GRU, an LSTM of 32 units on MNIST by rows. `pictures`: Gowal et al.'s small network with ReLU and ParamRamp,
`colours`: on CIFAR-10. `vowels`: a GRU on Japanese vowels. `digits`: a GRU on the waveforms of spoken digits. `hapt`: an LSTM on
a gyroscope's windows. What is certified is certified by the verifier in float64. One thread.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import click
import torch
import torch.nn.functional as F  # noqa: N812
from rich.table import Table
from torch import Tensor, nn

import tightverify as tv
from experiments.data import FrameCells, FrameLSTM, mnist_test
from experiments.figures import table_of
from experiments.pages import Experiment, report
from experiments.series import vowels as recorded
from tightverify.training import Data, ParamRamp, Plan, Schedule, Training, accuracies

CLIP = (0.0, 1.0)
RADII = 20
"""Inputs whose largest certified radius is looked for"""


@dataclass(frozen=True)
class Task:
    """Data, and the ball that is trained for."""

    data: Data
    eps: float
    clip: tuple[float, float] | None

    def region(self, share: float) -> tv.LpBall:
        return tv.LinfBall(share * self.eps, self.clip)


def trained(module: nn.Module, task: Task, plan: Plan) -> tuple[nn.Module, float]:
    """A trained copy, and the seconds of its last epoch."""
    found = copy.deepcopy(module)
    run = Training(found, task.data, task.region, plan)
    epochs = list(run.run())
    return found, epochs[-1].seconds


def usual(plan: Plan) -> Plan:
    """The same without regions."""
    return Plan(plan.epochs, Schedule(warm=plan.epochs + 1), rate=plan.rate, batch=plan.batch)


def mnist(frames: int | None, images: int) -> Data:
    """So many training images and the test images, by frames or as pictures."""
    (x, y), (held_x, held_y) = mnist_test("train"), mnist_test()
    shape = (1, 28, 28) if frames is None else (frames, 784 // frames)
    return Data(x[:images].float().view(-1, *shape), y[:images], held_x.float().view(-1, *shape), held_y)


def certified(module: nn.Module, task: Task, count: int, method: str) -> tuple[float, float]:
    """The share of the first inputs that is right and certified, and their accuracy."""
    x, y = task.data.held_x[:count], task.data.held_y[:count]
    found = tv.certify(module, x, y, task.region(1.0), method=method, time_limit=20)
    right = sum(result.verdict is not tv.Verdict.MISCLASSIFIED for result in found)
    return sum(result.verdict is tv.Verdict.ROBUST for result in found) / count, right / count


def mean_radius(module: nn.Module, task: Task) -> float:
    """Of the first inputs, 0 for those that are wrong."""
    x, y = task.data.held_x[:RADII], task.data.held_y[:RADII]
    with torch.no_grad():
        right = module(x).argmax(1) == y
    found = tv.radius(module, x[right], y[right], norm=torch.inf, clip=task.clip, method="linear", tolerance=0.05)
    return float(sum(one.proved for one in found)) / len(x)


def accuracy(module: nn.Module, data: Data) -> float:
    with torch.no_grad():
        return float((module(data.held_x).argmax(1) == data.held_y).double().mean())


def row(name: str, how: str, module: nn.Module, task: Task, count: int, seconds: float, ratio: float) -> list[str]:
    shares = [certified(module, task, count, method)[0] for method in ("ibp", "linear")]
    known = [f"{share:.0%}" for share in shares]
    radius = f"{mean_radius(module, task):.4f}"
    return [name, how, f"{accuracy(module, task.data):.2%}", *known, radius, f"{seconds:.1f}", f"{ratio:.1f}"]


def compared(title: str, networks: dict[str, nn.Module], task: Task, plan: Plan, count: int) -> Table:
    columns = ("trained", "right", "certified, ibp", "certified, linear", "mean radius", "s an epoch", "ratio")
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
@click.option("--count", default=100, show_default=True)
def frames(frames: int, images: int, epochs: int, eps: float, count: int) -> None:
    task = Task(mnist(frames, images), eps, CLIP)
    networks: dict[str, nn.Module] = {
        "rnn": FrameCells("rnn_tanh", frames, 32, 1),
        "gru": FrameCells("gru", frames, 32, 1),
        "lstm": FrameLSTM(frames, 32, 1),
    }
    plan = Plan(epochs, Schedule(1, epochs / 2, (1.0, 0.3)), rate=2e-3)
    title = f"{frames} frames, {images} images, {epochs} epochs, eps {eps:g}; certified of the first {count}"
    report(compared(title, networks, task, plan, count))


def small(activation: Callable[[int], nn.Module]) -> nn.Module:
    filters = nn.Conv2d(1, 16, 4, 2), activation(16), nn.Conv2d(16, 32, 4), activation(32), nn.Flatten()
    return nn.Sequential(*filters, nn.Linear(3200, 100), activation(100), nn.Linear(100, 10))


def attacked(module: nn.Module, task: Task, count: int, steps: int = 40) -> float:
    """The share of the first inputs that are right wherever a projected gradient search goes."""
    x, y = task.data.held_x[:count], task.data.held_y[:count]
    low, high = (x - task.eps).clamp(0, 1), (x + task.eps).clamp(0, 1)
    torch.manual_seed(0)
    moved = torch.lerp(low, high, torch.rand_like(x))
    kept = module(x).argmax(1) == y
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(module(moved), y, reduction="sum"), moved)
        moved = torch.minimum(torch.maximum(moved + task.eps / 8 * slope.sign(), low), high)
        kept &= module(moved).argmax(1) == y
    return float(kept.double().mean())


@main.command(cls=Experiment)
@click.option("--images", default=10_000, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--eps", default=0.1, show_default=True)
@click.option("--count", default=50, show_default=True)
def pictures(images: int, epochs: int, eps: float, count: int) -> None:
    task = Task(mnist(None, images), eps, CLIP)
    plan = Plan(epochs, Schedule(1, epochs / 2, (1.0, 0.0), eta=(0.5, 0.01)), rate=1e-3)
    columns = ("clean error", "ibp, training's", "ibp", "crown-ibp", "crown-lbp", "search", "s an epoch")
    title = f"{images} images, {epochs} epochs by ibp, eps {eps:g}; errors of the first {count} (the first two of all)"
    table = table_of(title, "activation", *columns)
    for name, activation in (("ReLU", lambda _: nn.ReLU()), ("ParamRamp", ParamRamp)):
        torch.manual_seed(0)
        module, seconds = trained(small(activation), task, plan)
        began = time.perf_counter()
        errors = [1 - certified(module, task, count, method)[0] for method in ("crown-ibp", "crown-lbp")]
        by_interval = 1 - certified(module, task, count, "ibp")[0]
        x, y = task.data.held_x, task.data.held_y
        right, kept = accuracies(module, x, y, task.region(1.0))
        known = [f"{error:.2%}" for error in (1 - right, 1 - kept, by_interval, *errors)]
        table.add_row(name, *known, f"{1 - attacked(module, task, count):.2%}", f"{seconds:.1f}")
        click.echo(f"{name}: {time.perf_counter() - began:.0f} s to certify", err=True)
    report(table)


class Vowels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.GRU(12, 32, batch_first=True), nn.Linear(32, 9)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.layer(x)[0][:, -1]))


@main.command(cls=Experiment)
@click.option("--epochs", default=60, show_default=True)
@click.option("--eps", default=0.1, show_default=True)
@click.option("--count", default=100, show_default=True)
def vowels(epochs: int, eps: float, count: int) -> None:
    (x, y), (held_x, held_y) = recorded("train"), recorded("test")
    order = torch.randperm(len(held_x))
    task = Task(Data(x.float(), y, held_x.float()[order], held_y[order]), eps, None)
    plan = Plan(epochs, Schedule(5, epochs / 2, (1.0, 0.3)), rate=5e-3, batch=32)
    report(compared(f"{epochs} epochs, eps {eps:g}; certified of {count}", {"gru": Vowels()}, task, plan, count))


if __name__ == "__main__":
    main()
