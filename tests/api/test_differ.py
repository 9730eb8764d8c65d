"""`tightverify.differ`: brackets, verdicts and their points, and what is asked wrongly."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.api.difference_search import SHARE
from tightverify.errors import InputError, ModelError, UsageError
from tightverify.models.pair import pair, subtracted

TIME, FEATURES = 3, 3
REGION = tv.LinfBall(0.05)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.GRU(FEATURES, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.layer(x)[0][:, -1]))


def networks() -> tuple[nn.Module, nn.Module]:
    """A network and what bfloat16 leaves of its weights."""
    torch.manual_seed(0)
    first = Small()
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).to(parameter.dtype))
    return first, second


FIRST, SECOND = networks()
BOTH = tv.load(FIRST, (TIME, FEATURES)), tv.load(SECOND, (TIME, FEATURES))
X = torch.rand((2, TIME, FEATURES), generator=torch.Generator().manual_seed(1))


def differences(x: Tensor) -> Tensor:
    with torch.no_grad():
        return (FIRST(x).double() - SECOND(x).double()).abs()


@pytest.mark.parametrize("method", ["interval", "linear", "planes", "combine"])
def test_a_bracket_holds_the_largest_difference(method: str) -> None:
    found = tv.differ(*BOTH, X, REGION, method=method, rounds=1)
    for x, result in zip(X, found, strict=True):
        samples = x + 0.05 * (2 * torch.rand(2000, *x.shape) - 1)
        most = differences(samples).amax(0)
        assert result.verdict is tv.Comparison.BOUNDED
        assert (most <= result.bound + 1e-6).all()
        assert (result.found >= 0.9 * most).all()
        assert (result.found <= result.bound + 1e-6).all()
        if method != "interval":
            assert (result.bound <= 2.5 * result.found + 1e-6).all()


def test_the_stages_find_a_bracket_too() -> None:
    (by_pass,) = tv.differ(*BOTH, X[:1], REGION, method="linear")
    (by_stages,) = tv.differ(*BOTH, X[:1], REGION, method="linear", time_limit=1000)
    assert by_stages.verdict is tv.Comparison.BOUNDED
    assert torch.allclose(by_pass.bound, by_stages.bound, rtol=0.1)


@pytest.mark.parametrize("limit", [float("inf"), 20.0])
def test_networks_with_little_in_common_are_subtracted_as_well(limit: float) -> None:
    torch.manual_seed(5)
    one, other = (tv.load(Small(), (TIME, FEATURES)) for _ in range(2))
    apart = tv.bounds(subtracted(one, other), X, REGION, method="linear").magnitude[:, 2:]
    aligned = tv.bounds(pair(one, other), X, REGION, method="linear").magnitude[:, 2:]
    assert bool((apart < aligned).all())
    found = tv.differ(one, other, X, REGION, method="linear", time_limit=limit)
    bound = torch.stack([result.bound for result in found])
    assert bool((bound <= apart + 1e-9).all())
    assert bool((bound >= torch.stack([result.found for result in found])).all())
    between = float(apart.max()) * 1.01, float(apart.max()) * 0.5
    assert float(aligned.amax(1).min()) > between[0]
    assert tv.differ(one, other, X, REGION, between[0], method="linear").counts == {"EQUIVALENT": 2}
    assert "EQUIVALENT" not in tv.differ(one, other, X, REGION, between[1], method="linear", restarts=0).counts


def test_the_search_keeps_to_the_time() -> None:
    """A search of steps without end takes its share of each input's time, and what proves has the rest."""
    steps, limit = 10**9, 0.4
    found = tv.differ(*BOTH, X, REGION, method="linear", time_limit=limit, attack_steps=steps)
    assert all(result.verdict is tv.Comparison.BOUNDED for result in found)
    assert all(0 < result.found.max() <= result.bound.max() < 1 for result in found)
    assert all(0.5 * SHARE * limit < result.seconds < limit for result in found)
    (late,) = tv.differ(*BOTH, X[:1], REGION, method="linear", time_limit=1e-5)
    assert late.verdict is tv.Comparison.BOUNDED
    assert late.seconds < limit
    (asked,) = tv.differ(*BOTH, X[:1], REGION, within=1.0, method="linear", time_limit=limit, attack_steps=steps)
    assert asked.seconds < limit


