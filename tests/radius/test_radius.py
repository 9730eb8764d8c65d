"""Radii: within the tolerance of those that are known, proved and refuted where they say so, on every cell and norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.sounds import recordings
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import InputError, RegionError, SoundnessFault, UsageError
from tightverify.radius.bracket import Bracket
from tightverify.radius.inputs import Interrupted
from tightverify.radius.search import RadiusSearch, methods_for
from tightverify.values import Interval

DOUBLE = torch.float64
FRAMES, FEATURES, CLASSES = 3, 2, 3
DUAL = {1: math.inf, 2: 2, math.inf: 1}


class Classifier(nn.Module):
    """A recurrent layer, and a linear layer on its last output."""

    def __init__(self, layer: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer, self.head = layer(FEATURES, 3, batch_first=True), nn.Linear(3, CLASSES, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def relu_rnn(*given: int, batch_first: bool) -> nn.RNN:
    return nn.RNN(*given, nonlinearity="relu", batch_first=batch_first)


CELLS: dict[str, Callable[..., nn.RNNBase]] = {"tanh": nn.RNN, "relu": relu_rnn, "lstm": nn.LSTM, "gru": nn.GRU}


def flat_linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(FRAMES * FEATURES, CLASSES)).double()


def inputs(count: int = 4, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.rand((count, FRAMES, FEATURES), generator=torch.Generator().manual_seed(3), dtype=dtype)


def known(network: nn.Module, x: Tensor, norm: float, targets: bool = False) -> Tensor:
    """(N,) or (N, classes - 1): a linear classifier's radii are margins by the dual norm of differences of weights."""
    weight, outputs = network[1].weight.detach(), network(x).detach()  # type: ignore[index]
    label = outputs.argmax(1)
    found = [
        [
            (outputs[n, label[n]] - outputs[n, k]) / torch.linalg.vector_norm(weight[label[n]] - weight[k], ord=DUAL[norm])
            for k in range(CLASSES)
            if k != label[n]
        ]
        for n in range(len(x))
    ]
    each = torch.tensor(found, dtype=DOUBLE)
    return each if targets else each.amin(1)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("method", ["linear", "complete"])
def test_a_linear_classifiers_radii_are_those_that_are_known(norm: float, method: str) -> None:
    network, x = flat_linear(), inputs()
    found = tv.radius(network, x, None, norm=norm, method=method, tolerance=1e-3)
    true = known(network, x, norm)
    assert bool((found.proved < true * (1 + 1e-12)).all())
    assert bool((found.proved > true * (1 - 2e-3)).all())
    assert bool((found.refuted > true * (1 - 1e-12)).all())
    assert norm == 1 or bool((found.refuted < true * (1 + 1e-3)).all())  # the search for counterexamples is weak in the norm 1
    assert len(set(found.proved.tolist())) == len(x)


@pytest.mark.covering
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_radii_hold_what_they_say(cell: str, norm: float) -> None:
    network, x = Classifier(CELLS[cell]).eval(), inputs(3, torch.float32)
    found = tv.radius(network, x, None, norm=norm, tolerance=0.1, method="linear", restarts=2)
    labels = network(x).argmax(1)
    for one, point, label in zip(found, x, labels.tolist(), strict=True):
        assert isinstance(one.proved, float)
        assert isinstance(one.refuted, float)
        assert 0 < one.proved < one.refuted
        assert one.label == label
        (result,) = tv.certify(network, point[None], [label], tv.LpBall(one.proved, norm))
        assert result.verdict is tv.Verdict.ROBUST
        if math.isfinite(one.refuted):
            assert isinstance(one.counterexample, Tensor)
            assert int(network(one.counterexample.to(torch.float32)[None]).argmax()) != label
            away = torch.linalg.vector_norm((one.counterexample - point).flatten(), ord=norm)
            assert float(away) <= one.refuted <= float(away) * (1 + 1e-6)


def test_dearer_methods_prove_more() -> None:
    network, x = Classifier(nn.GRU).eval(), inputs(1, torch.float32)
    cheap, dear = (tv.radius(network, x, None, norm=2, tolerance=0.05, method=name) for name in ("linear", "planes"))
    assert bool((dear.proved > cheap.proved).all())
    assert bool((dear.proved < dear.refuted).all())


