"""Digits as pen strokes: how far each point of the pen's way may be moved, alone.

    python -m experiments.strokes points [--digits 10] [--longest 28] [--method linear] [--time-limit 60]
    python -m experiments.strokes picture [--digit 0] [--longest 28] [--method linear] [--time-limit 60]

An LSTM of 32 units reads a digit's points (dx, dy, end of stroke, end of digit), dx and dy in units of four pixels, and tells
the digit from its last output. It is trained here, in less than a minute, and kept in experiments/out. A point's radius is that
of the ball of the norm 2 in which its four numbers alone may lie. `points` compares the quarters of the pen's way: POPQORN says
that its start matters little and late points tolerate more. `picture` draws a digit's way in the colours of the radii into
docs/experiments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.data import folder, in_turn
from experiments.figures import table_of
from experiments.pages import PAGES, Experiment, report
from tightverify.plots.saving import save

OUT = Path(__file__).parent / "out"
UNITS, EPOCHS, BATCH, SEED = 32, 6, 64, 0
UNIT = 4.0
"""Pixels."""
QUARTERS = 4
Digit = tuple[Tensor, int]


class Pen(nn.Module):
    """An LSTM over points (B, T, 4), and a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


def digits(part: str) -> list[Digit]:
    """The points of each digit, and what it is."""
    with np.load(folder("strokes") / "strokes.npz") as file:
        points, offsets, labels = file[part], file[f"{part}_offsets"], file[f"{part}_labels"]
    scaled = torch.from_numpy(points.astype(np.float32)) / torch.tensor([UNIT, UNIT, 1.0, 1.0])
    return [(scaled[a:b], int(y)) for a, b, y in zip(offsets[:-1], offsets[1:], labels, strict=True)]


def trained() -> Pen:
    """The network, trained now or earlier."""
    torch.manual_seed(SEED)
    network, path = Pen(), OUT / "strokes.pt"
    if not path.exists():
        given, began = digits("train"), time.process_time()
        draw, optimiser = np.random.default_rng(SEED), torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(EPOCHS):
            for x, lengths, y in batches(given, draw):
                optimiser.zero_grad()
                nn.functional.cross_entropy(last_of(network, x, lengths), y).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), path)
        click.echo(f"trained in {time.process_time() - began:.0f} CPU s", err=True)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def batches(given: Sequence[Digit], draw: np.random.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Digits of nearly the same length together, padded behind, with their lengths, in a drawn order."""
    order = sorted(draw.permutation(len(given)).tolist(), key=lambda k: len(given[k][0]))
    parts = [[given[k] for k in order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    together = [parts[k] for k in draw.permutation(len(parts))]
    return [
        (
            nn.utils.rnn.pad_sequence([x for x, _ in part], batch_first=True),
            torch.tensor([len(x) for x, _ in part]),
            torch.tensor([y for _, y in part]),
        )
        for part in together
    ]


def last_of(network: Pen, x: Tensor, lengths: Tensor) -> Tensor:
    """The answers after so many points of each digit."""
    outputs = network.layer(x)[0]
    return torch.as_tensor(network.head(outputs[torch.arange(len(x)), lengths - 1]))


def accuracy(network: Pen, given: Sequence[Digit]) -> float:
    with torch.no_grad():
        parts = batches(given, np.random.default_rng(SEED))
        return sum(int((last_of(network, x, lengths).argmax(1) == y).sum()) for x, lengths, y in parts) / len(given)


def rightly(network: Pen, given: Sequence[Digit], longest: int) -> list[Digit]:
    """The digits of at most so many points that the network tells rightly, their classes in turn."""
    with torch.no_grad():
        return in_turn((x, y) for x, y in given if len(x) <= longest and int(network(x[None]).argmax()) == y)


def radii_of(network: Pen, x: Tensor, y: int, method: str, time_limit: float) -> tv.Radii:
    model = tv.load(network, tuple(x.shape))
    return tv.radius(model, x[None], [y], norm=2, per="frame", method=method, time_limit=time_limit)


def said(pair: Sequence[float]) -> str:
    """A mean radius proved, and one refuted."""
    return " / ".join(f"{value:.2f}" for value in pair)


METHOD = click.option("--method", default="linear", show_default=True, help="The method that proves.")
TIME_LIMIT = click.option("--time-limit", default=60.0, show_default=True, help="Seconds for each point.")
LONGEST = click.option("--longest", default=28, show_default=True, help="Digits of at most so many points.")


@click.group()
def main() -> None:
    """Digits as pen strokes."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@click.option("--digits", "count", default=10, show_default=True, help="So many digits.")
@LONGEST
@METHOD
@TIME_LIMIT
def points(count: int, longest: int, method: str, time_limit: float) -> None:
    """Mean radii of the points in each quarter of the pen's way."""
    columns = "digit", "points", *(f"quarter {k + 1}" for k in range(QUARTERS)), "mean ratio", "CPU s"
    network, test = trained(), digits("test")
    title = f"mean radii of a digit's points, proved / refuted, norm 2, {method}; accuracy {accuracy(network, test):.3f}"
    table = table_of(title, *columns)
    every: list[list[tuple[float, float]]] = []
    for x, y in rightly(network, test, longest)[:count]:
        began = time.process_time()
        radii = radii_of(network, x, y, method, time_limit)
        took, proved, refuted = time.process_time() - began, radii.proved[0], radii.refuted[0]
        both = torch.isfinite(refuted)
        parts = zip(*(values.tensor_split(QUARTERS) for values in (proved, refuted, both)), strict=True)
        every.append([(float(low.mean()), float(high[finite].mean())) for low, high, finite in parts])
        ratio = float((proved[both] / refuted[both]).mean())
        table.add_row(str(y), str(len(x)), *map(said, every[-1]), f"{ratio:.2f}", f"{took:.1f}")
    means = [tuple(statistics.mean(column) for column in zip(*quarter, strict=True)) for quarter in zip(*every, strict=True)]
    table.add_row("mean", "", *map(said, means), "", "")
    report(table)


@main.command(cls=Experiment)
@click.option("--digit", default=0, show_default=True, help="Which of the digits that are told rightly.")
@LONGEST
@METHOD
@TIME_LIMIT
def picture(digit: int, longest: int, method: str, time_limit: float) -> None:
    """A digit's way in the colours of its points' radii."""
    network = trained()
    x, y = rightly(network, digits("test"), longest)[digit]
    radii = radii_of(network, x, y, method, time_limit)
    axes = tv.plots.stroke(radii, x)
    click.echo(f"picture: {save(axes, PAGES / 'strokes.png')}")


if __name__ == "__main__":
    main()
