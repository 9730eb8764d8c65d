"""Inputs of the command line's tests."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tightverify.demo import NETWORKS, held_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and all that is wrong with others: one file each."""
    folder = tmp_path_factory.mktemp("inputs")
    x, y = held_out()
    good = {"x": x[:20], "y": y[:20]}
    for name, arrays in {
        "good": good,
        "all": {"x": x, "y": y},
        "unlabelled": {"x": x[:5]},
        "no_x": {"images": x[:5], "y": y[:5]},
        "wrong_shape": {"x": x[:5, :, :7], "y": y[:5]},
        "flat": {"x": x[0, 0]},
        "empty": {"x": x[:0], "y": y[:0]},
        "nan": {"x": np.where(np.arange(5)[:, None, None] == 3, np.nan, x[:5]), "y": y[:5]},
        "infinite": {"x": x[:5] + np.inf, "y": y[:5]},
        "words": {"x": np.array([["a", "b"]])},
        "high_label": {"x": x[:5], "y": y[:5] + 5},
        "low_label": {"x": x[:5], "y": y[:5] - 1},
        "few_labels": {"x": x[:5], "y": y[:4]},
        "split_labels": {"x": x[:5], "y": y[:5] + 0.5},
        "objects": {"x": np.array([{"a": 1}], dtype=object)},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    np.save(folder / "single.npy", x[:5])
    (folder / "pickle.npz").write_bytes(pickle.dumps({"x": [1, 2]}))
    (folder / "text.npz").write_text("x, y\n1, 2\n")
    (folder / "nothing.npz").write_bytes(b"")
    whole = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[200:400] = bytes(200)
    (folder / "damaged.npz").write_bytes(damaged)
    (folder / "pickle.onnx").write_bytes(pickle.dumps({"weights": [1.0]}))
    (folder / "cut.onnx").write_bytes(NETWORKS["GRU"].read_bytes()[:3000])
    (folder / "text.onnx").write_text("a model, honestly\n")
    strange = helper.make_graph(
        [helper.make_node("Sin", ["x"], ["y"], name="strange")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    onnx.save(helper.make_model(strange, opset_imports=[helper.make_opsetid("", 17)]), str(folder / "strange.onnx"))
    return folder
