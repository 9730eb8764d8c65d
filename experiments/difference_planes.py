"""Planes of the differences of sigmoid and tanh: do they hold, how far from the tightest of all, and what they cost.

    python -m experiments.difference_planes [--boxes 10000] [--balls 200] [--fitted 200] [--seed 0]

For each function `F(x) - F(x - d)` and each kind of box of x and d: planes crossed at samples of every box, and at corners and
samples in balls of 200 bits (python-flint) of some; the volume between our planes over the least that any two planes have that
hold at 441 samples (linear programs, of some boxes), which no planes that hold on the whole box fall below; the volume between
the constants of the range over the same; and microseconds for a plane, its proof counted. All of that for planes of closed
form, and for fitted ones, as bounding passes with `planes` and `combine` take them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import click
import flint
import numpy as np
import torch
from flint import arb, fmpq
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from experiments.figures import Figures, table_of
from experiments.pages import Experiment, report
from tightverify.ops import SigmoidDifference, TanhDifference
from tightverify.ops.difference import Difference
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.traits import OperandSet, Search
from tightverify.values import Interval

Floats = NDArray[np.float64]
FUNCTIONS: tuple[Difference, ...] = (SigmoidDifference(), TanhDifference())
KINDS = ("both signs", "one sign", "large", "thin", "saturated")
SIDE = 21
"""Samples along each side of a box."""
PORTION = 500
"""Boxes that are sampled together."""
FLOOR = 1e-6
"""A least height below so much of the largest change is what the programs' tolerance leaves: it is compared with nothing."""


def boxes_of(kind: str, count: int, seed: int) -> tuple[Interval, Interval]:
    """Of x, and of the differences d."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(4, 20, count) * rng.choice([-1, 1], count) if kind == "saturated" else rng.uniform(-4, 3, count)
    width = 10.0 ** rng.uniform(-6, -2, count) if kind == "thin" else rng.uniform(0.05, 2, count)
    size = rng.uniform(0.1, 3, count) if kind == "large" else 10.0 ** rng.uniform(-5, -1, count)
    ends = size[:, None] * np.sort(rng.uniform(-1, 1, (count, 2)), axis=1)
    if kind == "one sign":
        ends = np.sort(size[:, None] * rng.uniform(0.2, 1, (count, 2)), axis=1)
    return interval(np.stack([low, low + width], 1)), interval(ends)


def interval(ends: Floats) -> Interval:
    return Interval(*torch.from_numpy(ends).unbind(1))


def samples(x: Interval, d: Interval) -> tuple[Tensor, Tensor]:
    """(N, P) each: a grid on every box, its corners among it."""
    share = torch.linspace(0, 1, SIDE, dtype=torch.float64)
    along = [torch.minimum(b.lower[:, None] + share * b.width[:, None], b.upper[:, None]) for b in (x, d)]
    for each, box in zip(along, (x, d), strict=True):
        each[:, -1] = box.upper
    return along[0].repeat_interleave(SIDE, 1), along[1].repeat(1, SIDE)


def sides(found: Planes) -> Iterator[tuple[int, Plane]]:
    yield from ((1, found.upper), (-1, found.lower))


def at(plane: Plane, x: Tensor, d: Tensor) -> Tensor:
    """(N, P): a plane of each box at samples of it."""
    return plane.slopes[0][:, None] * x + plane.slopes[1][:, None] * d + plane.offset[:, None]


def crossed(op: Difference, x: Interval, d: Interval, found: Planes, balls: int) -> tuple[int, int]:
    """The planes that are crossed at samples, and those of the first boxes that are in exact arithmetic."""
    dense, exact = 0, 0
    for start in range(0, len(x.lower), PORTION):
        part = slice(start, start + PORTION)
        points = samples(x[part], d[part])
        values = op.forward(*points)
        for side, plane in sides(found):
            own = Plane((plane.slopes[0][part], plane.slopes[1][part]), plane.offset[part])
            over = side * (values - at(own, *points))
            dense += int((over > 1e-15 * (1 + points[0].abs())).any(1).sum())
            worst = over.argmax(1)
            for k in range(min(balls - start, len(worst))):
                places = {0, SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE - 1, int(worst[k])}
                numbers = [float(each[k]) for each in (*own.slopes, own.offset)]
                exact += any(crosses(op, numbers, side, *(float(p[k, place]) for p in points)) for place in places)
    return dense, exact


def crosses(op: Difference, plane: list[float], side: int, x: float, d: float) -> bool:
    """Whether a plane is not proved to hold at a point; floats count as the rational numbers that they are."""
    a, b, c, place, change = (fmpq(*number.as_integer_ratio()) for number in (*plane, x, d))
    value = curve(op, place) - curve(op, place - change)
    return not side * (value - arb(a * place + b * change + c)) <= 0


def curve(op: Difference, x: fmpq) -> arb:
    return 1 / (1 + (-arb(x)).exp()) if isinstance(op, SigmoidDifference) else arb(x).tanh()


def least_volume(op: Difference, x: Interval, d: Interval, k: int) -> float:
    """The least height between two planes at the middle of a box that hold at its samples, 0 if it is below the floor.

    Volumes are areas times that.
    """
    places, changes = (part[k : k + 1] for part in samples(x, d))
    values = op.forward(places, changes)[0].numpy()
    size = np.abs(values).max() or 1.0
    share = [2 * (part[0].numpy() - float(box.centre[k])) / float(box.width[k]) for part, box in ((places, x), (changes, d))]
    rows = np.stack([*share, np.ones_like(values)], axis=1)
    height = 0.0
    for side in (1, -1):
        found = linprog([0, 0, 1], A_ub=-rows, b_ub=-side * values / size, bounds=(None, None), method="highs")
        height += size * float(found.fun)
    return height if height > FLOOR * size else 0.0


def heights(found: Planes, x: Interval, d: Interval) -> Tensor:
    """(N,): between both planes at the boxes' middles."""
    return found.upper.at(x.centre, d.centre) - found.lower.at(x.centre, d.centre)


