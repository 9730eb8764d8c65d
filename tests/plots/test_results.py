"""Pictures of results: what they show, that they can be read in every size, and `tightverify plot`."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import tightverify as tv
from tests.helpers.pictures import assert_labelled, assert_readable, colours
from tightverify import plots
from tightverify.api.results import Written
from tightverify.cli.main import main
from tightverify.errors import InputError, UsageError
from tightverify.plots.names import CYCLE, LOOKS
from tightverify.plots.words import drawable
from tightverify.report.records import Record, write_records
from tightverify.report.trace import TracePoint
from tightverify.verify import Result, Verdict
from tightverify.writing import FORMATS

SIGNS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
EPS = (0.01, 0.02, 0.03, 0.04, 0.05)
DRAW: dict[str, Callable[..., Axes]] = {"curve": plots.curve, "cactus": plots.cactus, "margins": plots.margins}


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Nothing that matplotlib warns of is let pass, and none of its settings is left changed."""
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert dict(mpl.rcParams) == before


def points(line: Line2D) -> dict[str, list[Any]]:
    """What a line is drawn through."""
    return {"x": np.asarray(line.get_xdata()).tolist(), "y": np.asarray(line.get_ydata()).tolist()}


def record(
    index: int, eps: float, model: str = "a.onnx", method: str = "linear", margin: float | None = 0.5, **more: Any
) -> Record:
    known = -math.inf if margin is None else margin
    verdict = "ROBUST" if known > 0 else "COUNTEREXAMPLE" if margin is not None and known <= -1 else "UNKNOWN"
    return Record(model, index, 0, eps, "inf", method, verdict, margin, (margin,), method, 0.01 * (1 + index), **more)


def many(models: Sequence[str] = ("a.onnx",), methods: Sequence[str] = ("linear",), eps: Sequence[float] = EPS) -> list[Record]:
    draw = random.Random(0)
    return [
        record(index, radius, model, method, None if index == 7 else draw.gauss(1 - 40 * radius, 1.0))
        for model in models
        for method in methods
        for radius in eps
        for index in range(12)
    ]


GIVEN = {
    "one": many(),
    "models": many(("first.onnx", "a folder/with a rather long name of a model that was trained for many hours.onnx")),
    "methods": many(methods=("interval", "linear", "planes", "combine", "complete", "lp", "milp")),
    "both": many(("a.onnx", "b.onnx"), ("linear", "combine")),
    "levels": many(eps=(0.01, 0.02)),
    "one level": many(("a.onnx", "b.onnx"), eps=(0.02,)),
    "one input": [record(0, 0.01)],
    "nothing proved": [record(k, eps, margin=None) for k in range(3) for eps in EPS],
}


@pytest.mark.covering
@pytest.mark.parametrize("size", plots.SIZES)
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("kind", DRAW)
def test_pictures_can_be_read(kind: str, given: str, size: str) -> None:
    axes = DRAW[kind](GIVEN[given], plots.figure(plots.SIZES[size]).add_subplot())
    assert_readable(axes)
    assert_labelled(axes)
    assert axes.get_title(loc="left")
    assert axes.get_legend() is not None


def test_axes_are_taken_and_returned() -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    both = figure.subplots(1, 2)
    for axes, draw in zip(both, (plots.curve, plots.margins), strict=True):
        assert draw(GIVEN["one"], ax=axes) is axes
    assert plots.curve(GIVEN["one"]).figure is not figure
    assert tv.plots is plots


def test_shares_by_model_and_eps() -> None:
    records = [record(0, 0.2), record(1, 0.2, margin=-0.5), record(0, 0.1), record(0, 0.2, "b", margin=-2.0)]
    lines = [(points(line)["x"], points(line)["y"]) for line in plots.curve(records).lines]
    assert lines == [([0.1, 0.2], [100, 50]), ([0.1, 0.2], [0, 0]), ([0.2], [0]), ([0.2], [100])]


