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
        axes = [name for name in group[0].callspec.indices if name != "device"]
        sizes = {name: 1 + max(item.callspec.indices[name] for item in group) for name in axes}
        longest = max(axes, key=lambda name: sizes[name])
        for item in group:
            at = item.callspec.indices[longest]
            wanted = {name: at if name == longest else (at + at // size) % size for name, size in sizes.items()}
            if any(item.callspec.indices[name] != place for name, place in wanted.items()):
                item.add_marker(pytest.mark.slow)
