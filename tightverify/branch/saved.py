"""Search trees on disk: a search goes on where it was left, hours or reboots later.

A file holds its format's number, and one input's tree: all its nodes, the least that was proved of closed leaves, and for each
open leaf its margins and its intervals. Planes are made again when the search goes on. A file is believed, as it is only ever
written by the search itself; the fingerprint of network, region and rows makes sure that it is about the same question.

Where evidence is wanted too, what was found by the time that a tree is written is kept beside it, as parts of a file
(`Earlier`): a tree says how many of them belong to it, and which bounding passes its open leaves have there.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tightverify.bounds.bounding_pass import BoundingPass
from tightverify.bounds.constraints import PART
from tightverify.bounds.fitted import Effort
from tightverify.bounds.recorder import SILENT
from tightverify.bounds.result import LinearBounds
from tightverify.branch.leaf import LIMIT, under, within
from tightverify.branch.node import Branch, Split
from tightverify.branch.search import Tree
from tightverify.budget import UNLIMITED
from tightverify.errors import UsageError
from tightverify.evidence import FORMAT as EVIDENCE_FORMAT
from tightverify.evidence import PROPERTY, format_of
from tightverify.recording.record import Earlier
from tightverify.region import Region
from tightverify.spec import Property
from tightverify.values import Interval

FORMAT = 3
"""Trees of another number are not gone on with: raise it whenever a bound was found wrong, or a file says something else."""
UNNUMBERED = 2
"""The last format whose files had no number in them."""


def tree_file(folder: Path, number: int) -> Path:
    """Where an input's tree is."""
    return folder / f"{number}.npz"


def earlier_evidence(path: Path, mark: str) -> Earlier:
    """The evidence that belongs to a tree on disk, for another run to go on from; none yet, where there is no tree."""
    folder = path.with_name(f"{path.stem}-evidence")
    if not path.exists():
        return Earlier(folder)
    earlier = Earlier(folder, *Saved(path, mark).evidence)
    if not earlier.parts or not all(file.exists() for file in earlier.files):
        raise UsageError(
            f"the evidence of {path} is not in {folder}: its search was begun without any, or it was removed; "
            "remove that tree, name another folder for trees, or leave evidence out"
        )
    for file in earlier.files:
        if (found := format_of(file)) != EVIDENCE_FORMAT:
            raise UsageError(
                f"{file} is evidence of format {found}, of another version; wanted format {EVIDENCE_FORMAT}: "
                f"remove {path} and its evidence, name another folder for trees, or leave evidence out"
            )
    return earlier


def save(path: Path, tree: Tree, mark: str, evidence: tuple[int, int]) -> None:
    """Write a tree, and how many parts of evidence, with how many bounding passes, belong to it, in place of what was there.

    Whoever reads it meanwhile sees the old one or the new one.
    """
    leaves = (*tree.open, *tree.stuck)
    arrays = {
        "floor": tree.floor,
        "closed": torch.tensor(tree.closed, dtype=torch.float64),
        "evidence": torch.tensor(evidence),
        "bounding_passes": torch.cat(
            [torch.zeros(0, dtype=torch.long), *(leaf.bounds.recorder.numbers.cpu() for leaf in leaves)]
        ),
        "numbers": torch.tensor([leaf.number for leaf in leaves], dtype=torch.long),
        "margins": stacked([leaf.margins for leaf in leaves], tree.floor.shape),
        "lower": stacked([torch.cat([one.lower[0] for one in leaf.bounds.intervals]) for leaf in leaves], (0,)),
        "upper": stacked([torch.cat([one.upper[0] for one in leaf.bounds.intervals]) for leaf in leaves], (0,)),
    }
    branches = np.array(json.dumps([asdict(branch) for branch in tree.branches]))
    plain = {name: array.cpu().numpy() for name, array in arrays.items()}
    content = io.BytesIO()
    np.savez_compressed(content, format=np.array(FORMAT), fingerprint=np.array(mark), branches=branches, **plain)  # type: ignore[arg-type]
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.getbuffer())
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UsageError(
            f"the search tree {path} cannot be written ({error.strerror}); make room there and run it again: it goes on from "
            "the last tree that could be written"
        ) from error


