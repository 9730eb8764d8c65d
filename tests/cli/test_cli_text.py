"""The command line on networks that take words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.refusals import assert_one_sentence
from tests.helpers.texts import exported, reader, sentences
from tightverify.cli.main import main


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of sentences of any length, and some sentences."""
    folder = tmp_path_factory.mktemp("texts")
    network, tokens = reader(dtype=torch.float32), sentences(4)
    exported(network, folder / "model.onnx")
    y = network(tokens).argmax(1).numpy()
    np.savez(folder / "tokens.npz", tokens=tokens.numpy(), y=y)
    np.savez(folder / "unknown.npz", tokens=tokens.numpy() + 9, y=y)
    return folder


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_token_numbers_in_place_of_inputs(texts: Path, tmp_path: Path) -> None:
    given = [str(texts / "model.onnx"), str(texts / "tokens.npz")]
    out = tmp_path / "out.jsonl"
    assert main(["certify", *given, "--eps", "0.001", "--method", "linear", "--out", str(out)]) == 0
    assert [line["verdict"] for line in lines(out)] == ["ROBUST"] * 4
    radii = ["--per", "frame", "--method", "linear", "--restarts", "1", "--limit", "1", "--out", str(tmp_path / "radii")]
    assert main(["radius", *given, *radii]) == 0
    assert len((tmp_path / "radii" / "radii.csv").read_text().splitlines()) == 5
    assert main(["bounds", *given, "--eps", "0.001", "--limit", "1"]) == 0


def test_words_that_are_not_known(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    given = ["certify", str(texts / "model.onnx"), str(texts / "unknown.npz"), "--eps", "0.1", "--quiet", "--out", str(out)]
    assert main(given) == 2
    assert_one_sentence(capsys, "wanted token numbers", out)
