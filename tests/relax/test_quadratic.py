"""Energies: their planes and ranges hold exact values, are tighter than bins one by one, and are recognised however written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.bounds.test_bounds import DOUBLE, NETWORKS, REGIONS, centres, normal, probes, violations
from tests.helpers import exact
from tests.helpers.exact import arb, ball, rational
from tightverify.bounds import quadratics as quadratics
from tightverify.bounds.interval import interval_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.graph import Affine, Apply, Graph, Input, Quadratic
from tightverify.models.builder import Builder
from tightverify.models.quadratics import Quadratics
from tightverify.relax import majorant
from tightverify.relax import quadratic as quadratic
from tightverify.relax.majorant import diagonal_majorant
from tightverify.relax.planes import Plane, Planes
from tightverify.relax.quadratic import Forms, lowest_points, quadratic_planes, quadratic_range, rise
from tightverify.values import Interval

COORDINATES, FORMS, ENERGIES = 4, 6, 3


def forms_of(seed: int, coordinates: int = COORDINATES, scale: float = 1.0) -> Forms:
    generator = torch.Generator().manual_seed(seed)
    matrix, shift = scale * normal(generator, FORMS, coordinates), normal(generator, FORMS)
    weights = torch.rand((ENERGIES, FORMS), generator=generator, dtype=DOUBLE)
    weights[0, :3] = 0
    return Forms(matrix, shift, weights, matrix.abs(), shift.abs(), 0)


def boxes_of(seed: int, batch: int = 3) -> dict[str, Interval]:
    generator = torch.Generator().manual_seed(seed)
    centre = normal(generator, batch, COORDINATES)
    found = {}
    for name, width in {"usual": 1.0, "small": 0.05, "thin": 1e-13, "wide": 1e6, "point": 0.0, "tiny": 1e-290}.items():
        half = width * torch.rand((batch, COORDINATES), generator=generator, dtype=DOUBLE)
        half[:, 0] *= 0.01
        found[name] = Interval(centre - half, centre + half)
    low = centre - 1
    found["one side"] = Interval(low, torch.where(torch.arange(COORDINATES) < 2, low, low + 1))
    return found


BOXES = list(boxes_of(0))


def corners(box: Interval, row: int) -> list[Tensor]:
    ends = zip(box.lower[row].tolist(), box.upper[row].tolist(), strict=True)
    points = [torch.tensor(point, dtype=DOUBLE) for point in product(*ends)]
    return [*points, box.centre[row], (box.lower[row] + box.centre[row]) / 2]


def faults(forms: Forms, box: Interval, planes: Planes, interval: Interval) -> list[str]:
    """What exact arithmetic disproves at the corners and in the middle."""
    found = []
    for row in range(len(box.lower)):
        for point in corners(box, row):
            coordinates = [ball(v) for v in point.tolist()]
            for k, value in enumerate(exact.quadratics(forms, coordinates)):
                for side, plane in ((1, planes.upper), (-1, planes.lower)):
                    reached = height(plane, row, k, point)
                    if bool(side * (value - reached) > 0):
                        found.append(f"plane {side} of energy {k}: {value} and {reached}")
                if exact.is_below(value, float(interval.lower[row, k])) or exact.is_above(value, float(interval.upper[row, k])):
                    found.append(f"interval of energy {k}: {value}")
    return found


def height(plane: Plane, row: int, k: int, point: Tensor) -> arb:
    total = rational(float(plane.offset[row, k]))
    for slope, x in zip(plane.slopes[0][row, k].tolist(), point.tolist(), strict=True):
        total += rational(slope) * rational(x)
    return arb(total)


@pytest.mark.covering
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("name", BOXES)
def test_planes_and_ranges_hold_in_exact_arithmetic(name: str, scale: float) -> None:
    for seed in range(3):
        forms, box = forms_of(seed, scale=scale), boxes_of(seed)[name]
        lowest = lowest_points(forms, box)
        for at in (None, lowest):
            assert not faults(forms, box, quadratic_planes(forms, box, at), quadratic_range(forms, box, at))


DAMAGES: dict[str, Callable[[Planes], Planes]] = {
    "lower slope": lambda pair: Planes(pair.lower.map(lambda part: -part if part.dim() == 3 else part), pair.upper),
    "upper slope": lambda pair: Planes(pair.lower, pair.upper.map(lambda part: -part if part.dim() == 3 else part)),
    "lower offset": lambda pair: Planes(Plane(pair.lower.slopes, pair.lower.offset + 1e-6), pair.upper),
    "no curvature": lambda pair: Planes(pair.lower, Plane(pair.upper.slopes, pair.lower.offset)),
    "half the curvature": lambda pair: Planes(
        pair.lower, Plane(pair.upper.slopes, (pair.lower.offset + pair.upper.offset) / 2)
    ),
    "swapped": lambda pair: Planes(pair.upper, pair.lower),
    "another input's": lambda pair: pair.map(lambda part: part.roll(1, 0)),
    "another energy's": lambda pair: pair.map(lambda part: part.roll(1, 1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_planes_are_caught(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seed, name in product(range(5), ("usual", "one side")):
        forms, box = forms_of(seed), boxes_of(seed)[name]
        found += faults(forms, box, DAMAGES[damage](quadratic_planes(forms, box)), quadratic_range(forms, box))
    assert found
    graph = NETWORKS["spectrum"](1.0, 31)
    region = REGIONS["linf"].around(centres(3, 12))
    points = probes(graph, region, 300)
    assert not violations(graph, region, points)
    monkeypatch.setattr(
        quadratics, "quadratic_planes", lambda *given, **named: DAMAGES[damage](quadratic_planes(*given, **named))
    )
    assert violations(graph, region, points)


@pytest.mark.parametrize("name", ["matrix", "weights", "shift"])
def test_wrong_forms_are_caught(name: str) -> None:
    """The first number of the forms changed, where the network itself has another: the truth is then outside."""
    graph = NETWORKS["spectrum"](1.0, 31)
    region = REGIONS["thin"].around(centres(1, 12))
    truth = exact.values(graph, region.centre[0])
    assert not exact.outside(truth, interval_bounds(graph, region))
    for node in graph.nodes:
        if isinstance(node, Quadratic):
            getattr(node.forms, name).view(-1)[0] += 1e-6
    assert exact.outside(truth, interval_bounds(graph, region))


def test_the_curvature_is_above_the_hessian() -> None:
    for seed in range(5):
        forms = forms_of(seed)
        for k in range(ENERGIES):
            hessian = (forms.matrix.T * forms.weights[k]) @ forms.matrix
            for curvature in forms.curvatures:
                assert torch.linalg.eigvalsh(torch.diag(curvature[k]) - hessian)[0] >= -1e-12


@pytest.mark.parametrize("kind", ["full", "rank one", "diagonal", "band", "huge", "small", "zero"])
def test_the_least_diagonal_is_proved_and_near_the_optimum(kind: str) -> None:
    """The optimum lies between the largest d' Q d over signs d and the row sums, and is either where these are alike."""
    factor = normal(torch.Generator().manual_seed(1), 12, 12)
    one = factor[:, :1]
    matrix = {
        "full": factor @ factor.T,
        "rank one": one @ one.T,
        "diagonal": torch.diag(one[:, 0] ** 2),
        "band": torch.eye(12, dtype=DOUBLE) + torch.diag(torch.full((11,), 0.5, dtype=DOUBLE), 1).add(0),
        "huge": 1e100 * (factor @ factor.T),
        "small": 1e-100 * (factor @ factor.T),
        "zero": torch.zeros(12, 12, dtype=DOUBLE),
    }[kind]
    matrix = (matrix + matrix.T) / 2
    found = diagonal_majorant(matrix, torch.zeros(12, dtype=DOUBLE))
    if kind == "zero":
        assert found is None
        return
    assert found is not None
    scale = float(matrix.abs().max())
    assert torch.linalg.eigvalsh((torch.diag(found) - matrix) / scale)[0] >= -1e-12
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=12)), dtype=DOUBLE)
    attained = float(((signs @ (matrix / scale)) * signs).sum(1).max())
    assert attained <= float(found.sum() / scale) <= 1.1 * attained