def stacked(values: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(values) if values else torch.zeros((0, *shape), dtype=torch.float64)


class Saved:
    """What a file holds of one input's tree."""

    def __init__(self, path: Path, mark: str) -> None:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self._arrays = {name: arrays[name] for name in arrays.files}
            self._check(path, mark)
            self.branches = [read_branch(one) for one in json.loads(str(self._arrays["branches"]))]
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise UsageError(
                f"{path} is no search tree that this program wrote ({error}); remove it, or name another folder"
            ) from error

    def _check(self, path: Path, mark: str) -> None:
        """Refuse a tree of another format, or about another question."""
        known, _ = str(self._arrays["fingerprint"]), self._arrays["closed"]
        if (found := int(self._arrays.get("format", UNNUMBERED))) != FORMAT:
            raise UsageError(
                f"{path} is a search tree of format {found}, of another version; wanted format {FORMAT}: "
                "remove it, or name another folder for trees"
            )
        if known != mark:
            raise UsageError(
                f"{path} is about another network, region or property; remove it, or name another folder for trees"
            )

    def __len__(self) -> int:
        return len(self._arrays["numbers"])

    @property
    def numbers(self) -> list[int]:
        return [int(number) for number in self._arrays["numbers"]]

    @property
    def evidence(self) -> tuple[int, int]:
        """How many parts of evidence, with how many bounding passes, belong to it; none if the run that wrote it wrote none."""
        parts, bounding_passes = self._arrays.get("evidence", (0, 0))
        return int(parts), int(bounding_passes)

    def tensor(self, name: str, like: Tensor) -> Tensor:
        return torch.from_numpy(self._arrays[name]).to(like)

    def paths(self) -> list[tuple[Split, ...]]:
        """The splits that lead to each open leaf."""
        found = []
        for number in self.numbers:
            path: list[Split] = []
            while number:
                branch = self.branches[number]
                assert branch.split is not None
                path.append(branch.split)
                number = branch.parent
            found.append(tuple(reversed(path)))
        return found

    def bounds(self, root: LinearBounds, part: slice, effort: Effort, spec: Property) -> LinearBounds:
        """Some of the leaves bounded again, from the intervals of the file and those and the polygons of the root (1)."""
        passes = torch.from_numpy(self._arrays["bounding_passes"])[part].to(root.region.centre.device)
        recorder, root = root.recorder.resumed(passes), replace(root, recorder=SILENT)
        lower, upper = (self.tensor(name, root.region.centre)[part] for name in ("lower", "upper"))
        count = len(lower)

        def many(value: Tensor) -> Tensor:
            return value.expand(count, *value.shape[1:])

        whole = root.map(many, region_of(root.region, count))
        output_constraint = [path[0] for path in self.paths()[part] if path and path[0].node == PROPERTY]
        if output_constraint:
            rows = torch.tensor([split.neuron for split in output_constraint], device=lower.device)
            limits = lower.new_tensor([split.value for split in output_constraint])
            whole = under(whole, rows, limits, -limits / LIMIT, spec[torch.zeros_like(rows)])
        sizes = [node.size for node in root.graph.nodes]
        known, empty = [], []
        saved = zip(torch.split(lower, sizes, 1), torch.split(upper, sizes, 1), strict=True)
        for number, (ends, now) in enumerate(zip(saved, whole.intervals, strict=True)):
            interval, crossed = Interval(*ends).meet(now)
            known.append(interval)
            empty.append(crossed)
            recorder.empty(number, now, crossed)
        region = within(root.graph, whole.region, known)
        again = BoundingPass(
            root.graph,
            region,
            effort.steps,
            recorder,
            PART,
            polygons=dict(whole.polygons),
            pairs=dict(whole.pairs),
            paired=effort.fitting.pairs,
            crossed=empty,
            stops=whole.stops,
        )
        found = again.run(UNLIMITED, effort.fitting.relaxation, known)
        constraints = replace(found.constraints, output=whole.output_constraint)  # only now: its row is of the last node
        return replace(found, constraints=constraints)


def region_of(region: Region, count: int) -> Region:
    """One region many times."""
    return region[torch.zeros(count, dtype=torch.long, device=region.centre.device)]


def read_branch(values: dict[str, object]) -> Branch:
    split = values["split"]
    return Branch(**{**values, "split": split and Split(**split), "margins": tuple(values["margins"])})  # type: ignore[arg-type]
