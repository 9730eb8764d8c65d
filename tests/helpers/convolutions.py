"""Networks with convolutions, in torch and as ONNX files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tightverify.graph import Affine, Graph
from tightverify.linear_map import Convolution, Dense, LinearMap
from tightverify.models import convolutions


class Applied(nn.Module):
    """Layers, and a function of what they are given and of them, flattened."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.layers).flatten(1)


def spotter(features: int = 10, channels: int = 4, units: int = 5) -> nn.Module:
    """A convolution over a spectrogram (frames, features), a GRU over what is left of the frames, a linear layer."""
    width = (features - 4) // 2 + 1

    def heard(x: Tensor, first: nn.Module, layer: nn.Module, head: nn.Module) -> Tensor:
        seen = first(x[:, None]).relu().permute(0, 2, 1, 3).flatten(2)
        return torch.as_tensor(head(layer(seen)[0][:, -1]))

    gru = nn.GRU(channels * width, units, batch_first=True)
    return Applied(heard, first=nn.Conv2d(1, channels, (3, 4), stride=(2, 2)), layer=gru, head=nn.Linear(units, 3))


def vision(channels: int = 3, size: int = 8, classes: int = 3) -> nn.Module:
    """Two convolutions and two linear layers, over images (1, size, size)."""
    width = (size - 4) // 2 + 1 - 1
    return nn.Sequential(
        nn.Conv2d(1, channels, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * width * width, 6),
        nn.ReLU(),
        nn.Linear(6, classes),
    )


def small() -> nn.Module:
    """Gowal et al.'s small network of MNIST."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 4, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 4), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(3200, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


def medium() -> nn.Module:
    """Gowal et al.'s medium network of MNIST."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 4, stride=2), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 4, stride=2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
    )


def seeded(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make().to(dtype).eval()


def saved(module: nn.Module, path: Path, shape: tuple[int, ...]) -> Path:
    """The module as an ONNX file."""
    x = torch.zeros((1, *shape), dtype=next(module.parameters()).dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "batch"}}
        torch.onnx.export(module, (x,), str(path), dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes)
    return path


@contextmanager
def sliding(dense: bool = False) -> Iterator[None]:
    """Maps of networks that are imported slide however small they are, or are all matrices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolutions, "SMALL", 0)
        if dense:
            patch.setattr(convolutions, "simplest", lambda map_: Dense(map_.matrix))
        yield


def maps(graph: Graph) -> list[LinearMap]:
    return [term.map for node in graph.nodes if isinstance(node, Affine) for term in node.terms]


def slides(graph: Graph) -> int:
    """How many of a network's maps are convolutions."""
    return sum(isinstance(one, Convolution) for one in maps(graph))


