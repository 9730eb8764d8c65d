"""What an import takes: seconds, memory and nodes, of published files and of GRUs that are written out operator by operator.

    python -m experiments.imports [--frames 100 --frames 200 --frames 400]

Every import runs in a process of its own (those of Keras' small files in one), which has imported a small network of the same
kind before, so that what is loaded once is not counted. Memory is by how much what the process holds grows meanwhile, at most.
One thread.
"""

from __future__ import annotations

import gc
import math
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import tightverify as tv
from experiments.data import folder
from experiments.figures import table_of, timed
from experiments.pages import Experiment, report
from experiments.wild import FILES
from tightverify.demo import NETWORKS
from tightverify.models.from_torch import traced

FEATURES, HIDDEN, CLASSES = 8, 8, 2
SMALL, AGAIN = 4, 40
"""Frames of what is imported before: of a network that is exported, and of one that is read without."""
PAGE = resource.getpagesize()


class WrittenOut(nn.Module):
    """A GRU of so many frames, operator by operator, and a linear layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.x, self.h = nn.Linear(FEATURES, 3 * HIDDEN), nn.Linear(HIDDEN, 3 * HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), HIDDEN)
        for t in range(x.shape[1]):
            (rx, zx, nx), (rh, zh, nh) = self.x(x[:, t]).chunk(3, -1), self.h(h).chunk(3, -1)
            n = torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
            h = n + torch.sigmoid(zx + zh) * (h - n)
        found: Tensor = self.head(h)
        return found


def written_out(frames: int, path: Path) -> None:
    """The same as a file."""
    module, nodes = WrittenOut(), []

    def node(kind: str, given: str, made: str, **how: Any) -> None:
        nodes.append(helper.make_node(kind, given.split(), made.split(), **how))

    held = {name.replace(".", "_"): value.detach().numpy() for name, value in module.named_parameters()}
    held |= {"h": np.zeros((1, HIDDEN), np.float32), "thirds": np.full(3, HIDDEN, np.int64)}
    held |= {f"place{t}": np.array(t, np.int64) for t in range(frames)}
    before = "h"
    for t in range(frames):
        node("Gather", f"x place{t}", f"x{t}", axis=1)
        for name, given in (("x", f"x{t}"), ("h", before)):
            node("Gemm", f"{given} {name}_weight {name}_bias", f"{name}g{t}", transB=1)
            node("Split", f"{name}g{t} thirds", f"r{name}{t} z{name}{t} n{name}{t}", axis=1)
        for gate in "rz":
            node("Add", f"{gate}x{t} {gate}h{t}", f"{gate}a{t}")
            node("Sigmoid", f"{gate}a{t}", f"{gate}{t}")
        node("Mul", f"r{t} nh{t}", f"m{t}")
        node("Add", f"nx{t} m{t}", f"na{t}")
        node("Tanh", f"na{t}", f"n{t}")
        node("Sub", f"{before} n{t}", f"d{t}")
        node("Mul", f"z{t} d{t}", f"u{t}")
        node("Add", f"n{t} u{t}", f"h{t}")
        before = f"h{t}"
    node("Gemm", f"{before} head_weight head_bias", "y", transB=1)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", frames, FEATURES])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])
    weights = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "gru", [entry], [made], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


@dataclass(frozen=True)
class Import:
    """A network, its import, that of a small one `before`, and the operators of its file; `exported` is by `torch.export`."""

    name: str
    load: Callable[[], tv.Model]
    before: Callable[[], object]
    operators: int
    exported: bool = False

    def weighed(self) -> tuple[float, float, int]:
        """Seconds, MiB and nodes."""
        torch.set_num_threads(1)
        traced.LONG = math.inf if self.exported else traced.LONG  # type: ignore[assignment]
        self.before()
        gc.collect()
        with most_held() as most:
            seconds, model = timed(self.load)
        return seconds, most[0] / 2**20, len(model.graph.nodes)


@contextmanager
def most_held() -> Iterator[list[int]]:
    """By how many bytes what the process holds grows at most meanwhile, looked at a hundred times in a second."""

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    found, done, start = [0], threading.Event(), held()

    def watch() -> None:
        while not done.is_set():
            found[0] = max(found[0], held() - start)
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found[0] = max(found[0], held() - start)


def load_small(path: Path) -> None:
    tv.load(path)


def load_module(frames: int) -> tv.Model:
    return tv.load(WrittenOut(), (frames, FEATURES))


def weigh(one: Import) -> tuple[float, float, int]:
    return one.weighed()


def operators_of(path: Path) -> int:
    return len(onnx.load(str(path)).graph.node)


def published() -> list[Import]:
    """What people publish, with the option that it needs."""
    before = partial(load_small, NETWORKS["GRU"])
    return [Import(wild.name, partial(wild.load, wild.inputs(1)), before, operators_of(wild.path)) for wild in FILES]


def keras() -> list[Import]:
    """What Keras exports, one import for each file."""
    before, found = partial(load_small, NETWORKS["GRU"]), []
    for path in sorted((folder("wild") / "keras").glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as arrays:
            x = torch.from_numpy(arrays["x"])
        found.append(Import(path.stem, partial(tv.load, path, inputs=x), before, operators_of(path)))
    return found


def rows_of(title: str, imports: list[Import], each: int | None = 1) -> None:
    """A table of imports, so many of which share a process."""
    table = table_of(title, "network", "operators", "nodes", "import s", "MiB")
    with get_context("spawn").Pool(1, maxtasksperchild=each) as pool:
        weighed = pool.map(weigh, imports, chunksize=1)
    for one, (seconds, memory, nodes) in zip(imports, weighed, strict=True):
        table.add_row(one.name, str(one.operators), str(nodes), f"{seconds:.2f}", f"{memory:.0f}")
    report(table)


@click.command(cls=Experiment)
@click.option("--frames", "lengths", type=int, multiple=True, default=(100, 200, 400), show_default=True)
@click.option("--written-out", "only", is_flag=True, help="GRUs that are written out, and no files.")
def main(lengths: tuple[int, ...], only: bool) -> None:
    """What an import takes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        if not only:
            rows_of("published networks", published())
            rows_of("Keras 3, in one process", keras(), None)
        small = Path(made) / "small.onnx"
        written_out(SMALL, small)
        several: list[Import] = []
        for frames in lengths:
            path = Path(made) / f"gru{frames}.onnx"
            written_out(frames, path)
            count = operators_of(path)
            module = partial(load_module, frames)
            several.append(Import(f"ONNX, {frames} frames", partial(tv.load, path), partial(load_small, small), count))
            several.append(Import(f"torch, {frames} frames", module, partial(load_module, AGAIN), count))
            by_export = Import(f"torch, {frames} frames, torch.export", module, partial(load_module, SMALL), count, True)
            several.append(by_export)
        rows_of("GRUs written out", several)


if __name__ == "__main__":
    main()
