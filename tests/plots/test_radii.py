"""Pictures of fragile parts: that they can be read, and that colours are those of the radii."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tightverify as tv
from tests.helpers.pictures import assert_labelled, assert_readable
from tightverify import plots
from tightverify.errors import UsageError
from tightverify.plots.segments import UNDER
from tightverify.radius.parts import parts_of
from tightverify.radius.records import About


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def radii(per: str, shape: tuple[int, ...], proved: Sequence[float], length: int | None = None) -> tv.Radii:
    """Radii as a search finds them, of one input and of one that is misclassified."""
    parts = parts_of(per, shape, length)
    about = About("a_long_name_of_a_reader_of_digits.onnx", "L2 ball", "", "linear", per, parts.spread)
    values = torch.tensor(proved, dtype=torch.float64)
    first = tv.Radius(0, 3, values, 2 * values, (None,) * len(values), values, parts=parts.names)
    return tv.Radii([first, tv.Radius(1, 3, 0 * values, 0 * values, (), values, True, parts.names)], about)


def spread(count: int) -> list[float]:
    return [0.01 * 1.3**k for k in range(count)]


@pytest.mark.parametrize("size", plots.SIZES)
@pytest.mark.parametrize(
    ("per", "shape", "count"), [("value", (7, 4), 28), ("frame", (7, 4), 7), ("feature", (3, 28), 28), ("value", (5,), 5)]
)
def test_maps_can_be_read(per: str, shape: tuple[int, ...], count: int, size: str) -> None:
    found = radii(per, shape, spread(count))
    axes = plots.radius_map(found, axes=plots.figure(plots.SIZES[size]).add_subplot())
    assert_readable(axes)
    shown = torch.as_tensor(axes.images[0].get_array())
    assert torch.equal(shown, found.maps[0].T if len(shape) > 1 else found.maps[0][None])
    if len(shape) > 1:
        assert_labelled(axes)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("frame", "feature")


def test_a_map_is_laid_out_as_an_image() -> None:
    axes = plots.radius_map(radii("value", (4, 9), spread(36)), shape=(6, 6))
    assert_readable(axes)
    assert torch.as_tensor(axes.images[0].get_array()).flatten().tolist() == pytest.approx(spread(36))
    with pytest.raises(UsageError, match="36 values"):
        plots.radius_map(radii("value", (4, 9), spread(36)), shape=(6, 7))


@pytest.mark.parametrize("shape", [(64,), (1, 64), (64, 1)])
@pytest.mark.parametrize("rate", [None, 8000])
def test_waves_can_be_read(shape: tuple[int, ...], rate: int | None) -> None:
    found = radii("segment", shape, [0.0, *spread(7)], 8)
    axes = plots.wave(found, torch.sin(torch.arange(64.0)).view(shape), rate=rate)
    assert_readable(axes)
    assert_labelled(axes)
    (line,) = axes.collections
    shades = [tuple(colour) for colour in line.get_colors()]  # type: ignore[attr-defined]
    assert len(set(shades)) == 8
    assert axes.get_xlim()[1] == pytest.approx(63 / (rate or 1))
    assert matches(shades[0], UNDER)


def test_strokes_can_be_read() -> None:
    generator = torch.Generator().manual_seed(0)
    moves = torch.cat([torch.rand((12, 2), generator=generator) - 0.4, torch.zeros((12, 2))], 1)
    moves[[5, 11], 2] = 1
    found = radii("frame", (12, 4), [0.0, *spread(11)])
    axes = plots.stroke(found, moves)
    assert_readable(axes)
    assert_labelled(axes)
    first, second, points = axes.collections
    assert [len(each.get_paths()) for each in (first, second)] == [5, 5]
    assert torch.allclose(torch.as_tensor(points.get_offsets()), torch.cumsum(moves[:, :2].double(), 0))
    assert matches(points.get_facecolors()[0], UNDER)  # type: ignore[attr-defined]
    shades = {tuple(colour) for colour in points.get_facecolors()}  # type: ignore[attr-defined]
    assert len(shades) == 12


def matches(colour: Any, name: str) -> bool:
    from matplotlib.colors import to_hex

    return to_hex(colour).upper() == name.upper()


@pytest.mark.parametrize("proved", [[0.0] * 4, [0.5] * 4, [1e-6, 1.0, math.inf, 0.0]])
def test_odd_radii_can_be_drawn(proved: list[float]) -> None:
    assert_readable(plots.radius_map(radii("frame", (4, 2), proved)))
    assert_readable(plots.stroke(radii("frame", (4, 2), proved), torch.ones((4, 2)), lifted=None))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    found = radii("frame", (4, 2), spread(4))
    for index, words in ((1, "misclassified"), (2, "inputs 0 to 1")):
        with pytest.raises(UsageError, match=words):
            plots.radius_map(found, index)
    with pytest.raises(UsageError, match="one waveform"):
        plots.wave(found, torch.zeros(8))
    with pytest.raises(UsageError, match="wanted the same"):
        plots.stroke(found, torch.zeros((3, 2)))
    assert plots.save(plots.radius_map(found), tmp_path / "map.svg").exists()
