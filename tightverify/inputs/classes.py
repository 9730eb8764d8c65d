"""Names of classes: labels as words, and words in place of numbers where people read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tightverify.errors import InputError

WANTED = "wanted a text file with a name on each line, that of class 0 first"


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in a file, each once."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {WANTED}") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise InputError(f"{path} is empty; {WANTED}")
    if not all(names):
        raise InputError(f"line {names.index('') + 1} of {path} is empty; {WANTED}")
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise InputError(f"{path} names two classes {twice!r}; {WANTED}")
    return names


def class_of(word: str, classes: Sequence[str], where: str) -> int:
    """The number of a class that is given by its name, or by its number; a name counts first."""
    if word in classes:
        return list(classes).index(word)
    if word.isdecimal():
        return int(word)
    if not classes:
        raise InputError(
            f"{where} has the label {word!r}; wanted a class number from 0 on, or --classes with the classes' names"
        )
    import difflib  # only what is used: it starts slowly

    near = difflib.get_close_matches(word, classes, 1)
    some = f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
    meant = f"did you mean {near[0]!r}?" if near else f"they are {some}"
    raise InputError(f"{where} has the label {word!r}, which is no name of a class; {meant}")