def test_what_cannot_be_proved_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = -torch.eye(3, dtype=DOUBLE)
    found = diagonal_majorant(matrix, torch.zeros(3, dtype=DOUBLE))
    assert found is None or torch.linalg.eigvalsh(torch.diag(found) - matrix)[0] >= 0
    monkeypatch.setattr(majorant, "proved", lambda _: False)
    assert diagonal_majorant(torch.eye(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)) is None
    forms, box = forms_of(0), boxes_of(0)["usual"]
    assert torch.equal(*forms.curvatures)
    assert not faults(forms, box, quadratic_planes(forms, box), quadratic_range(forms, box))


def test_a_diagonal_that_is_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadratic, "diagonal_majorant", lambda matrix, _: 0.6 * matrix.abs().sum(1))
    found = []
    for seed in range(5):
        forms, box = forms_of(seed), boxes_of(seed)["usual"]
        found += faults(forms, box, quadratic_planes(forms, box), quadratic_range(forms, box))
    assert found


def test_the_range_is_nearly_exact_below_and_never_looser_than_forms_one_by_one() -> None:
    for seed in range(5):
        forms, box = forms_of(seed), boxes_of(seed)["usual"]
        found = quadratic_range(forms, box, lowest_points(forms, box))
        points = box.lower + torch.rand((20000, 1, COORDINATES), dtype=DOUBLE) * box.width
        least = forms.value(points).amin(0)
        assert (found.lower <= least).all()
        middle, half = box.centre @ forms.matrix.T + forms.shift, box.width / 2 @ forms.matrix.abs().T
        each = ((middle.abs() - half).clamp(min=0) ** 2 @ forms.weights.T, (middle.abs() + half) ** 2 @ forms.weights.T)
        assert (found.lower >= each[0] - 1e-6 * (1 + each[0])).all()
        assert (found.upper <= each[1] * (1 + 1e-12)).all()
        assert (least - found.lower <= 0.15 * (1 + least)).all()


