"""What experiments on texts share: networks that read GloVe vectors, their training, the radii of words, and substitutions.

An LSTM and a GRU of 32 units are trained here, in a minute or two each, and kept in experiments/out. Words without
a vector share one that is 0.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

import tightverify as tv
from experiments.data import folder, in_turn
from experiments.figures import table_of
from experiments.pages import Experiment, report

OUT = Path(__file__).parent / "out"
UNITS, BATCH, SEED = 32, 32, 0
NETWORKS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
UNKNOWN = "(unknown)"
Sentence = tuple[Tensor, int]
"""Token numbers, and the class."""


@dataclass(frozen=True)
class Texts:
    """A set of texts: its name, its classes, how long networks are trained on it, and a part of it as words and class."""

    name: str
    kinds: tuple[str, ...]
    epochs: int
    read: Callable[[str], list[tuple[list[str], int]]]

    def part(self, part: str, numbers: dict[str, int]) -> list[Sentence]:
        """The texts of a part that have any words, as token numbers."""
        unknown = numbers[UNKNOWN]
        return [(torch.tensor([numbers.get(w, unknown) for w in words]), y) for words, y in self.read(part) if words]


class Reader(nn.Module):
    """An embedding that is not trained, a recurrent layer, and a linear layer on its last output."""

    def __init__(self, kind: str, vectors: Tensor, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(vectors)
        self.layer = NETWORKS[kind](vectors.shape[1], UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(self.words(tokens))[0][:, -1]))


def glove() -> tuple[tuple[str, ...], Tensor]:
    """The words, the last one standing for all others, and their vectors."""
    with np.load(folder("glove") / "glove100.npz") as file:
        words, vectors = file["words"].tolist(), torch.from_numpy(file["vectors"].astype(np.float32))
    return (*words, UNKNOWN), torch.cat([vectors, torch.zeros(1, vectors.shape[1])])


def batches(given: Sequence[Sentence], draw: np.random.Generator | None = None) -> list[tuple[Tensor, Tensor]]:
    """Texts of one length together, in a drawn order."""
    by_length: dict[int, list[Sentence]] = defaultdict(list)
    for place in range(len(given)) if draw is None else draw.permutation(len(given)):
        by_length[len(given[place][0])].append(given[place])
    parts = [some[start : start + BATCH] for some in by_length.values() for start in range(0, len(some), BATCH)]
    order = range(len(parts)) if draw is None else draw.permutation(len(parts))
    together = [parts[k] for k in order]
    return [(torch.stack([x for x, _ in part]), torch.tensor([y for _, y in part])) for part in together]


def trained(texts: Texts, kind: str, vectors: Tensor, given: Sequence[Sentence]) -> Reader:
    """The network, trained now or earlier."""
    torch.manual_seed(SEED)
    network, path = Reader(kind, vectors, len(texts.kinds)), OUT / f"{texts.name}-{kind}.pt"
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not path.exists():
        draw, began = np.random.default_rng(SEED), time.process_time()
        optimiser = torch.optim.Adam([network.get_parameter(name) for name in names], lr=3e-3)
        for _ in range(texts.epochs):
            for x, y in batches(given, draw):
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(x), y).backward()
                optimiser.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: network.get_parameter(name).detach() for name in names}, path)
        click.echo(f"{kind}: trained in {time.process_time() - began:.0f} CPU s", err=True)
    network.load_state_dict(torch.load(path, weights_only=True), strict=False)
    return network.eval()


def accuracy(network: Reader, given: Sequence[Sentence]) -> float:
    with torch.no_grad():
        return sum(int((network(x).argmax(1) == y).sum()) for x, y in batches(given)) / len(given)


def rightly(network: Reader, given: Sequence[Sentence], count: int) -> tuple[Tensor, list[int]]:
    """Texts, of one length, that the network tells rightly, their classes in turn."""
    with torch.no_grad():
        chosen = in_turn(each for each in given if int(network(each[0][None]).argmax()) == each[1])[:count]
    return torch.stack([x for x, _ in chosen]), [y for _, y in chosen]


def networks(
    texts: Texts, kinds: Sequence[str], length: int, count: int
) -> list[tuple[str, float, tv.Model, Tensor, list[int]]]:
    """Of each kind of network its accuracy, the model for texts of so many words, and the first ones that it tells rightly."""
    names, vectors = glove()
    numbers = {word: number for number, word in enumerate(names)}
    train, test = texts.part("train", numbers), texts.part("test", numbers)
    found = []
    for kind in kinds:
        network = trained(texts, kind, vectors, train)
        tokens, labels = rightly(network, [each for each in test if len(each[0]) == length], count)
        model = tv.load(network, (length,), tokens=True, vocabulary=names)
        found.append((kind, accuracy(network, test), model, tokens, labels))
    return found


def radii_of_words(texts: Texts, kinds: Sequence[str], length: int, count: int, method: str, time_limit: float) -> None:
    """Tables of the radius of each word of some texts, when it alone may change."""
    columns = "accuracy", "texts", "mean proved", "mean refuted", "mean ratio", "CPU s a text"
    table = table_of(f"radii of the words of {length}, norm 2, {method}", "network", *columns)
    fragile = table_of("the words in the order of their radii, the least first", "network", "class", "words and proved radii")
    for kind, right, model, tokens, labels in networks(texts, kinds, length, count):
        began = time.process_time()
        radii = tv.radius(model, tokens, labels, norm=2, per="word", method=method, time_limit=time_limit)
        took = (time.process_time() - began) / len(tokens)
        both = torch.isfinite(radii.refuted)
        means = [float(radii.proved.mean()), float(radii.refuted[both].mean()), float((radii.proved / radii.refuted).mean())]
        table.add_row(kind, f"{right:.3f}", str(len(tokens)), *(f"{mean:.3f}" for mean in means), f"{took:.1f}")
        for each in radii:
            order = torch.as_tensor(each.proved).argsort().tolist()
            said = ", ".join(f"{each.words[k]} {float(torch.as_tensor(each.proved)[k]):.2f}" for k in order)
            fragile.add_row(kind, texts.kinds[each.label or 0], said)
    report(table, fragile)


def replaced_words(
    texts: Texts, kinds: Sequence[str], length: int, count: int, nearest: int, method: str, time_limit: float
) -> None:
    """Tables of the texts whose class is proved to stay when words are replaced by their nearest, and of what changes it."""
    columns = "texts", "at most", "robust", "refuted", "open", "CPU s a text"
    table = table_of(f"words by one of their {nearest} nearest, {method}, {time_limit:g} s", "network", *columns)
    changed = table_of("texts whose class changes", "network", "class", "text", "replaced")
    for kind, _, model, tokens, labels in networks(texts, kinds, length, count):
        assert model.embedding is not None
        choices = model.embedding.nearest(nearest)
        for most in (1, 2, length):
            region = tv.Substitution(model.embedding, choices, most=most)
            began = time.process_time()
            results = tv.certify(model, tokens, labels, region, method=method, time_limit=time_limit)
            took = (time.process_time() - began) / len(tokens)
            kept = [sum(r.verdict is verdict for r in results) for verdict in (tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE)]
            counts = len(tokens), most, *kept, len(tokens) - sum(kept)
            table.add_row(kind, *map(str, counts), f"{took:.1f}")
            if most == 1:
                add_changed(changed, texts, kind, model, tokens, results)
    report(table, changed)


def add_changed(table: Table, texts: Texts, kind: str, model: tv.Model, tokens: Tensor, results: Sequence[tv.Result]) -> None:
    """A row for each text whose class one replaced word changes."""
    assert model.embedding is not None
    words = model.embedding.words
    for given, result in zip(tokens.tolist(), results, strict=True):
        if result.counterexample is not None:
            (other,) = model.embedding.tokens(result.counterexample[None]).tolist()
            pairs = [f"{words[a]} by {words[b]}" for a, b in zip(given, other, strict=True) if a != b]
            table.add_row(kind, texts.kinds[result.label or 0], " ".join(words[k] for k in given), ", ".join(pairs))


def commands(texts: Texts, length: int) -> click.Group:
    """The commands of an experiment on a set of texts."""
    group = click.Group(help=f"Networks that read {texts.name}.")
    network = click.option("--network", "kinds", multiple=True, default=tuple(NETWORKS), help="A network; several.")
    words = click.option("--words", "length", default=length, show_default=True, help="Texts of so many words.")
    count = click.option("--count", default=10, show_default=True, help="So many of them.")
    limit = click.option("--time-limit", default=60.0, show_default=True, help="Seconds for each text or radius.")

    @group.command("words", cls=Experiment, page=texts.name)
    @network
    @words
    @count
    @click.option("--method", default="linear", show_default=True, help="The method that proves.")
    @limit
    def radii(**asked: Any) -> None:
        """The radius of each word of some texts, when it alone may change."""
        torch.set_num_threads(1)
        radii_of_words(texts, **asked)

    @group.command("replaced", cls=Experiment, page=texts.name)
    @network
    @words
    @count
    @click.option("--nearest", default=4, show_default=True, help="Words that each may be replaced by.")
    @click.option("--method", default="complete", show_default=True, help="The method that decides.")
    @limit
    def replaced(**asked: Any) -> None:
        """The texts whose class stays, proved, when words are replaced by their nearest in the embedding."""
        torch.set_num_threads(1)
        replaced_words(texts, **asked)

    return group
