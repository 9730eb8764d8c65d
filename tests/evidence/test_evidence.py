"""Evidence: what `certify` writes down follows, entry by entry, by a check that shares no code with what found it."""

from __future__ import annotations

import json
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
from tests.api.test_api import FEATURES, Classifier
from tests.helpers.evidence_check import Check, Numbers, Refused
from tests.stages.test_milp import relu_model
from tightverify import speech
from tightverify.cli.main import main
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import InputError, UsageError
from tightverify.evidence import (
    PROPERTY,
    BackSubstitution,
    Bounded,
    BoundingPass,
    Branch,
    CutoffTightening,
    Empty,
    Ending,
    Entry,
    Leaves,
    Pairs,
    Polygon,
    Program,
    Question,
    read_evidence,
)

FRAMES = 3


class Hearing(nn.Module):
    """Log mel energies of a short waveform, an LSTM, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.front = speech.log_mel(800, n_fft=8, hop_length=6, n_mels=2, floor=1e-2)
        self.layer, self.head = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(self.front(x))[0][:, -1]))


class Odd(nn.Module):
    """One of each operation that no recurrent network has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        clamped, leaky = nn.functional.hardtanh(h, -0.4, 0.6), nn.functional.leaky_relu(h, 0.1)
        square = h * h
        sums = h[:, :2] ** 2 + h[:, 2:] ** 2
        parts = [torch.maximum(clamped, leaky), torch.sqrt(square[:, :3] + 1), torch.reciprocal(square[:, 3:] + 1), sums]
        return torch.as_tensor(self.head(torch.cat([*parts, torch.log(square[:, :2] + 1)], dim=1)))


RUNS: dict[str, tuple[str, str, float | tv.Perturbation, slice, str]] = {
    "lstm linear": ("lstm", "linear", 0.5, slice(0, 2), "linear"),
    "lstm wide": ("lstm", "linear", 3.0, slice(0, 1), ""),
    "lstm planes": ("lstm", "planes", 0.9, slice(0, 2), "planes"),
    "lstm combine": ("lstm", "combine", 0.9, slice(1, 2), "combine"),
    "lstm complete": ("lstm", "complete", 1.2, slice(0, 1), "branch"),
    "gru linear": ("gru", "linear", 0.4, slice(0, 2), "linear"),
    "gru combine": ("gru", "combine", 0.5, slice(0, 1), "combine"),
    "gru complete": ("gru", "complete", 0.5, slice(1, 2), "branch"),
    "gru lp": ("gru", "lp", 0.48, slice(2, 3), "lp"),
    "gru tightened": ("gru", "lp", 0.5, slice(2, 3), ""),
    "tanh lp": ("tanh", "lp", 0.03, slice(2, 4), "linear"),
    "relu planes": ("relu", "planes", 0.2, slice(0, 2), "linear"),
    "relu complete": ("relu", "complete", tv.L2Ball(1.2), slice(2, 3), ""),
    "mlp complete": ("mlp", "complete", 0.8, slice(0, 1), "branch"),
    "mlp complete, l1": ("mlp", "complete", tv.L1Ball(1.0), slice(3, 4), "branch"),
    "mlp complete, l2": ("mlp", "complete", tv.L2Ball(0.8), slice(2, 3), "branch"),
    "mlp linear, gain": ("mlp", "linear", tv.Gain(12.0), slice(0, 2), "pieces"),
    "gru planes, noise": ("gru", "planes", tv.AddedNoise(torch.cos(torch.arange(3.0)), (-2.0, 2.0)), slice(0, 2), "pieces"),
    "lstm combine, noise": ("lstm", "combine", tv.AddedNoise(torch.cos(torch.arange(3.0)), (-6.0, 6.0)), slice(0, 2), ""),
    "speech complete": ("speech", "complete", tv.L2Ball(0.2), slice(2, 3), "branch"),
    "speech linear, gain": ("speech", "linear", tv.Gain(3.0), slice(0, 1), "pieces"),
    "speech planes, shift": ("speech", "planes", tv.Shift(0.5), slice(0, 2), "pieces"),
    "lstm lp": ("lstm", "lp", 1.15, slice(1, 2), ""),
    "speech lp": ("speech", "lp", 0.1, slice(2, 3), ""),
    "odd lp": ("odd", "lp", 1.2, slice(0, 1), ""),
    "odd milp": ("odd", "milp", 1.45, slice(0, 1), ""),
    "relu milp": ("straight", "milp", 0.6, slice(0, 2), "milp"),
    "relu narrowed": ("steep", "milp", 0.5, slice(0, 1), "milp"),
}
"""The network, the method, the region or its radius, some inputs, and a stage that proves one of them."""


