"""TREC's questions: how far each word may go in the embedding.

    python -m experiments.questions words [--network gru] [--count 10] [--method linear]

An LSTM and a GRU of 32 units read GloVe vectors of a question's words, in lower case, and tell six kinds of questions. They are
trained here, in less than a minute each on one thread, and kept in experiments/out. Words without a vector share one that is
0. A word's radius is that of the ball of the norm 2 in which its vector alone may lie.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

import tightverify as tv
from experiments.data import folder
from experiments.figures import table_of
from experiments.pages import Experiment, report

OUT = Path(__file__).parent / "out"
UNITS, EPOCHS, BATCH, SEED = 32, 8, 32, 0
KINDS = "ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"
NETWORKS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
WORDS, UNKNOWN = 6, "(unknown)"
"""Words of a question whose radii are found, the question mark not counted."""


class Questions(nn.Module):
    """An embedding that is not trained, a recurrent layer, and a linear layer on its last output."""

    def __init__(self, kind: str, vectors: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(vectors)
        self.layer = NETWORKS[kind](vectors.shape[1], UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, len(KINDS))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(self.words(tokens))[0][:, -1]))


def glove() -> tuple[tuple[str, ...], Tensor]:
    """The words, the last one standing for all others, and their vectors."""
    with np.load(folder("glove") / "glove100.npz") as file:
        words, vectors = file["words"].tolist(), torch.from_numpy(file["vectors"].astype(np.float32))
    return (*words, UNKNOWN), torch.cat([vectors, torch.zeros(1, vectors.shape[1])])


def questions(part: str, numbers: dict[str, int]) -> list[tuple[Tensor, int]]:
    """Token numbers, without the question mark, and the kind of each question."""
    with (folder("trec") / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        words = [word for word in row["text"].lower().split() if word != "?"]
        found.append((torch.tensor([numbers.get(word, numbers[UNKNOWN]) for word in words]), int(row["label"])))
    return found


def batches(given: Sequence[tuple[Tensor, int]], draw: np.random.Generator | None = None) -> list[tuple[Tensor, Tensor]]:
    """Questions of one length together, in a drawn order."""
    by_length: dict[int, list[tuple[Tensor, int]]] = defaultdict(list)
    for place in range(len(given)) if draw is None else draw.permutation(len(given)):
        by_length[len(given[place][0])].append(given[place])
    parts = [some[start : start + BATCH] for some in by_length.values() for start in range(0, len(some), BATCH)]
    order = range(len(parts)) if draw is None else draw.permutation(len(parts))
    together = [parts[k] for k in order]
    return [(torch.stack([x for x, _ in part]), torch.tensor([y for _, y in part])) for part in together]


def trained(kind: str, vectors: Tensor, given: Sequence[tuple[Tensor, int]]) -> Questions:
    """The network, trained now or earlier."""
    torch.manual_seed(SEED)
    network, path = Questions(kind, vectors), OUT / f"questions-{kind}.pt"
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not path.exists():
        draw, began = np.random.default_rng(SEED), time.process_time()
        optimiser = torch.optim.Adam([network.get_parameter(name) for name in names], lr=3e-3)
        for _ in range(EPOCHS):
            for x, y in batches(given, draw):
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(x), y).backward()
                optimiser.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: network.get_parameter(name).detach() for name in names}, path)
        click.echo(f"{kind}: trained in {time.process_time() - began:.0f} CPU s", err=True)
    network.load_state_dict(torch.load(path, weights_only=True), strict=False)
    return network.eval()


def accuracy(network: Questions, given: Sequence[tuple[Tensor, int]]) -> float:
    with torch.no_grad():
        return sum(int((network(x).argmax(1) == y).sum()) for x, y in batches(given)) / len(given)


def rightly(network: Questions, given: Sequence[tuple[Tensor, int]], count: int) -> list[tuple[Tensor, int]]:
    """The first questions that the network tells rightly."""
    with torch.no_grad():
        return [each for each in given if len(each[0]) and int(network(each[0][None]).argmax()) == each[1]][:count]


NETWORK = click.option("--network", "kinds", multiple=True, default=tuple(NETWORKS), help="A network; several.")


@click.group()
def main() -> None:
    """TREC's questions."""
    torch.set_num_threads(1)


@main.command(cls=Experiment)
@NETWORK
@click.option("--count", default=10, show_default=True, help="Questions of six words.")
@click.option("--method", default="linear", show_default=True, help="The method that proves.")
def words(kinds: Sequence[str], count: int, method: str) -> None:
    """The radius of each word of some questions, when it alone may change."""
    columns = "accuracy", "questions", "mean proved", "mean refuted", "mean ratio", "CPU s a question"
    table = table_of(f"radii of words, norm 2, {method}", "network", *columns)
    fragile = table_of("the words in the order of their radii, the least first", "network", "kind", "words and proved radii")
    names, vectors = glove()
    numbers = {word: number for number, word in enumerate(names)}
    train, test = questions("train", numbers), questions("test", numbers)
    for kind in kinds:
        network = trained(kind, vectors, train)
        chosen = rightly(network, [each for each in test if len(each[0]) == WORDS], count)
        tokens, labels = torch.stack([x for x, _ in chosen]), [y for _, y in chosen]
        model = tv.load(network, (WORDS,), tokens=True, vocabulary=names)
        began = time.process_time()
        radii = tv.radius(model, tokens, labels, norm=2, per="word", method=method)
        took = (time.process_time() - began) / len(chosen)
        both = torch.isfinite(radii.refuted)
        means = [float(radii.proved.mean()), float(radii.refuted[both].mean()), float((radii.proved / radii.refuted).mean())]
        row = [f"{accuracy(network, test):.3f}", str(len(chosen)), *(f"{mean:.3f}" for mean in means), f"{took:.1f}"]
        table.add_row(kind, *row)
        for each in radii:
            order = torch.as_tensor(each.proved).argsort().tolist()
            said = ", ".join(f"{each.words[k]} {float(torch.as_tensor(each.proved)[k]):.2f}" for k in order)
            fragile.add_row(kind, KINDS[each.label or 0], said)
    report(table)
    report(fragile)


if __name__ == "__main__":
    main()
