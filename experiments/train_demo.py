"""Trains the two networks of `tightverify demo`: a small LSTM and a small GRU that read 8x8 digits row by row.

    python -m experiments.train_demo

writes tightverify/demo/digits_lstm.onnx and digits_gru.onnx and prints the table of docs/experiments/train_demo.md. It takes
about a minute on one core. Each network sees noise on its inputs and pays for large weights, so that there is something
to prove.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import Tensor, nn

from experiments.figures import table_of
from experiments.pages import Experiment, report
from tightverify.demo import held_out, rest

FOLDER = Path(__file__).resolve().parent.parent / "tightverify" / "demo"
HIDDEN = 16
EPOCHS = 100
BATCH = 64
NOISE = 0.3
WEIGHT_DECAY = 0.35
SEED = 4
ACCURACIES = "accuracy, training", "accuracy, held out"


class Reader(nn.Module):
    """A recurrent layer over the rows of an image, and a linear layer on its last output."""

    def __init__(self, layer: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layer = layer(8, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 10)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.layer(x)
        scores: Tensor = self.head(outputs[:, -1])
        return scores


def train(network: Reader, x: Tensor, y: Tensor) -> None:
    """Cross-entropy on noisy inputs, with the learning rate falling to 0."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=WEIGHT_DECAY)
    batches = (len(x) + BATCH - 1) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(BATCH):
            noise = NOISE * (2 * torch.rand_like(x[part]) - 1)
            loss = nn.functional.cross_entropy(network((x[part] + noise).clamp(0, 1)), y[part], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def accuracy(network: Reader, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return 100 * float((network(x).argmax(1) == y).double().mean())


@click.command(cls=Experiment)
def main() -> None:
    torch.set_num_threads(1)
    (x, y), (x_test, y_test) = ((torch.from_numpy(a), torch.from_numpy(b)) for a, b in (rest(), held_out()))
    table = table_of("what the demonstration's networks are", "network", "parameters", "kB", *ACCURACIES)
    for name, layer in (("digits_lstm", nn.LSTM), ("digits_gru", nn.GRU)):
        torch.manual_seed(SEED)
        network = Reader(layer)
        train(network, x, y)
        network.eval()
        path = FOLDER / f"{name}.onnx"
        axes = {"x": {0: "batch"}, "scores": {0: "batch"}}
        torch.onnx.export(network, (x[:1],), path, input_names=["x"], output_names=["scores"], dynamic_axes=axes, dynamo=False)
        parameters = sum(p.numel() for p in network.parameters())
        size = path.stat().st_size / 1000
        on_rest, on_held_out = accuracy(network, x, y), accuracy(network, x_test, y_test)
        table.add_row(name, str(parameters), f"{size:.0f}", f"{on_rest:.1f} %", f"{on_held_out:.1f} %")
    report(table)


if __name__ == "__main__":
    main()
