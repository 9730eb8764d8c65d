"""Words replaced by others, from end to end: the same verdicts as by trying every sentence on the user's own model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import tightverify as tv
from tests.helpers.texts import CLASSES, LENGTH, Reader, reader, sentences
from tightverify.evidence import Points, read_evidence
from tightverify.stages import sentences as stage


def text(kind: str, seed: int, scale: float = 0.7) -> tuple[Reader, tv.Model]:
    network = reader(kind, seed=seed)
    with torch.no_grad():
        network.words.weight.mul_(scale)
    return network, tv.load(network, (LENGTH,), tokens=True)


def tried(network: Reader, model: tv.Model, region: Any, tokens: Tensor, label: int) -> tuple[float, int]:
    """The least margin of all sentences, and how many there are."""
    assert model.embedding is not None
    around = region.around(model.embedding(tokens[None]))
    points = around.sentences(0, around.all_of(0))
    y = network(model.embedding.tokens(points.view(-1, *model.graph.input_shape).to(model.dtype)))
    others = [k for k in range(CLASSES) if k != label]
    return float((y[:, [label]] - y[:, others]).detach().amin()), len(points)


@pytest.mark.parametrize(("kind", "seed"), [("lstm", 2), ("gru", 3), ("rnn", 1)])
def test_verdicts_are_those_of_all_sentences(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, model = text(kind, seed)
    assert model.embedding is not None
    tokens = sentences(4)
    seen = set()
    for count, most in ((2, 1), (4, 2)):
        region = tv.Substitution(model.embedding, model.embedding.nearest(count), most=most)
        results = tv.certify(model, tokens, None, region, method="linear")
        for result, sentence in zip(results, tokens, strict=True):
            assert result.label is not None
            least, _ = tried(network, model, region, sentence, result.label)
            assert result.verdict is (tv.Verdict.ROBUST if least > 0 else tv.Verdict.COUNTEREXAMPLE)
            seen.add(result.verdict)
            if result.verdict is tv.Verdict.ROBUST:
                assert float(result.margins.min()) == pytest.approx(least, abs=1e-9)
            else:
                found = model.embedding.tokens(torch.as_tensor(result.counterexample))
                assert (found != -1).all()
                assert 1 <= int((found != sentence).sum()) <= most
                assert int(network(found[None]).argmax()) != result.label
        monkeypatch.setattr(stage, "MOST", 0)
        for one, other in zip(results, tv.certify(model, tokens, None, region, method="linear"), strict=True):
            assert other.verdict in (one.verdict, tv.Verdict.UNKNOWN)
            assert one.verdict is not tv.Verdict.COUNTEREXAMPLE or other.verdict is one.verdict
        monkeypatch.undo()
    assert len(seen) == 2


def test_parts_of_sentences_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    network, model = text("rnn", 3)
    assert model.embedding is not None
    monkeypatch.setattr(stage, "MOST", 0)
    region = tv.Substitution(model.embedding, model.embedding.nearest(8), most=3)
    tokens = sentences(2)
    linear, complete = (
        tv.certify(model, tokens, None, region, method=method, rounds=1, restarts=0, splits=20)
        for method in ("linear", "complete")
    )
    for k, (one, other) in enumerate(zip(linear, complete, strict=True)):
        assert other.label is not None
        least, _ = tried(network, model, region, tokens[k], other.label)
        assert one.margin < other.margin <= least
    assert complete[0].verdict is tv.Verdict.ROBUST
    assert len(complete[0].tree) > 1


def test_any_sentence_is_found_by_replacing_words_greedily(monkeypatch: pytest.MonkeyPatch) -> None:
    network, model = text("lstm", 2, 1.0)
    assert model.embedding is not None
    monkeypatch.setattr(stage, "MOST", 0)
    region = tv.Substitution(model.embedding, model.embedding.nearest(3), most=2)
    tokens = sentences(6, seed=1)
    results = tv.certify(model, tokens, None, region, method="interval", restarts=2, attack_steps=3)
    for result, sentence in zip(results, tokens, strict=True):
        assert result.label is not None
        least, _ = tried(network, model, region, sentence, result.label)
        assert (result.verdict is tv.Verdict.COUNTEREXAMPLE) == (least < 0)


def test_one_of_the_best_classes_at_every_sentence(tmp_path: Any) -> None:
    """Which rows hold may differ from sentence to sentence."""
    _, model = text("gru", 3)
    assert model.embedding is not None
    region = tv.Substitution(model.embedding, model.embedding.nearest(4))
    results = tv.certify(model, sentences(4), None, region, method="linear", top=2, evidence=tmp_path)
    assert results.counts["ROBUST"] + results.counts["COUNTEREXAMPLE"] == 4
    for k, result in enumerate(results):
        (points,) = [entry for entry in read_evidence(tmp_path / f"{k}.npz") if isinstance(entry, Points)]
        every = bool(((points.proved > 0).sum(1) >= 1).all())
        assert every == (result.verdict is tv.Verdict.ROBUST)


def test_time_runs_out() -> None:
    _, model = text("rnn", 3)
    assert model.embedding is not None
    region = tv.Substitution(model.embedding, model.embedding.nearest(4))
    (result,) = tv.certify(model, sentences(1), None, region, time_limit=1e-9)
    assert result.verdict is tv.Verdict.TIMED_OUT