def test_a_band_of_a_spectrum_is_far_tighter_than_its_bins() -> None:
    angles = 2 * torch.pi * torch.outer(torch.arange(20, 50, dtype=DOUBLE), torch.arange(256, dtype=DOUBLE)) / 256
    matrix = torch.cat([angles.cos(), angles.sin()]) * torch.hamming_window(256, dtype=DOUBLE) / 16
    forms = Forms(matrix, torch.zeros(60, dtype=DOUBLE), torch.ones(1, 60, dtype=DOUBLE), matrix.abs(), torch.zeros(60), 0)
    half = torch.ones(1, 256, dtype=DOUBLE)
    found = float(rise(forms, Interval(-half, half)))
    attained = float(forms.value((torch.hamming_window(256) * angles[15].cos()).sign()))
    assert attained <= found < 0.08 * float(matrix.abs().sum(1).square().sum())


def test_a_ball_is_far_tighter_than_its_box() -> None:
    forms, x = forms_of(2), torch.zeros(1, COORDINATES, dtype=DOUBLE)
    box = Interval(x - 1, x + 1)
    inside, outside = (quadratic_planes(forms, box, radius=radius) for radius in (torch.ones(1, dtype=DOUBLE), None))
    assert (inside.upper.offset < outside.upper.offset).all()
    directions = normal(torch.Generator().manual_seed(3), 5000, COORDINATES)
    points = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    value = forms.value(points)
    reached = points @ inside.upper.slopes[0][0].T + inside.upper.offset
    assert (value <= reached).all()
    assert float((reached - value).amin(0).max()) < 0.6 * float((outside.upper.offset - inside.upper.offset).max())


