"""What programs of whole networks add to mixtures of planes, and ReLU networks decided exactly.

    python -m experiments.decide_lp margins [--count 20]
    python -m experiments.decide_lp neurons [--count 200]
    python -m experiments.decide_lp relu [--inputs 10]

`margins` and `neurons`: PROVER's 04f_032h_2l at eps 0.013 and 04f_032h_1l at 0.020, planes and intervals of the second round of
`combine`; the hardest margins of the first images, and neurons drawn at random, by 20 steps of mixing and by the program cut to
convergence. `relu`: an RNN of 8 frames and 16 ReLU units with random weights, by the method `milp`, 60 s for each input. Prints
the tables of docs/experiments/decide_lp.md.
"""

from __future__ import annotations

import sys
import time

import click
import torch
from rich.table import Table
from torch import Tensor, nn

import tightverify as tv
from experiments.data import correctly_classified, mnist_test, prover_lstm
from experiments.pages import Experiment, report
from tightverify.bounds.fitted import combined_bounds
from tightverify.bounds.linear import linear_bounds
from tightverify.refine.converge import Converged, Cutter, Cutting
from tightverify.refine.relaxed import Relaxed, relaxed
from tightverify.settings import Settings
from tightverify.spec import classify_as
from tightverify.stages.combine import efforts

CASES = (("04f_032h_2l", 0.013), ("04f_032h_1l", 0.020))
FINELY = Cutting(rounds=200, least_cut=1e-8, least_gain=-1.0)
RELU_RADII = (0.1, 0.15, 0.2, 0.3)
ROUNDING = 1e-9
"""less than this is no difference"""


def prepared(model: str, eps: float, count: int) -> tuple[list[Relaxed], Tensor]:
    """The first images relaxed as in the second round of `combine`, and the rows of their margins."""
    module = prover_lstm(model)
    images, labels = mnist_test()
    chosen = correctly_classified(module, images, labels, count)
    x = module.cut(images[chosen])
    graph = tv.load(module, shape=tuple(x.shape[1:])).graph
    region = tv.LinfBall(eps, clip=(0, 1)).around(x)
    first, second = efforts(Settings())
    known = combined_bounds(graph, region, first, linear_bounds(graph, region).intervals).intervals
    return relaxed(graph, region, second, known), classify_as(labels[chosen], 10).rows


def by_program(one: Relaxed, rows: dict[int, Tensor], cutting: Cutting) -> tuple[Converged, float]:
    """The converged program of a row, and its seconds."""
    began = time.perf_counter()
    *_, last = Cutter.over(one, rows, cutting).converge(rows)
    print(f"{last.proved:.5f} after {len(last.rounds)} solves", file=sys.stderr, flush=True)
    return last, time.perf_counter() - began


def row_of_mixtures(one: Relaxed, rows: dict[int, Tensor], steps: int) -> float:
    return float(one.bounds.lower({number: row[None, None] for number, row in rows.items()}, steps))


