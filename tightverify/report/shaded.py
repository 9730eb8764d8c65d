"""Words shaded by their radii: the less a word may change before the answer may, the darker it is.

Shades compare the words of one sentence: the word of the least radius has the full colour, that of the greatest none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from rich.text import Text

from tightverify.decimals import no_more_than
from tightverify.errors import UsageError
from tightverify.radius.records import Radii, Radius, flat
from tightverify.writing import folder_of

PAGE = "words.html"
COLOUR = (213, 94, 0)
"""Of the most fragile word: as in pictures, told apart by people who are colour-blind."""
STYLE = (
    "body{font-family:sans-serif;margin:2em;max-width:60em}p{line-height:2}small{color:#555}"
    "span{padding:.15em .3em;margin:.1em;border-radius:.2em}"
)


def shades(proved: Sequence[float]) -> list[float]:
    """From 0, the greatest radius, to 1, the least."""
    finite = [each for each in proved if math.isfinite(each)]
    least, most = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return [(most - each) / (most - least) if most > least and math.isfinite(each) else 0.0 for each in proved]


def colour(shade: float) -> str:
    """Between white and the full colour."""
    return "#" + "".join(f"{round(255 + shade * (full - 255)):02x}" for full in COLOUR)


def worded(radii: Radii) -> Iterator[tuple[Radius, list[tuple[str, float, float]]]]:
    """For each input with radii of its words these, what was proved of each, and its shade."""
    for each in radii:
        if each.words and not each.misclassified:
            proved = flat(each.proved)
            yield each, list(zip(each.words, proved, shades(proved), strict=True))


def lines(radii: Radii) -> list[Text]:
    """A line for the terminal for each sentence."""
    found = []
    for each, words in worded(radii):
        line = Text(f"{each.file or each.index}: ")
        for word, _, shade in words:
            line.append(f" {word} ", style=f"black on {colour(shade)}")
        found.append(line)
    return found


def page(radii: Radii) -> str:
    """A page of HTML of all sentences; a word's radius is shown when it is pointed at."""
    about = radii.about
    title = f"Words of {Path(about.model).name}, {about.family}, {about.method}"
    parts = [f"<!doctype html><meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{escape(title)}</h1><p>The darker, the less a word may change: its certified radius is smaller.</p>")
    for each, words in worded(radii):
        label = "" if each.label is None else f", label {each.label}"
        parts.append(f"<p><small>{escape(str(each.file or each.index))}{label}</small><br>")
        for word, proved, shade in words:
            said = f"proved {no_more_than(proved, 4)}"
            parts.append(f'<span style="background:{colour(shade)}" title="{escape(said)}">{escape(word)}</span> ')
        parts.append("</p>")
    return "".join(parts) + "\n"


def save(radii: Radii, folder: Path) -> Path:
    """Write words.html to a folder; what had this name is replaced."""
    path = folder_of(folder) / PAGE
    try:
        path.write_text(page(radii), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a folder that can be") from error
    return path
