"""Sentences of which words are replaced, as evidence has them: their least values by counting, their points one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from tightverify.evidence import Question

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def left_in(question: Question, lower: Floats, upper: Floats) -> Mask:
    """(T, C): the vectors that are in a part's box."""
    shape = len(question.vectors), 1, question.vectors.shape[2]
    return np.asarray(((question.vectors >= lower.reshape(shape)) & (question.vectors <= upper.reshape(shape))).all(-1))


def others_of(question: Question) -> Mask:
    """(T, C): the vectors that are not the word's own."""
    return np.asarray((question.vectors != question.vectors[:, :1]).any(-1))


def least_chosen(question: Question, rows: Floats, lower: Floats, upper: Floats) -> Floats:
    """The least values of rows (R, N) over a part: word by word the least with so many words replaced."""
    left, other = left_in(question, lower, upper), others_of(question)
    words = rows.reshape(len(rows), *question.vectors.shape[::2])
    least = np.full((len(rows), question.most + 1), np.inf)
    least[:, 0] = 0.0
    for t, vectors in enumerate(question.vectors):
        values = words[:, t] @ vectors.T
        kept = np.where(left[t] & ~other[t], values, np.inf).min(1)[:, None]
        changed = np.where(left[t] & other[t], values, np.inf).min(1)[:, None]
        more = np.concatenate([np.full((len(rows), 1), np.inf), least[:, :-1]], 1)
        least = np.minimum(least + kept, more + changed)
    return np.asarray(least.min(1))


def reached_by_choice(question: Question, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """What each coordinate can be on a part; crossed where there is no sentence."""
    units = np.eye(len(question.centre))
    return least_chosen(question, units, lower, upper), -least_chosen(question, -units, lower, upper)


def sampled_choices(question: Question, lower: Floats, upper: Floats) -> Floats:
    """Sentences (S, N) of a part."""
    draw, left, other = np.random.default_rng(0), left_in(question, lower, upper), others_of(question)
    numbers = draw.integers(0, left.shape[1], (400, len(left)))
    places = np.arange(len(left))
    inside = left[places, numbers].all(1) & (other[places, numbers].sum(1) <= question.most)
    return np.asarray(question.vectors[places, numbers[inside]].reshape(int(inside.sum()), -1))


def is_a_sentence(question: Question, point: Floats) -> bool:
    same = (question.vectors == point.reshape(len(question.vectors), 1, -1)).all(-1)
    return bool(same.any(1).all() and (~(same & ~others_of(question)).any(1)).sum() <= question.most)


def every_sentence(question: Question) -> set[tuple[int, ...]]:
    """The numbers of the words of all sentences, of equal vectors the first."""
    distinct = []
    for t, vectors in enumerate(question.vectors):
        firsts = {vector.tobytes(): c for c, vector in reversed(list(enumerate(vectors + 0.0)))}
        distinct.append(sorted(firsts.values()))
        assert distinct[t][0] == 0
    return {numbers for numbers in product(*distinct) if sum(c > 0 for c in numbers) <= question.most}
