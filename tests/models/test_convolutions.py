"""Convolutions and pools are imported as maps that slide, from torch and from ONNX alike, whatever they read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.helpers.convolutions import (
    NETWORKS,
    Applied,
    images,
    maps,
    medium,
    numbers,
    saved,
    seeded,
    slides,
    sliding,
    small,
    spotter,
)
from tests.helpers.graphs import bare
from tests.helpers.onnx_models import agree as agree_in_onnx
from tests.helpers.torch_modules import agree
from tightverify.linear_map import Axis, Convolution, Diagonal, Identity
from tightverify.models.builder import ZERO, Builder
from tightverify.models.convolutions import convolve
from tightverify.models.from_onnx.file import from_onnx
from tightverify.models.from_torch.module import from_torch

DOUBLE = torch.float64


@pytest.mark.parametrize("name", NETWORKS)
@sliding()
def test_both_formats_agree(name: str, tmp_path: Path) -> None:
    make, shape = NETWORKS[name]
    module = seeded(make)
    agree(from_torch(module, shape), module, 0, 1e-9)
    ours = from_torch(module.float(), shape)  # onnxruntime has no convolutions in double precision
    theirs = agree_in_onnx(saved(module, tmp_path / "model.onnx", shape))
    x = images(4, *shape).flatten(1)
    torch.testing.assert_close(bare(ours.graph).forward(x), bare(theirs.graph).forward(x), rtol=1e-6, atol=1e-6)
    if name != "batch norm":  # which ONNX's exporter folds into the filters
        assert [node.size for node in ours.graph.nodes] == [node.size for node in theirs.graph.nodes]


def test_a_divisor_of_ones_own() -> None:
    module = seeded(lambda: Applied(lambda x, c: functional.avg_pool2d(c(x), 2, divisor_override=3), c=nn.Conv2d(2, 3, 2)))
    agree(from_torch(module, (2, 9, 8)), module, 0, 1e-9)


@pytest.mark.parametrize("bins", [(2, 3), (3, 5), (1, 1)])
def test_bins(bins: tuple[int, int]) -> None:
    for pool in (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d):
        module = seeded(lambda pool=pool: Applied(lambda x, c: pool(c(x), bins), c=nn.Conv2d(2, 3, 2)))  # type: ignore[misc]
        agree(from_torch(module, (2, 9, 10)), module, 0, 1e-9)


@sliding()
def test_bands_follow_time() -> None:
    """A node for each time step that the recurrent layer has, all of which share the maps of their taps."""
    graph = from_torch(seeded(lambda: spotter(features=40, channels=16)), (41, 40)).graph
    sizes = [node.size for node in graph.nodes]
    assert sizes.count(16 * 19) == 2 * 20
    sliding = [one for one in maps(graph) if isinstance(one, Convolution)]
    assert len(sliding) == 3 * 20
    assert len({id(one) for one in sliding}) == 3


def test_bands_have_a_width() -> None:
    """Positions by the hundred make a few nodes, also of one axis."""
    module = seeded(lambda: Applied(lambda x, c: c(x[:, None]), c=nn.Conv1d(1, 8, 16, stride=4)))
    graph = from_torch(module, (8016,)).graph
    assert 30 <= len(graph.nodes) <= 40
    assert numbers(graph) < 60_000


def test_networks_of_vision_take_little() -> None:
    """The first layer's matrix alone would take 136 MB, all of the medium network's 1.1 GB."""
    for make, most, nodes in ((small, 2.9, 45), (medium, 8.2, 130)):
        graph = from_torch(seeded(make, torch.float32), (1, 28, 28)).graph
        assert slides(graph) > 10
        assert numbers(graph) * 8 < most * 1e6
        assert len(graph.nodes) < nodes


def test_a_pool_of_a_channel_each_scales_it() -> None:
    """Along frames, of which each is a node, windows add up scaled neurons."""
    graph = from_torch(
        seeded(lambda: Applied(lambda x, c: functional.avg_pool1d(c(x.transpose(1, 2)).relu(), 2), c=nn.Conv1d(3, 40, 1))),
        (9, 3),
    ).graph
    assert sum(isinstance(one, Diagonal) for one in maps(graph)) == 8


def test_zeros_among_neurons_count_as_zeros() -> None:
    """Whether they lie around them, along a row, in a channel, or scattered: each value is that of torch's."""
    weight, bias = torch.randn(3, 2, 3, 2, dtype=DOUBLE), torch.randn(3, dtype=DOUBLE)
    axes = [Axis(7, 4, 3, stride=2, start=-1), Axis(6, 5, 2)]
    for where in ("nowhere", "around", "a row", "a channel", "scattered", "everywhere"):
        builder = Builder()
        x, mask = builder.input((2, 7, 6))[None], np.zeros((1, 2, 7, 6), dtype=bool)
        match where:
            case "around":
                mask[:, :, :2] = mask[:, :, :, -1:] = True
            case "a row":
                mask[:, :, 3] = True
            case "a channel":
                mask[:, 1] = True
            case "scattered":
                mask[:] = np.random.default_rng(0).random(mask.shape) < 0.3
            case "everywhere":
                mask[:] = True
        made = convolve(builder, np.where(mask, ZERO, x), weight, bias, axes)
        values = images(3, 2, 7, 6)
        seen = functional.pad(torch.where(torch.from_numpy(mask), 0.0, values), (0, 0, 1, 1))
        wanted = functional.conv2d(seen, weight, bias, (2, 1))
        found = builder.graph(made.ravel()).forward(values.flatten(1))
        torch.testing.assert_close(found, wanted.flatten(1), rtol=1e-12, atol=1e-12)


def test_filters_that_move_numbers_are_no_sums() -> None:
    builder = Builder()
    made = convolve(
        builder, builder.input((6,)).reshape(1, 2, 3)[..., 1:2], torch.ones(2, 1, 1, dtype=DOUBLE), None, [Axis(1, 1, 1)], 2
    )
    assert all(isinstance(one, Identity) for one in maps(builder.graph(made.ravel())))


def test_a_large_average_asks_for_no_memory(tmp_path: Path) -> None:
    """Each window would be a row of a matrix of 64 GB."""
    module = seeded(
        lambda: Applied(lambda x, c: functional.avg_pool3d(c(x[:, None]), 3, 1), c=nn.Conv3d(1, 1, 1)), torch.float32
    )
    for model in (from_torch(module, (20, 20, 20)), from_onnx(saved(module, tmp_path / "model.onnx", (20, 20, 20)))):
        assert numbers(model.graph) < 30_000
