"""What may happen to a sentence: words are replaced by others, at most so many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightverify.calling import own, plainly
from tightverify.embedding import NONE, Embedding
from tightverify.errors import RegionError
from tightverify.region.choices import Choices
from tightverify.region.free import Frames, picked
from tightverify.region.perturbation import Perturbation

Words = Mapping[int, Sequence[int]] | Mapping[str, Sequence[str]]
"""By a word those that may take its place, as token numbers, or by their names; other words stay."""


@dataclass(frozen=True, eq=False)
class Substitution(Perturbation):
    """Each word of a sentence may be replaced by one of its `choices`, at most `most` of them at once (all if None).

    `embedding` is a model's (`model.embedding`). `choices` has token numbers by token numbers, or words by words where the
    embedding knows names; `embedding.nearest(k)` has the k nearest for each. `frames` are the places that may change.
    """

    embedding: Embedding
    choices: Words
    most: int | None = None
    frames: Frames = None

    def __post_init__(self) -> None:
        if not isinstance(self.embedding, Embedding):
            what = type(self.embedding).__name__
            raise RegionError(f"the embedding is a {what}; wanted that of a model that takes tokens: model.embedding")
        if not isinstance(self.choices, Mapping):
            what = type(self.choices).__name__
            raise RegionError(f"the choices are a {what}; wanted a mapping from words to words, such as embedding.nearest(5)")
        if self.most is not None and self.most < 0:
            raise RegionError(f"at most {self.most} words shall be replaced; wanted 0 or more, or None for any number")

    @property
    def words(self) -> str:
        return (
            "any words replaced" if self.most is None else f"up to {self.most} {'word' if self.most == 1 else 'words'} replaced"
        )

    @property
    def boxes(self) -> bool:
        return False

    @property
    @plainly
    def limits(self) -> dict[str, list[float] | list[int]]:
        if self.frames is None:
            return {}
        given = torch.as_tensor(self.frames)
        return {"frames": (torch.nonzero(given) if given.dtype == torch.bool else given).flatten().tolist()}

    def around(self, x: Tensor) -> Choices:
        """Around vectors x (B, T, d), or flat ones (B, T d)."""
        vectors = own(x).view(len(x), -1, self.embedding.table.shape[1])
        tokens = self.embedding.tokens(vectors)
        if bool((tokens == NONE).any()):
            row, place = torch.nonzero(tokens == NONE)[0].tolist()
            raise RegionError(f"input {row} has a vector of no word at place {place}; words are replaced in sentences only")
        may = [True] * tokens.shape[1] if self.frames is None else picked(self.frames, tokens.shape[1], "frame").tolist()
        words = [[self._with_others(token, here) for token, here in zip(one, may, strict=True)] for one in tokens.tolist()]
        widest = max(len(each) for one in words for each in one)
        filled = torch.tensor([[each + each[:1] * (widest - len(each)) for each in one] for one in words])
        table = own(self.embedding.table).to(torch.float64)
        most = torch.full((len(x),), tokens.shape[1] if self.most is None else self.most)
        return Choices.of(table[filled].to(x.device), most.to(x.device))

    def _with_others(self, token: int, may: bool) -> list[int]:
        """A word, and what may take its place: of words of one vector one."""
        others = self.others(token) if may else ()
        found = {self.embedding.alike(each)[0]: None for each in (token, *others)}
        return list(found)

    def others(self, token: int) -> Sequence[int]:
        """What may take a word's place."""
        several = [self._stated(each) for each in self.embedding.alike(token)]
        if any(set(each) != set(several[0]) for each in several):
            one, other = self.embedding.names(self.embedding.alike(token)[:2])
            raise RegionError(f"{one} and {other} have one vector, and other words in their place; give both the same choices")
        return several[0]

    def _stated(self, token: int) -> Sequence[int]:
        choices: Mapping[Any, Sequence[Any]] = self.choices
        keys = (token, *self.embedding.words[token : token + 1])
        found = next((choices[key] for key in keys if key in choices), ())
        return [self._number(each) for each in found]

    def _number(self, word: int | str) -> int:
        number = self.embedding.number(word) if isinstance(word, str) else int(word)
        if not 0 <= number < len(self.embedding.table):
            count = len(self.embedding.table)
            raise RegionError(f"the choices name {word!r}, which is none of the {count} words that the network knows")
        return number
