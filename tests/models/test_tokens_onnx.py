"""ONNX files that gather vectors by the numbers of words: what is left behind the table, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto

import tightverify as tv
from tests.helpers.onnx_models import build, node, normal, save
from tests.helpers.texts import LENGTH, WIDTH, WORDS, exported, reader, sentences
from tightverify.errors import InputError, UnsupportedError


@pytest.mark.parametrize(("layer", "modern"), [("lstm", True), ("lstm", False), ("gru", False), ("conv", False)])
def test_what_the_exporters_write(layer: str, modern: bool, tmp_path: Path) -> None:
    network = reader(layer, torch.float32)
    path = exported(network, tmp_path / "model.onnx", modern)
    tokens = sentences(4)
    model = tv.load(path, (LENGTH,))
    assert model.embedding is not None
    assert torch.equal(model.embedding.table, network.words.weight)
    assert model.dtype is torch.float32
    with torch.no_grad():
        wanted, vectors = network(tokens), network.words(tokens)
        behind = network.head(network.layer(vectors + 0.1)[0][:, -1])
    assert torch.allclose(model.original(vectors), wanted, atol=1e-5)
    assert torch.allclose(model.original(vectors + 0.1), behind, atol=1e-5)
    found = tv.certify(path, tokens, None, tv.LinfBall(1e-3), method="linear")
    assert found.counts["ROBUST"] == 4
    assert [r.label for r in found] == wanted.argmax(1).tolist()


def from_the_end(kind: int) -> list[NodeProto]:
    """Negative numbers counted from the table's end, as Keras writes it, by a product or by a choice."""
    nodes = [node("Cast", "x", "i", to=kind), node("Less", "i none", "low"), node("Add", "i count", "more")]
    if kind == TensorProto.INT64:
        return [*nodes, node("Where", "low more i", "u")]
    low, high = (node("Cast", name, f"{name}_i", to=kind) for name in ("low", "high"))
    products = [node("Mul", "low_i more", "a"), node("Mul", "high_i i", "b"), node("Add", "a b", "u")]
    return [*nodes, node("Not", "low", "high"), low, high, *products]


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("entry", [TensorProto.FLOAT, TensorProto.INT64])
def test_numbers_may_come_as_floats_and_be_counted_from_the_end(entry: int, kind: int, tmp_path: Path) -> None:
    whole = np.int64 if kind == TensorProto.INT64 else np.int32
    model = gathering(*from_the_end(kind), kind=entry, none=np.array(0, dtype=whole), count=np.array([WORDS], dtype=whole))
    loaded, tokens = tv.load(save(tmp_path, model)), sentences(3)
    assert loaded.embedding is not None
    table = torch.from_numpy(normal(WORDS, WIDTH))
    assert torch.equal(loaded.embedding.table, table)
    vectors = loaded.embedding(tokens)
    assert torch.allclose(loaded.original(vectors), table[tokens].sum(1))
    assert torch.allclose(loaded.original(vectors + 1), table[tokens].sum(1) + LENGTH)
    assert torch.allclose(loaded.graph.forward(vectors.flatten(1)), table[tokens].sum(1))


@pytest.mark.parametrize("shift", [1, WORDS, -WORDS - 1])
def test_other_rows_than_the_words_are_refused(shift: int, tmp_path: Path) -> None:
    model = gathering(node("Cast", "x", "i", to=TensorProto.INT64), node("Add", "i shift", "u"), shift=np.array(shift))
    with pytest.raises(UnsupportedError, match="looks up rows of other numbers"):
        tv.load(save(tmp_path, model))


def test_floats_that_are_read_otherwise_are_no_numbers_of_words(tmp_path: Path) -> None:
    model = gathering(
        node("Relu", "x", "r"), node("Cast", "x", "i", to=TensorProto.INT64), node("Identity", "i", "u"), kind=TensorProto.FLOAT
    )
    model.graph.node.append(node("Identity", "r", "unread"))
    with pytest.raises(UnsupportedError, match=r"Gather.*that depends on the network's input"):
        tv.load(save(tmp_path, model))


def test_sentences_of_any_length(tmp_path: Path) -> None:
    path = exported(reader(dtype=torch.float32), tmp_path / "model.onnx")
    several = [sentences(1, length, seed=length)[0] for length in (2, 5, 2)]
    results = tv.certify_clips(path, several, None, tv.LinfBall(1e-3), method="linear")
    for result, sentence in zip(results, several, strict=True):
        (alone,) = tv.certify(path, sentence[None], None, tv.LinfBall(1e-3), method="linear")
        assert (result.verdict, result.label) == (alone.verdict, alone.label)
        assert torch.allclose(result.margins, alone.margins, atol=1e-12)
    with pytest.raises(InputError, match="clip 1 has 12 for its word 0"):
        tv.certify_clips(path, [several[0], torch.tensor([12])], None, tv.LinfBall(1e-3))


def gathering(*more: NodeProto, kind: int = TensorProto.INT64, **constants: Any) -> Any:
    """A file that adds up the vectors of words, after some other operators on `x`."""
    nodes = [
        *more,
        node("Gather", f"table {more[-1].output[0] if more else 'x'}", "v"),
        node("ReduceSum", "v one", "y", keepdims=0),
    ]
    model = build(nodes, ["N", LENGTH], {"table": normal(WORDS, WIDTH), "one": np.array([1]), **constants})
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize(
    "model",
    [
        gathering(),
        gathering(kind=TensorProto.INT32),
        gathering(node("Cast", "x", "u", to=TensorProto.INT32)),
        gathering(node("Reshape", "x shape", "u"), shape=np.array([-1, LENGTH])),
        gathering(node("Slice", "x zero end one", "u"), zero=np.array([1]), end=np.array([3])),
    ],
    ids=["plain", "int32", "cast", "reshaped", "sliced"],
)
def test_tokens_may_be_moved_about(model: Any, tmp_path: Path) -> None:
    path = save(tmp_path, model)
    loaded, tokens = tv.load(path), sentences(3)
    assert loaded.embedding is not None
    vectors = loaded.embedding(tokens)
    wanted = loaded.original(vectors)
    kept = vectors[:, 1:3] if model.graph.node[0].op_type == "Slice" else vectors
    assert torch.allclose(wanted, kept.sum(1))
    assert torch.allclose(loaded.original(vectors + 1), wanted + kept.shape[1])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            gathering(node("Add", "x shift", "u"), shift=np.array([1])),
            "Gather .* looks up rows of other numbers than the words'",
        ),
        (gathering(node("Concat", "x shift", "u", axis=1), shift=np.zeros((1, 1), dtype=np.int64)), "Concat .* reads token"),
        (gathering(node("Gather", "other x", "w"), node("Identity", "x", "u"), other=normal(5, WIDTH)), "in another table"),
        (gathering(node("Gather", "wide x", "w"), node("Identity", "x", "u"), wide=normal(5, 2, 2)), "shape \\(5, 2, 2\\)"),
    ],
    ids=["add", "concat", "tables", "wide"],
)
def test_what_is_refused(model: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        tv.load(save(tmp_path, model))
