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

from tightverify.errors import ModelError
from tightverify.models.frames import chosen, rows
from tightverify.models.from_onnx.entries import Fixed
from tightverify.models.from_onnx.reading import brief

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
    """The file run by onnxruntime, on a batch of inputs (N, *shape); `single` is its output's shape for one input.

    Of what it gives, flattened, the numbers at `kept` are asked about.
    """

    session: onnxruntime.InferenceSession
    path: str
    entry: str
    axis: int
    single: tuple[int, ...]
    one_by_one: bool
    fixed: Mapping[str, Fixed]
    kept: NDArray[np.int64]

    @property
    def dtype(self) -> torch.dtype:
        return next(DTYPES[entry.type] for entry in self.session.get_inputs() if entry.name == self.entry)

    def __call__(self, x: Tensor, others: Mapping[str, NDArray[Any]] = NOTHING) -> Tensor:
        """The outputs (N, K), `others` of the file's inputs being the same for all."""
        several = [x[k : k + 1] for k in range(len(x))] if self.one_by_one else [x]
        return torch.cat([self.run(some, others) for some in several])

    def run(self, x: Tensor, others: Mapping[str, NDArray[Any]]) -> Tensor:
        """One call of onnxruntime."""
        inputs = np.ascontiguousarray(np.moveaxis(torch.as_tensor(x).detach().to("cpu", self.dtype).numpy(), 0, self.axis))
        try:
            fixed = {name: one.times(len(x)) for name, one in self.fixed.items()}
            found = np.asarray(self.session.run(None, {self.entry: inputs, **fixed, **others})[0])
        except Exception as error:
            raise ModelError(
                f"{self.path}: onnxruntime cannot run it on inputs of shape {inputs.shape} ({brief(error)}); "
                "check `shape` and `batch_axis`, and export recurrent layers in float32"
            ) from error
        every = rows(torch.from_numpy(found), self.single, len(x), self.path)
        return chosen(every, self.kept).to(x.device)


def session(model: ModelProto, path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread of the CPU, silent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(*AS_WRITTEN)
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"{path}: onnxruntime cannot load it ({brief(error)}); export it for an older opset, or in float32"
        ) from error
