"""The stage `combine` from end to end: batches, time, properties by rows, operands without bounds, rounds that end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import FEATURES, FRAMES, classifier
from tests.bounds.test_mixtures import FITS_VARY
from tests.helpers.evidence_check import Check, Numbers
from tests.helpers.without_values import Logs
from tightverify.bounds.result import LinearBounds
from tightverify.branch import passes
from tightverify.errors import OutOfTimeError
from tightverify.evidence import read_evidence
from tightverify.stages import combine
from tightverify.stages.problem import Problem
from tightverify.stages.progress import Step


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand((4, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def certified(network: nn.Module, x: Tensor, method: str, eps: float = 0.12, **settings: object) -> Sequence[tv.Result]:
    return tv.certify(network, x, None, tv.LinfBall(eps), method=method, restarts=0, **settings)  # type: ignore[arg-type]


def margins(results: Sequence[tv.Result]) -> Tensor:
    return torch.stack([result.margins for result in results])


@pytest.mark.usefixtures("rounds_alone")
@pytest.mark.parametrize(
    ("layer", "dtype"), [(nn.LSTM, torch.float64), (nn.GRU, torch.float32)], ids=["lstm float64", "gru float32"]
)
def test_combine_from_end_to_end(layer: Callable[..., nn.RNNBase], dtype: torch.dtype, x: Tensor) -> None:
    network, x = classifier(layer, dtype), x[:2].to(dtype)
    found = {method: certified(network, x, method) for method in ("linear", "planes", "combine")}
    thorough = {method: certified(network, x, method, thorough=True) for method in ("planes", "combine")}
    for before, after in (("linear", "planes"), ("planes", "combine")):
        assert (margins(found[after]) >= margins(found[before]) - 1e-12).all()
        for one, other in zip(found[before], found[after], strict=True):
            assert one.verdict is not tv.Verdict.ROBUST or other.verdict is tv.Verdict.ROBUST
    assert (margins(thorough["combine"]) >= margins(found["combine"]) - FITS_VARY).all()
    assert (margins(thorough["combine"]) >= margins(thorough["planes"]) - FITS_VARY).all()
    assert bool((margins(thorough["combine"]) > margins(thorough["planes"]) + 1e-4).any())
    assert [r.verdict for r in thorough["combine"]] == [r.verdict for r in found["combine"]]
    ball = tv.LinfBall(0.12).around(x)
    points = ball.sample(2000, torch.Generator().manual_seed(4)).view(len(x), -1, *x.shape[1:]).to(dtype)
    for k, result in enumerate(thorough["combine"]):
        with torch.no_grad():
            outputs = network(points[k]).to(torch.float64)
        gaps = outputs[:, result.label, None] - outputs
        others = [j for j in range(gaps.shape[1]) if j != result.label]
        assert (result.margins <= gaps[:, others].amin(0) + 1e-5).all()


@pytest.mark.usefixtures("rounds_alone")
def test_combine_in_batches_and_alone(x: Tensor) -> None:
    network = classifier(nn.GRU)
    together = certified(network, x[:2], "combine", thorough=True, rounds=1)
    apart = certified(network, x[:2], "combine", thorough=True, rounds=1, batch=1)
    assert torch.allclose(margins(apart), margins(together), rtol=FITS_VARY, atol=FITS_VARY)
    assert [r.verdict for r in apart] == [r.verdict for r in together]


@pytest.mark.parametrize("seconds", [1e-9, 0.05, 0.3])
def test_out_of_time_keeps_what_was_proved(seconds: float, x: Tensor) -> None:
    network = classifier(nn.LSTM)
    began = time.monotonic()
    results = certified(network, x, "combine", eps=0.6, time_limit=seconds)
    assert time.monotonic() - began < seconds * len(x) + 20
    base = certified(network, x, "interval", eps=0.6)
    assert (margins(results) >= margins(base) - 1e-12).all()
    for result in results:
        assert result.verdict in (tv.Verdict.TIMED_OUT, tv.Verdict.ROBUST, tv.Verdict.UNKNOWN)
        assert math.isfinite(result.margin)
        assert (result.margin > 0) == (result.verdict is tv.Verdict.ROBUST)
    if seconds < 1e-6:
        assert all(result.verdict is tv.Verdict.TIMED_OUT for result in results)


def test_combine_with_a_property_by_rows(x: Tensor) -> None:
    network = classifier(nn.LSTM)
    with torch.no_grad():
        outputs = network(x)
    rows = torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0, -1.0]], dtype=torch.float64)
    offsets = 0.3 - (outputs @ rows.T).amin(0)
    linear, combine = (certified(network, x, method, rows=(rows, offsets)) for method in ("linear", "combine"))
    assert (margins(combine) >= margins(linear) - 1e-12).all()
    assert all(result.margins.shape == (2,) for result in combine)
    assert sum(r.verdict is tv.Verdict.ROBUST for r in combine) >= sum(r.verdict is tv.Verdict.ROBUST for r in linear)
    assert (margins(combine) <= outputs @ rows.T + offsets).all()


@pytest.mark.parametrize("method", ["planes", "combine"])
def test_infinite_operands_end_soon_and_prove_nothing(method: str) -> None:
    x = torch.tensor([[0.05, 0.5], [0.4, 0.5]], dtype=torch.float64)
    undefined, defined = tv.certify(Logs(), x, None, tv.LinfBall(0.1), method=method, restarts=0)
    assert undefined.verdict is tv.Verdict.UNKNOWN
    assert undefined.margin == -math.inf
    assert math.isfinite(defined.margin)


@pytest.mark.usefixtures("rounds_alone")
def test_rounds_end_where_a_proof_is_out_of_reach(x: Tensor) -> None:
    """Later rounds bring less than earlier ones: an input from which a proof is far is left, unless all is asked for."""
    network = classifier(nn.LSTM)
    rounds: dict[bool, list[int]] = {False: [], True: []}
    for thorough, seen in rounds.items():

        def callback(step: Step, seen: list[int] = seen) -> None:
            seen.append(step.round)

        certified(network, x[:2], "combine", 0.9, thorough=thorough, rounds=3, callback=callback)
    assert max(rounds[True]) == 3
    assert sum(number > 1 for number in rounds[False]) < sum(number > 1 for number in rounds[True])


def test_rows_are_proved_by_contradiction(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round's last step decides what is within reach, betters what is thorough, and claims no more than samples show."""
    torch.manual_seed(2)
    network, eps = classifier(nn.RNN), 0.36
    found = {thorough: certified(network, x, "combine", eps, rounds=1, thorough=thorough) for thorough in (False, True)}
    with monkeypatch.context() as without:
        without.setattr(combine, "by_contradiction", combine.as_found)
        before = {thorough: certified(network, x, "combine", eps, rounds=1, thorough=thorough) for thorough in (False, True)}
    for thorough in (False, True):
        assert (margins(found[thorough]) >= margins(before[thorough]) - FITS_VARY).all()
    worst = margins(found[True]).amin(1) - margins(before[True]).amin(1)
    assert bool((worst > 0.05).any())
    verdicts = [[result.verdict for result in results[False]] for results in (before, found)]
    assert verdicts[0].count(tv.Verdict.ROBUST) < verdicts[1].count(tv.Verdict.ROBUST)
    points = tv.LinfBall(eps).around(x).sample(4000, torch.Generator().manual_seed(4)).view(len(x), -1, *x.shape[1:])
    with torch.no_grad():
        outputs = network(points.flatten(0, 1)).view(len(x), -1, margins(found[True]).shape[1] + 1)
    for k, result in enumerate(found[True]):
        gaps = outputs[k, :, result.label, None] - outputs[k]
        others = [j for j in range(gaps.shape[1]) if j != result.label]
        assert (result.margins <= gaps[:, others].amin(0)).all()


