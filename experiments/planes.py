"""The fitted planes against everything: do they hold, how far from the tightest, R2's own beside them, and what they cost.

    python -m experiments.planes [--boxes 10000] [--balls 200] [--timed 1000] [--seed 0]

For each function and each kind of box: crossings at dense samples and, on some boxes, at the corners and nearest samples in
balls of 200 bits (python-flint); the largest proved gap relative to the mean distance; and the distribution of the volume
between our planes over that between R2's (100 samples of the box, the least mean distance over them, a shift). Ends with exit
code 1 if a wanted figure is not reached. Run it with nothing else running.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import product

import click
import flint
import numpy as np
import torch
from flint import arb, fmpq
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from experiments.figures import Figures, table_of, timed
from experiments.pages import Experiment, report
from tightverify import planes
from tightverify.api.planes import PlaneFit, functions
from tightverify.relax.curves import Identity, One, Sigmoid, Symmetric
from tightverify.relax.fitted.family import KINDS, Domain
from tightverify.relax.polygons import Polygons
from tightverify.values import FUNCTION_ERROR

Floats = NDArray[np.float64]
NAMES = ("sigmoid_tanh", "sigmoid_times", "multiply", "tanh_times", "sigmoid", "tanh")
KINDS_OF_BOX = ("ordinary", "thin", "saturated", "huge", "zero")
R2_FAILS = (8.1988, 31.2190, 3.7455, 5.5686)
SIDE = 21
"""samples along each side of a box"""
PORTION = 1000
"""boxes that are sampled together"""


def intervals(kind: str, count: int, rng: np.random.Generator) -> Floats:
    """(N, 2)"""
    match kind:
        case "ordinary":
            low = rng.uniform(-6, 4, count)
            return np.stack([low, low + rng.uniform(0.05, 4, count)], axis=1)
        case "thin":
            low = rng.uniform(-10, 10, count)
            return np.stack([low, low + rng.choice([0, 1e-12, 1e-9, 1e-6, 1e-3, 1.0], count)], axis=1)
        case "saturated":
            ends: Floats = np.sort(rng.uniform(4, 30, (count, 2)), axis=1)
            return either(ends, -ends[:, ::-1], rng)
        case "huge":
            return np.sort(rng.uniform(-200, 200, (count, 2)), axis=1)
    reach = rng.uniform(0, 5, (count, 2)) * np.stack([rng.choice([0, 1e-9, 1], count), np.ones(count)], axis=1)
    return either(reach * [-1, 1], reach[:, ::-1] * [-1, 1], rng)


def either(one: Floats, other: Floats, rng: np.random.Generator) -> Floats:
    """Each row from one or the other."""
    found: Floats = np.where(rng.random((len(one), 1)) < 0.5, one, other)
    return found


def boxes_of(name: str, kind: str, count: int, seed: int) -> Tensor:
    """(N, 4), or (N, 2) for a function of one operand; R2's failing box among the saturated ones."""
    rng = np.random.default_rng(seed)
    found = np.concatenate([intervals(kind, count, rng) for _ in range(functions()[name].arity)], axis=1)
    if kind == "saturated":
        found[0] = R2_FAILS[: found.shape[1]]
    return torch.from_numpy(found)


def polygons_of(boxes: Tensor) -> Polygons:
    return Polygons.of_boxes(boxes) if boxes.shape[1] == 4 else Polygons.of_intervals(boxes)


def full(chosen: Tensor) -> Tensor:
    """(N, 3): lines as planes."""
    return chosen if chosen.shape[1] == 3 else torch.stack([chosen[:, 0], 0 * chosen[:, 0], chosen[:, 1]], dim=1)


# Do they hold?


def factors_of(name: str) -> tuple[Symmetric, Symmetric]:
    """The two curves whose product a function is."""
    found = functions()[name].traits.factors
    assert found is not None
    return found


def factor(curve: Symmetric, x: NDArray[np.longdouble]) -> NDArray[np.longdouble]:
    """The curve in numpy's longest floats."""
    if isinstance(curve, One):
        return np.ones_like(x)
    if isinstance(curve, Identity):
        return x
    value = 1 / (1 + np.exp(-x)) if isinstance(curve, Sigmoid) else np.tanh(x)
    return value.astype(np.longdouble)


