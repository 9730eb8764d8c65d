"""Every bad input is refused in one sentence, before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.refusals import assert_one_sentence
from tightverify.cli.main import main
from tightverify.demo import NETWORKS

GRU = str(NETWORKS["GRU"])

BAD = [
    ("gone.onnx", "good.npz", [], "gone.onnx"),
    ("pickle.onnx", "good.npz", [], "pickle"),
    ("cut.onnx", "good.npz", [], "cut off"),
    ("text.onnx", "good.npz", [], "not an ONNX file"),
    ("strange.onnx", "wide.npz", [], "Sin"),
    (GRU, "gone.npz", [], "does not exist"),
    (GRU, ".", [], "holds no .wav"),
    (GRU, "pickle.npz", [], "not an .npz file"),
    (GRU, "text.npz", [], "not an .npz file"),
    (GRU, "nothing.npz", [], "not an .npz file"),
    (GRU, "cut.npz", [], "cut short"),
    (GRU, "damaged.npz", [], "damaged.npz"),
    (GRU, "single.npy", [], "np.savez"),
    (GRU, "objects.npz", [], "numbers"),
    (GRU, "words.npz", [], "numbers"),
    (GRU, "no_x.npz", [], "no array x, only images, y"),
    (GRU, "wrong_shape.npz", [], "8, 8"),
    (GRU, "flat.npz", [], "wanted (N, time, features)"),
    (GRU, "empty.npz", [], "no inputs"),
    (GRU, "nan.npz", [], "input 3 holds a NaN"),
    (GRU, "infinite.npz", [], "infinite"),
    (GRU, "high_label.npz", [], "classes 0 to 9"),
    (GRU, "high_label.npz", ["--limit", "1"], "classes 0 to 9"),
    (GRU, "low_label.npz", [], "classes 0 to 9"),
    (GRU, "few_labels.npz", [], "one per input"),
    (GRU, "split_labels.npz", [], "whole numbers"),
    (GRU, "good.npz", ["--eps", "-0.1"], "eps is -0.1"),
    (GRU, "good.npz", ["--eps", "nan"], "eps is nan"),
    (GRU, "good.npz", ["--eps", "much"], "--eps"),
    (GRU, "good.npz", ["--norm", "3"], "--norm"),
    (GRU, "good.npz", ["--clip", "1", "0"], "clip"),
    (GRU, "good.npz", ["--clip", "0.4", "0.6"], "outside the range"),
    (GRU, "good.npz", ["--frames", "0,8"], "0 to 7"),
    (GRU, "good.npz", ["--frames", "3-1"], "such as 0,3-5"),
    (GRU, "good.npz", ["--frames", "-1"], "such as 0,3-5"),
    (GRU, "good.npz", ["--frames", "0-99999999999999"], "such as 0,3-5"),
    (GRU, "good.npz", ["--features", "two"], "such as 0,3-5"),
    (GRU, "good.npz", ["--method", "magic"], "choose one of interval, crown-ibp"),
    (GRU, "good.npz", ["--limit", "0"], "--limit"),
    (GRU, "good.npz", ["--batch", "0"], "--batch"),
    (GRU, "good.npz", ["--batch-axis", "7"], "batch_axis"),
    (GRU, "good.npz", ["--time-limit", "0"], "--time-limit"),
    (GRU, "good.npz", ["--seed", "-1"], "--seed"),
    (GRU, "good.npz", ["--restarts", "-1"], "--restarts"),
    (GRU, "good.npz", ["--top", "10"], "top is 10"),
    (GRU, "good.npz", ["--device", "teapot"], "--device"),
    (GRU, "good.npz", ["--tea"], "--tea"),
]


@pytest.mark.parametrize(("model", "inputs", "options", "words"), BAD, ids=lambda value: str(value)[-40:])
def test_bad_input_gets_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, inputs: str, options: list[str], words: str
) -> None:
    np.savez(folder / "wide.npz", x=np.zeros((2, 3), dtype=np.float32))
    out = tmp_path / "results.jsonl"
    given = ["certify", str(folder / model), str(folder / inputs), "--eps", "0.01", "--out", str(out), *options]
    assert main(given) == 2
    assert_one_sentence(capsys, words, out)
