"""What a user's first script does, with the installed package: nothing of the repository is beside it."""

import importlib.util
from importlib.metadata import metadata
from pathlib import Path

import solvers
import tightverify as tv
from tightverify.demo import NETWORKS, held_out

for package in (tv, solvers):
    folder = Path(str(package.__file__)).parent
    assert folder.parent.name == "site-packages", folder
    assert (folder / "py.typed").is_file(), folder
assert importlib.util.find_spec("sklearn") is None
about = metadata("tightverify")
assert about["License-Expression"] == "MIT"
assert about.get_all("License-File") == ["LICENSE"]

images, shown = held_out()
results = tv.certify(NETWORKS["GRU"], images[:5], shown[:5], tv.LinfBall(0.02, clip=(0, 1)), method="complete", time_limit=20)
print([result.verdict.name for result in results])
assert all(result.verdict in (tv.Verdict.ROBUST, tv.Verdict.COUNTEREXAMPLE, tv.Verdict.MISCLASSIFIED) for result in results)
