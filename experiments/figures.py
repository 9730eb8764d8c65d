"""What experiments print alike: tables, wanted figures, times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table


def table_of(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for name in columns:
        table.add_column(name)
    return table


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


@dataclass
class Figures:
    """What is wanted, and whether it was reached."""

    table: Table = field(default_factory=lambda: table_of("wanted figures", "figure", "measured", "wanted", "reached"))
    missed: int = 0

    def at_most(self, name: str, value: float, wanted: float, unit: str = "") -> None:
        self._add(name, value, f"<= {wanted:g}{unit}", value <= wanted, unit)

    def at_least(self, name: str, value: float, wanted: float, unit: str = "") -> None:
        self._add(name, value, f">= {wanted:g}{unit}", value >= wanted, unit)

    def _add(self, name: str, value: float, wanted: str, reached: bool, unit: str) -> None:
        self.missed += not reached
        self.table.add_row(name, f"{value:.3g}{unit}", wanted, "yes" if reached else "no")