def test_onnx_clipped_and_several_batches() -> None:
    x, y = held_out()
    whole = tv.radius(NETWORKS["GRU"], x[:2], y[:2], norm=math.inf, clip=(0, 1), method="linear")
    parts = tv.radius(NETWORKS["GRU"], x[:2], y[:2], norm=math.inf, clip=(0, 1), method="linear", batch=1)
    assert torch.allclose(whole.proved, parts.proved, rtol=0.01)
    assert torch.allclose(whole.refuted, parts.refuted, rtol=0.01)
    points = torch.stack([each.counterexample for each in whole if isinstance(each.counterexample, Tensor)])
    assert float(points.min()) >= 0
    assert float(points.max()) <= 1
    free = tv.radius(NETWORKS["GRU"], x[:2], y[:2], norm=math.inf, method="linear")
    assert bool((free.proved <= whole.proved * 1.02).all())


def test_a_clip_that_holds_all_ends_the_search() -> None:
    """A class that wins everywhere in the range."""
    network = flat_linear()
    with torch.no_grad():
        network[1].bias[0] += 100  # type: ignore[index]
    (found,) = tv.radius(network, inputs(1), [0], norm=2, clip=(0, 1), method="linear")
    assert found.proved == pytest.approx(math.sqrt(FRAMES * FEATURES))
    assert math.isinf(float(found.refuted))
    assert found.counterexample is None


def test_targets() -> None:
    network, x = flat_linear(), inputs()
    labels, true = network(x).argmax(1), known(network, x, 2, targets=True)
    found = tv.radius(network, x, labels, target="each", method="linear")
    assert found.proved.shape == (4, CLASSES - 1)
    assert torch.allclose(found.proved, true, rtol=0.011)
    for one in found:
        assert one.parts == tuple(k for k in range(CLASSES) if k != one.label)
        assert isinstance(one.counterexample, tuple)
    assert [row["target"] for row in found.rows()[:2]] == list(found[0].parts)
    others = (labels + 1) % CLASSES
    single = tv.radius(network, x, labels, target=others, method="linear")
    picked = [row[one.parts.index(k)] for row, one, k in zip(true, found, others.tolist(), strict=True)]
    assert torch.allclose(single.proved, torch.stack(picked), rtol=0.011)
    with pytest.raises(InputError, match="its own label"):
        tv.radius(network, x, labels, target=labels)


def test_top_and_rows() -> None:
    network, x = flat_linear(), inputs()
    true = known(network, x, 2, targets=True)
    found = tv.radius(network, x, None, top=2, method="linear")
    assert bool((found.proved >= true.amin(1)).all())
    assert bool((found.refuted >= true.amax(1) * (1 - 1e-9)).all())
    row = torch.tensor([[0.0, 0.0, 1.0]], dtype=DOUBLE)
    found = tv.radius(network, x, rows=(row, [10.0]), method="linear")
    distance = (network(x)[:, 2] + 10) / torch.linalg.vector_norm(network[1].weight[2])  # type: ignore[index]
    assert torch.allclose(found.proved, distance, rtol=0.011)
    assert found[0].label is None


def test_misclassified_inputs_have_no_radius(tmp_path: Path) -> None:
    network, x = flat_linear(), inputs()
    labels = network(x).argmax(1)
    labels[1] = (labels[1] + 1) % CLASSES
    found = tv.radius(network, x, labels, method="linear")
    assert [one.misclassified for one in found] == [False, True, False, False]
    assert (found[1].proved, found[1].refuted) == (0.0, 0.0)
    assert torch.equal(torch.as_tensor(found[1].counterexample), x[1])
    assert "1 misclassified" in found.summary()
    assert "misclassified" in repr(found)
    assert found.save(tmp_path).read_text().count("\n") == 5


def test_families() -> None:
    network, x = flat_linear(), inputs()
    found = tv.radius(network, x, family=lambda eps: tv.LinfBall(eps, frames=[1]), method="linear")
    weight, outputs = network[1].weight.detach().view(CLASSES, FRAMES, FEATURES)[:, 1], network(x).detach()  # type: ignore[index]
    label = outputs.argmax(1)
    for n, one in enumerate(found):
        others = [k for k in range(CLASSES) if k != label[n]]
        true = min(float((outputs[n, label[n]] - outputs[n, k]) / (weight[label[n]] - weight[k]).abs().sum()) for k in others)
        assert true * 0.989 < one.proved < true * (1 + 1e-12)
    ratios = tv.radius(network, x, family="db", method="linear")
    plain = tv.radius(network, x, norm=math.inf, method="linear")
    peaks = x.flatten(1).abs().amax(1)
    assert torch.allclose(peaks * 10 ** (ratios.proved / 20), plain.proved, rtol=0.02)
    assert ratios.about.unit == "dB"
    snr = tv.radius(network, x, family="snr", method="linear")
    assert bool((snr.proved > snr.refuted).all())  # a louder noise has a lower ratio
    with pytest.raises(UsageError, match="does not exist"):
        tv.radius(network, x, family="loudness")


