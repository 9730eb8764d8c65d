"""Words as a network sees them: their numbers (tokens), and the vectors that it puts in the numbers' place.

A network of texts begins with a table of vectors, a row for each word, and looks its input up there. What is verified begins
behind the table, at the vectors. Which word a vector is of is said by its numbers: words of one vector are one word to the
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightverify.errors import InputError, UsageError

NONE = -1
"""The number of what is no word."""
NOBODY = [NONE]
NEARNESS = ("cosine", "l2")


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """`table` (V, d) has the vector of each word; `words` are these by name, where names are known."""

    table: Tensor
    words: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Embedding({len(self.table)} words, {self.table.shape[1]} numbers each)"

    def __call__(self, tokens: Tensor) -> Tensor:
        """The vectors (N, T, d) of token numbers (N, T), which are checked."""
        known = torch.isfinite(tokens) & (tokens == tokens.round()) if tokens.is_floating_point() else tokens == tokens
        known &= (tokens >= 0) & (tokens < len(self.table))
        if not bool(known.all()):
            row, place = torch.nonzero(~known)[0].tolist()
            raise InputError(
                f"input {row} has {float(tokens[row, place]):g} for its word {place}; wanted token numbers, whole ones from 0 "
                f"to {len(self.table) - 1}, as many words as the network knows"
            )
        return self.table[tokens.long()]

    def tokens(self, vectors: Tensor) -> Tensor:
        """The numbers of the first words that have the vectors (..., d), `NONE` where there is no such word."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        found = [self._same.get(key, NOBODY)[0] for key in keys(flat)]
        return torch.tensor(found, dtype=torch.long).reshape(vectors.shape[:-1])

    def alike(self, token: int) -> list[int]:
        """All words that have the vector of a word."""
        return self._same[keys(self.table[token : token + 1])[0]]

    @cached_property
    def _same(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for number, key in enumerate(keys(self.table)):
            found.setdefault(key, []).append(number)
        return found

    @cached_property
    def firsts(self) -> Tensor:
        """(V,): of words of one vector the first."""
        found = torch.zeros(len(self.table), dtype=torch.bool)
        found[[several[0] for several in self._same.values()]] = True
        return found

    def nearest(self, count: int, by: str = "cosine") -> Nearest:
        """For each word the nearest others, so many: by the angle between their vectors, or by their distance ("l2")."""
        return Nearest(self, count, by)

    def number(self, word: str) -> int:
        """The number of a word, `NONE` if it is not known."""
        return self._by_name.get(word, NONE)

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {word: number for number, word in reversed(list(enumerate(self.words)))}

    def sentence(self, vectors: Tensor) -> str:
        """The words whose vectors (T, d) these are, "" where one is of no word."""
        tokens = self.tokens(vectors).tolist()
        return "" if NONE in tokens else " ".join(self.names(tokens))

    def names(self, tokens: Sequence[int]) -> list[str]:
        """What words are called: by their numbers, where there are no names."""
        return [self.words[k] if 0 <= k < len(self.words) else f"#{k}" for k in tokens]


def keys(vectors: Tensor) -> list[bytes]:
    """The same for equal vectors (n, d) only."""
    numbers = vectors.detach().cpu().to(torch.float64).numpy() + 0.0  # of two zeros one
    return [row.tobytes() for row in numbers]


class Nearest(Mapping[int, tuple[int, ...]]):
    """For each word the others that are nearest to it, worked out when they are asked for; of words of one vector the first.

    A word whose vector is 0 has no direction: by the angle it has no neighbours, and is nobody's.
    """

    def __init__(self, embedding: Embedding, count: int, by: str) -> None:
        if by not in NEARNESS:
            raise UsageError(f"the words nearest by {by!r} were asked for; choose one of {', '.join(NEARNESS)}")
        if count < 1:
            raise UsageError(f"the {count} nearest words were asked for; wanted 1 or more")
        self._embedding, self._count, self._by = embedding, count, by
        self._found: dict[int, tuple[int, ...]] = {}

    def __repr__(self) -> str:
        return f"Nearest({self._count}, {self._by})"

    def __len__(self) -> int:
        return len(self._embedding.table)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __getitem__(self, token: int) -> tuple[int, ...]:
        if not (isinstance(token, int) and 0 <= token < len(self)):
            raise KeyError(token)
        if token not in self._found:
            self._found[token] = self._nearest(token)
        return self._found[token]

    def _nearest(self, token: int) -> tuple[int, ...]:
        table = self._embedding.table.to(torch.float64)
        own = table[token]
        away = (table - own).square().sum(1)
        there = (table != own).any(1) & self._embedding.firsts
        if self._by == "cosine":
            lengths = torch.linalg.vector_norm(table, dim=1)
            away, there = -(table @ own) / (lengths * lengths[token]), there & (lengths > 0) & (lengths[token] > 0)
        order = torch.where(there, away, torch.inf).argsort(stable=True)[: self._count]
        return tuple(order[there[order]].tolist())
