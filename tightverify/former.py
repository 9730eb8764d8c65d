"""Names under which arguments were known before: taken for one release, with a warning that says the new one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from tightverify.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")

OPTIONS = {"tighten": "obbt"}
"""Of settings."""
ARGUMENTS = {**OPTIONS, "watch": "callback"}
"""Of functions that take settings, and tell a callback of their steps."""


def rename(given: dict[str, Any], names: dict[str, str], of: str, level: int = 3) -> None:
    """Put what was given under former names under the new ones; `level` is how far away the caller is who used them."""
    for name in names.keys() & given.keys():
        new = names[name]
        if new in given:
            raise UsageError(f"{of} was given both {new} and {name}, which is its former name; leave {name} out")
        warnings.warn(f"{name}= of {of} is called {new}= now", DeprecationWarning, stacklevel=level)
        given[new] = given.pop(name)


def renamed(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which takes former names of its arguments too."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        rename(kwargs, ARGUMENTS, function.__name__)
        return function(*args, **kwargs)

    return run
