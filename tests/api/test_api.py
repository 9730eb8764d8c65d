"""The Python interface: verdicts from end to end on small modules, what a caller may vary, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.errors import InputError, RegionError, UnsupportedError, UsageError
from tightverify.stages import METHODS
from tightverify.stages.problem import BoundsSoFar, Problem

FRAMES, FEATURES, CLASSES = 4, 3, 5


class Classifier(nn.Module):
    """A recurrent layer, and a linear layer on its last output."""

    def __init__(self, layer: Callable[..., nn.RNNBase], hidden: int = 6) -> None:
        super().__init__()
        self.layer = layer(FEATURES, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def classifier(layer: Callable[..., nn.RNNBase] = nn.LSTM, dtype: torch.dtype = torch.float64) -> Classifier:
    torch.manual_seed(1)
    network = Classifier(layer).to(dtype).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


@pytest.fixture(scope="module", params=[nn.LSTM, nn.GRU, nn.RNN], ids=["lstm", "gru", "rnn"])
def network(request: pytest.FixtureRequest) -> Classifier:
    return classifier(request.param)


@pytest.fixture(scope="module")
def lstm() -> tv.Model:
    return tv.load(classifier(), shape=(FRAMES, FEATURES))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand((6, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def names(results: Sequence[tv.Result]) -> list[str]:
    return [result.verdict.name for result in results]


def same(left: Tensor, right: Tensor) -> bool:
    """Equal to the last few bits."""
    return torch.allclose(left, right, rtol=1e-11, atol=1e-11)


def test_small_balls_are_proved(network: Classifier, x: Tensor, device: str) -> None:
    results = tv.certify(network, x, None, tv.LinfBall(1e-4), device=device)
    assert names(results) == ["ROBUST"] * len(x)
    for k, result in enumerate(results):
        outputs = network(x[k : k + 1])[0]
        label = int(outputs.argmax())
        gaps = outputs[label] - torch.cat([outputs[:label], outputs[label + 1 :]])
        assert (result.index, result.label, result.counterexample) == (k, label, None)
        assert result.margins.shape == (CLASSES - 1,)
        assert 0 < result.margin == float(result.margins.min())
        assert bool((result.margins <= gaps).all())
        assert bool((result.margins >= gaps - 0.05).all())
        assert result.stage in ("interval", "linear")
        assert 0 <= result.seconds < 60


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("ball", [tv.LinfBall(1.5), tv.L2Ball(4.0), tv.L1Ball(12.0, clip=(-4, 4))], ids=["linf", "l2", "l1"])
def test_counterexamples_replay_in_the_users_own_dtype(dtype: torch.dtype, ball: tv.LpBall, x: Tensor, device: str) -> None:
    network = classifier(nn.GRU, dtype)
    x = x.to(dtype)
    broken = [
        r for r in tv.certify(network, x, None, ball, restarts=8, device=device) if r.verdict is tv.Verdict.COUNTEREXAMPLE
    ]
    assert broken
    for result in broken:
        assert result.counterexample is not None
        assert result.counterexample.shape == x.shape[1:]
        point = result.counterexample.to(dtype)
        assert bool((point.to(torch.float64) == result.counterexample).all())
        assert int(network(point[None]).argmax()) != result.label
        step = point.to(torch.float64) - x[result.index].to(torch.float64)
        assert float(torch.linalg.vector_norm(step.flatten(), ord=ball.norm)) <= ball.eps
        if ball.clip is not None:
            assert ball.clip[0] <= float(point.min()) <= float(point.max()) <= ball.clip[1]
        assert result.stage == "attack"
        assert not result.margin > 0


def test_what_nobody_decides_is_unknown(lstm: tv.Model, x: Tensor) -> None:
    results = tv.certify(lstm, x, None, tv.LinfBall(1.5), restarts=0)
    assert names(results) == ["UNKNOWN"] * len(x)
    assert all(math.isfinite(result.margin) and result.margin <= 0 for result in results)


def test_time_runs_out(lstm: tv.Model, x: Tensor) -> None:
    results = tv.certify(lstm, x, None, tv.LinfBall(1.5), time_limit=1e-9)
    assert set(names(results)) == {"TIMED_OUT"}
    assert all(math.isfinite(result.margin) for result in results)


def test_a_wrong_label_is_reported_and_not_verified(lstm: tv.Model, x: Tensor) -> None:
    own = lstm.original(x).argmax(1)
    labels = own.clone()
    labels[2] = (own[2] + 1) % CLASSES
    results = tv.certify(lstm, x, labels, tv.LinfBall(1e-4), batch=4)
    assert names(results) == ["MISCLASSIFIED" if k == 2 else "ROBUST" for k in range(len(x))]
    assert (results[2].margin, results[2].stage, results[2].counterexample) == (-math.inf, "", None)


def test_a_label_may_stay_within_the_top_k(lstm: tv.Model, x: Tensor) -> None:
    labels = lstm.original(x).topk(2).indices[:, 1]
    ball = tv.LinfBall(1e-4)
    assert set(names(tv.certify(lstm, x, labels, ball))) == {"MISCLASSIFIED"}
    results = tv.certify(lstm, x, labels, ball, top=2)
    assert set(names(results)) == {"ROBUST"}
    assert all(result.margin == float(result.margins.topk(CLASSES - 2).values[-1]) for result in results)


def test_any_rows(lstm: tv.Model, x: Tensor) -> None:
    outputs = lstm.original(x)
    row = torch.zeros(1, CLASSES, dtype=torch.float64)
    row[0, 1] = 2.0
    offset = 0.1 - 2 * outputs[:, 1].min()
    holds = tv.certify(lstm, x, None, tv.LinfBall(1e-4), rows=(row, offset[None]))
    assert set(names(holds)) == {"ROBUST"}
    assert all(result.label is None and result.margins.shape == (1,) for result in holds)
    exact = 2 * outputs[:, 1] + offset
    assert all(0 <= float(exact[k]) - result.margin < 0.05 for k, result in enumerate(holds))
    assert "COUNTEREXAMPLE" in names(tv.certify(lstm, x, None, tv.LinfBall(1e-4), rows=(row, offset[None] - 0.2)))
    own = (row.expand(len(x), -1, -1), 0.1 - 2 * outputs[:, 1:2])
    assert set(names(tv.certify(lstm, x, None, tv.LinfBall(1e-4), rows=own))) == {"ROBUST"}


def test_intervals_alone_prove_less(lstm: tv.Model, x: Tensor) -> None:
    ball = tv.LinfBall(0.02)
    interval = tv.certify(lstm, x, None, ball, method="interval", restarts=0)
    linear = tv.certify(lstm, x, None, ball, method="linear", restarts=0)
    assert all(float((b.margins - a.margins).min()) >= 0 for a, b in zip(interval, linear, strict=True))
    assert sum(r.margin for r in linear) > sum(r.margin for r in interval)


def test_batches_of_any_size_give_the_same(lstm: tv.Model, x: Tensor) -> None:
    ball = tv.LinfBall(0.05)
    once = tv.certify(lstm, x, None, ball)
    for batch in (1, 4):
        again = tv.certify(lstm, x, None, ball, batch=batch)
        assert [r.index for r in again] == list(range(len(x)))
        assert all(a.verdict is b.verdict and same(a.margins, b.margins) for a, b in zip(once, again, strict=True))
    whole, parts = (tv.bounds(lstm, x, ball, batch=batch) for batch in (6, 1))
    assert same(whole.lower, parts.lower)
    assert same(whole.upper, parts.upper)


def test_numpy_and_torch_inputs_give_the_same(lstm: tv.Model, x: Tensor) -> None:
    labels = lstm.original(x).argmax(1)
    torch_results = tv.certify(lstm, x, labels, tv.LinfBall(0.01))
    numpy_results = tv.certify(lstm, x.numpy(), labels.numpy(), tv.LinfBall(0.01))
    listed = tv.certify(lstm, x.tolist(), labels.tolist(), tv.LinfBall(0.01))
    for a, b, c in zip(torch_results, numpy_results, listed, strict=True):
        assert torch.equal(a.margins, b.margins)
        assert torch.equal(a.margins, c.margins)


def test_a_seed_repeats_a_run(lstm: tv.Model, x: Tensor) -> None:
    first, again = (tv.certify(lstm, x, None, tv.LinfBall(1.0), seed=7) for _ in range(2))
    assert names(first) == names(again)
    for a, b in zip(first, again, strict=True):
        assert (a.counterexample is None) == (b.counterexample is None)
        assert a.counterexample is None or torch.equal(a.counterexample, b.counterexample)


def test_what_is_found_does_not_depend_on_the_inputs_beside(lstm: tv.Model, x: Tensor) -> None:
    region = tv.LinfBall(0.4)
    together, alone = (tv.certify(lstm, x, None, region, method="interval", batch=batch) for batch in (6, 1))
    assert names(together) == names(alone)
    assert any(result.counterexample is not None for result in together)
    for one, other in zip(together, alone, strict=True):
        if one.counterexample is not None and other.counterexample is not None:
            assert torch.allclose(one.counterexample, other.counterexample, atol=1e-6)


def test_progress_is_told_of_every_input(lstm: tv.Model, x: Tensor) -> None:
    told: list[tuple[int, int]] = []
    tv.certify(lstm, x, None, tv.LinfBall(1e-3), batch=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 6) for k in range(1, 7)]


def test_inputs_leave_when_they_are_decided(lstm: tv.Model, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a stage proves are told before the next one begins, and of the last one each that it is done with."""
    told: list[int] = []
    before: list[int] = []

    def one_by_one(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
        for k in range(len(known.margins)):
            before.append(len(told))
            alone = torch.tensor([k])
            if k % 2:
                margins = known.margins.clone()
                margins[k] = 1.0
                known = replace(known, margins=margins)
                problem[alone].report(known[alone])
            else:
                problem[alone].finish(known[alone])
        return known

    region = tv.LinfBall(0.05)
    proved = sum(result.verdict is tv.Verdict.ROBUST for result in tv.certify(lstm, x, None, region, method="interval"))
    monkeypatch.setitem(METHODS, "one by one", (METHODS["interval"][0], ("one by one", one_by_one)))
    for thorough in (False, True):
        told.clear()
        before.clear()
        found = tv.certify(
            lstm, x, None, region, method="one by one", thorough=thorough, progress=lambda done, _: told.append(done)
        )
        assert [result.index for result in found] == list(range(6))
        assert told == list(range(1, 7))
        if not thorough:
            assert before == list(range(proved, 6)), told
            assert {result.verdict for result in found[proved:]} <= {tv.Verdict.ROBUST, tv.Verdict.UNKNOWN}


def test_results_stream_batch_by_batch(lstm: tv.Model, x: Tensor) -> None:
    results = tv.stream(lstm, x, None, tv.LinfBall(1e-3), tv.Settings(), batch=2)
    assert [next(results).index for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["interval", "linear"])
def test_bounds_hold_samples(network: Classifier, x: Tensor, method: str, device: str) -> None:
    model = tv.load(network, shape=(FRAMES, FEATURES))
    every = [i.map(Tensor.cpu) for i in tv.bounds(model, x, tv.LinfBall(0.1), method, every_node=True, device=device)]
    output = tv.bounds(model, x, tv.LinfBall(0.1), method, device=device).map(Tensor.cpu)
    assert len(every) == len(model.graph.nodes)
    assert torch.equal(every[model.graph.output].lower, output.lower)
    assert output.lower.shape == (len(x), CLASSES)
    steps = torch.rand((200, 1, FRAMES, FEATURES), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    points = x + 0.1 * (2 * steps.round() - 1) * torch.linspace(0, 1, 200, dtype=torch.float64)[:, None, None, None]
    for interval, values in zip(every, model.graph.evaluate(points.flatten(2)), strict=True):
        assert bool((values >= interval.lower).all())
        assert bool((values <= interval.upper).all())
    outputs = network(points.flatten(0, 1)).view(200, len(x), CLASSES)
    assert bool(((outputs >= output.lower) & (outputs <= output.upper)).all())


def test_linear_bounds_are_tighter_than_intervals(lstm: tv.Model, x: Tensor) -> None:
    interval, linear = (tv.bounds(lstm, x, tv.LinfBall(0.05), method) for method in ("interval", "linear"))
    assert bool((linear.width <= interval.width).all())
    assert float(linear.width.mean()) < 0.9 * float(interval.width.mean())


def test_a_ball_of_radius_zero_is_the_output(lstm: tv.Model, x: Tensor) -> None:
    found, outputs = tv.bounds(lstm, x, tv.LinfBall(0.0)), lstm.original(x)
    assert bool(((found.lower <= outputs) & (outputs <= found.upper)).all())
    assert float(found.width.max()) < 1e-10


def test_frames_and_features_that_may_not_change(lstm: tv.Model, x: Tensor) -> None:
    wide, narrow = tv.bounds(lstm, x, tv.LinfBall(0.1)), tv.bounds(lstm, x, tv.LinfBall(0.1, frames=[0], features=[1]))
    assert bool((narrow.width < wide.width).all())


def test_a_box(lstm: tv.Model, x: Tensor) -> None:
    ball, box = tv.bounds(lstm, x, tv.LinfBall(0.1)), tv.bounds(lstm, x, tv.Box(x - 0.1, x + 0.1))
    assert same(ball.lower, box.lower)
    assert set(names(tv.certify(lstm, x, None, tv.Box(x - 1e-4, x + 1e-4)))) == {"ROBUST"}


def test_a_time_major_module(x: Tensor) -> None:
    class TimeMajor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.transpose(0, 1))

    plain = tv.certify(classifier(), x, None, tv.LinfBall(0.01))
    turned = tv.certify(TimeMajor(), x, None, tv.LinfBall(0.01), batch_axis=1)
    assert all(same(a.margins, b.margins) for a, b in zip(plain, turned, strict=True))


GOOD = torch.zeros(2, FRAMES, FEATURES)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"x": torch.zeros(2, FRAMES, FEATURES + 1)}, InputError, r"takes \(N, 4, 3\)"),
        ({"x": torch.zeros(FRAMES)}, InputError, "wanted"),
        ({"x": torch.zeros(0, FRAMES, FEATURES)}, InputError, "no inputs"),
        ({"x": GOOD + math.nan}, InputError, "NaN"),
        ({"x": GOOD + math.inf}, InputError, "infinite"),
        ({"x": GOOD.to(torch.complex64)}, InputError, "complex"),
        ({"x": np.array([["a", "b"]])}, InputError, "tensor"),
        ({"labels": [0, CLASSES]}, InputError, "classes 0 to 4"),
        ({"labels": [0, -1]}, InputError, "classes 0 to 4"),
        ({"labels": [0]}, InputError, "one per input"),
        ({"labels": [0.5, 1.0]}, InputError, "whole numbers"),
        ({"labels": [math.nan, 1.0]}, InputError, "whole numbers"),
        ({"labels": ["one", "two"]}, InputError, "class numbers"),
        ({"region": tv.LinfBall(0.1, clip=(0.5, 1))}, RegionError, "outside the range"),
        ({"region": tv.LinfBall(0.1, frames=[FRAMES])}, RegionError, "0 to 3"),
        ({"region": tv.LinfBall(0.1, features=[-1])}, RegionError, "0 to 2"),
        ({"region": tv.Box(torch.ones(1), torch.zeros(1))}, RegionError, "above its upper bound"),
        ({"method": "magic"}, UsageError, "choose one of"),
        ({"top": CLASSES}, InputError, "top is 5"),
        ({"top": 0}, InputError, "top is 0"),
        ({"batch": 0}, UsageError, "batch"),
        ({"time_limit": 0.0}, UsageError, "time_limit is"),
        ({"time_limit": math.nan}, UsageError, "time_limit is"),
        ({"restarts": -1}, UsageError, "restarts is -1; it must be 0 or more"),
        ({"device": "teapot"}, UsageError, "teapot"),
        ({"rows": (torch.zeros(1, CLASSES + 1), None)}, InputError, "rows have shape"),
        ({"rows": (torch.zeros(1, CLASSES), torch.zeros(2))}, InputError, "offsets have shape"),
        ({"rows": (torch.full((1, CLASSES), math.nan), None)}, InputError, "NaN"),
    ],
)
def test_what_is_refused(lstm: tv.Model, change: dict[str, Any], kind: type[Exception], words: str) -> None:
    given: dict[str, Any] = {"x": GOOD, "labels": None, "region": tv.LinfBall(0.1)}
    with pytest.raises(kind, match=words):
        tv.certify(lstm, **{**given, **change})


@pytest.mark.parametrize("eps", [-0.1, math.nan, math.inf])
def test_a_radius_is_a_finite_number(eps: float) -> None:
    with pytest.raises(RegionError, match="radius"):
        tv.LinfBall(eps)


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sort(1).values


def test_models_that_are_none() -> None:
    with pytest.raises(UsageError, match="torch module"):
        tv.load(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="shape"):
        tv.load(classifier())
    network = classifier()
    with torch.no_grad():
        network.head.bias[0] = math.nan
    with pytest.raises(tv.TightVerifyError):
        tv.load(network, shape=(FRAMES, FEATURES))
    with pytest.raises(UnsupportedError):
        tv.load(Sorted(), shape=(FRAMES, FEATURES))
    with pytest.raises(UsageError, match="choose one of interval, crown-ibp"):
        tv.bounds(tv.load(classifier(), shape=(FRAMES, FEATURES)), GOOD, tv.LinfBall(0.1), "magic")


def test_the_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    torch.manual_seed(0)
    exec(text.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.count("ROBUST") == 5
