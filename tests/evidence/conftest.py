"""Runs whose evidence many tests look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.evidence_check import Numbers
from tests.helpers.evidence_runs import RUNS, Kept, certified, network
from tightverify.evidence import read_evidence


@pytest.fixture(scope="session")
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
