"""The benchmark of recurrent networks: its queries ask the same in both versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tightverify as tv
from experiments.vnncomp.generate_properties import LICENCES, UNLICENSED, readme
from experiments.vnncomp.queries import Query, decimal
from tightverify.demo import NETWORKS, held_out


@pytest.mark.parametrize(("radius", "wanted"), [(1e-3, "unsat"), (0.5, "sat")])
def test_both_versions_ask_the_same(radius: float, wanted: str, tmp_path: Path) -> None:
    images, labels = held_out()
    path = NETWORKS["GRU"]
    x, label = np.asarray(images[0], dtype=np.float64), int(labels[0])
    query = Query.around(x.flatten(), radius, (0, 1), np.zeros(10), label, None)
    (tmp_path / "first.vnnlib").write_text(query.first)
    (tmp_path / "second.vnnlib").write_text(query.second((1, *x.shape), (1, 10)))
    assert tv.vnnlib(path, tmp_path / "first.vnnlib", time_limit=10).outcome == wanted
    assert tv.vnnlib({"N": path}, tmp_path / "second.vnnlib", time_limit=10).outcome == wanted


def test_detectors_are_asked_for_the_other_side() -> None:
    query = Query.around(np.zeros(2), 0.5, None, np.array([0.7]), 0, 0.5)
    assert query.first.endswith("(assert (or (and (<= Y_0 0.5))))\n")
    assert query.second((1, 2), (1, 1)).endswith("(assert (<= Y[0,0] 0.5))\n")
    assert "(assert (>= X[0,1] -0.5))" in query.second((1, 2), (1, 1))


def test_numbers_are_written_exactly() -> None:
    assert decimal(1e-07) == "0.0000001"
    assert float(decimal(0.1 + 0.2)) == 0.1 + 0.2


def test_the_benchmark_says_whose_its_networks_are() -> None:
    told = readme(1, {"prover", "speech"})
    assert told.index(LICENCES["prover"]) < told.index(LICENCES["speech"]) < told.index("Left out, as nothing says")
    assert LICENCES["silero"] not in told
    assert f"* {UNLICENSED['rv']}." in told
    every = readme(1, {*LICENCES, *UNLICENSED})
    assert "Left out" not in every
    assert f"{UNLICENSED['precise']}: not to be passed on." in every
    assert not LICENCES.keys() & UNLICENSED.keys()
