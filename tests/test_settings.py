"""Options stand in one place: what `Settings` says of a field is on the command line, and a keyword of Python."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import MagicMock

import click
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.api.test_api import FEATURES, classifier
from tightverify.api.passes import PASSES
from tightverify.cli.command import Option, switch
from tightverify.cli.main import commands, main
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import UnknownOptionError, UsageError
from tightverify.methods import BOUNDING, SENTENCES
from tightverify.option import Range, option_of
from tightverify.settings import PROOFS, ComputingOptions, FittingOptions, Options
from tightverify.stages import METHODS
from tightverify.stages.problem import BoundsSoFar, Problem
from tightverify.tightness import of_model

NAMES = [each.name for each in fields(tv.Settings)]
OTHER = {
    "method": "interval",
    "device": "meta",
    "solver": "highs",
    "lp_solver": "scipy",
    "directions": 4,
    "window": 3,
    "thorough": True,
    "without_pairs": True,
    "trees": Path("trees"),
    "dump": Path("dump"),
    "evidence": Path("evidence"),
    "rounds": 3,
    "lines": "tight",
}
"""Values that are not the defaults, where one more than the default is none."""


def other(name: str) -> Any:
    default = getattr(tv.Settings(), name)
    return OTHER[name] if name in OTHER else 7.0 if name == "time_limit" else default + 1


def command(name: str) -> click.Command:
    found = commands.get_command(click.Context(commands), name)
    assert found is not None
    return found


def offered() -> dict[str, Option]:
    return {str(option.name): option for option in command("certify").params if isinstance(option, Option)}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_an_option(name: str) -> None:
    field = next(each for each in fields(tv.Settings) if each.name == name)
    said = option_of(field)
    assert field.default is not MISSING
    assert said.help.endswith(".")
    found = offered().get(name)
    assert (found is None) == said.python_only
    if found is not None:
        assert (found.opts, found.heading, found.help) == ([switch(name)], said.group.value, said.help)
        with click.Context(command("certify")) as context:
            assert found.get_default(context) == field.default
        assert found.type_cast_value(context, found.get_default(context)) == field.default


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_a_keyword(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tv.Settings] = []
    monkeypatch.setattr("tightverify.api.certify.prepared", lambda *given: seen.append(given[4]) or MagicMock())  # type: ignore[func-returns-value]
    monkeypatch.setattr("tightverify.api.certify.questions", lambda *_: None)
    monkeypatch.setattr("tightverify.api.certify.gathered", lambda *_: [])
    images, labels = held_out()
    for keywords in ({name: other(name)}, {"settings": tv.Settings(**{name: other(name)})}):
        tv.certify(NETWORKS["GRU"], images[:1], labels[:1], tv.LinfBall(0.1), **keywords)
    assert seen == [tv.Settings(**{name: other(name)})] * 2
    assert repr(seen[0]) == f"Settings({name}={other(name)!r})"


def test_keywords_are_typed_as_the_fields_are() -> None:
    settings, keywords = get_type_hints(tv.Settings), get_type_hints(Options)
    assert keywords.keys() == settings.keys()
    for name, kind in settings.items():
        assert keywords[name] == (str | kind if kind == Path | None else kind), name
    assert not Options.__required_keys__
    assert ComputingOptions.__annotations__.keys() < FittingOptions.__annotations__.keys() < Options.__annotations__.keys()


def test_keywords_count_beside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tv.Settings] = []
    monkeypatch.setattr("tightverify.api.certify.prepared", lambda *given: seen.append(given[4]) or MagicMock())  # type: ignore[func-returns-value]
    monkeypatch.setattr("tightverify.api.certify.questions", lambda *_: None)
    monkeypatch.setattr("tightverify.api.certify.gathered", lambda *_: [])
    images, _ = held_out()
    settings = tv.Settings("complete", splits=3)
    tv.certify(NETWORKS["GRU"], images[:1], None, tv.LinfBall(0.1), settings=settings, splits=5, dump="programs")
    assert seen == [tv.Settings("complete", splits=5, dump=Path("programs"))]


def calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    images, _ = held_out()
    x, model, ball = images[:2], NETWORKS["GRU"], tv.LinfBall(0.01)
    loaded = tv.load(model, x.shape[1:])
    yield "certify", lambda **more: tv.certify(model, x, None, ball, **more)
    yield "stream", lambda **more: list(tv.stream(loaded, x, None, ball, **more))
    yield "clips", lambda **more: tv.certify_clips(model, list(x), None, ball, **more)
    yield "bounds", lambda **more: tv.bounds(model, x, ball, **more)
    yield "of_model", lambda **more: of_model(model, x, ball, **more)
    yield "Settings", lambda **more: tv.Settings(**more)


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in calls()])
def test_an_unknown_keyword_is_refused_by_the_nearest(call: Callable[..., Any]) -> None:
    for wrong, near in (("bach", "batch"), ("divice", "device")):
        with pytest.raises(UnknownOptionError, match=f"no option '{wrong}'; did you mean {near}"):
            call(**{wrong: 3})
    with pytest.raises(TypeError, match="choose of"):
        call(q=1)
    with pytest.raises(UsageError, match="batch is 0; it must be 1 or more"):
        call(batch=0)


def test_settings_without_an_effect_are_refused() -> None:
    images, _ = held_out()
    with pytest.raises(UsageError, match="time_limit has no effect on bounds; leave it out, or give device, memory, batch"):
        tv.bounds(NETWORKS["GRU"], images[:1], tv.LinfBall(0.1), time_limit=3)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="restarts has no effect on of_model"):
        of_model(NETWORKS["GRU"], images[:1], tv.LinfBall(0.1), restarts=3)


def small(count: int) -> tuple[tv.Model, Tensor, tv.Perturbation]:
    """A GRU of two frames, inputs and a region."""
    x = torch.rand((count, 2, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return tv.load(classifier(nn.GRU), (2, FEATURES)), x, tv.LinfBall(0.3)


def test_compared_methods_take_settings() -> None:
    given = small(1)
    few, more = (of_model(*given, relaxations=["planes_boxes", "combine"], rounds=1, directions=n) for n in (0, 2))
    assert few.mean_width("planes_boxes") == more.mean_width("planes_boxes")
    assert few.mean_width("combine") > more.mean_width("combine")
    with pytest.raises(UsageError, match="no solver 'abacus'"):
        of_model(*given, settings=tv.Settings(solver="abacus"))


def test_compared_methods_keep_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def looking(problem: Problem, known: BoundsSoFar) -> BoundsSoFar:
        seen.append((problem.budget.memory, problem.settings.rounds))
        return known

    monkeypatch.setitem(METHODS, "looking", (("looking", looking),))
    images, _ = held_out()
    of_model(NETWORKS["GRU"], images[:1], tv.LinfBall(0.05), relaxations=["linear", "looking"], memory=12345678, rounds=1)
    assert seen == [(12345678, 1)]


def test_bounds_take_settings() -> None:
    given = small(2)
    plain = tv.bounds(*given, "planes")
    whole, same = (tv.bounds(*given, settings=tv.Settings("linear", **more)) for more in ({}, {"batch": 1, "memory": 1}))  # type: ignore[arg-type]
    wider = tv.bounds(*given, "planes", settings=tv.Settings("linear"), directions=8)
    assert torch.allclose(whole.lower, same.lower, rtol=0, atol=1e-9)
    assert bool((wider.width < plain.width - 1e-4).any())
    first = tv.bounds(*given, settings=tv.Settings("combine", rounds=3, directions=4))
    assert torch.equal(first.lower, tv.bounds(*given, "combine").lower)


FORMER = {
    "Settings": lambda: tv.Settings(tighten=3),  # type: ignore[call-arg]
    "certify": lambda: tv.certify(NETWORKS["GRU"], held_out()[0][:1], None, tv.LinfBall(0.01), method="interval", tighten=3),  # type: ignore[call-arg]
    "watch": lambda: tv.certify(NETWORKS["GRU"], held_out()[0][:1], None, tv.LinfBall(0.01), method="interval", watch=print),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", FORMER)
def test_former_names_say_the_new_one(name: str) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        FORMER[name]()
    (said,) = [one for one in told if "is called" in str(one.message)]
    assert said.filename == __file__
    assert ("callback= now" if name == "watch" else "obbt= now") in str(said.message)


def test_former_and_new_names_are_not_given_together() -> None:
    assert tv.Settings(tighten=3) == tv.Settings(obbt=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="both obbt and tighten"):
        tv.Settings(obbt=2, tighten=3)  # type: ignore[call-arg]


def test_the_former_option_says_the_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--tighten", "-1"], ["--tighten=-1"]):
        assert main(["certify", str(NETWORKS["GRU"]), str(tmp_path / "x.npz"), "--eps", "0.1", *given]) == 2
        told = capsys.readouterr().err
        assert "--tighten is called --obbt now" in told
        assert "Invalid value for '--obbt'" in told


def test_methods_have_one_list() -> None:
    assert tuple(METHODS) == tuple(SENTENCES)
    assert tuple(PASSES) == BOUNDING


RANGES = {
    Range(1): ((0, 0.5, -1, float("nan")), (1, 7, float("inf")), "1 or more"),
    Range(1, 3): ((0, 4), (1, 3), "from 1 to 3"),
    Range(0, above=True): ((0, -1, float("nan")), (1e-9, float("inf")), "above 0"),
    Range(0, 16, even=True): ((1, 17, 18, -2), (0, 16), "an even number from 0 to 16"),
}


@pytest.mark.parametrize("numbers", RANGES, ids=lambda numbers: numbers.words)
def test_ranges(numbers: Range) -> None:
    outside, inside, words = RANGES[numbers]
    assert not any(map(numbers.holds, outside))
    assert all(map(numbers.holds, inside))
    assert numbers.words == words


def test_settings_say_what_is_wrong_with_them() -> None:
    for name, wrong in {"time_limit": 0.0, "rounds": 4, "splits": -1, "memory": 0, "directions": 3, "seed": -1}.items():
        with pytest.raises(UsageError, match=f"{name} is {wrong}; it must be "):
            tv.Settings(**{name: wrong})  # type: ignore[arg-type]
    assert repr(tv.Settings()) == "Settings()"
    assert repr(PROOFS) == "Settings(restarts=0)"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from tightverify.cli.main import main\n"
        "for command in ('certify', 'bounds', 'radius', 'segments', 'tightness'):\n"
        "    assert main([command, '--help']) == 0\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'numpy', 'onnx')))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
