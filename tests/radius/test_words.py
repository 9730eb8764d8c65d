"""Radii of the words of a sentence, each when it alone may change."""

from __future__ import annotations

import pytest
import torch

import tightverify as tv
from tests.helpers.texts import LENGTH, WORDS, reader, sentences
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import UsageError

NAMES = tuple(f"w{k}" for k in range(WORDS))
QUICK: dict[str, object] = {"method": "linear", "restarts": 0, "tolerance": 0.5}


def test_words_are_frames_with_names() -> None:
    model = tv.load(reader("rnn"), (LENGTH,), tokens=True, vocabulary=NAMES)
    tokens = sentences(1)
    words, frames = (tv.radius(model, tokens, per=per, **QUICK) for per in ("word", "frame"))  # type: ignore[arg-type]
    assert torch.equal(words.proved, frames.proved)
    assert words[0].words == tuple(NAMES[k] for k in tokens[0])
    assert frames[0].words == ()
    assert repr(words[0]).startswith(f"Radius(0, label {words[0].label}: {words[0].words[0]}: proved")
    row = words.fragile(1)[0]
    assert row["text"] == words[0].words[row["word"]]
    assert row["proved"] == float(words.proved[0].min())
    assert words.maps.shape == (1, LENGTH, 3)


def test_only_models_of_tokens_have_words() -> None:
    x, _ = held_out()
    with pytest.raises(UsageError, match="takes no token numbers; ask for them per frame"):
        tv.radius(NETWORKS["GRU"], x[:1], per="word", **QUICK)  # type: ignore[arg-type]


def test_a_vocabulary_has_as_many_words_as_the_table() -> None:
    with pytest.raises(tv.TightVerifyError, match="the vocabulary has 2 words, and the module Reader knows 12"):
        tv.load(reader("rnn"), (LENGTH,), tokens=True, vocabulary=["a", "b"])
    with pytest.raises(UsageError, match="takes no token numbers"):
        tv.load(NETWORKS["GRU"], vocabulary=["a", "b"])
