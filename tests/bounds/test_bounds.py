"""Bounds of whole networks: every node, every plane and every row hold what the network does on the region.

`violations` is the checker that tests/test_mutations.py shows to catch broken bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, product

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers import exact
from tightverify.bounds.fitted import Fitting, fitted_bounds
from tightverify.bounds.interval import interval_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.errors import SoundnessFault
from tightverify.graph import Apply, Graph, Quadratic
from tightverify.models.builder import Builder, Symbols
from tightverify.models.recurrent import TANH, Cell, GruCell, LstmCell, RnnCell, Weights, applied, run
from tightverify.ops import Clamp, LeakyRelu, Log, Reciprocal, Sigmoid, Square, SquareRoot, Tanh
from tightverify.region import AddedNoise, Box, Gain, L1Ball, L2Ball, LinfBall, Perturbation, Region
from tightverify.relax.planes import Plane
from tightverify.values import Interval

TIME, FEATURES, HIDDEN, CLASSES = 3, 2, 3, 3
DOUBLE = torch.float64


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=DOUBLE)


def weights(generator: torch.Generator, gates: int, features: int, scale: float) -> Weights:
    rows = gates * HIDDEN
    parts = (normal(generator, rows, size) for size in (features, HIDDEN))
    return Weights(*(scale * part for part in parts), scale * normal(generator, rows), 0.3 * normal(generator, rows))  # type: ignore[call-arg]


CELLS: dict[str, tuple[int, Callable[[Weights], Cell]]] = {
    "rnn tanh": (1, lambda w: RnnCell(w, TANH)),
    "rnn relu": (1, lambda w: RnnCell(w, applied(LeakyRelu()))),
    "lstm": (4, LstmCell),
    "gru": (3, GruCell),
    "gru reset before": (3, lambda w: GruCell(w, reset_after=False)),
}


def recurrent(cell: str, layers: int = 1, both_ways: bool = False, pool: str = "last") -> Callable[[float, int], Graph]:
    """A classifier over TIME frames: weights by seed and scale."""

    def make(scale: float, seed: int) -> Graph:
        generator = torch.Generator().manual_seed(seed)
        gates, kind = CELLS[cell]
        builder = Builder()
        sequence = builder.input((TIME, FEATURES))
        for _ in range(layers):
            directions = []
            for reverse in (False, True)[: 1 + both_ways]:
                state = tuple(builder.constant(torch.zeros(HIDDEN)) for _ in range(2 if cell == "lstm" else 1))
                layer = kind(weights(generator, gates, sequence.shape[1], scale))
                directions.append(run(builder, layer, sequence, state, reverse)[0])
            sequence = np.concatenate(directions, axis=1)
        pooled = {
            "last": lambda: sequence[-1],
            "mean": lambda: builder.total(sequence, (0,), 1 / TIME),
            "max": lambda: builder.largest(sequence, 0),
        }[pool]()
        head = normal(generator, CLASSES, len(pooled))
        return builder.graph(builder.matmul(pooled, head, normal(generator, CLASSES)))

    return make


def mixed(scale: float, seed: int) -> Graph:
    """Products, squares, logarithms, clamps and leaky ReLUs, one feeding the other; neurons permuted and repeated."""
    generator = torch.Generator().manual_seed(seed)
    builder = Builder()
    x = builder.input((TIME, FEATURES))

    def dense(v: Symbols, size: int) -> Symbols:
        return builder.matmul(v, scale * normal(generator, size, len(v)), normal(generator, size))

    first = builder.apply(LeakyRelu(0.1), dense(x.ravel(), 4))
    second = builder.apply(Clamp(-1.0, 1.0), dense(x.ravel()[::-1], 4))
    products = builder.multiply(first, second[[0, 0, 3, 1]])
    squares = builder.apply(Square(), dense(products, 3))
    logs = builder.apply(Log(), builder.combine([(builder.apply(Sigmoid(), dense(x[1], 3)), 1.0)], 0.05))
    tanhs = builder.apply(Tanh(), builder.combine([(squares, 0.1), (logs, -1.0)], 0.5))
    towards = builder.combine([(tanhs, 1.0), (second[:3], -1.0)])
    blended = builder.combine([(second[:3], 1.0), (builder.multiply(builder.apply(Sigmoid(), logs), towards), 1.0)])
    everything = np.concatenate([blended, products, builder.largest(np.stack([first, second]), 0), x[2]])
    return builder.graph(dense(everything, CLASSES))


def spectrum(scale: float, seed: int) -> Graph:
    """Overlapping frames, windowed and transformed; bands, magnitudes, what they are divided by; an RNN over all that."""
    generator = torch.Generator().manual_seed(seed)
    builder = Builder()
    samples = builder.input((TIME, FEATURES)).ravel()
    samples = builder.combine([(samples[1:], 1.0), (samples[:-1], -0.97)], 0.1)
    window, transform = torch.rand(3, generator=generator, dtype=DOUBLE), scale * normal(generator, 8, 3)
    bank = torch.rand((2, 4), generator=generator, dtype=DOUBLE)
    frames = []
    for start in (0, 2):
        parts = builder.matmul(builder.combine([(samples[start : start + 3], window)]), transform)
        power = builder.combine([(builder.multiply(part, part), 1.0) for part in (parts[:4], parts[4:])])
        bands = builder.apply(Log(), builder.combine([(builder.matmul(power, bank), 1.0)], 1e-3))
        size = builder.apply(SquareRoot(), power[:2])
        share = builder.multiply(size, builder.apply(Reciprocal(), builder.combine([(power[2:], 1.0)], 0.5)))
        frames.append(np.concatenate([bands, share]))
    cell = RnnCell(weights(generator, 1, 4, 0.5), TANH)
    state = (builder.constant(torch.zeros(HIDDEN)),)
    hidden = run(builder, cell, np.stack(frames), state, False)[0][-1]
    return builder.graph(builder.matmul(hidden, normal(generator, CLASSES, HIDDEN), normal(generator, CLASSES)))


NETWORKS: dict[str, Callable[[float, int], Graph]] = {
    **{cell: recurrent(cell) for cell in CELLS},
    "lstm 2 layers": recurrent("lstm", layers=2),
    "gru 2 layers": recurrent("gru", layers=2),
    "lstm both ways, mean": recurrent("lstm", both_ways=True, pool="mean"),
    "gru both ways, max": recurrent("gru", both_ways=True, pool="max"),
    "rnn relu, max": recurrent("rnn relu", layers=2, pool="max"),
    "mixed": mixed,
    "spectrum": spectrum,
}
SCALES = {"small": 0.3, "usual": 1.0, "steep": 5.0, "saturating": 150.0}
OFTEN = ("rnn tanh", "gru reset before", "lstm 2 layers", "mixed")
SOME_OFTEN = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in NETWORKS]
"""For what is said of every network alike."""
REGIONS: dict[str, Perturbation] = {
    "linf": LinfBall(0.1, clip=(0.0, 1.0)),
    "l2": L2Ball(0.25),
    "l2 clipped": L2Ball(0.4, clip=(0.0, 1.0)),
    "l1": L1Ball(0.3, clip=(0.0, 1.0)),
    "mask": LinfBall(0.5, clip=(0.0, 1.0), frames=[1], features=[0]),
    "thin": LinfBall(1e-9),
    "gain": Gain(3.0),
    "noise": AddedNoise(torch.tensor([[1.0, -1.0], [0.5, 0.0], [-1.0, 1.0]]), (-0.3, 0.2)),
}


def centres(batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((batch, TIME, FEATURES), generator=generator, dtype=DOUBLE)


def sign_rows(graph: Graph, device: str) -> Tensor:
    """(1, R, K): every output, every difference, and sums of all with random weights; with both signs."""
    size = graph.output_size
    one = torch.eye(size, dtype=DOUBLE)
    differences = (one[:, None] - one[None]).reshape(-1, size)
    rows = torch.cat([one, differences, normal(torch.Generator().manual_seed(1), 4, size)])
    return torch.cat([rows, -rows])[None].to(device)


def search(graph: Graph, region: Region, starts: Tensor, steps: int = 6) -> Tensor:
    """(B, P, n): points of the region to which gradient ascent leads, for outputs and for hidden neurons at random."""
    generator = torch.Generator().manual_seed(2)
    sizes = [node.size for node in graph.nodes]
    found = [starts]
    for sign in (1.0, -1.0):
        picks = torch.randint(0, sum(sizes), (starts.shape[1],), generator=generator)
        picks[::2] = sum(sizes[: graph.output]) + picks[::2] % graph.output_size
        points = starts.clone()
        for _ in range(steps):
            points = points.detach().requires_grad_()
            everything = torch.cat(graph.evaluate(points), -1)
            wanted = everything.gather(-1, picks.to(points.device).expand(len(points), -1)[..., None])
            (slope,) = torch.autograd.grad(wanted.nan_to_num().sum(), points)
            length = slope.abs().amax(-1, keepdim=True).clamp(min=1e-300)
            points = region.project(points.detach() + sign * slope.nan_to_num() / length * region.box.width[:, None] / 2)
        found.append(points)
    return torch.cat(found, 1).detach()


def probes(graph: Graph, region: Region, count: int = 400) -> Tensor:
    """(B, P, n): the centre, samples, and where gradients lead from some of them."""
    samples = region.sample(count, torch.Generator().manual_seed(3))
    return torch.cat([region.centre[:, None], samples, search(graph, region, samples[:, :24])], 1)


def short(name: str, low: Tensor, value: Tensor, noise: Tensor) -> list[str]:
    """A sentence if some value (B, P, n) is below a bound that broadcasts to it, by more than the noise of evaluation."""
    gap = (low - value - noise).nan_to_num(nan=-torch.inf)
    return [f"{name}: {float(gap.max()):.3g} outside"] if bool((gap > 0).any()) else []


def outside(graph: Graph, intervals: Sequence[Interval], values: list[Tensor], name: str) -> list[str]:
    """The nodes of which an interval fails to hold values (B, P, n)."""
    faults = []
    for number, (interval, value) in enumerate(zip(intervals, values, strict=True)):
        noise = 1e-9 * (1e-6 + value.abs() + interval.width.nan_to_num(posinf=0.0)[:, None])
        label = f"{name} of node {number} ({type(graph.nodes[number]).__name__})"
        faults += short(label, interval.lower[:, None], value, noise) + short(label, -interval.upper[:, None], -value, noise)
    return faults


def heights(graph: Graph, number: int, plane: Plane, values: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(B, P, n): a plane's values where the network is, and the sum of the sizes that went into them."""
    node = graph.nodes[number]
    if isinstance(node, Quadratic):
        x, slopes, offset = node.gather(values), plane.slopes[0].mT, plane.offset[:, None]
        return x @ slopes + offset, x.abs() @ slopes.abs() + offset.abs()
    assert isinstance(node, Apply)
    operands = [operand.read(values) for operand in node.operands]
    plane = plane.map(lambda part: part[:, None])
    return plane.at(*operands), plane.map(torch.abs).at(*(operand.abs() for operand in operands))