def samples(box: Floats) -> Floats:
    """(N, P, 2): a grid on boxes (N, 4), their corners among it."""
    share = np.linspace(0, 1, SIDE)
    along = [
        np.clip(box[:, k, None] + share * (box[:, k + 1] - box[:, k])[:, None], box[:, k, None], box[:, k + 1, None])
        for k in (0, 2)
    ]
    along[0][:, -1], along[1][:, -1] = box[:, 1], box[:, 3]
    count = len(box)
    x = np.repeat(along[0], SIDE, axis=1)
    return np.stack([x, np.tile(along[1], (1, SIDE)).reshape(count, -1)], axis=-1)


def crossings(name: str, boxes: Tensor, found: PlaneFit, balls: int) -> tuple[int, int]:
    """How many planes are crossed at dense samples; and how many, of some, in exact arithmetic."""
    first, second = factors_of(name)
    box = polygons_of(boxes).boxes.numpy()
    dense, exact = 0, 0
    for start in range(0, len(box), PORTION):
        part = slice(start, start + PORTION)
        places = samples(box[part])
        x, y = places.astype(np.longdouble).transpose(2, 0, 1)
        value = factor(first, x) * factor(second, y)
        for side, chosen in ((1, full(found.upper)), (-1, full(found.lower))):
            a, b, c = chosen[part].numpy().astype(np.longdouble).T[..., None]
            over = side * (value - (a * x + b * y + c))
            noise = 16 * np.finfo(np.longdouble).eps * (np.abs(value) + np.abs(a * x) + np.abs(b * y) + np.abs(c))
            dense += int((over > noise).any(1).sum())
            nearest = np.take_along_axis(places, over.argmax(1)[:, None, None], 1)[:, 0]
            for k in range(start, min(start + PORTION, balls)):
                points = {*product(box[k, :2].tolist(), box[k, 2:].tolist()), tuple(nearest[k - start].tolist())}
                exact += any(crosses(name, chosen[k].tolist(), side, point) for point in points)
    return dense, exact


def crosses(name: str, numbers: list[float], side: int, point: tuple[float, float]) -> bool:
    """Whether a plane is not proved to hold at a point; floats count as the rational numbers that they are."""
    a, b, c, x, y = (fmpq(*number.as_integer_ratio()) for number in (*numbers, *point))
    value = arb(1)
    for curve, operand in zip(factors_of(name), (arb(x), arb(y)), strict=True):
        if isinstance(curve, Identity):
            value *= operand
        elif not isinstance(curve, One):
            value *= 1 / (1 + (-operand).exp()) if isinstance(curve, Sigmoid) else 1 - 2 / (1 + (2 * operand).exp())
    return not side * (value - arb(a * x + b * y + c)) <= 0


# How tight?


def mean_of(curve: Symmetric, low: Tensor, high: Tensor) -> Tensor:
    """A curve's mean over intervals: its integral's difference, or, where digits would cancel, Gauss's rule of 8 points."""
    middle, half = (low + high) / 2, (high - low) / 2
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(8))
    by_rule = (curve.value(middle[:, None] + half[:, None] * nodes) * weights).sum(1) / 2
    if isinstance(curve, Identity | One):
        return by_rule
    twice = 1 if isinstance(curve, Sigmoid) else 2
    softplus = torch.nn.functional.softplus
    # The integral of sigmoid is softplus; tanh(x) = 2 sigmoid(2 x) - 1, so that of tanh is softplus(2 x) - x.
    area = softplus(twice * high, threshold=1e9) - softplus(twice * low, threshold=1e9)
    by_area = area / (2 * half) if twice == 1 else (area - 2 * half) / (2 * half)
    return torch.where(half < 0.25, by_rule, by_area)


