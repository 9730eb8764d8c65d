"""What strategies of lines come to on networks trained by intervals: tight lines keep what intervals prove.

    python -m experiments.line_strategies [--frames 7] [--epochs 15] [--eps 0.2] [--row-eps 0.05] [--count 100]

A ReLU network of six layers on MNIST's pictures and an RNN of tanh that reads them by four rows, trained by intervals with the
schedule of Gowal et al., then bounded by each method with each strategy. A method's margins are its own: those of intervals,
which `certify` meets them with, count in the first column alone; `alone` are linear functions whose intervals on the way are
not met with those of interval arithmetic either. One thread.
"""

from __future__ import annotations

import click
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.certified_training import Task, mnist, trained
from experiments.data import FrameCells
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.api.passes import PASSES
from tightverify.bounds.bounding_pass import closed_form_by
from tightverify.bounds.interval import rows_over
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.window import WindowPass
from tightverify.budget import UNLIMITED
from tightverify.graph import Affine, Graph
from tightverify.region import Region
from tightverify.settings import Settings
from tightverify.training import Plan, Schedule
from tightverify.values import Interval

METHODS = ("interval", "crown-ibp", "lbp", "crown-lbp", "linear")
ALONE = ("lbp alone", "crown-lbp alone")
STRATEGIES = ("tight", "adaptive", "default")
WIDTH, DEPTH = 100, 5
AT_ONCE = 20


def dense(width: int, depth: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for size in (784, *[width] * (depth - 1)):
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


class Alone(WindowPass):
    """Linear functions whose intervals are not met with those of interval arithmetic."""

    def learn(self, number: int, interval: Interval) -> None:
        self.intervals[number] = interval


def alone(graph: Graph, region: Region, method: str, lines: str) -> LinearBounds | WindowPass:
    forms = Alone.over(graph, region, 0)
    found = forms.run(UNLIMITED, closed_form_by(lines))
    return forms if method == "lbp alone" else found


def proved(model: tv.Model, region: Region, labels: Tensor, last: nn.Linear, method: str, lines: str) -> Tensor:
    """(B,): whether the method's own margins are above 0; the last layer is taken together with them."""
    graph, one = model.graph, torch.eye(10, dtype=torch.float64)
    others = torch.stack([torch.cat([one[:y], one[y + 1 :]]) for y in labels.tolist()])
    rows = one[labels][:, None] - others
    if method in ALONE:
        return (alone(graph, region, method, lines).lower({graph.output: rows}) > 0).all(1)
    found = PASSES[method](graph, region, Settings(lines=lines))
    if method != "interval":
        return (found.lower({graph.output: rows}) > 0).all(1)
    node = graph.nodes[graph.output]
    assert isinstance(node, Affine)
    operand = node.terms[0].operand
    lower = rows_over(rows @ last.weight.double(), found.intervals[operand.source][operand.index])
    return (lower + rows @ last.bias.double() > 0).all(1)


def errors(module: nn.Module, last: nn.Linear, task: Task, count: int, lines: str) -> list[str]:
    """The share of the first inputs that each method does not certify."""
    x, y = task.x[:count], task.y[:count]
    model, found = tv.load(module, tuple(x.shape[1:])), []
    for method in (*METHODS, *ALONE):
        kept = 0
        for some in torch.arange(count).split(AT_ONCE):
            region = task.region(1.0).around(x[some].double())
            with torch.no_grad():
                kept += int(proved(model, region, y[some], last, method, lines).sum())
        found.append(f"{1 - kept / count:.1%}")
    return found


@click.command(cls=Experiment)
@click.option("--frames", default=7, show_default=True)
@click.option("--images", default=10_000, show_default=True)
@click.option("--epochs", default=15, show_default=True)
@click.option("--eps", default=0.2, show_default=True)
@click.option("--row-eps", default=0.05, show_default=True)
@click.option("--count", default=100, show_default=True)
def main(frames: int, images: int, epochs: int, eps: float, row_eps: float, count: int) -> None:
    torch.set_num_threads(1)
    plan = Plan(epochs, Schedule(1, epochs / 2, (1.0, 0.2)), rate=2e-3)
    title = f"{images} images, {epochs} epochs by intervals; verified errors of the first {count} test images"
    table = table_of(title, "network", "eps", "clean error", "lines", *METHODS, *ALONE)
    torch.manual_seed(0)
    networks: tuple[tuple[str, nn.Module, float, Task], ...] = (
        (f"ReLU, {DEPTH} layers of {WIDTH}", dense(WIDTH, DEPTH), eps, mnist(None, images, eps)),
        (f"RNN of tanh, {frames} frames", FrameCells("rnn_tanh", frames, 32, 1), row_eps, mnist(frames, images, row_eps)),
    )
    for name, network, size, task in networks:
        module, _ = trained(network, task, plan)
        last = next(part for part in reversed(list(module.modules())) if isinstance(part, nn.Linear))
        with torch.no_grad():
            wrong = float((module(task.x[:count]).argmax(1) != task.y[:count]).double().mean())
        for lines in STRATEGIES:
            found = errors(module, last, task, count, lines)
            click.echo(f"{name}, {lines}: {found}", err=True)
            table.add_row(name, f"{size:g}", f"{wrong:.1%}", lines, *found)
    report(table)


if __name__ == "__main__":
    main()