def quartiles(values: list[float]) -> list[float]:
    found: list[float] = np.quantile(values, [0.25, 0.5, 0.75, 1.0]).tolist()
    return found


@click.command(cls=Experiment)
@click.option("--boxes", default=10_000, show_default=True, help="Boxes of each kind.")
@click.option("--balls", default=200, show_default=True, help="How many of them are looked at in exact arithmetic.")
@click.option("--fitted", default=200, show_default=True, help="How many of them are compared with the least volume.")
@click.option("--seed", default=0, show_default=True)
def main(boxes: int, balls: int, fitted: int, seed: int) -> None:
    flint.ctx.prec = 200
    torch.set_num_threads(1)
    figures = Figures()
    holding = table_of(
        f"{boxes} boxes of each kind",
        "function",
        "boxes",
        "planes",
        "crossed, dense",
        f"crossed, {balls} exact",
        "µs per plane",
    )
    against = table_of(
        f"volume over the least at samples, {fitted} boxes of each kind",
        *("function", "boxes", "planes", "1/4", "median", "3/4", "most", "range, median", "at the floor"),
    )
    for op in FUNCTIONS:
        for kind in KINDS:
            x, d = boxes_of(kind, boxes, seed)
            least = [least_volume(op, x, d, k) for k in range(fitted)]
            clear = [k for k in range(fitted) if least[k]]
            constant = float(np.median([float(op.interval(x, d).width[k]) / least[k] for k in clear]))
            for name, make in MADE.items():
                took, found = timed(make, op, x, d)
                dense, exact = crossed(op, x, d, found, balls)
                cost = 1e6 * took / (2 * boxes)
                holding.add_row(op.name, kind, name, str(dense), str(exact), f"{cost:.2f}")
                figures.at_most(f"{op.name}, {kind}, {name}: planes crossed", dense + exact, 0)
                figures.at_most(f"{op.name}, {kind}, {name}: ms per plane", cost / 1000, 1)
                ours = heights(found, x, d)
                ratios = quartiles([float(ours[k]) / least[k] for k in clear])
                if name == "fitted":
                    figures.at_most(f"{op.name}, {kind}, {name}: volume over the least, median", ratios[1], 1.01)
                words = [f"{ratio:.3f}" for ratio in (*ratios, constant)]
                against.add_row(op.name, kind, name, *words, str(fitted - len(clear)))
    for table in (holding, against, figures.table):
        report(table)
    sys.exit(1 if figures.missed else 0)


def fitted_planes(op: Difference, x: Interval, d: Interval) -> Planes:
    """The tightest at the boxes' middles, by one program and its proof each."""
    own = op.traits.fitted
    assert own is not None
    boxes = OperandSet.of_boxes(torch.stack([x.lower, x.upper, d.lower, d.upper], dim=1))
    lower, upper = (side[:, 0].unbind(1) for side in own.planes(boxes, ("tightest",), Search("batched", once=True)))
    return Planes(*(Plane((along_x, along_d), offset) for along_x, along_d, offset in (lower, upper)))


MADE: dict[str, Callable[[Difference, Interval, Interval], Planes]] = {
    "closed form": lambda op, x, d: op.relax(x, d),
    "fitted": fitted_planes,
}


def timed(
    make: Callable[[Difference, Interval, Interval], Planes], op: Difference, x: Interval, d: Interval
) -> tuple[float, Planes]:
    """The CPU seconds of all planes, the better of two, and the planes."""
    took = []
    for _ in range(2):
        began = time.process_time()
        found = make(op, x, d)
        took.append(time.process_time() - began)
    return min(took), found


if __name__ == "__main__":
    main()