@pytest.mark.parametrize(("per", "axis"), [("frame", 1), ("feature", 2)])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_parts(per: str, axis: int, norm: float) -> None:
    """A linear classifier's radius in a part is its margin by the dual norm of the weights there."""
    network, x = flat_linear(), inputs(2)
    found = tv.radius(network, x, None, norm=norm, per=per, method="linear")
    outputs, weight = network(x).detach(), network[1].weight.detach().view(CLASSES, FRAMES, FEATURES)  # type: ignore[index]
    assert found.proved.shape == (2, x.shape[axis])
    for n, one in enumerate(found):
        label = int(outputs[n].argmax())
        for part, proved, refuted in zip(one.parts, found.proved[n], found.refuted[n], strict=True):
            there = [(weight[label] - weight[k]).select(axis - 1, part) for k in range(CLASSES) if k != label]
            falls = torch.stack([torch.linalg.vector_norm(each, ord=DUAL[norm]) for each in there])
            margins = torch.stack([outputs[n, label] - outputs[n, k] for k in range(CLASSES) if k != label])
            true = float((margins / falls).amin())
            assert true * 0.989 < float(proved) < true * (1 + 1e-12)
            assert float(refuted) > true * (1 - 1e-12)
        assert isinstance(one.counterexample, tuple)
        for part, point in zip(one.parts, one.counterexample, strict=True):
            if point is not None:
                changed = (point != x[n]).any(2 - axis)
                assert [k for k, moved in enumerate(changed.tolist()) if moved] == [part]
    assert [row[per] for row in found.fragile(1)] == found.proved.argmin(1).tolist()
    with pytest.raises(UsageError):
        tv.radius(network, x, per="word")
    with pytest.raises(UsageError, match="leave one out"):
        tv.radius(network, x, per=per, family="db")