def violations(
    graph: Graph, region: Region, points: Tensor, compute: Callable[[Graph, Region], LinearBounds] = linear_bounds
) -> list[str]:
    """What linear bounds claim of the graph and what points of the region disprove, a sentence each."""
    values = graph.evaluate(points)
    rows = sign_rows(graph, str(points.device))
    try:
        bounds = compute(graph, region)
        lower = bounds.lower({graph.output: rows})
    except SoundnessFault as fault:
        return [str(fault)]
    faults = outside(graph, bounds.intervals, values, "interval")
    for number, planes in ((number, pair) for number, several in bounds.planes.items() for pair in several):
        for side, plane in ((1.0, planes.upper), (-1.0, planes.lower)):
            reached, size = heights(graph, number, plane, values)
            faults += short(f"plane of node {number}", side * values[number], side * reached, 1e-12 * (1e-3 + size))
    margins = values[graph.output] @ rows.mT
    return faults + short("row", lower[:, None], margins, 1e-12 * (1e-3 + values[graph.output].abs() @ rows.abs().mT))


@pytest.mark.covering
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETWORKS)
def test_bounds_hold_everything_that_is_found(network: str, scale: str, device: str) -> None:
    graph = NETWORKS[network](SCALES[scale], len(network)).to(device)
    for name, perturbation in REGIONS.items():
        region = perturbation.around(centres(2).to(device))
        points = probes(graph, region)
        assert not violations(graph, region, points), name
        assert not outside(graph, interval_bounds(graph, region), graph.evaluate(points), "plain interval"), name


