"""Our second package, `solvers`, has a name that folders beside users' scripts have too, and Python prefers those.

An import deep inside would then fail with words that help nobody, or take a stranger's module for ours. So, before anything of
ours asks for it, it is looked up where `solvers` would come from; that imports nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tightverify.errors import ShadowedError

NAME = "solvers"
OWN = (Path(__file__).absolute().parents[1] / NAME).resolve()
"""Both packages are installed side by side, be it as links to files that lie elsewhere: a link of this file is not followed."""
UNKNOWN = Path(f"<{NAME}>")


def refuse_shadowed() -> None:
    """Say so if what is found as `solvers` is not ours."""
    found = found_place()
    if found != OWN:
        raise ShadowedError(
            f"{found or 'nothing'} was found as the package `{NAME}`, in place of tightverify's own, {OWN}; "
            + ("rename it, or run from where it is not beside the script" if found else "install tightverify anew")
        )


def found_place() -> Path | None:
    """The folder, or the file, that `import solvers` would take."""
    try:
        spec = importlib.util.find_spec(NAME)
    except ValueError:  # it was imported already, and was made without a file
        return UNKNOWN
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    place = next(iter(folders), None) if folders is not None else spec.origin
    return Path(place).resolve() if place else UNKNOWN
