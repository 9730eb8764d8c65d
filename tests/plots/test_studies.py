"""Pictures of relaxations and of segments of a clip: that they can be read, and what they show."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import tightverify as tv
from tests.helpers.pictures import assert_labelled, assert_readable, colour_of, colours
from tightverify import plots
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import UsageError
from tightverify.plots.names import LOOKS
from tightverify.relax.fitted.family import KINDS
from tightverify.tightness import FunctionTightness, ModelTightness, of_function, of_model

BOXES = [[-1.0, 2.0, -0.5, 3.0], [-3.0, 3.0, -2.0, 2.0], [8.1988, 31.2190, 3.7455, 5.5686]]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Nothing that matplotlib warns of is let pass, and none of its settings is left changed."""
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert dict(mpl.rcParams) == before


@pytest.fixture(scope="module")
def gate() -> FunctionTightness:
    return of_function("sigmoid_tanh", BOXES, ["closed", "mccormick", "r2", "tightest"], solver="batched")


@pytest.fixture(scope="module")
def network() -> ModelTightness:
    x, y = held_out()
    return of_model(NETWORKS["GRU"], x[:4], tv.LinfBall(0.03, clip=(0, 1)), y[:4])


def segments_of(proved: Sequence[float], refuted: Sequence[float], norm: float = math.inf) -> tv.Segments:
    clip = torch.sin(torch.arange(64.0, dtype=torch.float64))
    edges = tuple(range(0, 65, 64 // len(proved)))
    radii = [torch.tensor(values, dtype=torch.float64) for values in (proved, refuted)]
    return tv.Segments(clip, edges, 3, norm, 1.0, *radii, model="listener.onnx", method="linear")  # type: ignore[arg-type,misc]


def entry(axes: Axes, words: str) -> str:
    """The colour of the entry that begins with some words."""
    return next(colour for label, colour in colours(axes).items() if label.split(":")[0].split(" (")[0] == words)


def test_planes_gaps_and_maps_can_be_read(gate: FunctionTightness) -> None:
    for box in range(len(BOXES)):
        for several in (plots.planes(gate, box), plots.gap_maps(gate, box)):
            assert_readable(several[0])
            above = [text.get_text() for text in several[0].figure.texts]
            assert above[1].startswith("sigmoid(x) tanh(y) on [")
        panels = plots.planes(gate, box)
        assert [panel.get_title().split("\n")[0] for panel in panels] == list(gate.planes)
        assert all(panel.get_xlabel() == "x" and panel.get_ylabel() == "y" for panel in panels)
        assert len({panel.get_zlim() for panel in panels}) == 1  # type: ignore[attr-defined]
    assert_readable(plots.gaps(gate))
    assert_labelled(plots.gaps(gate))


def test_planes_are_seen_through_the_function(gate: FunctionTightness) -> None:
    for panel in plots.planes(gate):
        planes: list[Any] = []
        lines: list[Any] = []
        for collection in panel.collections:
            (planes if hasattr(collection, "get_facecolor") and len(collection.get_facecolor()) else lines).append(collection)
        assert len(planes) == 2
        assert all(collection.get_alpha() < 0.6 for collection in planes)
        assert len(lines) == 1


def test_maps_keep_to_the_box_and_say_their_axes(gate: FunctionTightness) -> None:
    panels = plots.gap_maps(gate, 1)
    assert {(panel.get_xlim(), panel.get_ylim()) for panel in panels} == {((-3.0, 3.0), (-2.0, 2.0))}
    assert [panel.get_xlabel() for panel in panels] == [""] * 4 + ["x"] * 4
    assert [panel.get_ylabel() for panel in panels] == ["y", "", "", ""] * 2
    for panel in panels:
        assert panel.collections[0].get_array().max() <= panel.collections[0].norm.vmax


def test_a_kind_looks_the_same_whatever_is_beside_it(gate: FunctionTightness) -> None:
    alone = of_function("sigmoid_tanh", BOXES[:1], ["tightest", "r2"], solver="batched")
    line = of_function("tanh", [[-1.0, 2.0]], ["r2", "tightest"], solver="batched")
    for kind in ("tightest", "r2"):
        found = {entry(axes, kind) for axes in (plots.gaps(gate), plots.gaps(alone), *plots.planes(line))}
        assert found == {LOOKS[kind].colour.upper()}
    assert_readable(plots.planes(line)[0])
    every = of_function("tanh", [[-1.0, 2.0]], tuple(KINDS), solver="batched")
    assert_readable(plots.planes(every)[0])
    assert len(set(colours(plots.gaps(every)).values())) == len(every.relaxations)


def test_many_boxes_and_thin_ones() -> None:
    many = of_function("tanh_times", [[-1.0, 1.0 + k, -12.125, 3.0625] for k in range(12)], ["closed", "r2"], solver="batched")
    assert_readable(plots.gaps(many))
    assert_readable(plots.gaps(of_function("tanh_times", [[0.0, 0.0, 1.0, 1.0]], ["closed"], solver="batched")))


def test_pictures_of_a_network_can_be_read(network: ModelTightness) -> None:
    for size in plots.SIZES.values():
        for draw in (plots.ratios, plots.relaxed_margins):
            axes = draw(network, plots.figure(size).add_subplot())
            assert_readable(axes)
            assert_labelled(axes)
            assert "L∞ ball 0.03 within [0, 1]" in axes.texts[0].get_text().replace("\n", " ")
            assert "digits_gru.onnx" in axes.texts[0].get_text()
    panels = plots.widths(network)
    assert_readable(panels[0])
    assert len(panels) == len({(group.layer, group.role) for group in network.by_place()})
    assert all(panel.get_title(loc="left") and panel.get_xlabel() for panel in panels)


def test_a_relaxation_looks_as_its_method_does(network: ModelTightness) -> None:
    for axes in (plots.ratios(network), plots.relaxed_margins(network)):
        assert {name: entry(axes, name) for name in network.relaxations} == {
            name: LOOKS[name].colour.upper() for name in network.relaxations
        }
    (legend,) = plots.widths(network)[0].figure.legends
    for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
        assert colour_of(handle) == LOOKS[text.get_text().split(" (")[0]].colour.upper()


def test_intervals_leave_the_others_their_room(network: ModelTightness) -> None:
    wide = {name: tuple(100 * w for w in ws) if name == "interval" else ws for name, ws in network.widths.items()}
    margins = {name: 1e4 * m - 1e5 if name == "interval" else m for name, m in network.margins.items()}
    far = replace(network, widths=wide, margins=margins)
    for panel, group in zip(plots.widths(far), {(g.layer, g.role): g for g in far.by_place()}.values(), strict=True):
        assert panel.get_ylim()[1] < 0.2 * group.mean["interval"]
    axes = plots.relaxed_margins(far)
    assert axes.get_ylim()[0] > -1e3
    assert any("▼ beyond" in words for words in colours(axes))
    assert_readable(axes)
    assert plots.ratios(far).get_xlim()[1] < 10
    only = replace(
        far, widths={"interval": wide["interval"]}, margins={"interval": margins["interval"]}, seconds={"interval": 0.0}
    )
    for draw in (plots.ratios, plots.relaxed_margins):
        assert_readable(draw(only))
    assert_readable(plots.widths(only)[0])


def test_a_network_of_one_kind_of_neuron_and_of_none() -> None:
    x = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    one = of_model(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), x, tv.L2Ball(0.1))
    assert_readable(plots.widths(one)[0])
    assert_readable(plots.relaxed_margins(of_model(nn.Linear(3, 2), x, tv.L1Ball(0.1))))


@pytest.mark.covering
@pytest.mark.parametrize("rate", [None, 8000])
@pytest.mark.parametrize("norm", [math.inf, 2.0])
def test_segments_can_be_read(rate: int | None, norm: float) -> None:
    found = segments_of([0.01, 0.02, 0.0, 0.03], [math.inf, 0.05, 0.04, math.inf], norm)
    above, below = plots.segments(found, rate)
    assert_readable(above)
    assert_labelled(below)
    assert below.get_xlabel() == ("seconds" if rate else "samples")
    assert "listener.onnx · answer 3" in above.texts[0].get_text()
    assert list(colours(below)) == ["proved robust", "counterexample found", "nothing proved"]
    assert colours(below)["proved robust"] == LOOKS["ROBUST"].colour.upper()


def test_one_segment_far_from_all_leaves_the_others_their_colours() -> None:
    radii = [1e-9, *(0.01 * 1.2**k for k in range(14)), 100.0]
    above, _ = plots.segments(segments_of(radii, [math.inf] * 16))
    shades = {tuple(patch.get_facecolor()) for patch in above.patches}
    assert len(shades) >= 12


def test_segments_of_nothing() -> None:
    for proved in ([0.0, 0.0], [0.5, 0.5], [0.5, 0.0]):
        above, below = plots.segments(segments_of(proved, [math.inf] * 2))
        assert_readable(above)
        steps = [patch for patch in below.patches if hasattr(patch, "get_data")]
        assert len(steps) == (max(proved) > 0)


def test_several_axes_are_taken(gate: FunctionTightness, network: ModelTightness) -> None:
    figure = Figure(figsize=(12, 8), layout="constrained")
    given = list(figure.subplots(2, 1))
    assert plots.segments(segments_of([0.5, 0.2], [1.0, 1.0]), axes=given) == given
    with pytest.raises(UsageError, match="1 axes were given for a picture of 2"):
        plots.segments(segments_of([0.5, 0.2], [1.0, 1.0]), axes=given[:1])
    count = len({(group.layer, group.role) for group in network.by_place()})
    many = list(Figure(figsize=(16, 4), layout="constrained").subplots(1, count))
    assert plots.widths(network, many) == many
    maps = list(Figure(figsize=(12, 6), layout="constrained").subplots(2, 4).flat)
    assert plots.gap_maps(gate, 0, maps) == maps
    solid = Figure(figsize=(12, 4), layout="constrained")
    surfaces = [solid.add_subplot(1, 4, k + 1, projection="3d") for k in range(4)]
    assert plots.planes(gate, 0, surfaces) == surfaces


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_files_of_other_formats(tmp_path: Path, network: ModelTightness, kind: str) -> None:
    gate = of_function("sigmoid_tanh", BOXES[:1], ["closed", "r2"], solver="batched")
    names = {path.name for path in (*gate.save(tmp_path, kind), *network.save(tmp_path, kind))}
    names |= {path.name for path in segments_of([0.1, 0.2], [1.0, 1.0]).save(tmp_path, None, kind)}
    drawn = {name for name in names if name.endswith(f".{kind}")}
    assert {f"{name}.{kind}" for name in ("gaps", "planes-0", "gaps-0", "widths", "ratios", "margins", "segments")} <= drawn
    assert names - drawn == {"relaxations.csv", "widths.csv", "margins.csv", "segments.csv"}