def test_lines_that_meet_are_seen_all() -> None:
    proved = plots.curve(GIVEN["models"]).lines[::2]
    assert proved[0].get_linewidth() > proved[1].get_linewidth()
    assert proved[0].get_zorder() <= proved[1].get_zorder()


def test_inputs_decided_within_a_time() -> None:
    (line,) = plots.cactus([record(0, 0.1), record(1, 0.1, margin=-2.0), record(2, 0.1, margin=-0.5)]).lines
    assert points(line)["x"] == pytest.approx([0.01, 0.01, 0.02, 0.03])
    assert points(line)["y"] == [0, 1, 2, 2]
    assert line.get_label() == "all: 2 of 3"


def test_margins_as_a_distribution_and_against_eps() -> None:
    (line, zero) = plots.margins([record(k, 0.1, margin=margin) for k, margin in enumerate((2.0, -1.0, None, 1.0))]).lines
    assert points(line)["x"] == [-1.0, 1.0, 2.0]
    assert points(line)["y"] == [50, 75, 100]
    assert line.get_label() == "all: 2 of 4 above 0"
    assert points(zero)["x"] == [0, 0]
    several = [record(k, eps, margin=k - 100 * eps) for eps in EPS for k in range(5)]
    line = plots.margins(several).lines[0]
    assert points(line)["y"] == pytest.approx([2 - 100 * eps for eps in EPS])


def test_results_are_enough_where_no_region_is_needed() -> None:
    margins = torch.tensor([0.5], dtype=torch.float64)
    results = [Result(Verdict.ROBUST, margins, 0.5, "linear", 0.2, None, index=k) for k in range(3)]
    results.append(Result(Verdict.UNKNOWN, margins - math.inf, -math.inf, "linear", 0.2, None, index=3))
    for draw in (plots.cactus, plots.margins):
        assert_readable(draw(results))
    with pytest.raises(InputError, match="one number states"):
        plots.curve(results)
    for draw in DRAW.values():
        with pytest.raises(InputError, match="no results"):
            draw([])


@pytest.mark.parametrize(
    ("stated", "title", "label"),
    [
        ("-80 dB", "decibel ball", "dB relative to the peak"),
        ("SNR 60 dB", "SNR ball", "signal-to-noise ratio, dB"),
        ("gain 3 dB", "gain", "gain"),
        ("shift 0.5", "shift in time", "samples"),
    ],
)
def test_levels_of_other_regions(stated: str, title: str, label: str) -> None:
    level = next(part for part in stated.split() if part[-1].isdigit())
    axes = plots.curve([record(k, 0.1 * k, region=stated) for k in range(3)])
    assert points(axes.lines[0])["x"] == [float(level)]
    assert label in axes.get_xlabel()
    assert title in axes.texts[0].get_text()
    assert level in plots.margins([record(k, 0.1 * k, region=stated) for k in range(3)]).texts[0].get_text()


def test_a_name_looks_the_same_everywhere() -> None:
    pictures = [colours(draw(GIVEN["methods"])) for draw in DRAW.values()]
    for name in ("interval", "linear", "planes", "combine", "complete", "lp", "milp"):
        found = {colour for picture in pictures for words, colour in picture.items() if words.split(":")[0] == name}
        assert found == {LOOKS[name].colour.upper()}


def test_looks_differ_in_grey_too() -> None:
    assert len({(look.marker, str(look.line)) for look in CYCLE}) == len(CYCLE)
    assert len({look.colour for look in CYCLE}) == len(CYCLE)
    methods = [LOOKS[name] for name in ("interval", "linear", "planes_boxes", "planes", "combine", "complete", "lp", "milp")]
    assert len({look.colour for look in methods}) == len({look.marker for look in methods}) == len(methods)


def test_any_name_can_be_drawn() -> None:
    assert drawable("a$x^{") == r"a\$x^{"
    assert drawable("\u8a9e") == r"\u8a9e"
    assert_readable(plots.curve(many(("\u8a9e $x^{ \udce9.onnx", "b"))))