@pytest.mark.covering
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("fitting", [Fitting(("tightest", "tangent"), 0), Fitting(directions=4)], ids=["boxes", "polygons"])
def test_fitted_bounds_hold_everything_that_is_found(network: str, scale: str, fitting: Fitting) -> None:
    graph = NETWORKS[network](SCALES[scale], len(network))
    for name in ("linf", "l2") if fitting.directions else ("linf",):
        region = REGIONS[name].around(centres(2))
        points = probes(graph, region, 200)
        assert not violations(graph, region, points, lambda graph, region: fitted_bounds(graph, region, fitting)), name


@pytest.mark.parametrize("network", NETWORKS)
def test_bounds_hold_all_vertices_of_a_small_box(network: str) -> None:
    graph = NETWORKS[network](1.0, 7)
    x = centres(1, 4)
    reach = 0.05 * torch.rand(x.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    region = Box(x - reach, x + reach).around(x)
    corners = torch.tensor(list(product((0.0, 1.0), repeat=graph.input_size)), dtype=DOUBLE)
    assert not violations(graph, region, torch.where(corners > 0, region.box.upper, region.box.lower)[None])


@pytest.mark.parametrize("network", NETWORKS)
def test_linear_is_never_looser_than_interval(network: str) -> None:
    for scale, perturbation in zip(cycle(SCALES.values()), REGIONS.values(), strict=False):
        graph = NETWORKS[network](scale, 11)
        region = perturbation.around(centres(2, 1))
        plain, bounds = interval_bounds(graph, region), linear_bounds(graph, region)
        for before, after in zip(plain, bounds.intervals, strict=True):
            slack = 1e-12 * (1 + before.magnitude.nan_to_num(posinf=0.0))
            assert (after.lower >= before.lower - slack).all()
            assert (after.upper <= before.upper + slack).all()


@pytest.mark.parametrize("network", SOME_OFTEN)
def test_inputs_of_a_batch_do_not_mix(network: str, device: str) -> None:
    graph = NETWORKS[network](1.0, 13).to(device)
    rows = sign_rows(graph, device)
    x = centres(7, 2).to(device)
    for perturbation in REGIONS.values():
        whole = linear_bounds(graph, perturbation.around(x))
        expected = whole.lower({graph.output: rows})
        spread = whole.lower({graph.output: rows.expand(7, -1, -1)})
        assert torch.allclose(expected, spread, rtol=1e-12, atol=1e-12)
        for part in (slice(0, 1), slice(6, 7), slice(2, 5)):
            alone = linear_bounds(graph, perturbation.around(x[part]))
            assert torch.allclose(alone.lower({graph.output: rows}), expected[part], rtol=1e-12, atol=1e-12)
            for one, all_of_them in zip(alone.intervals, whole.intervals, strict=True):
                assert torch.allclose(one.lower, all_of_them.lower[part], rtol=1e-12, atol=1e-12)
                assert torch.allclose(one.upper, all_of_them.upper[part], rtol=1e-12, atol=1e-12)


def test_rows_over_several_nodes_hold() -> None:
    """`lower` takes rows over many nodes at once: the sum of all of them is bounded."""
    graph = NETWORKS["lstm 2 layers"](1.0, 17)
    generator = torch.Generator().manual_seed(6)
    for perturbation in REGIONS.values():
        region = perturbation.around(centres(3))
        bounds = linear_bounds(graph, region)
        values = graph.evaluate(probes(graph, region))
        picked = torch.randperm(len(graph.nodes), generator=generator)[:6].tolist()
        rows = {number: normal(generator, 3, 5, graph.nodes[number].size) for number in picked}
        sums = sum(values[number] @ row.mT for number, row in rows.items())
        assert (bounds.lower(rows)[:, None] <= sums + 1e-9).all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("scale", [1.0, 150.0])
def test_bounds_hold_exact_values_at_corners(network: str, scale: float) -> None:
    """At a few vertices of a thin box, where there is no room for float errors, in exact arithmetic."""
    graph = NETWORKS[network](scale, 19)
    x = centres(1, 3)
    region = LinfBall(1e-13).around(x)
    intervals = linear_bounds(graph, region).intervals
    plain = interval_bounds(graph, region)
    for corner in (region.box.lower[0], region.box.upper[0], region.centre[0]):
        truth = exact.values(graph, corner)
        assert not exact.outside(truth, intervals)
        assert not exact.outside(truth, plain)


def test_where_log_is_undefined_nothing_is_claimed() -> None:
    builder = Builder()
    x = builder.input((2,))
    graph = builder.graph(builder.combine([(builder.apply(Log(), x), 1.0)], 3.0))
    region = Box(torch.tensor([-1.0, 0.5]), torch.tensor([1.0, 2.0])).around(torch.tensor([[0.5, 1.0]]))
    bounds = linear_bounds(graph, region)
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]], dtype=DOUBLE)
    lower = bounds.lower({graph.output: rows})[0]
    assert float(lower[0]) == -torch.inf
    assert float(lower[1]) <= float(torch.tensor(0.5, dtype=DOUBLE).log()) + 3
    assert float(lower[2]) <= -3