def numbers(graph: Graph) -> int:
    """How many numbers a network's weights and biases are, shared ones once."""
    return sum(part.numel() for part in {id(part): part for part in graph.matrices()}.values())


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "stride": (lambda: Applied(lambda x, c: c(x), c=nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2))), (2, 9, 8)),
    "dilation": (lambda: Applied(lambda x, c: c(x), c=nn.Conv2d(2, 3, (2, 3), padding=1, dilation=(3, 2))), (2, 9, 8)),
    "groups": (
        lambda: Applied(lambda x, c, d: d(c(x)), c=nn.Conv2d(2, 4, 3, groups=2), d=nn.Conv2d(4, 8, 2, groups=4)),
        (2, 9, 8),
    ),
    "same": (lambda: Applied(lambda x, c: c(x), c=nn.Conv2d(2, 3, (4, 3), padding="same")), (2, 5, 8)),
    "no bias": (lambda: Applied(lambda x, c, d: d(c(x)), c=nn.Conv2d(2, 3, 3, bias=False), d=nn.Conv2d(3, 2, 1)), (2, 9, 8)),
    "three axes": (lambda: Applied(lambda x, c: c(x[:, None]), c=nn.Conv3d(1, 3, (2, 3, 2), stride=(1, 2, 1))), (2, 9, 8)),
    "waveform": (
        lambda: Applied(
            lambda x, c, d: d(c(x[:, None]).relu()), c=nn.Conv1d(1, 6, 9, stride=2, padding=3), d=nn.Conv1d(6, 4, 5, stride=3)
        ),
        (700,),
    ),
    "frames": (
        lambda: Applied(lambda x, c, d: d(c(x.transpose(1, 2)).tanh()), c=nn.Conv1d(3, 4, 3), d=nn.Conv1d(4, 2, 3, dilation=2)),
        (9, 3),
    ),
    "spotter": (spotter, (12, 10)),
    "vision": (vision, (1, 8, 8)),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Flatten()),
        (2, 9, 8),
    ),
    "residual": (
        lambda: Applied(
            lambda x, c, d, s: d(c(x).relu()) + s(x),
            c=nn.Conv2d(2, 3, 3, 2, 1),
            d=nn.Conv2d(3, 3, 3, 1, 1),
            s=nn.Conv2d(2, 3, 1, 2),
        ),
        (2, 9, 8),
    ),
    "joined": (
        lambda: Applied(
            lambda x, c, d: d(torch.cat([x, c(x).relu(), 0 * x[:, :1]], 1)),
            c=nn.Conv2d(2, 3, 3, padding=1),
            d=nn.Conv2d(6, 2, 3),
        ),
        (2, 9, 8),
    ),
    "padded": (lambda: Applied(lambda x, c: c(F.pad(x, (1, 2, 3, 0))), c=nn.Conv2d(2, 3, 3)), (2, 9, 8)),
    "padded with ones": (lambda: Applied(lambda x, c: c(F.pad(x, (1, 2, 3, 0), value=1.0)), c=nn.Conv2d(2, 3, 3)), (2, 9, 8)),
    "turned": (lambda: Applied(lambda x, c: c(x.transpose(2, 3).flip(2)), c=nn.Conv2d(2, 3, (3, 2))), (2, 9, 8)),
    "a part": (
        lambda: Applied(lambda x, c, d: c(x)[:, :, ::2, 1:] + d(x), c=nn.Conv2d(2, 3, 2), d=nn.Conv2d(2, 3, (2, 3), (2, 1))),
        (2, 12, 8),
    ),
    "transposed": (
        lambda: Applied(
            lambda x, c, d: d(c(x).relu()),
            c=nn.ConvTranspose2d(2, 4, (3, 4), stride=2, padding=(0, 1), output_padding=1),
            d=nn.ConvTranspose2d(4, 6, 2, stride=(3, 1), groups=2, dilation=(1, 2), bias=False),
        ),
        (2, 4, 5),
    ),
    "transposed, one axis": (
        lambda: Applied(lambda x, c: c(x), c=nn.ConvTranspose1d(3, 2, 4, stride=6, padding=1, dilation=4)),
        (3, 5),
    ),
    "max pool": (lambda: Applied(lambda x, c: F.max_pool2d(c(x), 3, 2, 1), c=nn.Conv2d(2, 3, 2)), (2, 9, 8)),
    "max pool, rounded up": (
        lambda: Applied(lambda x, c: F.max_pool2d(c(x), 3, 2, ceil_mode=True), c=nn.Conv2d(2, 3, 2)),
        (2, 9, 9),
    ),
    "average": (lambda: Applied(lambda x, c: F.avg_pool2d(c(x), 2), c=nn.Conv2d(2, 3, 2)), (2, 9, 8)),
    "average, padding": (lambda: Applied(lambda x, c: F.avg_pool2d(c(x), 3, 2, 1), c=nn.Conv2d(2, 3, 2)), (2, 9, 8)),
    "average, numbers only": (
        lambda: Applied(lambda x, c: F.avg_pool2d(c(x), 3, 2, 1, count_include_pad=False), c=nn.Conv2d(2, 3, 2)),
        (2, 9, 8),
    ),
    "average, rounded up": (
        lambda: Applied(lambda x, c: F.avg_pool2d(c(x), 3, 2, ceil_mode=True), c=nn.Conv2d(2, 3, 2)),
        (2, 9, 9),
    ),
    "average of all": (lambda: Applied(lambda x, c: F.adaptive_avg_pool2d(c(x), 1), c=nn.Conv2d(2, 3, 2)), (2, 9, 8)),
    "average in time": (lambda: Applied(lambda x, c: F.avg_pool1d(c(x.transpose(1, 2)), 2), c=nn.Conv1d(3, 4, 2)), (9, 3)),
}
"""By name, and the shape of an input."""