@pytest.mark.parametrize("kind", FORMATS)
def test_files(tmp_path: Path, kind: str) -> None:
    axes = plots.curve(GIVEN["one"])
    path = plots.save(axes, tmp_path / f"curve.{kind}")
    first = path.read_bytes()
    assert first.startswith(SIGNS[kind])
    assert isinstance(axes.figure, Figure)
    plots.save(axes.figure, path)
    assert path.read_bytes() == first  # no date, no chance
    with pytest.raises(UsageError, match="cannot be written"):
        plots.save(axes, tmp_path / "nowhere" / f"curve.{kind}")
    with pytest.raises(UsageError, match=r"ends in one of \.png, \.pdf, \.svg"):
        plots.save(axes, tmp_path / "curve.bmp")


@pytest.mark.parametrize("kind", DRAW)
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "models"):
        write_records(Path(f"{name}.jsonl"), GIVEN[name])
    assert main(["plot", "one.jsonl", "models.jsonl", "--kind", kind]) == 0
    assert capsys.readouterr() == ("", f"drawn: {kind}.png\n")
    assert Path(f"{kind}.png").read_bytes().startswith(SIGNS["png"])
    assert main(["plot", "one.jsonl", "--kind", kind, "--out", "b.svg", "--size", "column", "--quiet"]) == 0
    assert main(["plot", "one.jsonl", "--kind", kind, "--format", "pdf"]) == 0
    assert Path("b.svg").read_bytes().startswith(SIGNS["svg"])
    assert Path(f"{kind}.pdf").read_bytes().startswith(SIGNS["pdf"])
    capsys.readouterr()
    for words, wrong in (
        ("exists already", ["one.jsonl"]),
        ("two formats", ["one.jsonl", "--out", "a.png", "--format", "svg"]),
        ("ends in one of", ["one.jsonl", "--out", "a.bmp"]),
        ("cannot be read", ["none.jsonl", "--out", "a.png"]),
        ("give one file", ["one.jsonl", "models.jsonl", "--kind", "trace", "--out", "a.png"]),
        ("is to be read", ["one.jsonl", "--out", "one.jsonl", "--force"]),
    ):
        assert main(["plot", "--kind", kind, *wrong]) == 2, words
        assert words in capsys.readouterr().err
    assert not Path("a.png").exists()


@pytest.mark.covering
@pytest.mark.parametrize("size", plots.SIZES)
@pytest.mark.parametrize("inputs", [1, 20, 30])
@pytest.mark.parametrize("spread", [0.01, 3.0, 1e4])
def test_traces_can_be_read(size: str, inputs: int, spread: float) -> None:
    draw, stages = random.Random(0), ("interval", "linear", "attack", "planes", "combine", "branch", "a plug-in")
    points = [
        TracePoint(number, stage, 0, 0.01 * 3**k, k < 6, spread * (k - 7 + draw.random()), ())
        for number in range(inputs)
        for k, stage in enumerate(stages)
    ]
    axes = plots.trace(points, plots.figure(plots.SIZES[size]).add_subplot(), [record(k, 0.1) for k in range(inputs)])
    assert_readable(axes)
    assert_labelled(axes)
    named = {text.get_text() for text in axes.texts[1:]}
    assert named <= {str(number) for number in range(min(20, inputs))}
    assert len(named) == min(20, inputs) or (size == "column" and len(named) >= 5)
    entries = colours(axes)
    assert all(entries[stage] == LOOKS[stage].colour.upper() for stage in stages[:-1])
    assert "a.onnx · L∞ ball 0.1 · method linear · " in axes.texts[0].get_text().replace("\n", " ")


@pytest.mark.parametrize("kind", DRAW)
def test_what_certify_returns_says_what_was_asked(kind: str) -> None:
    records = many()
    results = [Result(Verdict[r.verdict], torch.zeros(1), r.margin or 0.0, "", r.seconds, None, index=r.index) for r in records]
    asked = [Written(each) for each in records]
    assert DRAW[kind](tv.Results(results, asked)).get_title() == DRAW[kind](records).get_title()