def mean_distances(name: str, boxes: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2): the mean distance of planes (N, 3) below and above from the function; and what rounding leaves in doubt, (N,)."""
    first, second = factors_of(name)
    x1, x2, y1, y2 = polygons_of(boxes).boxes.unbind(1)
    mean = mean_of(first, x1, x2) * mean_of(second, y1, y2)
    centre = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, torch.ones_like(x1)], dim=1)
    below, over = mean - (lower * centre).sum(1), (upper * centre).sum(1) - mean
    reach = torch.stack([torch.maximum(x1.abs(), x2.abs()), torch.maximum(y1.abs(), y2.abs()), torch.ones_like(x1)], dim=1)
    size = ((lower.abs() + upper.abs()) * reach).sum(1) + 1 + mean.abs()
    steepest = first.steepest * second.value(torch.maximum(y1.abs(), y2.abs())) * reach[:, 0]
    steepest = steepest + first.value(reach[:, 0]) * second.steepest * reach[:, 1]
    return torch.stack([below, over], dim=1), 8 * FUNCTION_ERROR * (size + steepest)


def tightness(name: str, boxes: Tensor, found: PlaneFit, seed: int) -> tuple[float, int, Tensor, int]:
    """The largest relative gap, the planes at the floor, the ratios of our volumes to R2's, and the boxes at the floor."""
    distance, floor = mean_distances(name, boxes, full(found.lower), full(found.upper))
    clear = distance * 1e-6 > floor[:, None]
    relative = torch.where(clear, found.gap / distance, 0.0)
    low = found.gap > 1e-6 * distance + floor[:, None]
    largest = float(torch.where(low, found.gap / distance.clamp(min=1e-300), relative).max())
    theirs = KINDS["r2"](Domain(*factors_of(name), polygons_of(boxes), "batched", seed=seed))
    other, doubt = mean_distances(name, boxes, theirs.lower[:, 0], theirs.upper[:, 0])
    ours, r2, doubt = distance.sum(1), other.sum(1), floor + doubt
    told = r2 > 1e3 * doubt
    worse = ours > r2 + doubt  # whatever the floor, this would be a loss
    chosen = told | worse
    return largest, int((~clear).sum()), (ours / r2)[chosen], int((~chosen).sum())


def gates(name: str, count: int, balls: int, seed: int, tables: tuple[Table, Table], figures: Figures) -> None:
    """One function's rows."""
    for kind in KINDS_OF_BOX:
        boxes = boxes_of(name, kind, count, seed)
        found = planes(name, boxes, solver="batched")
        dense, exact = crossings(name, boxes, found, min(balls, count))
        gap, low, ratios, unknown = tightness(name, boxes, found, seed)
        tables[0].add_row(name, kind, str(dense), str(exact), f"{gap:.1e}", f"{float(found.gap.max()):.1e}", str(low))
        figures.at_most(f"{name}, {kind}: planes crossed", dense + exact, 0)
        figures.at_most(f"{name}, {kind}: proved gap / mean distance", gap, 1e-6)
        if len(ratios):
            quartiles = torch.quantile(ratios, torch.tensor([0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)).tolist()
            tables[1].add_row(name, kind, *(f"{ratio:.4f}" for ratio in quartiles), str(unknown))
            figures.at_most(f"{name}, {kind}: volume / R2's, largest", quartiles[-1], 1)
        else:
            tables[1].add_row(name, kind, *[""] * 5, str(unknown))


# What do they cost?


def costs(name: str, few: int, many: int, seed: int, table: Table, figures: Figures) -> None:
    """Milliseconds a plane, both sides and their proofs counted; `few` planes by HiGHS, `many` by `batched`."""
    for kind in KINDS_OF_BOX:
        row = []
        for solver, number, wanted in (("highs", few, 1.0), ("batched", many, 0.1)):
            boxes = boxes_of(name, kind, max(1, number // 2), seed + 1)
            took = min(timed(partial(planes, name, boxes, solver=solver))[0] for _ in range(2))
            row.append(1e3 * took / (2 * len(boxes)))
            figures.at_most(f"{name}, {kind}: ms per plane, {solver}", row[-1], wanted)
        table.add_row(name, kind, *(f"{ms:.3f}" for ms in row))


@click.command(cls=Experiment)
@click.option("--boxes", default=10_000, show_default=True, help="Boxes of each kind.")
@click.option("--balls", default=200, show_default=True, help="How many of them are looked at in exact arithmetic.")
@click.option(
    "--timed", "few", default=1000, show_default=True, help="Planes timed with HiGHS; ten times as many with `batched`."
)
@click.option("--seed", default=0, show_default=True)
def main(boxes: int, balls: int, few: int, seed: int) -> None:
    flint.ctx.prec = 200
    torch.set_num_threads(2)
    figures = Figures()
    holding = table_of(
        f"{boxes} boxes of each kind",
        *(
            "function",
            "boxes",
            "crossed, dense",
            f"crossed, {min(balls, boxes)} exact",
            "gap / distance",
            "largest gap",
            "at the floor",
        ),
    )
    against = table_of("our volume / R2's", "function", "boxes", "least", "1/4", "median", "3/4", "most", "at the floor")
    times = table_of("ms per plane, offset proved", "function", "boxes", f"highs, {few} planes", f"batched, {10 * few} planes")
    for name in NAMES:
        gates(name, boxes, balls, seed, (holding, against), figures)
    for name in NAMES:
        costs(name, few, 10 * few, seed, times, figures)
    for table in (holding, against, times, figures.table):
        report(table)
    sys.exit(1 if figures.missed else 0)


if __name__ == "__main__":
    main()