@pytest.mark.parametrize("norm", [1, 2])
def test_how_far_forms_get_in_a_ball_is_what_counts(norm: float) -> None:
    """Without clipping it is the radius times the dual norm of each form, and never more than over the box."""
    graph = NETWORKS["spectrum"](1.0, 31)
    region = tv.region.LpBall(0.3, norm).around(centres(2, 12))
    for node in graph.nodes:
        if isinstance(node, Quadratic):
            sources = [graph.nodes[operand.source] for operand in node.operands]
            pairs = zip(node.operands, sources, strict=True)
            known = {o.source: region.box[s.block] for o, s in pairs if isinstance(s, Input)}
            box = node.box([known.get(k, region.box) for k in range(len(graph.nodes))])
            swings = quadratics.swings_over(graph, region, node, box)
            dual = torch.linalg.vector_norm(node.forms.matrix, ord=torch.inf if norm == 1 else 2, dim=1)
            assert torch.allclose(swings, 0.3 * dual.expand_as(swings), rtol=1e-9)
            assert (swings >= 0.3 * dual).all()
            least = rise(node.forms, box, swings=swings)
            assert (least < rise(node.forms, box)).all()
            wide, narrow = (quadratic_range(node.forms, box, swings=known) for known in (None, swings))
            assert (narrow.upper < wide.upper).all()
            assert (narrow.lower >= wide.lower).all()


@pytest.mark.parametrize("norm", [1, 2])
def test_balls_that_are_clipped_hold(norm: float) -> None:
    """The box is then not around the ball's centre."""
    generator = torch.Generator().manual_seed(7)
    builder = Builder()
    x = builder.input((6,))
    parts = builder.matmul(x, normal(generator, 5, 6), normal(generator, 5))
    squares = builder.multiply(parts, parts)
    graph = builder.graph(builder.matmul(squares, torch.rand((2, 5), generator=generator, dtype=DOUBLE)))
    for eps in (0.1, 0.5, 1.0):
        region = tv.region.LpBall(eps, norm, clip=(0.0, 1.0)).around(centres(3, 5).flatten(1))
        assert not violations(graph, region, probes(graph, region, 2000))


def test_a_shrinking_box_never_loosens() -> None:
    forms, box = forms_of(1), boxes_of(1)["usual"]
    before = quadratic_range(forms, box)
    for share in (0.9, 0.5, 0.1, 0.0):
        half = share * box.width / 2
        inner = Interval(torch.maximum(box.centre - half, box.lower), torch.minimum(box.centre + half, box.upper))
        after = quadratic_range(forms, inner)
        assert (after.lower >= before.lower - 1e-12 * (1 + before.upper)).all()
        assert (after.upper <= before.upper * (1 + 1e-12)).all()
        before = after