@click.group()
def main() -> None:
    """Programs of whole networks against mixtures of planes."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@click.option("--count", default=20, show_default=True, help="Margins over both models, the hardest of each image.")
def margins(count: int) -> None:
    """The least margin of each image."""
    by_round = Table(title="mean value after so many solves")
    table = Table(title=f"{count} margins: mixtures, 20 steps, and the program cut to convergence")
    for name in ("model", "margins", "mixtures", "program", "gain: least", "mean", "most", "solves", "violation", "s"):
        table.add_column(name)
    for name in ("model", *(str(k) for k in range(1, 9))):
        by_round.add_column(name)
    for model, eps in CASES:
        every, rows = prepared(model, eps, count // 2)
        found = []
        for one, targets in zip(every, rows, strict=True):
            output = one.graph.output
            mixed = one.bounds.lower({output: targets[None]}, 20)[0]
            worst = int(mixed.argmin())
            found.append((float(mixed[worst]), *by_program(one, {output: targets[worst]}, Cutting())))
        before = torch.tensor([value for value, _, _ in found])
        after = torch.tensor([last.proved for _, last, _ in found])
        gain = after - before
        solves = sum(len(last.rounds) for _, last, _ in found) / len(found)
        violation = max(last.violation for _, last, _ in found)
        seconds = sum(took for *_, took in found) / len(found)
        parts = [f"{value:+.4f}" for value in (before.mean(), after.mean(), gain.min(), gain.mean(), gain.max())]
        table.add_row(model, str(len(found)), *parts, f"{solves:.1f}", f"{violation:.1e}", f"{seconds:.1f}")
        values = [[last.rounds[min(k, len(last.rounds) - 1)].value for _, last, _ in found] for k in range(8)]
        by_round.add_row(model, *(f"{sum(column) / len(column):+.4f}" for column in values))
    report(table)
    report(by_round)


@main.command(cls=Experiment)
@click.option("--count", default=200, show_default=True, help="How many neurons, over the two models.")
def neurons(count: int) -> None:
    """Pre-activations drawn at random, on both sides. Where the program ends below the mixtures it is cut on, by 1e-8."""
    table = Table(title=f"{count} neurons of the first images: their width by the program, as a share of that by mixtures")
    for name in ("model", "neurons", "least", "median", "mean", "most", "below mixtures", "by at most", "cut on", "s a bound"):
        table.add_column(name)
    generator = torch.Generator().manual_seed(0)
    for model, eps in CASES:
        every, _ = prepared(model, eps, 2)
        shares, short, still, seconds = [], [], 0, 0.0
        for k in range(count // 2):
            one = every[k % len(every)]
            number = one.graph.bounded[int(torch.randint(len(one.graph.bounded), (), generator=generator))]
            size = one.graph.nodes[number].size
            row = torch.zeros(size, dtype=torch.float64)
            row[int(torch.randint(size, (), generator=generator))] = 1.0
            ends = []
            for sign in (1.0, -1.0):
                rows = {number: sign * row}
                last, took = by_program(one, rows, Cutting())
                mixed = row_of_mixtures(one, rows, 20)
                known = one.bounds.intervals[number]
                neuron = int(row.argmax())
                held = float(known.lower[0, neuron] if sign > 0 else -known.upper[0, neuron])
                short.append(max(mixed, held) - last.proved)
                if short[-1] > ROUNDING:
                    finely, _ = by_program(one, rows, FINELY)
                    print(f"{short[-1]:.1e} below, cut on {max(mixed, held) - finely.proved:.1e}", file=sys.stderr)
                    still += max(mixed, held) - finely.proved > ROUNDING
                ends.append((max(mixed, held), last.proved))
                seconds += took
            (low, new_low), (high, new_high) = ends
            shares.append((-new_high - new_low) / max(-high - low, 1e-300))
        found = torch.tensor(shares)
        parts = [f"{value:.4f}" for value in (found.min(), found.median(), found.mean(), found.max())]
        table.add_row(
            model,
            str(len(shares)),
            *parts,
            str(sum(gap > ROUNDING for gap in short)),
            f"{max(short):.1e}",
            str(still),
            f"{seconds / (2 * len(shares)):.2f}",
        )
    report(table)


class ReluNetwork(nn.Module):
    """A ReLU RNN with random weights, half as large again as torch makes them, and a linear layer on its last state."""

    def __init__(self, seed: int, features: int = 4, hidden: int = 16, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.RNN(features, hidden, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, classes)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(1.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


def relu_inputs(count: int) -> tuple[tv.Model, Tensor]:
    """The network over 8 frames, and so many random inputs."""
    x = torch.rand((count, 8, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return tv.load(ReluNetwork(0).double().eval(), shape=(8, 4)), x


@main.command(cls=Experiment)
@click.option("--inputs", default=10, show_default=True, help="How many inputs.")
def relu(inputs: int) -> None:
    """ReLU RNNs of 8 frames and 16 units."""
    table = Table(title=f"ReLU RNN, 8 frames of 16 units, {inputs} random inputs, 60 s each")
    for name in ("eps", "combine: decided", "milp: ROBUST", "COUNTEREXAMPLE", "open", "mean s", "most s"):
        table.add_column(name)
    model, x = relu_inputs(inputs)
    for eps in RELU_RADII:
        region = tv.LinfBall(eps)
        decided = (tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE)
        before = sum(result.verdict in decided for result in tv.certify(model, x, None, region, method="combine"))
        results = tv.certify(model, x, None, region, method="milp", time_limit=60, batch=1)
        verdicts = [sum(result.verdict is verdict for result in results) for verdict in decided]
        seconds = [result.seconds for result in results]
        counts = (str(before), *(str(count) for count in verdicts), str(inputs - sum(verdicts)))
        table.add_row(f"{eps}", *counts, f"{sum(seconds) / inputs:.1f}", f"{max(seconds):.1f}")
    report(table)


if __name__ == "__main__":
    main()
