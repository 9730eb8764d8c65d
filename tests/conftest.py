"""What every test shares: one thread, an idle machine, the devices that there are, and the folder of models and data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said does not depend on what else the machine does."""
    monkeypatch.setattr("tightverify.threads.load_of_others", lambda: 0.0)


@pytest.fixture
def rounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`combine` as other methods have it: its rounds without proofs by contradiction in the end."""
    monkeypatch.setattr("tightverify.stages.combine.by_contradiction", lambda _problem, _bounds, margins: margins)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where bounds are computed."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device on this machine; run the tests marked gpu where there is one")
    return request.param


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of trained models and data sets."""
    folder = Path(os.environ.get("TIGHTVERIFY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not a folder; let TIGHTVERIFY_DATA name the one with the trained models and data sets")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `covering`, what does not belong to a few combinations that cover every value is slow."""
    groups: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("covering"):
            groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for group in groups.values():
        places = [place_of(item, group) for item in group]
        sizes = [1 + max(column) for column in zip(*places, strict=True)]
        longest = sizes.index(max(sizes))
        for item, place in zip(group, places, strict=True):
            at = place[longest]
            if any(k != longest and own != (at + at // sizes[k]) % sizes[k] for k, own in enumerate(place)):
                item.add_marker(pytest.mark.slow)


def place_of(item: pytest.Function, group: list[pytest.Function]) -> list[int]:
    """For each of its decorators, which of the values there are an item has."""
    return [values_of(names, group).index(value_of(names, item)) for names in axes(item)]


def axes(item: pytest.Function) -> list[tuple[str, ...]]:
    """The names that each of its decorators gives values to."""
    given = [mark.args[0] for mark in item.iter_markers("parametrize")]
    return [tuple(name.strip() for name in one.split(",")) if isinstance(one, str) else tuple(one) for one in given]


def values_of(names: tuple[str, ...], group: list[pytest.Function]) -> list[str]:
    return list(dict.fromkeys(value_of(names, item) for item in group))


def value_of(names: tuple[str, ...], item: pytest.Function) -> str:
    return repr([item.callspec.params[name] for name in names])
