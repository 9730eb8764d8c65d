"""Networks of few inputs: what splits of the input's coordinates are worth beside those of neurons.

    python -m experiments.few_inputs [--time-limit 15]

Steep networks with random weights and two or four inputs, or one or two a frame, in balls of the norms infinity, 1 and 2; six
points each, by `complete`, without coordinates and with them. One thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from unittest.mock import patch

import click
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.figures import table_of, timed
from experiments.pages import Experiment, report
from tightverify.branch.node import split_in

DOUBLE = torch.float64
POINTS = 6
BALLS = {"Linf": (tv.LinfBall, 1.0), "L2": (tv.L2Ball, 1.4), "L1": (tv.L1Ball, 2.0)}


class Recurrent(nn.Module):
    def __init__(self, layer: Callable[..., nn.RNNBase], inputs: int, hidden: int) -> None:
        super().__init__()
        self.layer, self.head = layer(inputs, hidden, batch_first=True), nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


def layers(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))


CASES: dict[str, tuple[nn.Module, tuple[int, ...], float]] = {}
"""A network, its input's shape, and the radius of the Linf ball."""


def case(name: str, module: nn.Module, shape: tuple[int, ...], steepness: float, radius: float) -> None:
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(steepness)
    CASES[name] = module, shape, radius


def cases() -> None:
    for inputs, radius in ((2, 0.2), (4, 0.2)):
        torch.manual_seed(1)
        case(f"two tanh layers of 32, {inputs} inputs", layers(inputs), (inputs,), 3.0, radius)
    torch.manual_seed(1)
    case("GRU of 12, 2 frames of 2 inputs", Recurrent(nn.GRU, 2, 12), (2, 2), 4.0, 0.25)
    torch.manual_seed(1)
    case("LSTM of 16, 4 frames of 1 input", Recurrent(nn.LSTM, 1, 16), (4, 1), 4.0, 0.25)


def points(shape: tuple[int, ...]) -> Tensor:
    return torch.rand((POINTS, *shape), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


@click.command(cls=Experiment)
@click.option("--time-limit", default=15.0, show_default=True, help="Seconds for each point.")
def main(time_limit: float) -> None:
    torch.set_num_threads(1)
    cases()
    columns = ("ball", "robust", "falsified", "splits", "s", "robust", "falsified", "splits", "s")
    table = table_of(f"neurons alone, and coordinates too; {POINTS} points, {time_limit:g} s each", "network", *columns)
    for name, (module, shape, radius) in CASES.items():
        model = tv.load(module, shape=shape)
        x = points(shape)
        for ball, (kind, factor) in BALLS.items():
            region = kind(factor * radius)

            def run(model: tv.Model = model, x: Tensor = x, region: tv.LpBall = region) -> Sequence[tv.Result]:
                return tv.certify(model, x, None, region, method="complete", time_limit=time_limit, splits=10**6)

            with patch("tightverify.branch.search.coordinate_gains", lambda *_: {}):
                alone = timed(run)
            row = [name, f"{ball} {factor * radius:.2f}"]
            for seconds, results in (alone, timed(run)):
                verdicts = Counter(result.verdict for result in results)
                counts = (verdicts[tv.Verdict.ROBUST], verdicts[tv.Verdict.COUNTEREXAMPLE])
                row += [*map(str, counts), str(sum(len(split_in(result.tree)) for result in results)), f"{seconds:.1f}"]
            table.add_row(*row)
    report(table)


if __name__ == "__main__":
    main()
