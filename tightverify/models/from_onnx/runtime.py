"""An ONNX file run by onnxruntime, for comparison and for replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from tightverify.errors import ModelError, RunError
from tightverify.models.blocks import Block
from tightverify.models.frames import chosen, rows
from tightverify.models.from_onnx.entries import Fixed, Port
from tightverify.models.from_onnx.reading import brief
from tightverify.models.from_onnx.time_first import time_first

DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
}
"""By the names that onnxruntime has for them."""
AS_WRITTEN = "session.qdq_matmulnbits_accuracy_level", "1"
"""Products with quantised weights are worked out in float32, as the file says, and not with activations rounded to int8."""
NOTHING: Mapping[str, NDArray[Any]] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Runtime:
    """The file run by onnxruntime, on a batch of inputs (N, *shape), or (N, n) where several inputs lie side by side.

    `single` is its output's shape for one input; of what it gives, flattened, the numbers at `kept` are asked about.
    """

    session: onnxruntime.InferenceSession
    path: str
    ports: tuple[Port, ...]
    blocks: tuple[Block, ...]
    single: tuple[int, ...]
    one_by_one: bool
    fixed: Mapping[str, Fixed]
    kept: NDArray[np.int64]

    @property
    def dtype(self) -> torch.dtype:
        """That of all its inputs that are perturbed."""
        return next(DTYPES[entry.type] for entry in self.session.get_inputs() if entry.name == self.ports[0].name)

    def __call__(self, x: Tensor, others: Mapping[str, NDArray[Any]] = NOTHING) -> Tensor:
        """The outputs (N, K), `others` of the file's inputs being the same for all."""
        several = [x[k : k + 1] for k in range(len(x))] if self.one_by_one else [x]
        return torch.cat([self.run(some, others) for some in several])

    def run(self, x: Tensor, others: Mapping[str, NDArray[Any]]) -> Tensor:
        """What is asked about, of one call of onnxruntime."""
        first, *_ = self.outputs(x, others).values()
        every = rows(torch.from_numpy(first), self.single, len(x), self.path)
        return chosen(every, self.kept).to(x.device)

    def outputs(self, x: Tensor, others: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs of one call of onnxruntime by their names; `others` take the place of what inputs are fixed at."""
        feeds = self._feeds(torch.as_tensor(x).detach().cpu())
        try:
            fixed = {name: one.times(len(x)) for name, one in self.fixed.items()}
            made = self.session.run(None, {**feeds, **fixed, **others})
            return {entry.name: np.asarray(each) for entry, each in zip(self.session.get_outputs(), made, strict=True)}
        except Exception as error:
            shapes = " and ".join(str(values.shape) for values in feeds.values())
            raise RunError(
                f"{self.path}: onnxruntime cannot run it on inputs of shape {shapes} ({brief(error)}); "
                "check `shape` and `batch_axis`, and export recurrent layers in float32"
            ) from error

    def _feeds(self, x: Tensor) -> dict[str, NDArray[Any]]:
        """The inputs as the file wants them."""
        parts = [block.of(x) for block in self.blocks] or [x]
        pairs = zip(self.ports, parts, strict=True)
        return {port.name: np.ascontiguousarray(np.moveaxis(part.to(self.dtype).numpy(), 0, port.axis)) for port, part in pairs}


@dataclass(frozen=True, eq=False)
class Unrolled:
    """The file called for one chunk after the other of inputs (N, K, *shape), its states going back into it.

    `states` are names of inputs, each with that of the output that goes back into it.
    """

    call: Runtime
    states: Mapping[str, str]
    kept: NDArray[np.int64]

    @property
    def dtype(self) -> torch.dtype:
        return self.call.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs (N, n) that are asked about."""
        return chosen(torch.stack([self._one(chunks) for chunks in x]), self.kept).to(x.device)

    def _one(self, chunks: Tensor) -> Tensor:
        held: Mapping[str, NDArray[Any]] = NOTHING
        found: list[Tensor] = []
        for chunk in chunks:
            made = self.call.outputs(chunk[None], held)
            first, *_ = made.values()
            found.append(rows(torch.from_numpy(first), self.call.single, 1, self.call.path)[0])
            held = {entry: made[output] for entry, output in self.states.items()}
        return torch.cat(found)


def session(model: ModelProto, path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread of the CPU, silent.

    Which buffers it may use twice it would plan in a time that grows with the square of the nodes, for no less memory.
    """
    options = onnxruntime.SessionOptions()
    options.enable_mem_reuse = False
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(*AS_WRITTEN)
    try:
        return onnxruntime.InferenceSession(time_first(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"{path}: onnxruntime cannot load it ({brief(error)}); export it for an older opset, or in float32"
        ) from error
