"""`tightverify.differ`: brackets, verdicts and their points, and what is asked wrongly."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.api.difference_search import SHARE
from tightverify.errors import InputError, ModelError, UsageError
from tightverify.models.pair import pair, subtracted
from tightverify.models.second_input import second_input

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


def test_rows_over_both_networks_and_their_differences() -> None:
    """What is proved of rows holds at samples, is no worse than what each network's bounds leave, and is refuted else."""
    C = torch.tensor([[1.0, 0, -1, 0, 0, 0], [0, 0, 0, 0, 0, -1], [0.5, 1, 0, 0, 3, 1], [0, 0, 1, -1, 0, 0]])
    with torch.no_grad():
        points = X[0] + 0.05 * (2 * torch.rand(2000, *X.shape[1:]) - 1)
        one, other = FIRST(points).double(), SECOND(points).double()
    values = torch.cat([one, other, one - other], 1) @ C.double().T
    least = values.amin(0)
    width = values.amax(0) - least
    d = -least + 0.5 * width + 1e-3
    (proved,) = tv.differ(*BOTH, X[:1], REGION, rows=(C, d), method="linear")
    assert proved.verdict is tv.Comparison.EQUIVALENT
    assert proved.margins is not None
    assert (proved.margins <= least + d + 1e-6).all()
    assert (proved.margins >= least + d - 0.5 * width - 1e-3).all()
    assert proved.record["margins"] == proved.margins.tolist()
    short = d.clone()
    short[2] = -least[2] - 0.1 * width[2]
    (refuted,) = tv.differ(*BOTH, X[:1], REGION, rows=(C, short), method="linear")
    assert refuted.verdict is tv.Comparison.COUNTEREXAMPLE
    assert refuted.counterexample is not None
    with torch.no_grad():
        one, other = (net(refuted.counterexample[None].float()).double() for net in (FIRST, SECOND))
    assert float((torch.cat([one, other, one - other], 1) @ C.double().T + short)[0, 2]) < 0
    each = tv.differ(*BOTH, X, REGION, rows=(C.expand(2, -1, -1), torch.stack([d, short])), method="linear")
    assert each[0].verdict is tv.Comparison.EQUIVALENT
    assert each.records[0]["rows"]


def test_rows_of_networks_with_little_in_common_are_asked_of_both_graphs() -> None:
    torch.manual_seed(5)
    one, other = (tv.load(Small(), (TIME, FEATURES)) for _ in range(2))
    apart = tv.bounds(subtracted(one, other), X[:1], REGION, method="linear")
    row = torch.tensor([[0.0, 0, 0, 0, 1, 0]])
    (found,) = tv.differ(one, other, X[:1], REGION, rows=(row, [-float(apart.lower[0, 2]) + 1e-3]), method="linear")
    assert found.verdict is tv.Comparison.EQUIVALENT


REGIONS = {"box": REGION, "ball": tv.L2Ball(0.05), "line": tv.AddedNoise(torch.ones(TIME, FEATURES), 0.05)}


@pytest.mark.covering
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("kind", REGIONS)
def test_the_second_network_may_read_another_input(kind: str, alike: bool) -> None:
    """Bounds hold the differences at all pairs of inputs, and points that are found are such pairs."""
    region, gap = REGIONS[kind], torch.full((TIME, FEATURES), 0.01)
    gap[0, 0] = 0.0
    torch.manual_seed(3)
    second = SECOND if alike else nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 2))
    models = BOTH[0], tv.load(second, (TIME, FEATURES))
    (alone,) = tv.differ(*models, X[:1], region, method="linear")
    (result,) = tv.differ(*models, X[:1], region, method="linear", inputs_within=gap)
    inside = region.around(X[:1]).sample(2000, torch.Generator().manual_seed(0))[0].view(-1, TIME, FEATURES).float()
    moved = inside + gap * torch.rand(inside.shape).round().mul(2).sub(1)
    with torch.no_grad():
        most = (FIRST(inside).double() - second(moved).double()).abs().amax(0)
    assert (most <= result.bound + 1e-6).all()
    assert (alone.bound < result.bound).all()
    assert (result.found <= result.bound + 1e-6).all()
    assert (result.found >= 0.9 * most).all()
    if kind == "box" and alike:
        assert (result.bound <= 1.5 * result.found).all()
    (far,) = tv.differ(*models, X[:1], region, 0.99 * float(result.found.max()), method="linear", inputs_within=gap)
    assert far.verdict is tv.Comparison.COUNTEREXAMPLE
    point, other = far.counterexample, far.second_point
    assert point is not None
    assert other is not None
    assert ((point - other).abs() <= gap).all()
    assert bool(region.around(X[:1]).contains(point.view(1, -1))[0])
    with torch.no_grad():
        apart = (FIRST(point[None].float()).double() - second(other[None].float()).double()).abs().max()
    assert float(apart) > 0.99 * float(result.found.max())


