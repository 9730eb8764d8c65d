"""What was found of radii: a record for each input, all of them as a sequence, and their table in a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, final, overload

import torch
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.json_lines import finite
from tightverify.writing import write_rows

FILE = "radii.csv"
SHOWN = 10
"""Inputs that are printed one by one; of more, the first and the last of them."""


@dataclass(frozen=True, eq=False, repr=False)
class Radius:
    """How far one input's answer holds: `proved` is the largest radius proved, `refuted` the least with a counterexample.

    The true radius lies between. `proved` is 0 where nothing was proved, `refuted` infinite where no counterexample was found.
    `counterexample` lies inside the region of radius `refuted`. A misclassified input has no radius: both are 0. Where several
    radii were asked for, one for each target, all four are a tensor or a tuple of so many, and `parts` says which these are.
    """

    index: int
    label: int | None
    proved: float | Tensor
    refuted: float | Tensor
    counterexample: Tensor | tuple[Tensor | None, ...] | None
    seconds: float | Tensor
    misclassified: bool = False
    parts: tuple[int | str, ...] = ()
    file: str | None = None
    words: tuple[str, ...] = ()
    """those of a sentence, where radii are those of its words"""

    def __repr__(self) -> str:
        name = f"{self.index}" if self.label is None else f"{self.index}, label {self.label}"
        if self.misclassified:
            return f"Radius({name}: misclassified)"
        found = ", ".join(f"{part}proved {low:.4g}, refuted {high:.4g}" for part, low, high, _ in self.lines)
        return f"Radius({name}: {found})"

    @property
    def lines(self) -> Iterator[tuple[str, float, float, float]]:
        """For each radius its part in words, what was proved, refuted, and the seconds."""
        words = [f"{part}: " for part in self.words or self.parts] or [""]
        yield from zip(words, *(flat(each) for each in (self.proved, self.refuted, self.seconds)), strict=True)


def flat(value: float | Tensor) -> list[float]:
    """A number, or several, as a list."""
    return torch.as_tensor(value, dtype=torch.float64).reshape(-1).tolist()


@dataclass(frozen=True, eq=False)
class About:
    """What radii are about: the model, the family of regions, its unit, the method, and what the parts of an input are.

    `spread`, of an input's shape, says for each of its values of which part it is: that of this place among an input's parts;
    -1 of what is of none.
    """

    model: str
    family: str
    unit: str
    method: str
    part: str | None = None
    spread: Tensor | None = None


@final
class Radii(Sequence[Radius]):
    """Radii in the order of the inputs: a sequence, of which a slice is one too."""

    def __init__(self, radii: Iterable[Radius], about: About) -> None:
        self._radii, self.about = tuple(radii), about

    def __len__(self) -> int:
        return len(self._radii)

    @overload
    def __getitem__(self, index: int) -> Radius: ...

    @overload
    def __getitem__(self, index: slice) -> Radii: ...

    def __getitem__(self, index: int | slice) -> Radius | Radii:
        return Radii(self._radii[index], self.about) if isinstance(index, slice) else self._radii[index]

    def __iter__(self) -> Iterator[Radius]:
        return iter(self._radii)

    @property
    def proved(self) -> Tensor:
        """(N,) or (N, parts): the radii that were proved."""
        return torch.stack([torch.as_tensor(each.proved, dtype=torch.float64) for each in self])

    @property
    def refuted(self) -> Tensor:
        """(N,) or (N, parts): the radii that were refuted."""
        return torch.stack([torch.as_tensor(each.refuted, dtype=torch.float64) for each in self])

    @property
    def maps(self) -> Tensor:
        """(N, ...): for each value of the inputs the radius that was proved of its part; NaN where there is none."""
        if self.about.spread is None:
            raise UsageError('no radii of parts were asked for; give per="frame", "feature", "value", "segment" or "group"')
        spread = self.about.spread
        found = self.proved[:, spread.clamp(min=0)].masked_fill(spread < 0, math.nan)
        found[[each.misclassified for each in self]] = math.nan
        return found

    def fragile(self, most: int) -> list[dict[str, Any]]:
        """Of the lines of `rows`, those of so many parts of each input that have the least radius proved, the least first."""
        if self.about.part is None:
            raise UsageError("no radii of parts were asked for; give per= or target='each'")
        rows = [row for row in self.rows() if not row["misclassified"]]
        ordered = sorted(rows, key=lambda row: (row["index"], -math.inf if row["proved"] is None else row["proved"]))
        return [row for _, some in groupby(ordered, key=lambda row: row["index"]) for row in islice(some, most)]

    def rows(self) -> list[dict[str, Any]]:
        """A line of plain values for each radius."""
        part = self.about.part
        return [
            {
                "index": each.index,
                **({} if each.file is None else {"file": each.file}),
                "label": each.label,
                **({} if part is None else {part: name}),
                **({"text": each.words[name]} if each.words and isinstance(name, int) else {}),
                "proved": finite(proved),
                "refuted": finite(refuted),
                "misclassified": each.misclassified,
                "seconds": seconds,
            }
            for each in self
            for name, (_, proved, refuted, seconds) in zip(each.parts or (None,), each.lines, strict=True)
        ]

    def summary(self) -> str:
        """One line: how many inputs, the mean radius proved and refuted, the mean of their ratios, the time."""
        right = [each for each in self if not each.misclassified]
        words = f"{len(self)} {'input' if len(self) == 1 else 'inputs'}"
        words += f", {len(self) - len(right)} misclassified" if len(right) < len(self) else ""
        pairs = [line[1:3] for each in right for line in each.lines]
        both = [(low, high) for low, high in pairs if math.isfinite(low) and math.isfinite(high)]
        if both:
            low, high = (sum(ends) / len(both) for ends in zip(*both, strict=True))
            unit = self.about.unit and f" {self.about.unit}"
            words += f"; mean proved {low:.4g}{unit}, mean refuted {high:.4g}{unit}"
            ratios = [low / high for low, high in both if high > 0]
            words += f", mean ratio {sum(ratios) / len(ratios):.3f}" if ratios and not unit else ""
        without = len(pairs) - len(both)
        words += f"; {without} without one of both" if without else ""
        return f"{words}; {sum(sum(flat(each.seconds)) for each in self):.3g} s"

    def save(self, folder: str | Path) -> Path:
        """Write radii.csv to a folder; what had this name is replaced."""
        return write_rows(Path(folder), FILE, self.rows())

    def __repr__(self) -> str:
        lines = [f"  {each!r}" for each in self._radii]
        if len(lines) > SHOWN:
            left_out = f"  ... {len(lines) - SHOWN} more ..."
            lines = [*lines[: SHOWN // 2], left_out, *lines[-(SHOWN // 2) :]]
        return "\n".join(["Radii(", *lines, f") {self.summary()}"])
