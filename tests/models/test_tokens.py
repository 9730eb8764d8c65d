"""Networks that begin with an embedding: what is left of them behind it, verdicts on sentences, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.texts import LAYERS, LENGTH, WIDTH, WORDS, Reader, reader, sentences
from tightverify.errors import InputError, ModelError, UnsupportedError


class TimeMajor(nn.Module):
    """Words looked up one by one, the batch second."""

    def __init__(self) -> None:
        super().__init__()
        self.own = reader("gru")
        self.layer = nn.GRU(WIDTH, 4).double()

    def forward(self, tokens: Tensor) -> Tensor:
        steps = [self.own.words(step.long()) for step in tokens.unbind(0)]
        return torch.as_tensor(self.own.head(self.layer(torch.stack(steps))[0][-1]))


@pytest.mark.parametrize(("layer", "dtype"), [*((name, torch.float64) for name in LAYERS), ("lstm", torch.float32)])
def test_the_graph_begins_behind_the_embedding(layer: str, dtype: torch.dtype) -> None:
    network, tokens = reader(layer, dtype), sentences(5)
    model = tv.load(network, (LENGTH,), tokens=True)
    assert model.graph.input_shape == (LENGTH, WIDTH)
    vectors = network.words.weight.detach()[tokens]
    with torch.no_grad():
        wanted = network(tokens)
        assert torch.allclose(model.original(vectors), wanted)
        between = vectors + 0.1
        behind = network.head(network.layer(between)[0][:, -1])
        mixed = torch.cat([between[:2], vectors[2:]])
    assert torch.allclose(model.original(between), behind, atol=1e-6)
    assert torch.allclose(model.original(mixed), torch.cat([behind[:2], wanted[2:]]), atol=1e-6)
    assert torch.allclose(model.graph.forward(between.double().flatten(1)).to(dtype), behind, atol=1e-5)


def test_tokens_may_be_moved_about_before_they_are_looked_up() -> None:
    network = TimeMajor()
    model = tv.load(network, (LENGTH,), batch_axis=1, tokens=True)
    tokens = sentences(4)
    vectors = network.own.words.weight.detach()[tokens]
    wanted = network(tokens.T)
    assert torch.allclose(model.original(vectors), wanted)
    assert torch.allclose(model.graph.forward(vectors.flatten(1)), wanted)
    assert torch.allclose(model.original(vectors + 1e-9), wanted)


@pytest.mark.parametrize("padding", [None, WORDS - 1])
def test_verdicts_on_sentences_are_those_on_their_vectors(padding: int | None) -> None:
    network, tokens = reader(padding=padding), sentences(4)
    model = tv.load(network, (LENGTH,), tokens=True)
    vectors = network.words.weight.detach()[tokens]
    for kind in (int, float):
        given = tokens.numpy().astype(kind)
        small, large = (tv.certify(model, given, None, tv.LinfBall(eps), method="linear") for eps in (1e-3, 3.0))
        assert small.counts["ROBUST"] == 4
        assert [r.margins.tolist() for r in small] == [
            r.margins.tolist() for r in tv.certify(model, vectors, None, tv.LinfBall(1e-3), method="linear")
        ]
        assert {r.verdict for r in large} == {tv.Verdict.COUNTEREXAMPLE}
    for result, sentence in zip(large, tokens, strict=True):
        assert result.counterexample is not None
        assert result.counterexample.shape == (LENGTH, WIDTH)
        behind = network.head(network.layer(result.counterexample[None])[0][:, -1])
        assert int(behind.argmax()) != int(network(sentence[None]).argmax()) == result.label


def test_a_word_alone_may_change() -> None:
    model = tv.load(reader(), (LENGTH,), tokens=True)
    (result,) = tv.certify(model, sentences(1), None, tv.L2Ball(4.0, frames=[1]), method="linear")
    vectors = model.embedding(sentences(1)) if model.embedding else torch.zeros(0)
    if result.counterexample is not None:
        moved = (result.counterexample != vectors[0]).any(1)
        assert moved.tolist() == [False, True, False, False]
    radii = tv.radius(model, sentences(1), per="frame", method="linear")
    assert radii.proved.shape == (1, LENGTH)
    assert (radii.proved > 0).all()


def test_words_are_known_by_their_vectors() -> None:
    embedding = tv.load(reader(), (LENGTH,), tokens=True).embedding
    assert embedding is not None
    tokens = sentences(3)
    assert torch.equal(embedding.tokens(embedding(tokens)), tokens)
    assert embedding.tokens(embedding(tokens) + 1e-3).eq(-1).all()
    assert embedding.names([2, 11, -1]) == ["#2", "#11", "#-1"]
    assert repr(embedding) == "Embedding(12 words, 3 numbers each)"


class Masked(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * (tokens != 0).double().mean(1, keepdim=True)


class TwoTables(Reader):
    def __init__(self) -> None:
        super().__init__()
        self.others = nn.Embedding(WORDS, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(self.words(tokens) + self.others(tokens))[0][:, -1]))


class Scaled(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        found = self.layer(nn.functional.embedding(tokens, 2 * self.words.weight))
        return torch.as_tensor(self.head(found[0][:, -1]))


class Unread(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head.bias[None].expand(len(tokens), -1)


def longest() -> Reader:
    network = Reader()
    network.words.max_norm = 1.0
    return network


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Masked, "reads token numbers, which may only be looked up"),
        (TwoTables, "looked up in two tables"),
        (Scaled, "a table that the module computes"),
        (Unread, "looks none up"),
        (longest, "max_norm = 1.0"),
    ],
)
def test_modules_that_do_more_with_numbers_are_refused(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        tv.load(make(), (LENGTH,), tokens=True)


def test_what_is_no_sentence_is_refused() -> None:
    model = tv.load(reader(), (LENGTH,), tokens=True)

    def refused(x: Any, words: str) -> None:
        with pytest.raises(InputError, match=words):
            tv.certify(model, x, None, tv.LinfBall(0.1))

    refused(np.array([[0, 1, 2, 12]]), "input 0 has 12 for its word 3; wanted token numbers, whole ones from 0 to 11")
    refused(np.array([[0, 1, -2, 1]]), "has -2 for its word 2")
    refused(np.array([[0, 1, 0.5, 1]]), "has 0.5 for its word 2")
    refused(np.zeros((2, 0)), "of length 0")
    refused(np.zeros((2, 5)), "takes sentences of 4 token numbers")


def test_a_module_of_tokens_says_how_it_is_loaded() -> None:
    with pytest.raises(ModelError, match="tokens=True"):
        tv.load(reader(), (LENGTH,))
    with pytest.raises(ModelError, match="wanted \\(words,\\)"):
        tv.load(reader(), (LENGTH, 2), tokens=True)
    assert issubclass(UnsupportedError, ModelError)
