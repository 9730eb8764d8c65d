"""The file of one input's evidence as it grows: entries are written as they come, so that memory stays small.

A file is a zip of NumPy arrays, as `np.load` reads it. `entries` holds JSON, a line for each entry: its kind and its values.
Arrays and floats are in blocks of one type, one after the other, and the entry says where: [block, start, shape].
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tightverify.errors import UsageError
from tightverify.evidence.entries import Entry, Floats, Question, Sweep
from tightverify.graph import Affine, Apply, Energy, Graph, Node, Operand
from tightverify.region import Region, Zonotope
from tightverify.spec import Property

BLOCK = 2**23
"""bytes of one type that are gathered before they are written"""
QUICK = 1
"""zlib's level: evidence is written while people wait"""


class Record:
    """Writes one input's entries; the file has its name only when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path, self._beside = path, path.with_name(path.name + ".part")
        self.stage = ""
        self._sweeps = 0
        self._lines: list[str] = []
        self._blocks: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self._lengths: dict[str, int] = defaultdict(int)
        self._written: dict[str, int] = defaultdict(int)
        try:
            self._file = zipfile.ZipFile(self._beside, "w", zipfile.ZIP_DEFLATED, compresslevel=QUICK)
        except OSError as error:
            raise UsageError(
                f"evidence cannot be written to {path} ({error.strerror}); give another folder, in which files can be made"
            ) from error

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Complete the file; what was cut short is removed."""
        if kind is not None:
            self._file.close()
            self._beside.unlink(missing_ok=True)
            return
        for name in list(self._blocks):
            self._write(name)
        self._member("entries", np.frombuffer("\n".join(self._lines).encode(), dtype=np.uint8))
        self._file.close()
        os.replace(self._beside, self._path)

    def new_sweep(self, parent: int = -1, node: int = -1, neuron: int = -1, value: float = 0.0, above: bool = False) -> int:
        """The number of a new sweep, in the present stage: of the whole region, or of a half of a parent's part."""
        self.add(Sweep(self._sweeps, self.stage, parent, node, neuron, value, above))
        self._sweeps += 1
        return self._sweeps - 1

    def add(self, entry: Entry) -> None:
        values = {each.name: self._placed(getattr(entry, each.name)) for each in fields(entry)}
        self._lines.append(json.dumps([type(entry).__name__, values], allow_nan=False))

    def _placed(self, value: Any) -> Any:
        """A value as it is, or where its numbers are."""
        if not isinstance(value, float | np.ndarray):
            return value
        array = np.asarray(value)
        name = array.dtype.name
        place = [f"{name}-{self._written[name]}", self._lengths[name], list(array.shape)]
        self._blocks[name].append(array.flatten())  # a copy: whose numbers they are may change them
        self._lengths[name] += array.size
        if self._lengths[name] * array.itemsize > BLOCK:
            self._write(name)
        return place

    def _write(self, name: str) -> None:
        if self._lengths[name]:
            self._member(f"{name}-{self._written[name]}", np.concatenate(self._blocks[name]))
        self._blocks[name].clear()
        self._lengths[name] = 0
        self._written[name] += 1

    def _member(self, name: str, array: NDArray[Any]) -> None:
        with self._file.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)


def evidence_file(folder: Path, number: int) -> Path:
    """Where an input's evidence is."""
    return folder / f"{number}.npz"


def make_folder(folder: Path) -> None:
    """Say at once that no files can be written to a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"evidence cannot be written to {folder} ({error.strerror}); give a folder in which files can be made"
        ) from error


def question(number: int, model: str, mark: str, method: str, graph: Graph, region: Region, wanted: Property) -> Question:
    """What is asked of one input: the graph, a region and a property of one each."""

    def plain(values: Tensor) -> Floats:
        return values[0].cpu().numpy()

    none = region.centre.new_zeros((1, 0))
    moved = (region.generators, region.slack) if isinstance(region, Zonotope) else (none[..., None], none)
    return Question(
        input=number,
        model=model,
        fingerprint=mark,
        method=method,
        norm=f"{region.norm:g}",
        radius=float(region.radius[0]),
        centre=plain(region.centre),
        lower=plain(region.box.lower),
        upper=plain(region.box.upper),
        generators=plain(moved[0]),
        slack=plain(moved[1]),
        rows=plain(wanted.rows),
        offsets=plain(wanted.offsets),
        needed=wanted.needed,
        output=graph.output,
        nodes=[described(graph, node) for node in graph.nodes],
    )


def described(graph: Graph, node: Node) -> dict[str, Any]:
    """A node in plain values: what it is, its size, which neurons of which nodes it reads."""
    kind = {Affine: "affine", Apply: "operation", Energy: "energy"}.get(type(node), "input")
    found: dict[str, Any] = {"kind": kind, "size": node.size, "reads": [read(graph, operand) for operand in node.operands]}
    if isinstance(node, Apply):
        found |= {"name": node.op.name, "operation": repr(node.op)}
    elif kind == "input":
        found |= {"start": node.block.start}  # type: ignore[union-attr]
    return found


def read(graph: Graph, operand: Operand) -> dict[str, Any]:
    """The neurons that an operand reads: from, to and step, or their places."""
    if isinstance(operand.index, slice):
        return {"node": operand.source, "slice": list(operand.index.indices(graph.nodes[operand.source].size))}
    return {"node": operand.source, "places": operand.index.tolist()}