def test_where_not_all_rows_are_needed_none_fails_alone(x: Tensor) -> None:
    found = certified(classifier(nn.RNN), x, "combine", 0.3, rounds=1, thorough=True, top=2)
    assert all(result.margins.shape == found[0].margins.shape for result in found)


def test_time_that_runs_out_in_what_closes_a_round_loses_nothing_of_it(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier(nn.RNN)
    with monkeypatch.context() as without:
        without.setattr(combine, "by_contradiction", combine.as_found)
        before = certified(network, x, "combine", 0.36, rounds=1)

    def late(*_given: object) -> Tensor:
        raise OutOfTimeError("too late")

    monkeypatch.setattr(combine, "proved_above", late)
    after = certified(network, x, "combine", 0.36, rounds=1)
    assert torch.equal(margins(after), margins(before))
    assert [r.verdict for r in after if r.verdict is tv.Verdict.ROBUST] == [
        r.verdict for r in before if r.verdict is tv.Verdict.ROBUST
    ]
    assert any(result.verdict is tv.Verdict.TIMED_OUT for result in after)


def test_little_memory_proves_the_same_by_contradiction(x: Tensor) -> None:
    network = classifier(nn.RNN)
    found = [certified(network, x, "combine", 0.36, rounds=1, thorough=True, memory=memory) for memory in (2**30, 2**14)]
    assert torch.allclose(margins(found[1]), margins(found[0]), rtol=FITS_VARY, atol=FITS_VARY)


def test_nothing_is_near_where_nothing_is_known_of_a_row(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def looked(_bounds: object, _wanted: object, margins: Tensor, limits: Tensor, _budget: object) -> Tensor:
        seen.append(limits)
        return margins

    monkeypatch.setattr(combine, "proved_above", looked)
    original = combine.by_contradiction

    def unknown(problem: Problem, bounds: LinearBounds, lower: Tensor) -> Tensor:
        return original(problem, bounds, lower.index_fill(1, torch.tensor([0]), -torch.inf))

    monkeypatch.setattr(combine, "by_contradiction", unknown)
    certified(classifier(nn.RNN), x, "combine", 0.36, rounds=1, thorough=True)
    assert seen
    assert bool((torch.cat(seen) == -torch.inf).all())


def test_evidence_of_a_tree_whose_parts_the_time_cuts_short_follows(
    x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are bounded one by one, as for want of memory; after the first there is no time for the others."""
    model, calls, original = tv.load(classifier(nn.RNN), shape=(FRAMES, FEATURES)), 0, passes.bounded_again

    def late(parts: LinearBounds, *rest: Any) -> tuple[LinearBounds, Tensor]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OutOfTimeError("too late")
        return original(parts, *rest)

    monkeypatch.setattr(passes, "bounded_again", late)
    monkeypatch.setattr(passes, "most_together", lambda *_given: 1)
    (result,) = tv.certify(
        model, x[1:2], None, tv.LinfBall(0.45), method="combine", rounds=1, restarts=0, thorough=True, evidence=tmp_path
    )
    assert calls > 1
    assert Check(list(read_evidence(tmp_path / "0.npz")), Numbers.of(model.graph)).rows.shape == result.margins.shape