def test_regions_of_each_input_are_asked_again_by_their_own() -> None:
    torch.manual_seed(5)
    one, other = (tv.load(Small(), (TIME, FEATURES)) for _ in range(2))
    eps = [1e-6, 0.05]
    together = tv.differ(one, other, X, tv.LinfBall(eps), method="linear")
    for k, result in enumerate(together):
        (alone,) = tv.differ(one, other, X[k : k + 1], tv.LinfBall(eps[k]), method="linear")
        assert torch.allclose(result.bound, alone.bound)


def test_verdicts() -> None:
    (bracket,) = tv.differ(*BOTH, X[:1], REGION, method="linear")
    most, least = float(bracket.bound.max()), float(bracket.found.max())
    (close,) = tv.differ(*BOTH, X[:1], REGION, within=1.01 * most, method="linear")
    assert close.verdict is tv.Comparison.EQUIVALENT
    assert (close.bound < 1.01 * most).all()
    (far,) = tv.differ(*BOTH, X[:1], REGION, 0.99 * least, method="linear")
    assert far.verdict is tv.Comparison.COUNTEREXAMPLE
    point = far.counterexample
    assert point is not None
    assert ((point - X[0]).abs() <= 0.05 + 1e-7).all()
    assert float(differences(point[None].float()).max()) > 0.99 * least
    each = tv.differ(*BOTH, X[:1], REGION, within=[0.99 * least, 2 * most], method="linear")
    assert each[0].verdict in (tv.Comparison.COUNTEREXAMPLE, tv.Comparison.EQUIVALENT)
    between = (most + least) / 2
    if most > 1.001 * least:
        (open_one,) = tv.differ(*BOTH, X[:1], REGION, within=between, method="interval")
        assert open_one.verdict is tv.Comparison.UNKNOWN


def test_branch_and_bound_proves_what_linear_bounds_do_not() -> None:
    (bracket,) = tv.differ(*BOTH, X[:1], REGION, method="linear")
    most, least = float(bracket.bound.max()), float(bracket.found.max())
    limit = most - 0.02 * (most - least)
    (result,) = tv.differ(*BOTH, X[:1], REGION, within=limit, method="complete", rounds=1, splits=4)
    assert result.verdict is tv.Comparison.EQUIVALENT


def test_agreement() -> None:
    same = tv.differ(*BOTH, X, tv.LinfBall(1e-4), agree=True, method="linear")
    assert all(result.verdict is tv.Comparison.EQUIVALENT for result in same)
    other = copy.deepcopy(FIRST)
    with torch.no_grad():
        dict(other.named_parameters())["last.bias"].copy_(-100 * FIRST(X)[0])
    (turned, _) = tv.differ(FIRST, other, X, tv.LinfBall(1e-4), agree=True, method="linear")
    assert turned.verdict is tv.Comparison.COUNTEREXAMPLE
    assert turned.counterexample is not None
    point = turned.counterexample[None].float()
    assert int(other(point).argmax()) != int(FIRST(X[:1]).argmax())


def test_evidence_of_a_comparison_is_read_back(tmp_path: Path) -> None:
    (bracket,) = tv.differ(*BOTH, X[:1], REGION, method="linear")
    most = 1.1 * float(bracket.bound.max())
    tv.differ(*BOTH, X[:1], REGION, within=most, method="linear", evidence=tmp_path / "evidence")
    assert list((tmp_path / "evidence").iterdir())


def test_results_are_saved(tmp_path: Path) -> None:
    found = tv.differ(*BOTH, X, REGION, method="linear")
    found.save(tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["bound"] for line in lines] == [result.bound.tolist() for result in found]
    assert lines[1]["verdict"] == "BOUNDED"
    assert found.counts == {"BOUNDED": 2}
    assert "at most" in repr(found[:1])


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ModelError, match="outputs"):
        tv.differ(nn.Linear(4, 3), nn.Linear(4, 2), torch.zeros(1, 4), REGION)
    with pytest.raises(UsageError, match="one question"):
        tv.differ(*BOTH, X, REGION, within=0.1, agree=True)
    for within in (0.0, -1.0, float("nan"), [0.1] * 3):
        with pytest.raises(InputError, match="within"):
            tv.differ(*BOTH, X, REGION, within=within)
