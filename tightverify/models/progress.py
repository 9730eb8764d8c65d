"""How far an import is, said on stderr once it takes longer than people wait without a word."""

from __future__ import annotations

import time

from tightverify.console import say

AFTER, BETWEEN = 2.0, 5.0
"""Seconds before the first line, and between lines."""


class Progress:
    """Told of every node of a graph as it is made; says so now and then of a model by its name, without one never."""

    def __init__(self, name: str = "") -> None:
        self.name, self.began, self.next_at = name, time.monotonic(), AFTER

    def __call__(self, nodes: int) -> None:
        passed = time.monotonic() - self.began if self.name else -1.0
        if passed >= self.next_at:
            self.next_at = passed + BETWEEN
            say(f"importing {self.name}: {nodes} nodes of its graph are made, {passed:.0f} s so far")
