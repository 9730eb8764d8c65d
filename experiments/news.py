"""Titles of news: how far each word may go in the embedding, and by which words it may be replaced.

    python -m experiments.news words [--network gru] [--words 6] [--count 10] [--method linear]
    python -m experiments.news replaced [--network gru] [--words 6] [--count 10] [--nearest 4] [--time-limit 60]

An LSTM and a GRU read GloVe vectors of a title's words and tell seven classes; titles of more than 12 words are left out. A
word's radius is that of the ball of the norm 2 in which its vector alone may lie.
"""

from __future__ import annotations

import csv
import re

from experiments.data import folder
from experiments.texts import Texts, commands

LONGEST = 12


def read(part: str) -> list[tuple[list[str], int]]:
    """The words of each title, and its class."""
    with (folder("news") / "news.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == part]
    titles = [(re.findall(r"[a-z0-9]+", row["title"]), int(row["label"])) for row in rows]
    return [(words, label) for words, label in titles if len(words) <= LONGEST]


NEWS = Texts("news", ("sport", "world", "us", "business", "health", "entertainment", "sci_tech"), 6, read)
main = commands(NEWS, 6)

if __name__ == "__main__":
    main()
