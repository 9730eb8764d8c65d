"""Clips of different lengths: each at its own, by the network that takes any."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.sounds import HOP, LENGTHS, WINDOW, Listener, recordings, to_onnx
from tightverify.errors import InputError, ModelError, RegionError
from tightverify.graph import Apply
from tightverify.inputs.clips import KEPT, AnyLength, Clips, certify_clips
from tightverify.inputs.dataset import right
from tightverify.stages.progress import Step


@pytest.fixture(scope="module")
def network() -> AnyLength:
    return AnyLength(Listener().eval())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return to_onnx(Listener(), tmp_path_factory.mktemp("models") / "listener.onnx")


def test_each_clip_gets_what_it_would_get_alone(network: AnyLength) -> None:
    clips, ball = recordings(), tv.DecibelBall(-45)
    results = certify_clips(network, clips, None, ball)
    assert [result.index for result in results] == list(range(len(clips)))
    loaded = {length: tv.load(Listener().eval(), (length,)) for length in set(LENGTHS)}
    for clip, result in zip(clips, results, strict=True):
        (alone,) = tv.certify(loaded[len(clip)], clip[None], None, ball)
        assert (alone.verdict, alone.label) == (result.verdict, result.label)
        assert result.margins == pytest.approx(alone.margins, rel=1e-9)
    assert len({result.verdict for result in results}) > 1 or results[0].verdict is tv.Verdict.ROBUST


def test_the_number_of_frames_is_the_networks_own(network: AnyLength, file: Path) -> None:
    for samples in sorted(set(LENGTHS)):
        frames = (samples - WINDOW) // HOP + 1
        for one in (network, AnyLength(file)):
            nodes = one.at((samples,)).graph.nodes
            assert sum(isinstance(node, Apply) and node.op.name == "sigmoid_tanh" for node in nodes) >= frames
            assert one.at((samples,)) is one.at((samples,))
        x = torch.rand(2, samples)
        assert torch.allclose(network.at((samples,)).original(x), AnyLength(file).at((samples,)).original(x), atol=1e-5)


def test_a_file_and_its_module_agree(network: AnyLength, file: Path) -> None:
    ball = tv.SnrBall(40)
    labels = [result.label for result in certify_clips(network, recordings(), None, ball)]
    found = [certify_clips(one, recordings(), labels, ball, tv.Settings("interval", restarts=0)) for one in (network, file)]
    for one, other in zip(*found, strict=True):
        assert one.margin == pytest.approx(other.margin, abs=1e-4)


def test_labels_steps_and_progress_keep_to_their_clips(network: AnyLength) -> None:
    clips = recordings()
    answers = [int(Listener().eval()(clip[None]).argmax()) for clip in clips]
    labels = [answer if k != 3 else (answer + 1) % 3 for k, answer in enumerate(answers)]
    steps: list[Step] = []
    told: list[tuple[int, int]] = []
    results = certify_clips(
        network, clips, labels, tv.DecibelBall(-90), batch=2, callback=steps.append, progress=lambda *now: told.append(now)
    )
    assert [result.label for result in results] == labels
    assert [result.verdict is tv.Verdict.MISCLASSIFIED for result in results] == [k == 3 for k in range(6)]
    assert told == [(k, 6) for k in range(1, 7)]
    last = {int(place): float(worst) for step in steps for place, worst in zip(step.inputs, step.worst, strict=True)}
    assert last == {result.index: result.margin for result in results if result.index != 3}


def test_some_of_the_clips(network: AnyLength) -> None:
    given = Clips.of(network, recordings(), [0, 1, 2, 0, 1, 2])
    some = given[torch.tensor([4, 1])]
    assert some.numbers.tolist() == [4, 1]
    assert some.names == ("clip 4", "clip 1")
    assert torch.equal(some.clips[0], recordings()[4])
    assert len(given[:3]) == 3
    answers = torch.tensor([int(Listener().eval()(clip[None]).argmax()) for clip in recordings()])
    assert torch.equal(right(given, 1), answers == given.y)
    assert right(given, 3 - 1).sum() >= right(given, 1).sum()
    peaks = [float(clip.abs().max()) for clip in recordings()]
    radii, norms = zip(*given.balls(tv.DecibelBall(-20)), strict=True)
    assert radii == pytest.approx([peak / 10 for peak in peaks])
    assert set(norms) == {math.inf}
    assert given.balls(tv.Gain(1))[0] == (math.inf, math.inf)


def test_shapes_of_waveforms(tmp_path: Path, file: Path) -> None:
    assert AnyLength(file).shaped(77) == (77,)
    with_channel = to_onnx(Listener(channels=True), tmp_path / "channel.onnx")
    network = AnyLength(with_channel)
    assert network.shaped(77) == (1, 77)
    results = certify_clips(network, [clip[None] for clip in recordings()[:2]], None, tv.DecibelBall(-90, samples=(10, 50)))
    assert [result.verdict for result in results] == [tv.Verdict.ROBUST] * 2
    fixed = AnyLength(to_onnx(Listener(), tmp_path / "fixed.onnx", samples=100))
    assert fixed.shaped(100) == (100,)
    with pytest.raises(InputError, match=r"it has 101 samples, and .* takes inputs of shape \(100\) only"):
        fixed.shaped(101)
    frames = torch.nn.Linear(4, 2)
    torch.onnx.export(frames, (torch.zeros(1, 3, 4),), str(tmp_path / "frames.onnx"), dynamo=False)
    with pytest.raises(ModelError, match="no waveforms"):
        AnyLength(tmp_path / "frames.onnx").shaped(100)


def test_only_the_last_imports_are_kept() -> None:
    class Any(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0], x[:, -1]], 1)

    network = AnyLength(Any())
    network._imported = {(k,): object() for k in range(1, KEPT + 1)}  # type: ignore[misc]
    network.at((1,))
    network.at((KEPT + 1,))
    assert (1,) in network._imported
    assert (2,) not in network._imported
    assert len(network._imported) == KEPT


def test_what_is_wrong_with_a_clip_is_said_by_its_name(network: AnyLength, file: Path) -> None:
    good = recordings()
    silent, broken, short = torch.zeros(100), good[0].clone(), torch.ones(WINDOW - 1)
    broken[7] = math.nan
    names = ["a.wav", "b.wav"]
    with pytest.raises(RegionError, match=r"b\.wav is silent"):
        certify_clips(network, [good[0], silent], None, tv.DecibelBall(-80), names=names)
    with pytest.raises(InputError, match=r"b\.wav holds a NaN"):
        certify_clips(network, [good[0], broken], None, tv.DecibelBall(-80), names=names)
    with pytest.raises(RegionError, match=r"clip 1: the segment of samples is \(0, 101\)"):
        certify_clips(network, [good[1], good[0]], None, tv.DecibelBall(-80, samples=(0, 101)))
    for model in (network, file):
        with pytest.raises(ModelError, match=r"b\.wav, an input of shape \(31,\)"):
            certify_clips(model, [good[0], short], None, tv.DecibelBall(-80), names=names)
    for clips in ([], [torch.tensor(1.0)], [["a"]], [torch.zeros(0)]):
        with pytest.raises(InputError):
            certify_clips(network, clips, None, tv.DecibelBall(-80))
    with pytest.raises(InputError, match="one per input"):
        certify_clips(network, good, [0], tv.DecibelBall(-80))
    with pytest.raises(InputError, match="classes 0 to 2"):
        certify_clips(network, good, [0, 0, 0, 0, 0, 3], tv.DecibelBall(-80))


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = x.sum(1).tanh()
        return torch.stack([total, -total], 1)


def test_trees_of_clips_are_named_by_the_clips(tmp_path: Path) -> None:
    clips = [torch.tensor([1.0, 0.0, 0.2]), torch.tensor([1.0, 0.0]), torch.tensor([1.2, 0.0])]
    settings = tv.Settings("complete", restarts=0, splits=2, trees=tmp_path)
    first = tv.certify_clips(Sum(), clips, [0, 0, 0], tv.LinfBall(0.6), settings)
    assert {path.name for path in tmp_path.glob("*.npz")} <= {"0.npz", "1.npz", "2.npz"}
    assert (tmp_path / "0.npz").exists()
    again = tv.certify_clips(Sum(), clips, [0, 0, 0], tv.LinfBall(0.6), settings)
    assert [result.verdict for result in again] == [result.verdict for result in first]
