"""Certified radii per segment of time: proved where they say so, near the true ones where those are known, drawn."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.sounds import Listener, recordings, to_onnx
from tightverify.errors import InputError, UsageError
from tightverify.radius import FILES

DOUBLE = torch.float64


class Weighing(nn.Module):
    """The weighted sum of 12 samples against nothing: the radius of each segment is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1.0, 13.0, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        total = (x.flatten(1) * self.weight).sum(1)
        return torch.stack([torch.zeros_like(total), total], 1)


@pytest.mark.covering
@pytest.mark.parametrize("norm", [math.inf, 2, 1])
@pytest.mark.parametrize("shape", [(12,), (1, 12), (12, 1)])
def test_radii_are_those_that_are_known(norm: float, shape: tuple[int, ...]) -> None:
    clip = torch.linspace(0.1, 0.5, 12, dtype=DOUBLE)
    search = tv.Settings(restarts=1)
    found = tv.segments(Weighing(), clip.view(shape), length=5, norm=norm, between=(-60, 60), tolerance=0.01, settings=search)
    assert found.edges == (0, 5, 10, 12)
    assert found.label == 1
    weights = torch.arange(1.0, 13.0, dtype=DOUBLE)
    margin, dual = float(clip @ weights), {math.inf: 1, 2: 2, 1: math.inf}[norm]
    assert found.size == pytest.approx(float(torch.linalg.vector_norm(clip, ord=norm)))
    for start, stop, radius, level in zip(found.edges, found.edges[1:], found.proved.tolist(), found.levels, strict=False):
        true = margin / float(torch.linalg.vector_norm(weights[start:stop], ord=dual))
        assert true * 10 ** (-0.01 / 20) * (1 - 1e-6) <= radius < true
        assert level == pytest.approx(20 * math.log10(radius / found.size))
    for row in found.rows():
        assert row["proved"] < row["refuted"] <= row["proved"] * 10 ** ((0.05 if norm > 1 else 3.0) / 20)


def test_every_radius_was_proved_itself() -> None:
    network, clip = Listener().eval(), recordings()[0]
    found = tv.segments(network, clip, length=30, between=(-70, 10), tolerance=2)
    assert bool((found.proved > 0).all())
    assert bool(torch.isinf(found.refuted).all())
    for start, stop, radius in zip(found.edges, found.edges[1:], found.proved.tolist(), strict=False):
        (result,) = tv.certify(network, clip[None], [found.label], tv.LinfBall(radius, samples=(start, stop)))
        assert result.verdict is tv.Verdict.ROBUST


def test_what_was_never_proved_is_zero() -> None:
    found = tv.segments(Weighing(), torch.linspace(0.1, 0.5, 12), length=6, between=(60, 80), tolerance=5)
    assert found.proved.tolist() == [0.0, 0.0]
    assert found.levels == [-math.inf, -math.inf]
    assert found.rows()[0] == {"first": 0, "last": 5, "proved": 0.0, "proved_db": None, "refuted": None, "refuted_db": None}


def test_files_and_pictures(tmp_path: Path) -> None:
    file = to_onnx(Listener(), tmp_path / "listener.onnx")
    rounds: list[tuple[int, int]] = []
    found = tv.segments(file, recordings()[0], progress=lambda *now: rounds.append(now), tolerance=20)
    assert len(found.edges) - 1 == 15
    assert rounds == [(1, 2), (2, 2)]
    for rate in (None, 8000):
        written = found.save(tmp_path / "out", rate)
        assert tuple(path.name for path in written) == FILES
        assert written[1].read_bytes().startswith(b"\x89PNG")
    with written[0].open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["first"]) for row in rows] == list(found.edges[:-1])
    assert [float(row["proved"]) for row in rows] == found.proved.tolist()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        found.save(tmp_path / "file")
    nothing = tv.segments(Weighing(), torch.linspace(0.1, 0.5, 12), between=(60, 80))
    assert nothing.save(tmp_path / "nothing")[1].exists()


def test_what_makes_no_sense_is_refused() -> None:
    clip = torch.linspace(0.1, 0.5, 12)
    for wrong in ({"length": 0}, {"length": 13}, {"tolerance": 0}, {"between": (-20, -100)}, {"between": (-math.inf, 0)}):
        with pytest.raises(UsageError):
            tv.segments(Weighing(), clip, **wrong)
    with pytest.raises(InputError, match="answer on the clip is 1, not the label 0"):
        tv.segments(Weighing(), clip, 0)
    with pytest.raises(InputError, match="silent"):
        tv.segments(Weighing(), 0 * clip)
    for wrong_clip in (clip * math.nan, torch.tensor(1.0)):
        with pytest.raises(InputError):
            tv.segments(Weighing(), wrong_clip)
