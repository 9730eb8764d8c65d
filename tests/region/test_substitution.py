"""Words replaced by others: what a user may state, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tightverify as tv
from tightverify.embedding import Embedding
from tightverify.errors import RegionError, UsageError

TABLE = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 0.0], [-1.0, 0.2], [1.0, 0.0], [0.3, 0.3]])
WORDS = ("good", "fine", "bad", "the", "awful", "well", "so")
EMBEDDING = Embedding(TABLE, WORDS)
SENTENCES = torch.tensor([[0, 2, 3], [6, 1, 1]])


def points(region: Any, k: int) -> list[list[str]]:
    return [EMBEDDING.names(EMBEDDING.tokens(one.view(-1, 2)).tolist()) for one in region.sentences(k, region.all_of(k))]


def test_choices_by_number_or_by_name() -> None:
    by_number = tv.Substitution(EMBEDDING, {2: [4], 1: [6, 2]}).around(EMBEDDING(SENTENCES))
    by_name = tv.Substitution(EMBEDDING, {"bad": ["awful"], "fine": ["so", "bad"]}).around(EMBEDDING(SENTENCES))
    assert points(by_number, 0) == points(by_name, 0) == [["good", "bad", "the"], ["good", "awful", "the"]]
    assert by_number.counts == by_name.counts == [2, 9]
    one = tv.Substitution(EMBEDDING, {1: [6, 2]}, most=1, frames=[0, 2])
    assert one.around(EMBEDDING(SENTENCES)).counts == [1, 3]
    assert (one.words, one.limits, one.boxes) == ("up to 1 word replaced", {"frames": [0, 2]}, False)


def test_neighbours() -> None:
    near = EMBEDDING.nearest(2)
    assert EMBEDDING.names(near[0]) == ["fine", "so"]  # not "well", which is the same vector, nor "the", which has no direction
    assert EMBEDDING.names(EMBEDDING.nearest(2, "l2")[3]) == ["so", "fine"]
    assert near[3] == ()
    assert len(near) == len(list(near)) == 7
    assert 7 not in near
    assert tv.Substitution(EMBEDDING, near).around(EMBEDDING(SENTENCES)).counts == [3 * 3, 27]
    with pytest.raises(UsageError, match="choose one of cosine, l2"):
        EMBEDDING.nearest(2, "l1")
    with pytest.raises(UsageError, match="wanted 1 or more"):
        EMBEDDING.nearest(0)


def test_words_of_one_vector_are_one() -> None:
    assert tv.Substitution(EMBEDDING, {2: [0, 5]}).around(EMBEDDING(SENTENCES)).counts == [2, 1]
    with pytest.raises(RegionError, match="good and well have one vector, and other words in their place"):
        tv.Substitution(EMBEDDING, {0: [2]}).around(EMBEDDING(SENTENCES))
    assert tv.Substitution(EMBEDDING, {0: [2], 5: [2]}).around(EMBEDDING(SENTENCES)).counts == [2, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding": TABLE}, "the embedding is a Tensor; wanted that of a model"),
        ({"choices": [1, 2]}, "the choices are a list; wanted a mapping"),
        ({"most": -1}, "at most -1 words"),
        ({"choices": {0: [7], 5: [7]}}, "the choices name 7, which is none of the 7 words"),
        ({"choices": {"good": ["nice"], "well": ["nice"]}}, "the choices name 'nice'"),
        ({"frames": [3]}, "give some of 0 to 2"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str) -> None:
    stated: dict[str, Any] = {"embedding": EMBEDDING, "choices": {}, **change}
    with pytest.raises(RegionError, match=words):
        tv.Substitution(**stated).around(EMBEDDING(SENTENCES))


def test_vectors_of_no_word_are_refused() -> None:
    moved = EMBEDDING(SENTENCES)
    moved[1, 2, 0] += 1e-3
    with pytest.raises(RegionError, match="input 1 has a vector of no word at place 2"):
        tv.Substitution(EMBEDDING, {}).around(moved)