def network(name: str) -> tuple[tv.Model, Tensor]:
    if name == "straight":
        return relu_model()
    if name == "steep":
        return relu_model(0, 4, 3, 8)
    if name == "odd":
        torch.manual_seed(0)
        odd = Odd().double().eval()
        return tv.load(odd, shape=(3,)), torch.rand((2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if name == "mlp":
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter *= 3
        return tv.load(module, shape=(2,)), torch.rand((4, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if name == "speech":
        torch.manual_seed(3)
        hearing = Hearing().double().eval()
        with torch.no_grad():
            for parameter in hearing.parameters():
                parameter *= 2
        wave = torch.rand((3, 20), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return tv.load(hearing, shape=(20,)), 2 * wave - 1
    torch.manual_seed(1)
    layers: dict[str, Callable[[int, int], nn.RNNBase]] = {
        "lstm": lambda i, h: nn.LSTM(i, h, batch_first=True),
        "gru": lambda i, h: nn.GRU(i, h, batch_first=True),
        "tanh": lambda i, h: nn.RNN(i, h, batch_first=True),
        "relu": lambda i, h: nn.RNN(i, h, batch_first=True, nonlinearity="relu"),
    }
    module = Classifier.__new__(Classifier)
    nn.Module.__init__(module)
    module.layer, module.head = layers[name](FEATURES, 4), nn.Linear(4, 3)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter *= 2
    x = torch.rand((4, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return tv.load(module, shape=(FRAMES, FEATURES)), x


def certified(name: str, folder: Path | None) -> list[tv.Result]:
    kind, method, eps, some, _ = RUNS[name]
    model, x = network(kind)
    region = tv.LinfBall(eps) if isinstance(eps, float) else eps
    starts = 4 if name == "lstm wide" else 0
    more = {"obbt": 3, "processes": 2} if name == "gru tightened" else {}
    return tv.certify(
        model, x[some], None, region, method=method, rounds=1, splits=24, restarts=starts, batch=1, evidence=folder, **more
    )


Kept = tuple[list[tv.Result], list[tuple[Entry, ...]], Numbers]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Kept]:
    """The results of a run, its evidence, and its network's weights; each run is made once."""
    done: dict[str, Kept] = {}

    def run(name: str) -> Kept:
        if name not in done:
            folder = tmp_path_factory.mktemp("evidence")
            results = certified(name, folder)
            entries = [read_evidence(folder / f"{k}.npz") for k in range(len(results))]
            done[name] = results, entries, Numbers.of(network(RUNS[name][0])[0].graph)
        return done[name]

    return run


@pytest.mark.parametrize("name", RUNS)
def test_evidence_follows_from_the_network_alone(name: str, kept: Callable[[str], Kept]) -> None:
    results, files, numbers = kept(name)
    for result, entries in zip(results, files, strict=True):
        check = Check(entries, numbers)
        assert check.walks == sum(isinstance(entry, BackSubstitution) for entry in entries)
        end = entries[-1]
        assert isinstance(end, Ending)
        assert (end.verdict, end.stage, end.margin) == (result.verdict.name, result.stage, result.margin)
        assert len([entry for entry in entries if isinstance(entry, Branch)]) == len(result.tree)
        if result.counterexample is not None:
            assert np.array_equal(end.point, result.counterexample.flatten().numpy())
    proved = {result.stage for result in results if result.verdict is tv.Verdict.ROBUST}
    assert RUNS[name][-1] in {*proved, ""}


@pytest.mark.parametrize("name", ["lstm planes", "lstm combine", "gru complete", "gru lp", "relu milp", "relu narrowed"])
def test_runs_find_the_same_without_evidence(name: str, kept: Callable[[str], Kept]) -> None:
    for with_it, without in zip(kept(name)[0], certified(name, None), strict=True):
        assert with_it.verdict is without.verdict
        assert torch.equal(with_it.margins, without.margins)
        assert with_it.tree == without.tree


def test_all_kinds_of_entries_are_in_some_file(kept: Callable[[str], Kept]) -> None:
    found = {type(entry) for name in RUNS for entries in kept(name)[1] for entry in entries}
    assert found >= {
        Question,
        BoundingPass,
        Bounded,
        Pairs,
        Polygon,
        BackSubstitution,
        Branch,
        Empty,
        Program,
        CutoffTightening,
        Leaves,
        Ending,
    }
    walks = [e for entries in kept("lstm complete")[1] for e in entries if isinstance(e, BackSubstitution)]
    assert any(len(walk.multipliers) for walk in walks)
    assert any(walk.mixed and walk.steps.max() > 1 for walk in walks)


def raised(values: Any, share: float = 0.1) -> Any:
    """Arrays with everything that is finite a little higher."""
    return values + share * (1 + np.abs(values))


def shrunk(polygon: Polygon) -> Polygon:
    middle = polygon.vertices.mean(1, keepdims=True)
    return replace(polygon, vertices=middle + 0.8 * (polygon.vertices - middle))


def steeper(pairs: Pairs) -> Pairs:
    lower = pairs.lower.copy()
    lower[..., -1] += 0.2
    return replace(pairs, lower=lower)


def supposes(walk: BackSubstitution) -> Any:
    """Which of a walk's multipliers are those of a row that is supposed to fail."""
    return walk.multiplied[:, 1] == PROPERTY


CHANGES: dict[str, tuple[str, type, Callable[[Any], Entry]]] = {
    "a plane's offset": ("lstm combine", Pairs, steeper),
    "a plane's slope": ("gru linear", Pairs, lambda e: replace(e, upper=e.upper - 0.3 * (np.arange(e.upper.shape[-1]) == 0))),
    "an interval": ("lstm linear", Bounded, lambda e: replace(e, lower=e.lower + 0.1 * (e.upper - e.lower))),
    "an interval of a part": ("lstm complete", Bounded, lambda e: replace(e, upper=e.upper - 0.1 * (e.upper - e.lower))),
    "a polygon": ("lstm planes", Polygon, shrunk),
    "a walk's rows": ("gru linear", BackSubstitution, lambda e: replace(e, weights=1.5 * e.weights)),
    "a walk's bound": ("lstm combine", BackSubstitution, lambda e: replace(e, bound=e.bound + 1e-6, proved=e.proved + 1e-6)),
    "multipliers": ("lstm complete", BackSubstitution, lambda e: replace(e, multipliers=-e.multipliers - 1)),
    "what is supposed": (
        "lstm complete",
        BackSubstitution,
        lambda e: replace(e, multipliers=np.where(supposes(e), -0.1, e.multipliers)),
    ),
    "a part's side": ("lstm complete", BoundingPass, lambda e: replace(e, above=not e.above)),
    "a part's value": ("gru complete", BoundingPass, lambda e: replace(e, value=e.value + (-0.01 if e.above else 0.01))),
    "a coordinate's value": (
        "mlp complete, l2",
        BoundingPass,
        lambda e: replace(e, value=e.value + (-0.01 if e.above else 0.01)),
    ),
    "a share's value": ("gru planes, noise", BoundingPass, lambda e: replace(e, value=e.value + (-0.1 if e.above else 0.1))),
    "a share's side": ("mlp linear, gain", BoundingPass, lambda e: replace(e, above=not e.above)),
    "a piece's margins": ("gru planes, noise", Branch, lambda e: replace(e, margins=raised(e.margins, 10.0))),
    "a generator": ("mlp linear, gain", Question, lambda e: replace(e, generators=1.3 * e.generators)),
    "an energy's plane": ("speech complete", Pairs, steeper),
    "an energy's interval": ("speech linear, gain", Bounded, lambda e: replace(e, upper=e.upper - 0.1 * (e.upper - e.lower))),
    "a branch's parent": ("lstm complete", Branch, lambda e: replace(e, parent=e.parent - 1)),
    "a branch's margins": ("gru complete", Branch, lambda e: replace(e, margins=raised(e.margins, 10.0))),
    "a branch's end": ("gru complete", Branch, lambda e: replace(e, closed="empty")),
    "an empty part": ("mlp complete, l1", Empty, lambda e: replace(e, lower=e.lower - 1000, upper=e.upper + 1000)),
    "a program's multipliers": ("gru lp", Program, lambda e: replace(e, dual=-e.dual)),
    "a program's bound": ("gru lp", Program, lambda e: replace(e, bound=e.bound + 0.01)),
    "a neuron's bound": ("gru tightened", Program, lambda e: replace(e, bound=e.bound + 0.01)),
    "a neuron's side": ("gru tightened", Program, lambda e: replace(e, cost=-e.cost)),
    "a program's row": ("gru lp", Program, lambda e: replace(e, row_lower=e.row_lower + 1)),
    "a leaf's bound": ("relu milp", Leaves, lambda e: replace(e, bounds=e.bounds + 0.01)),
    "a leaf": ("relu milp", Leaves, lambda e: replace(e, upper=e.lower)),
    "a narrowed end": ("relu narrowed", CutoffTightening, lambda e: replace(e, ends=e.ends + np.where(e.above, -0.01, 0.01))),
    "what was narrowed": ("relu narrowed", CutoffTightening, lambda e: replace(e, above=~e.above)),
    "a narrowing's multipliers": ("relu narrowed", CutoffTightening, lambda e: replace(e, dual=-e.dual)),
    "a narrowing's limit": ("relu narrowed", CutoffTightening, lambda e: replace(e, limit=e.limit + 1.0)),
    "a program's limit": ("relu narrowed", Program, lambda e: replace(e, limit=math.inf)),
    "the margins": ("lstm planes", Ending, lambda e: replace(e, margins=e.margins + 1e-3)),
    "the verdict": ("lstm planes", Ending, lambda e: replace(e, verdict="ROBUST", margins=e.margins - 1.0)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_tampered_with_is_refused(what: str, kept: Callable[[str], Kept]) -> None:
    """One entry of the kind, in the middle, is changed; in some file that has one, this must be noticed."""
    name, kind, change = CHANGES[what]
    _, files, numbers = kept(name)
    noticed = 0
    for entries in files:
        places = [k for k, entry in enumerate(entries) if isinstance(entry, kind)]
        if what == "multipliers":
            places = [k for k in places if len(entries[k].multipliers)]  # type: ignore[union-attr]
        if what == "what is supposed":
            places = [k for k in places if supposes(entries[k]).any()]  # type: ignore[arg-type]
        if what == "the verdict":
            places = [k for k in places if entries[k].verdict != "ROBUST"]  # type: ignore[union-attr]
        if what == "a program's limit":
            places = [k for k in places if entries[k].limit < math.inf]  # type: ignore[union-attr]
        if what.startswith("a neuron's"):
            places = [k for k in places if entries[k].node != PROPERTY]  # type: ignore[union-attr]
        if kind is BoundingPass:
            places = [k for k in places if entries[k].parent >= 0]  # type: ignore[union-attr]
        if what == "a coordinate's value":
            places = [k for k in places if entries[k].node == 0]  # type: ignore[union-attr]
        if kind is Branch:
            places = places[-1:] if what != "a branch's end" else [k for k in places if entries[k].closed == "proved"][:1]  # type: ignore[union-attr]
        if not places:
            continue
        place = places[len(places) // 2]
        with pytest.raises(Refused):
            Check([*entries[:place], change(entries[place]), *entries[place + 1 :]], numbers)
        noticed += 1
    assert noticed


def moved(program: Program) -> Program:
    return replace(program, row_lower=program.row_lower + 5, row_upper=program.row_upper + 5)


def crossed(leaves: Leaves) -> Leaves:
    """One leaf in place of all, which holds no choice."""
    one, first = np.ones_like(leaves.lower[:1]), leaves.places[:, 0] == 0
    some = replace(leaves, places=leaves.places[first], dual=leaves.dual[first], infeasible=leaves.infeasible[:1])
    return replace(some, lower=one, upper=0 * one, bounds=leaves.bounds[:1] - 1e6)


def of_a_part(program: Program, parts: list[BoundingPass]) -> list[Entry]:
    part = BoundingPass(max(part.bounding_pass for part in parts) + 1, "lp", program.bounding_pass, 0, 0, 0.5, True)
    return [part, replace(program, bounding_pass=part.bounding_pass)]


def without_choice(program: Program) -> Program:
    count = int(program.columns[-1])
    upper = np.append(program.upper[:count], program.upper[count:] + 1)
    return replace(program, upper=upper) if len(program.upper) > count else program


FORGED: dict[str, tuple[str, type, Callable[[Any], Entry], str]] = {
    "rows of what is held": ("relu narrowed", Program, lambda e: moved(e) if e.limit < math.inf else e, "row that the network"),
    "a choice that is none": ("relu milp", Program, without_choice, "between 0 and 1"),
    "a leaf of no choice": ("relu milp", Leaves, crossed, "about no choices"),
    "choices between": (
        "relu milp",
        Leaves,
        lambda e: replace(e, upper=e.upper / 2, bounds=e.bounds - 1e6),
        "about no choices",
    ),
    "a point outside": ("lstm wide", Ending, lambda e: replace(e, point=e.point + 10.0), "not in the region"),
    "a branch that comes twice": ("gru complete", Branch, lambda e: replace(e, number=0), "one number"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_proves_nothing_is_refused(what: str, kept: Callable[[str], Kept]) -> None:
    """All entries of the kind are changed: the first check that looks at them says what is wrong."""
    name, kind, change, words = FORGED[what]
    _, files, numbers = kept(name)
    forged = [[change(entry) if isinstance(entry, kind) else entry for entry in entries] for entries in files]
    several = [new for new, old in zip(forged, files, strict=True) if any(a is not b for a, b in zip(new, old, strict=True))]
    for entries in several:
        with pytest.raises(Refused, match=words):
            Check(entries, numbers)
    assert several


def test_programs_of_a_part_prove_nothing_of_the_whole(kept: Callable[[str], Kept]) -> None:
    _, (entries,), numbers = kept("gru lp")
    place = next(k for k, entry in enumerate(entries) if isinstance(entry, Program))
    program = entries[place]
    assert isinstance(program, Program)
    forged = of_a_part(program, [entry for entry in entries if isinstance(entry, BoundingPass)])
    with pytest.raises(Refused, match="about a part"):
        Check([*entries[:place], *forged, *entries[place + 1 :]], numbers)


def test_programs_of_a_neuron_prove_no_row(kept: Callable[[str], Kept]) -> None:
    _, files, numbers = kept("gru tightened")
    entries = next(entries for entries in files if any(isinstance(entry, Program) for entry in entries))
    place = next(k for k, entry in enumerate(entries) if isinstance(entry, Program) and entry.node != PROPERTY)
    program = entries[place]
    assert isinstance(program, Program)
    none = np.zeros((1, 0))
    leaf = Leaves(none, none, np.zeros((0, 2), dtype=np.int32), np.zeros(0), np.array([-1e9]), np.array([False]))
    with pytest.raises(Refused, match="proves a row"):
        Check([*entries[: place + 1], leaf], numbers)
    with pytest.raises(Refused, match="some inputs only"):
        Check([*entries[:place], replace(program, limit=0.5)], numbers)


def test_a_point_that_breaks_nothing_is_no_counterexample(kept: Callable[[str], Kept]) -> None:
    results, (entries,), numbers = kept("lstm wide")
    question, last = entries[0], entries[-1]
    assert isinstance(question, Question)
    assert isinstance(last, Ending)
    assert results[0].verdict is tv.Verdict.COUNTEREXAMPLE
    with pytest.raises(Refused, match="breaks nothing"):
        Check([*entries[:-1], replace(last, point=question.centre)], numbers)


def test_a_part_that_is_left_out_is_missed(kept: Callable[[str], Kept]) -> None:
    _, files, numbers = kept("gru complete")
    for entries in (entries for entries in files if any(isinstance(entry, Branch) for entry in entries)):
        last = max(k for k, entry in enumerate(entries) if isinstance(entry, Branch))
        with pytest.raises(Refused):
            Check([*entries[:last], *entries[last + 1 :]], numbers)


@pytest.mark.parametrize("region", [tv.L2Ball(1.8), tv.L1Ball(5.0, clip=(-1, 2)), tv.LinfBall(0.9, clip=(0, 1), frames=[1])])
def test_regions_are_written_as_they_are(region: tv.Perturbation, tmp_path: Path) -> None:
    model, x = network("lstm")
    tv.certify(model, x[:1], None, region, method="planes", thorough=True, evidence=tmp_path)
    asked = read_evidence(tmp_path / "0.npz")[0]
    assert isinstance(asked, Question)
    one = region.around(x[:1])
    assert (asked.norm, asked.radius) == (f"{one.norm:g}", float(one.radius[0]))
    for values, expected in ((asked.lower, one.box.lower), (asked.upper, one.box.upper), (asked.centre, one.centre)):
        assert np.array_equal(values, expected[0].numpy())
    assert [node["size"] for node in asked.nodes] == [node.size for node in model.graph.nodes]
    assert Check(read_evidence(tmp_path / "0.npz"), Numbers.of(model.graph)).walks


def test_files_are_named_by_the_inputs_of_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = held_out()
    inputs, folder, out = tmp_path / "inputs.npz", tmp_path / "evidence", tmp_path / "out.jsonl"
    np.savez(inputs, x=x[:4], y=y[:4])
    command = ["certify", str(NETWORKS["GRU"]), str(inputs), "--eps", "0.04", "--skip-wrong", "--quiet", "--out", str(out)]
    assert main([*command, "--evidence", str(folder)]) == 0
    numbers = [json.loads(line)["index"] for line in out.read_text().splitlines()]
    assert sorted(int(path.stem) for path in folder.glob("*.npz")) == numbers == [0, 2, 3]
    for number in numbers:
        asked = read_evidence(folder / f"{number}.npz")[0]
        assert isinstance(asked, Question)
        assert asked.input == number
    capsys.readouterr()
    out.unlink()
    assert main([*command, "--evidence", str(folder)]) == 2
    assert "exists already; give another name to --evidence" in capsys.readouterr().err
    assert main([*command, "--evidence", str(folder), "--force"]) == 0


def test_what_cannot_be_kept_or_read_is_said(tmp_path: Path) -> None:
    model, x = network("gru")
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="evidence cannot be written to"):
            tv.certify(model, x, None, tv.LinfBall(0.1), evidence=folder)
    for wrong in ("file", "none"):
        with pytest.raises(InputError, match="cannot be read as evidence"):
            read_evidence(tmp_path / wrong)


def test_what_was_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any, **_others: Any) -> Sequence[Any]:
        raise KeyboardInterrupt

    model, x = network("gru")
    monkeypatch.setattr("tightverify.stages.bounding.linear_bounds", broken)
    with pytest.raises(KeyboardInterrupt):
        tv.certify(model, x, None, tv.LinfBall(0.5), evidence=tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_can_be_read_without_the_package(tmp_path: Path) -> None:
    """As docs/evidence.md does it."""
    model, x = network("lstm")
    tv.certify(model, x[:1], None, tv.LinfBall(0.5), evidence=tmp_path)
    text = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[2].split("```")[0].replace("folder/0.npz", str(tmp_path / "0.npz"))
    found: list[tuple[str, dict[str, Any]]] = []
    lines = [*code.splitlines(), "    found.append((kind, fields))"]
    exec("\n".join(lines), {"found": found})
    for (kind, values), entry in zip(found, tv.read_evidence(tmp_path / "0.npz"), strict=True):
        assert kind == type(entry).__name__
        for name, value in vars(entry).items():
            if isinstance(value, np.ndarray) and value.size:
                assert np.array_equal(values[name], value)