class Bands(nn.Module):
    """Bands of a spectrum, spelt in several ways."""

    forms: Tensor
    bank: Tensor
    window: Tensor

    def __init__(self, spelling: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.spelling = spelling
        self.register_buffer("forms", normal(generator, 10, 8))
        self.register_buffer("bank", torch.rand((3, 5), generator=generator, dtype=DOUBLE))
        self.register_buffer("window", torch.hann_window(8, dtype=DOUBLE) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "convolution":
            both = nn.functional.conv1d(x[:, None], (self.forms * self.window)[:, None], stride=3).transpose(1, 2)
        else:
            both = (x.unfold(1, 8, 3) * self.window) @ self.forms.T
        re, im = both[..., :5], both[..., 5:]
        match self.spelling:
            case "powers":
                return torch.log(((re**2 + im**2) @ self.bank.T + 1e-3).sum(1))
            case "scaled":
                power = (re.square() + im.square()) / 8
                return torch.log(2 * (self.bank @ power.transpose(1, 2)).sum(2) + 1e-3)
            case "apart":
                squares = both * both
                return torch.log(squares[..., :5] @ self.bank.T + squares[..., 5:] @ self.bank.T + 1e-3).sum(1)
        return torch.log((re * re + im * im) @ self.bank.T + 1e-3).sum(1)


@pytest.mark.parametrize("spelling", ["products", "powers", "scaled", "apart", "convolution"])
def test_bands_are_recognised_however_they_are_spelt(spelling: str) -> None:
    model = tv.load(Bands(spelling).double(), shape=(17,))
    kinds = {type(node).__name__ for node in model.graph.nodes}
    names = {node.op.name for node in model.graph.nodes if isinstance(node, Apply)}
    assert "Quadratic" in kinds
    assert names == {"log"}
    shared = {id(node.forms) for node in model.graph.nodes if isinstance(node, Quadratic)}
    assert len(shared) == 1
    region = tv.LinfBall(0.01).around(torch.randn((2, 17), generator=torch.Generator().manual_seed(1), dtype=DOUBLE))
    assert not violations(model.graph, region, probes(model.graph, region, 50))


def test_sums_of_very_many_squares_stay_square_by_square() -> None:
    """The energy of a whole waveform."""

    class Loudness(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(x * x).sum(1), x[:, :50].square().mean(1)], dim=1)

    graph = tv.load(Loudness(), shape=(5000,)).graph
    kinds = [node.op.name if isinstance(node, Apply) else type(node).__name__ for node in graph.nodes]
    assert sorted(kinds) == ["Affine", "Affine", "Input", "Quadratic", "square"]
    region = tv.LinfBall(0.1).around(torch.linspace(-1, 1, 5000, dtype=DOUBLE)[None])
    bounds = linear_bounds(graph, region).intervals[graph.output]
    value = graph.forward(torch.cat([region.box.lower, region.centre, region.box.upper]))
    assert (bounds.lower <= value).all()
    assert (value <= bounds.upper).all()


def cancelling(seed: int) -> Callable[[], Graph]:
    """A pre-emphasis that leaves next to nothing of what it adds up, and what follows."""

    def make() -> Graph:
        generator = torch.Generator().manual_seed(seed)
        builder = Builder()
        x = builder.input((6,))
        big = 1e7 * normal(generator, 5, 6)
        plus, minus = builder.matmul(x, big + normal(generator, 5, 6)), builder.matmul(x, -big)
        once = builder.combine([(plus, 1.0), (minus, 1.0)])
        twice = builder.matmul(once, 1e3 * normal(generator, 4, 5), normal(generator, 4))
        parts = builder.combine([(twice, 1.0), (builder.matmul(once, -1e3 * normal(generator, 4, 5)), 1.0)])
        squares = builder.multiply(parts, parts)
        return builder.graph(builder.matmul(squares, torch.rand((2, 4), generator=generator, dtype=DOUBLE)))

    return make


@pytest.mark.parametrize("seed", range(4))
def test_affine_steps_multiplied_together_hold_what_they_were(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth is the network as it was written, before its affine steps were multiplied."""
    merged = cancelling(seed)()
    monkeypatch.setattr(Quadratics, "recognise", lambda *_: None)
    plain = cancelling(seed)()
    assert any(isinstance(node, Quadratic) for node in merged.nodes)
    assert not any(isinstance(node, Quadratic) for node in plain.nodes)
    assert any(isinstance(node, Affine) for node in plain.nodes)
    for eps in (0.0, 1e-12):
        region = tv.LinfBall(eps).around(centres(1, seed).flatten(1))
        truth = exact.values(plain, region.centre[0])[plain.output]
        bounds = linear_bounds(merged, region)
        for intervals in (bounds.intervals, interval_bounds(merged, region)):
            assert not exact.outside([truth], [intervals[merged.output]])


def test_rounding_of_the_product_is_what_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the truth would be outside for some of these: the test above can fail."""
    found = []
    for seed in range(12):
        with monkeypatch.context() as patch:
            patch.setattr(quadratic, "ALLOWANCE", 0)
            merged = cancelling(seed)()
            region = tv.LinfBall(0.0).around(centres(1, seed).flatten(1))
            intervals = interval_bounds(merged, region)[merged.output]
        with monkeypatch.context() as patch:
            patch.setattr(Quadratics, "recognise", lambda *_: None)
            plain = cancelling(seed)()
        found += exact.outside([exact.values(plain, region.centre[0])[plain.output]], [intervals])
    assert found
