"""Plug-ins: installed packages that add to the lists of this one.

The lists are ordinary lists and dictionaries, and what stands in them is found wherever it is asked for by name: `ops.OPS`,
`region.REGIONS`, `stages.METHODS`, `solvers.BACKENDS`, `cli.main.COMMANDS`, and `OPERATORS` of either importer. In Python,
importing the module that adds to them is all; the command line, and processes that it starts, import the modules that installed
packages name among the entry points of `GROUP`. docs/contributing.md has an example of each.
"""

from __future__ import annotations

from tightverify.errors import UsageError

GROUP = "tightverify.plugins"


def load() -> None:
    """Import what installed packages name; what was imported before is not imported again."""
    from importlib.metadata import entry_points  # only what is used: it starts slowly

    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise UsageError(
                f"the plug-in {point.name} ({point.value}) cannot be loaded ({type(error).__name__}: {error}); mend it, or "
                "uninstall its package"
            ) from error
