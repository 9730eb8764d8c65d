"""Convolutions as filters that slide in bands, beside a matrix for each band and a node for each position.

    python -m experiments.convolutions [NETWORK ...]

Gowal et al.'s small and medium networks of MNIST, and a keyword spotter: a convolution over 49 frames of 40 features, a GRU of
32 units. Random weights; each case in a process of its own, whose memory before and after bounding is told. One thread.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import click
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.linear_map import Dense, LinearMap
from tightverify.models import convolutions


class Spotter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.layer = nn.Conv2d(1, 16, (5, 8), (2, 4)), nn.GRU(16 * 9, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.first(x[:, None])).permute(0, 2, 1, 3).flatten(2)
        return torch.as_tensor(self.head(self.layer(seen)[0][:, -1]))


def small() -> nn.Module:
    filters = nn.Conv2d(1, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*filters, nn.Linear(3200, 100), nn.ReLU(), nn.Linear(100, 10))


def medium() -> nn.Module:
    filters = (
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 4, 2), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 4, 2), nn.ReLU(), nn.Flatten()),
    )
    return nn.Sequential(*filters, nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "spotter": (Spotter, (49, 40), 0.01),
    "small": (small, (1, 28, 28), 0.01),
    "medium": (medium, (1, 28, 28), 0.003),
}
"""A network, its input's shape, and the radius."""
FORMS = ("filters", "matrices", "positions")


def matrix_of(sliding: LinearMap) -> LinearMap:
    return Dense(sliding.matrix)


def measured(name: str, form: str) -> dict[str, float]:
    """One case, in a process that has done nothing else: CPU seconds and MB."""
    make, shape, radius = NETWORKS[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, x = make().eval(), torch.rand((1, *shape), dtype=torch.float64)
    at_every_position = convolutions.Filters.at_every_position
    kept = {"filters": convolutions.simplest, "matrices": matrix_of, "positions": convolutions.simplest}[form]
    over = at_every_position if form == "positions" else convolutions.Filters.over
    with patch.object(convolutions, "simplest", kept), patch.object(convolutions.Filters, "over", over):
        began = time.process_time()
        model = tv.load(module, shape=shape)
        loaded = time.process_time()
    weights = {id(part): part.numel() * 8 for part in model.graph.matrices()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    found = tv.bounds(model, x, tv.LinfBall(radius), method="linear")
    ended = time.process_time()
    return {
        "nodes": len(model.graph.nodes),
        "weights": sum(weights.values()) / 1e6,
        "import": loaded - began,
        "linear": ended - started,
        "peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3,
        "width": float(found.width.mean()),
    }


def alone(name: str, form: str) -> dict[str, float]:
    """The same in a new process."""
    code = f"import json; from experiments.convolutions import measured; print(json.dumps(measured({name!r}, {form!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@click.command(cls=Experiment)
@click.argument("networks", nargs=-1, type=click.Choice(list(NETWORKS)))
def main(networks: Sequence[str]) -> None:
    columns = ("form", "nodes", "weights, MB", "import, s", "linear, s", "more memory, MB", "mean width")
    table = table_of("one input, CPU seconds", "network", *columns)
    for name in networks or NETWORKS:
        for form in FORMS:
            found = alone(name, form)
            row = [name, form, f"{found['nodes']:.0f}", f"{found['weights']:.2f}"]
            row += [f"{found['import']:.2f}", f"{found['linear']:.2f}", f"{found['peak']:.0f}", f"{found['width']:.10f}"]
            table.add_row(*row)
    report(table)


if __name__ == "__main__":
    main()
