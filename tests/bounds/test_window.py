"""Windows of back-substitution and forms: they hold all that the network does, and cost in proportion to its length."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.bounds.test_bounds import CELLS, NETWORKS, REGIONS, SCALES, centres, probes, sign_rows, violations
from tightverify.bounds import stops
from tightverify.bounds import window as windows
from tightverify.bounds.back_substitution import Pending
from tightverify.bounds.forms import Form
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.bounds.window import IntervalPass, WindowPass, levels_of
from tightverify.budget import UNLIMITED
from tightverify.errors import UsageError
from tightverify.graph import Apply, Graph, Input
from tightverify.region import Box, LinfBall, Region

DOUBLE = torch.float64
FRAMES = [0, 1, 2]


def windowed(graph: Graph, region: Region, frames: int) -> WindowPass:
    found = WindowPass.over(graph, region, frames)
    found.run(UNLIMITED)
    return found


def outside_forms(found: WindowPass, points: Tensor) -> list[str]:
    """What the forms claim of their neurons and points (B, P, n) disprove."""
    values, faults = found.graph.evaluate(points), []
    for number, form in found.forms.items():
        for sign, side in ((1.0, form.lower), (-1.0, form.upper)):
            reached = side.offset[:, None] + sum(values[k] @ slope.mT for k, slope in side.slopes.items())
            size = side.offset.abs()[:, None] + sum(values[k].abs() @ slope.abs().mT for k, slope in side.slopes.items())
            gap = sign * (reached - values[number]) - 1e-12 * (1e-3 + size + values[number].abs())
            if bool((gap.nan_to_num(nan=-torch.inf) > 0).any()):
                faults.append(f"node {number}: {float(gap.max()):.3g} outside")
    return faults


@pytest.mark.covering
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", NETWORKS)
def test_windows_hold_everything_that_is_found(network: str, scale: str, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "KEPT", 1)  # old inputs fold, in so short networks too
    monkeypatch.setattr(stops, "WINDOWS", 1)
    graph = NETWORKS[network](SCALES[scale], len(network))
    for name, perturbation in REGIONS.items():
        region = perturbation.around(centres(2))
        points = probes(graph, region, 200)

        def compute(graph: Graph, region: Region, points: Tensor = points, name: str = name) -> LinearBounds:
            found = windowed(graph, region, frames)
            assert not outside_forms(found, points), name
            return found  # type: ignore[return-value]

        assert not violations(graph, region, points, compute), name


@pytest.mark.parametrize("network", NETWORKS)
def test_planes_over_intervals_hold_everything_that_is_found(network: str) -> None:
    graph = NETWORKS[network](1.0, len(network))
    region = REGIONS["linf"].around(centres(2))
    assert not violations(graph, region, probes(graph, region), lambda *given: IntervalPass(*given).run(UNLIMITED))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_window_over_all_frames_is_linear(network: str) -> None:
    graph = NETWORKS[network](1.0, len(network))
    region = REGIONS["l2"].around(centres(2))
    rows = {graph.output: sign_rows(graph, "cpu")}
    whole, wanted = windowed(graph, region, 9), linear_bounds(graph, region)
    assert torch.allclose(whole.lower(rows), wanted.lower(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_wider_windows_are_tighter(cell: str) -> None:
    graph = NETWORKS[cell](0.7, 3)
    region = REGIONS["linf"].around(centres(4))
    rows = {graph.output: sign_rows(graph, "cpu")}
    sums = [float(windowed(graph, region, frames).lower(rows).sum()) for frames in (0, 1, 2, 3)]
    assert sums == sorted(sums)
    assert sums[0] < sums[-1]


def test_levels_count_operations() -> None:
    graph = NETWORKS["lstm"](1.0, 1)
    levels = levels_of(graph)
    assert windows.frame_of(graph, levels) == 2
    assert windows.frame_of(NETWORKS["gru"](1.0, 1), levels_of(NETWORKS["gru"](1.0, 1))) == 3
    assert windows.frame_of(NETWORKS["rnn tanh"](1.0, 1), levels_of(NETWORKS["rnn tanh"](1.0, 1))) == 1


def exactly(graph: Graph, x: list[Fraction]) -> list[list[Fraction]]:
    """Every node's value in rational arithmetic, of a network whose operations are ReLUs."""
    values: list[list[Fraction]] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            values.append(x[node.block])
        elif isinstance(node, Apply):
            (operand,) = node.operands
            values.append([max(value, Fraction(0)) for value in torch_index(values[operand.source], operand.index)])
        else:
            assert not isinstance(node, Input | Apply)
            total = [Fraction(value) for value in node.bias.tolist()]  # type: ignore[union-attr]
            for term in node.terms:  # type: ignore[union-attr]
                operand_values = torch_index(values[term.operand.source], term.operand.index)
                matrix = term.map.push(torch.eye(len(operand_values), dtype=DOUBLE)).T
                for k, row in enumerate(matrix.tolist()):
                    total[k] += sum(Fraction(a) * b for a, b in zip(row, operand_values, strict=True))
            values.append(total)
    return values