def test_values_segments_and_groups_are_parts_too() -> None:
    network, x = flat_linear(), inputs(2)
    outputs, weight = network(x).detach(), network[1].weight.detach()  # type: ignore[index]
    numbers = torch.tensor([[7], [3], [7]])
    frames = torch.arange(FRAMES).repeat_interleave(FEATURES)
    for given, names, of in (
        ({"per": "value"}, range(6), torch.arange(6)),
        ({"per": "segment", "length": 2}, range(2), frames // 2),
        ({"per": "segment"}, range(3), frames),
        ({"per": "group", "groups": numbers}, (3, 7), (frames != 1).long()),
    ):
        found = tv.radius(network, x, None, norm=1, method="linear", restarts=0, **given)
        assert found[0].parts == tuple(names)
        for n, k in product(range(2), range(len(names))):
            label = int(outputs[n].argmax())
            others = [other for other in range(CLASSES) if other != label]
            falls = [(outputs[n, label] - outputs[n, c]) / (weight[label] - weight[c])[of == k].abs().max() for c in others]
            true = float(torch.stack(falls).min())
            assert true * 0.989 < float(found.proved[n, k]) < true * (1 + 1e-12)
        assert torch.equal(found.maps.flatten(1), found.proved[:, of])
    for wrong in (
        {"per": "group"},
        {"length": 2},
        {"per": "frame", "length": 2},
        {"per": "segment", "length": 4},
        {"groups": numbers},
    ):
        with pytest.raises(UsageError):
            tv.radius(network, x, **wrong)
    with pytest.raises(RegionError):
        tv.radius(network, x, per="group", groups=[0.5])
    with pytest.raises(UsageError):
        _ = tv.radius(network, x, method="linear", restarts=0).maps


def test_families_that_are_not_nested_are_refused() -> None:
    network, x = flat_linear(), inputs()
    with pytest.raises(RegionError, match="not nested"):
        tv.radius(network, x, family=lambda eps: tv.LinfBall(1 / (1 + eps)), method="linear")
    with pytest.raises(RegionError, match="wanted a region"):
        tv.radius(network, x, family=lambda eps: eps)  # type: ignore[arg-type, return-value]


def test_waves_and_gains() -> None:
    x = torch.stack([recordings()[0], recordings()[2]])
    network = nn.Sequential(nn.Linear(100, 2))
    found = tv.radius(network, x, family="gain", method="linear")
    assert bool((found.proved > 0).all())
    assert bool((found.proved < found.refuted).all())
    assert float(found.proved.max()) == 60  # a factor alone may never change the answer


def test_a_limit_is_kept_and_an_interruption_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = Classifier(nn.LSTM).eval(), inputs(3, torch.float32)
    found = tv.radius(network, x, time_limit=1e-3)
    assert bool((found.proved >= 0).all())
    plain, calls = RadiusSearch.try_sizes, 0

    def interrupted(self: RadiusSearch, *given: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise KeyboardInterrupt
        plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(RadiusSearch, "try_sizes", interrupted)
    with pytest.raises(Interrupted) as caught:
        tv.radius(network, x)
    assert bool((caught.value.radii.proved > 0).any())
    assert len(caught.value.radii) == 3


def test_contradictions_are_faults() -> None:
    bracket = Bracket(1.0, 1.0, 10.0, proved=0.5, refuted=0.6)
    bracket.check(holds=False)
    with pytest.raises(SoundnessFault):
        bracket.check(holds=True)
    bracket.refuted = 0.5
    with pytest.raises(RegionError):
        bracket.check(holds=False)


def test_a_wrong_proof_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What calls every size proved meets its own counterexamples."""
    plain = Bracket.learn
    monkeypatch.setattr(Bracket, "learn", lambda self, size, margin, **_: plain(self, size, margin, robust=True))
    with pytest.raises(SoundnessFault):
        tv.radius(flat_linear(), inputs(), method="linear")


def test_sizes_lie_inside_the_bracket() -> None:
    bracket = Bracket(2.0, 1.0, 100.0)
    bracket.begin()
    assert bracket.next(True) == 1.0
    bracket.learn(1.0, 1.0, robust=True)
    assert bracket.next(True) == pytest.approx(2.0)  # the line through 0 and 1
    bracket.learn(2.0, -1.0, robust=False)
    for _ in range(6):
        assert 1.0 < bracket.next(True) < 2.0
        assert 1.0 < bracket.next(False) < 2.0
    bracket.check_nested(1.0, Interval(-torch.ones(2), torch.ones(2)))
    with pytest.raises(RegionError):
        bracket.check_nested(2.0, Interval(-torch.ones(2) / 2, torch.ones(2)))


def test_slow_methods_grow_by_steps_and_then_bisect_in_the_logarithm() -> None:
    bracket = Bracket(2.0, 1.0, 100.0, proved=1.0, refuted=9.0)
    bracket.begin()
    assert bracket.next(False, 1.2) == pytest.approx(1.2)
    bracket.learn(1.2, 0.1, robust=True)
    assert bracket.next(False, 1.2) == pytest.approx(1.2 * 1.44)
    bracket.learn(1.6, -5.0, robust=False)
    assert bracket.next(False, 1.2) == pytest.approx(math.sqrt(1.2 * 1.6))
    assert bracket.failures == 1


def test_the_time_of_slow_tries_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last method; others before it get little, and two tries."""
    seen: list[tuple[str, float]] = []

    def failing(self: RadiusSearch, places: list[int], sizes: list[float], settings: tv.Settings) -> None:
        seen.append((settings.method, settings.time_limit))
        for place, size in zip(places, sizes, strict=True):
            self.brackets[place].learn(size, -1.0, robust=settings.method == "linear" and size < 0.3)

    monkeypatch.setattr(RadiusSearch, "try_sizes", failing)
    tv.radius(flat_linear(), inputs(1), time_limit=90.0, restarts=0)
    assert [limit for method, limit in seen if method == "combine"] == pytest.approx([22.5, 22.5], abs=1)
    assert [limit for method, limit in seen if method == "complete"][:3] == pytest.approx([30, 45, 90], abs=1)


def test_cheaper_methods_come_first() -> None:
    assert methods_for("linear") == ["linear"]
    assert methods_for("interval") == ["interval"]
    assert methods_for("complete") == ["linear", "combine", "complete"]
    with pytest.raises(UsageError):
        methods_for("magic")


def test_what_makes_no_sense_is_refused() -> None:
    network, x = flat_linear(), inputs()
    several: list[dict[str, Any]] = [
        {"tolerance": 0},
        {"norm": 3},
        {"clip": (1, 0)},
        {"target": "all"},
        {"target": 7},
        {"evidence": "folder"},
        {"target": 0, "top": 2},
        {"rows": ([[1.0, 0, 0]], None), "top": 2},
        {"family": tv.LinfBall(0.1)},
    ]
    for wrong in several:
        with pytest.raises(UsageError):
            tv.radius(network, x, **wrong)
