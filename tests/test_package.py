"""The package as it is imported and installed: what stands beside a user's script, what its metadata says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
try:
    import tightverify
except ImportError as error:
    print(error)
else:
    print("imported")
"""


def said_beside(folder: Path, before: str = "", installed: Path = ROOT) -> str:
    """What a script in a folder says that imports the package."""
    (folder / "script.py").write_text(before + SCRIPT)
    paths = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, folder / "script.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("other", ["solvers/__init__.py", "solvers.py"])
def test_another_package_of_the_name_solvers_is_named(tmp_path: Path, other: str) -> None:
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("")
    said = said_beside(tmp_path)
    hiding = tmp_path / other if other.endswith("solvers.py") else tmp_path / "solvers"
    assert said.startswith(f"{hiding.resolve()} was found as the package `solvers`, in place of tightverify's own")
    assert "rename it" in said
    assert "\n" not in said


def test_a_module_that_was_imported_before_is_named(tmp_path: Path) -> None:
    before = "import sys, types\nsys.modules['solvers'] = types.ModuleType('solvers')\n"
    assert said_beside(tmp_path, before).startswith("<solvers> was found as the package `solvers`")


def test_a_folder_of_files_that_are_no_package_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "solvers").mkdir()
    (tmp_path / "solvers" / "notes.txt").write_text("")
    assert said_beside(tmp_path) == "imported"


def test_an_installation_of_links_to_files_is_ours(tmp_path: Path) -> None:
    for package in ("tightverify", "solvers"):
        shutil.copytree(ROOT / package, tmp_path / "installed" / package, copy_function=os.symlink)
    assert said_beside(tmp_path, installed=tmp_path / "installed") == "imported"


def test_the_versions_that_are_told_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\nlicense: {project['license']}\n" in (ROOT / "CITATION.cff").read_text()
    assert project["license-files"] == ["LICENSE"]