def torch_index(values: list[Fraction], index: slice | Tensor) -> list[Fraction]:
    return values[index] if isinstance(index, slice) else [values[k] for k in index.tolist()]


@pytest.mark.parametrize("frames", FRAMES)
def test_rounding_is_paid_for(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over points, where bounds are nearly exact: a wrong last bit would show, in rational arithmetic."""
    monkeypatch.setattr(stops, "KEPT", 1)
    monkeypatch.setattr(stops, "WINDOWS", 1)
    for seed in range(20):
        graph = NETWORKS["rnn relu"](1.0 + seed, seed)
        x = centres(1, seed).flatten(1)
        region = Box(x.view(1, 3, 2), x.view(1, 3, 2)).around(x.view(1, 3, 2))
        values = exactly(graph, [Fraction(value) for value in x[0].tolist()])
        found = windowed(graph, region, frames)
        for interval, exact in zip(found.intervals, values, strict=True):
            for lower, value, upper in zip(interval.lower[0].tolist(), exact, interval.upper[0].tolist(), strict=True):
                assert lower <= value <= upper
        for number, form in found.forms.items():
            for sign, side in ((1, form.lower), (-1, form.upper)):
                for k, value in enumerate(values[number]):
                    reached = Fraction(float(side.offset[0, k]))
                    for source, slope in side.slopes.items():
                        row = slope[0, k].tolist()
                        reached += sum(Fraction(a) * b for a, b in zip(row, values[source], strict=True))
                    assert sign * reached <= sign * value


def test_a_flipped_side_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from tightverify.bounds import back_substitution

    honest = back_substitution.through_form

    def flipped(form: Form, row: Tensor, pending: Pending) -> Tensor:
        return honest(Form(form.upper, form.lower), row, pending)

    graph = NETWORKS["rnn tanh"](1.0, 4)
    region = REGIONS["linf"].around(centres(2))
    points = probes(graph, region)
    monkeypatch.setattr(back_substitution, "through_form", flipped)
    assert violations(graph, region, points, lambda graph, region: windowed(graph, region, 0))  # type: ignore[arg-type, return-value]


def test_work_grows_with_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slopes that are handed on, of networks of 20 and of 40 frames."""
    from tightverify.bounds import back_substitution

    counts = []
    for frames in (20, 40):
        torch.manual_seed(0)
        model = tv.load(Reader().double(), (frames, 3))
        seen = 0
        honest = Pending.add

        def add(self: Pending, *given: object, honest: object = honest, **named: object) -> None:
            nonlocal seen
            seen += 1
            honest(self, *given, **named)  # type: ignore[operator]

        monkeypatch.setattr(back_substitution.Pending, "add", add)
        x = torch.rand(1, frames, 3, dtype=DOUBLE)
        windowed(model.graph, LinfBall(0.01).around(x), 2)
        monkeypatch.setattr(back_substitution.Pending, "add", honest)
        counts.append(seen)
    assert counts[1] < 2.3 * counts[0]


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


@pytest.mark.parametrize("method", ["crown-ibp", "lbp", "crown-lbp", "window"])
def test_methods_say_what_they_prove(method: str) -> None:
    torch.manual_seed(0)
    model, x = tv.load(Reader().double(), (6, 3)), torch.rand(3, 6, 3, dtype=DOUBLE)
    found, plain = tv.certify(model, x, None, tv.LinfBall(0.02), method=method), tv.certify(model, x, None, tv.LinfBall(0.02))
    boxes = tv.certify(model, x, None, tv.LinfBall(0.02), method="ibp", thorough=True)
    for one, other, box in zip(found, plain, boxes, strict=True):
        assert box.margin <= one.margin <= other.margin + 1e-9
    bounds = tv.bounds(model, x, tv.LinfBall(0.02), method)
    values = model.original(tv.LinfBall(0.02).around(x).sample(200, torch.Generator()).view(-1, 6, 3)).view(3, 200, 3)
    assert bool((bounds.lower[:, None] <= values).all() & (values <= bounds.upper[:, None]).all())


def test_other_names_and_what_evidence_cannot_say(tmp_path: object) -> None:
    assert tv.Settings("crown").method == "linear"
    assert tv.Settings(method="ibp").method == "interval"
    with pytest.raises(UsageError, match="evidence has no words for the bounds of the method lbp"):
        tv.Settings("lbp", evidence=str(tmp_path))  # type: ignore[arg-type]
