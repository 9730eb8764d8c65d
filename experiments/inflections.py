"""Lines of functions with several inflections: do they hold, how far from the nearest of all, and what they cost.

    python -m experiments.inflections [--boxes 10000] [--balls 200] [--seed 0]

For each function, over intervals of every width: lines crossed at 401 samples, and at 13 samples of some intervals in balls of
200 bits (python-flint); the area between the lines over the least that any two lines have, which is the width times the
distance of the convex and the concave envelope at the middle, worked out from 161 samples on either side of it (so that no
lines fall below); the area between the constants of the range over the same; and microseconds for an interval.
"""

from __future__ import annotations

import time

import click
import numpy as np
import torch
from torch import Tensor

from experiments.figures import table_of
from experiments.pages import Experiment, report
from tests.helpers import exact
from tightverify.ops import Gelu, GeluByTanh, HardSwish, Mish, Operation, Power, Silu, Softsign
from tightverify.values import Interval

FUNCTIONS: tuple[Operation, ...] = (Gelu(), GeluByTanh(), Silu(), Mish(), HardSwish(), Softsign(), Power(3), Power(4))
SIDE, SAMPLES, PORTION = 161, 401, 250
FLOOR = 1e-9
"""Areas of nearly straight intervals say nothing but rounding: such a height is compared with nothing."""


def boxes_of(count: int, seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    low, width = rng.uniform(-6, 4, count), 10.0 ** rng.uniform(-2, 1, count)
    return Interval(*torch.from_numpy(np.stack([low, low + width])).unbind(0))


def some(box: Interval, chosen: slice) -> Interval:
    return Interval(box.lower[chosen], box.upper[chosen])


def at(box: Interval, count: int) -> Tensor:
    """(count, N): evenly spread over intervals, both ends among them."""
    return torch.lerp(box.lower, box.upper, torch.linspace(0, 1, count, dtype=torch.float64)[:, None])


def highest(op: Operation, box: Interval, sign: int) -> Tensor:
    """Of the concave envelope at the middle the highest chord between samples on either side."""
    found = []
    for start in range(0, len(box.lower), PORTION):
        part = some(box, slice(start, start + PORTION))
        middle = part.centre
        left, right = at(Interval(part.lower, middle), SIDE), at(Interval(middle, part.upper), SIDE)
        run = right[:, None] - left[None]
        share = torch.where(run > 0, (right[:, None] - middle) / run, 1.0)
        chords = sign * (share * op.forward(left)[None] + (1 - share) * op.forward(right)[:, None])
        found.append(chords.flatten(0, 1).amax(0))
    return torch.cat(found)


def crossed(op: Operation, box: Interval, balls: int) -> tuple[int, int]:
    """Intervals of which a line is crossed: of all at samples, of the first ones in exact arithmetic."""
    planes, x = op.relax(box), at(box, SAMPLES)
    y = op.forward(x)
    noise = 1e-14 * (1 + y.abs())
    dense = ((planes.lower.at(x) > y + noise) | (planes.upper.at(x) < y - noise)).any(0)
    wrong = 0
    for k in range(balls):
        slopes = [(float(side.slopes[0][k]), float(side.offset[k])) for side in (planes.lower, planes.upper)]
        for point in at(some(box, slice(k, k + 1)), 13).flatten().tolist():
            below, above = (exact.ball(slope) * exact.ball(point) + exact.ball(offset) for slope, offset in slopes)
            value = exact.operation(op, exact.ball(point))
            wrong += bool(value < below) + bool(value > above)
    return int(dense.sum()), wrong


@click.command(cls=Experiment)
@click.option("--boxes", default=10_000, show_default=True, help="Intervals of each function.")
@click.option("--balls", default=200, show_default=True, help="Of these so many in exact arithmetic.")
@click.option("--seed", default=0, show_default=True, help="Of the random intervals.")
def main(boxes: int, balls: int, seed: int) -> None:
    """Lines of functions with several inflections."""
    columns = (
        "function",
        "crossed, dense",
        "crossed, exact",
        "area over least",
        "95 %",
        "constants over least",
        "µs per interval",
    )
    table = table_of(f"{boxes} intervals of each function, {balls} of them in exact arithmetic", *columns)
    box = boxes_of(boxes, seed)
    for op in FUNCTIONS:
        op.relax(box)
        started = time.process_time()
        planes = op.relax(box)
        spent = time.process_time() - started
        least = highest(op, box, 1) + highest(op, box, -1)
        told = least > FLOOR * (1 + op.interval(box).magnitude)
        area = (planes.upper.at(box.centre) - planes.lower.at(box.centre))[told] / least[told]
        shares = [f"{float(area.quantile(share)):.5f}" for share in (0.5, 0.95)]
        constants = float((op.interval(box).width[told] / least[told]).median())
        name = f"{op.name} {op.parameters['exponent']}" if isinstance(op, Power) else op.name
        counts = (str(count) for count in crossed(op, box, balls))
        table.add_row(name, *counts, *shares, f"{constants:.2f}", f"{1e6 * spent / boxes:.1f}")
    report(table)


if __name__ == "__main__":
    main()
