"""Words as a network sees them: their numbers (tokens), and the vectors that it puts in the numbers' place.

A network of texts begins with a table of vectors, a row for each word, and looks its input up there. What is verified begins
behind the table, at the vectors. Which word a vector is of is said by its numbers: words of one vector are one word to the
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tightverify.errors import InputError

NONE = -1
"""The number of what is no word."""


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
        found = [self._numbers.get(key, NONE) for key in keys(flat)]
        return torch.tensor(found, dtype=torch.long).reshape(vectors.shape[:-1])

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for number, key in enumerate(keys(self.table)):
            found.setdefault(key, number)
        return found

    def names(self, tokens: Sequence[int]) -> list[str]:
        """What words are called: by their numbers, where there are no names."""
        return [self.words[k] if 0 <= k < len(self.words) else f"#{k}" for k in tokens]


def keys(vectors: Tensor) -> list[bytes]:
    """The same for equal vectors (n, d) only."""
    numbers = vectors.detach().cpu().to(torch.float64).numpy() + 0.0  # of two zeros one
    return [row.tobytes() for row in numbers]
