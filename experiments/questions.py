"""TREC's questions: how far each word may go in the embedding, and by which words it may be replaced.

    python -m experiments.questions words [--network gru] [--count 10] [--method linear]
    python -m experiments.questions replaced [--network gru] [--count 10] [--nearest 4] [--time-limit 60]

An LSTM and a GRU read GloVe vectors of a question's words, in lower case and without the question mark, and tell six kinds of
questions. A word's radius is that of the ball of the norm 2 in which its vector alone may lie.
"""

from __future__ import annotations

import csv

from experiments.data import folder
from experiments.texts import Texts, commands


def read(part: str) -> list[tuple[list[str], int]]:
    """The words of each question, without the question mark, and its kind."""
    with (folder("trec") / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [([word for word in row["text"].lower().split() if word != "?"], int(row["label"])) for row in rows]


QUESTIONS = Texts("questions", ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"), 8, read)
main = commands(QUESTIONS, 6)

if __name__ == "__main__":
    main()