def test_what_is_asked_of_inputs_that_differ() -> None:
    row = torch.tensor([[0.0, 0, 0, 0, 1, 0]])
    ask = tv.Settings(method="linear")
    assert tv.differ(*BOTH, X, REGION, rows=(row, [1.0]), inputs_within=0.001, settings=ask).counts == {"EQUIVALENT": 2}
    assert tv.differ(*BOTH, X, tv.LinfBall(1e-4), agree=True, inputs_within=0.001, settings=ask).counts == {"EQUIVALENT": 2}
    one, other = (tv.load(net, (TIME, FEATURES)) for net in (FIRST, copy.deepcopy(FIRST)))
    (equal,) = tv.differ(one, other, X[:1], REGION, method="linear", inputs_within=0.0)
    assert float(equal.bound.max()) <= 1e-12
    each = tv.differ(*BOTH, X, REGION, method="linear", inputs_within=torch.tensor([0.0, 0.01]).view(2, 1, 1))
    alone = tv.differ(*BOTH, X, REGION, method="linear")
    assert torch.allclose(each[0].bound, alone[0].bound, rtol=1e-6)
    assert (each[1].bound > alone[1].bound).all()
    assert each.records[1]["inputs_within"] == [[[0.0]], [[pytest.approx(0.01)]]]
    far = tv.differ(*BOTH, X[:1], REGION, agree=True, method="linear", inputs_within=50.0)
    assert far[0].verdict is tv.Comparison.COUNTEREXAMPLE
    assert far[0].second_point is not None
    with torch.no_grad():
        assert int(SECOND(far[0].second_point[None].float()).argmax()) != int(FIRST(X[:1]).argmax())
    for wrong in (-0.1, float("nan"), [0.1, 0.2], "much"):
        with pytest.raises(InputError, match="inputs_within"):
            tv.differ(*BOTH, X, REGION, inputs_within=wrong)
    with pytest.raises(UsageError, match="no words"):
        tv.differ(*BOTH, X, tv.L2Ball(0.1), inputs_within=0.1, evidence="evidence")


def test_second_inputs_are_never_farther_than_said() -> None:
    """In the precision of the models, whatever rounding does: exactly."""
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(4000, 2, 1, generator=generator, dtype=torch.float64)
        x[:, 1] *= 10.0 ** (-20 * torch.rand(4000, 1, generator=generator, dtype=torch.float64) + 3)
        x = x.to(dtype)
        for (first, gap), second in zip(x[..., 0].tolist(), second_input(x)[:, 0].tolist(), strict=True):
            apart, most = abs(Fraction(first) - Fraction(second)), abs(Fraction(gap))
            assert apart <= most
            assert apart >= most - 2 * Fraction(torch.finfo(dtype).eps) * (abs(Fraction(first)) + most)


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
    with pytest.raises(InputError, match="wanted 6 numbers in each"):
        tv.differ(*BOTH, X, REGION, rows=(torch.eye(2), None))
    for within in (0.0, -1.0, float("nan"), [0.1] * 3):
        with pytest.raises(InputError, match="within"):
            tv.differ(*BOTH, X, REGION, within=within)
