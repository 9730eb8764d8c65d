"""Walls that layers cannot hold: nothing outside their folders asks which operation, or which kind of region, it has before it.

An operation answers everything itself (`Traits`), and so does a region: else an addition touches files all over the house.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tightverify.region as regions
from tightverify import ops
from tightverify.region import Perturbation, Region

PACKAGE = Path(ops.__file__).resolve().parents[1]
GENERAL = {"OPS", "Operation"}
"""What may be imported of operations everywhere; importers, which make graphs of them, name them; so does training,
which traces modules itself."""
KINDS = {
    name
    for name, value in vars(regions).items()
    if isinstance(value, type) and issubclass(value, Region | Perturbation) and value not in (Region, Perturbation)
}


def files(*without: str) -> Iterator[tuple[str, ast.Module]]:
    """The product's files, but for those of some folders."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(without):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """What a file imports from a package or from below it: the names, or the modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            if node.module == package or node.module.startswith(package + "."):
                yield from (alias.name for alias in node.names)
            elif package.startswith(node.module + "."):
                rest = package.removeprefix(node.module + ".")
                yield from (alias.name for alias in node.names if rest == alias.name or rest.startswith(alias.name + "."))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if (alias.name + ".").startswith(package + "."))


def asked(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The classes that a file asks for, with their lines: by isinstance, by a match, by type(x)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            yield from ((node.lineno, name) for name in names(node.args[1]))
        elif isinstance(node, ast.MatchClass):
            yield from ((node.cls.lineno, name) for name in names(node.cls))
        elif isinstance(node, ast.Compare) and any(is_type(part) for part in (node.left, *node.comparators)):
            yield from ((node.lineno, name) for part in (node.left, *node.comparators) for name in names(part))


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"


def test_no_operation_is_named_outside_its_folder_and_the_importers() -> None:
    found = {name: set(imported(tree, "tightverify.ops")) - GENERAL for name, tree in files("ops/", "models/", "training/")}
    assert {name: sorted(those) for name, those in found.items() if those} == {}


def test_a_relaxation_knows_no_operation() -> None:
    assert not [name for name, tree in files() if name.startswith("relax/") and list(imported(tree, "tightverify.ops"))]


def test_no_kind_of_region_is_asked_for_outside_its_folder() -> None:
    found = [f"{name}:{line} {kind}" for name, tree in files("region/") for line, kind in asked(tree) if kind in KINDS]
    assert found == []


def test_the_walls_see_what_breaks_them() -> None:
    for line in (
        "from tightverify.ops import Maximum",
        "from tightverify.ops.maximum import Maximum",
        "from tightverify import ops",
        "import tightverify.ops.maximum",
        "def f():\n    from tightverify.ops import OPS, Maximum",
    ):
        assert set(imported(ast.parse(line), "tightverify.ops")) - GENERAL, line
    for line in (
        "isinstance(r, Zonotope)",
        "isinstance(r, (Box, region.Zonotope))",
        "type(r) is Zonotope",
        "type(r) == Zonotope",
    ):
        assert "Zonotope" in [name for _, name in asked(ast.parse(line))], line
    assert "Zonotope" in [name for _, name in asked(ast.parse("match r:\n    case Zonotope():\n        pass"))]
    assert "Zonotope" in KINDS
    assert not set(imported(ast.parse("from tightverify.ops import Operation"), "tightverify.ops")) - GENERAL
