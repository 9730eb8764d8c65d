"""Models of texts: the user's own on token numbers, and what is left of it behind its table of vectors.

What is verified begins at the vectors. Where all vectors of an input are those of words, the user's own model is asked on
these words' numbers: for the inputs themselves, and for all sentences. A point between words has no numbers. There
the rest of the user's model is asked: it reads the vectors as a table of their own, by their places in it, so that all that it
does with what it looks up it does with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightverify.embedding import Embedding


@dataclass(frozen=True, eq=False)
class OnVectors:
    """A user's model on vectors (N, T, d); `on_tokens` takes numbers (N, T), `on_table` a table besides, (V, d)."""

    embedding: Embedding
    on_tokens: Callable[[Tensor], Tensor]
    on_table: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        tokens = self.embedding.tokens(x)
        words = (tokens >= 0).all(1)
        if bool(words.all()):
            return self.on_tokens(tokens)
        if not bool(words.any()):
            return self._between(x)
        one, other = self.on_tokens(tokens[words]), self._between(x[~words])
        found = one.new_empty((len(x), *one.shape[1:]))
        found[words], found[~words] = one, other
        return found

    def _between(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[0] * x.shape[1]).view(x.shape[:2])
        return self.on_table(places, x.flatten(0, 1))


def random_sentences(embedding: Embedding, count: int, length: int, generator: torch.Generator) -> Tensor:
    """(count, length): token numbers."""
    return torch.randint(len(embedding.table), (count, length), generator=generator)
