"""Front ends agree with librosa on real recordings, train, export, and are bounded down to the waveform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import fft, signal
from torch import Tensor, nn

import tightverify as tv
from tests.bounds.test_bounds import probes, violations
from tightverify import speech
from tightverify.errors import UsageError
from tightverify.graph import Apply, Quadratic

DOUBLE = torch.float64
RATE = 8000


@pytest.fixture(scope="module")
def recordings(data: Path) -> list[np.ndarray]:
    """Three spoken digits, scaled to [-1, 1]."""
    with np.load(data / "fsdd" / "fsdd.npz") as arrays:
        audio, offsets = arrays["audio"], arrays["offsets"]
    return [audio[offsets[k] : offsets[k + 1]].astype(np.float64) / 32768 for k in (0, 777, 2222)]


def agree(ours: Tensor, theirs: np.ndarray) -> None:
    """To 1e-6, relative to the largest value."""
    assert tuple(ours.shape) == theirs.shape
    assert float((ours - torch.from_numpy(theirs)).abs().max()) <= 1e-6 * np.abs(theirs).max()


@pytest.mark.data
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(("n_fft", "hop", "width", "window"), [(256, 100, 256, "hann"), (512, 128, 400, "hamming")])
def test_spectra_are_librosas(
    recordings: list[np.ndarray], n_fft: int, hop: int, width: int, window: str, pad_mode: str
) -> None:
    librosa = pytest.importorskip("librosa")
    for y in recordings:
        theirs = np.abs(librosa.stft(y, n_fft=n_fft, hop_length=hop, win_length=width, window=window, pad_mode=pad_mode))
        for power in (1, 2):
            ours = speech.Spectrogram(n_fft, hop, width, window=window, power=power, pad_mode=pad_mode).double()
            ours.transform = exactly(n_fft, width, window)
            agree(ours(torch.from_numpy(y)[None])[0].T, theirs**power)


def exactly(n_fft: int, width: int, window: str) -> Tensor:
    """The transform without the rounding to torch's default precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    try:
        return speech.Spectrogram(n_fft, win_length=width, window=window).transform
    finally:
        torch.set_default_dtype(before)


@pytest.fixture
def double() -> object:
    """Modules are made in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(before)


@pytest.mark.data
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("top_db", [None, 80.0])
@pytest.mark.parametrize(("scale", "norm"), [("slaney", "slaney"), ("htk", "none"), ("slaney", "none"), ("htk", "slaney")])
def test_mel_spectra_and_mfccs_are_librosas(recordings: list[np.ndarray], scale: str, norm: str, top_db: float | None) -> None:
    librosa = pytest.importorskip("librosa")
    bank = {"n_mels": 30, "fmin": 60.0, "fmax": 3800.0, "htk": scale == "htk", "norm": None if norm == "none" else norm}
    for y in recordings:
        theirs = librosa.feature.melspectrogram(
            y=y, sr=RATE, n_fft=400, hop_length=160, pad_mode="reflect", dtype=np.float64, **bank
        )
        front = nn.Sequential(speech.Spectrogram(400, 160), speech.MelBank(RATE, 400, 30, 60.0, 3800.0, scale=scale, norm=norm))
        x = torch.from_numpy(y)[None]
        agree(front(x)[0].T, theirs)
        levels = librosa.power_to_db(theirs, top_db=top_db)
        agree(nn.Sequential(front, speech.Decibels(top_db=top_db))(x)[0].T, levels)
        for lifter in (0, 22):
            wanted = librosa.feature.mfcc(S=levels, n_mfcc=13, lifter=lifter)
            chain = nn.Sequential(front, speech.Decibels(top_db=top_db), speech.Cosines(13, 30, lifter=lifter))
            agree(chain(x)[0].T, wanted)
            slopes = librosa.feature.delta(wanted, width=5)
            agree(nn.Sequential(chain, speech.Deltas(5, ends="fit", keep=False))(x)[0].T, slopes)


@pytest.mark.data
def test_pre_emphasis_and_frames_are_librosas(recordings: list[np.ndarray]) -> None:
    librosa = pytest.importorskip("librosa")
    for y in recordings:
        x = torch.from_numpy(y)[None]
        agree(speech.Emphasis(0.95, start="line")(x)[0], librosa.effects.preemphasis(y, coef=0.95))
        agree(speech.Frames(300, 77)(x)[0].T, librosa.util.frame(y, frame_length=300, hop_length=77))


@pytest.mark.usefixtures("double")
def test_formulas_without_librosa() -> None:
    """By scipy and numpy alone, where the numbers are known."""
    y = np.random.default_rng(0).normal(size=1000)
    x = torch.from_numpy(y)[None]
    frames = speech.Frames(200, 80)(x)[0].numpy()
    emphasised = np.concatenate([frames[:, :1], frames[:, 1:] - 0.9 * frames[:, :-1]], axis=1)
    spectra = np.abs(np.fft.rfft(emphasised * signal.get_window("hamming", 200))) ** 2
    ours = speech.Spectrogram(200, 80, window="hamming", center=False, emphasis=0.9)(x)[0]
    agree(ours, spectra)
    agree(speech.Spectrogram(200, 80, window="hamming", center=False, emphasis=0.9, power=1)(x)[0], spectra**0.5)
    agree(speech.Cosines(7, 101)(ours), fft.dct(ours.numpy(), norm="ortho")[:, :7])
    scaled = speech.Spectrogram(200, 80, window="hamming", center=False, emphasis=0.9, normalized="frame_length")(x)[0]
    agree(scaled, spectra / 200)
    by_window = speech.Spectrogram(200, 80, window="hamming", center=False, emphasis=0.9, normalized="window")(x)[0]
    agree(by_window, spectra / (signal.get_window("hamming", 200) ** 2).sum())
    wide = np.pad(ours.numpy(), ((2, 2), (0, 0)), mode="edge")
    slopes = sum(step * (wide[2 + step : len(wide) - 2 + step] - wide[2 - step : len(wide) - 2 - step]) for step in (1, 2)) / 10
    agree(speech.Deltas()(ours[None])[0, :, 101:], slopes)
    normed = speech.Normalised(variance=True, eps=0.5)(ours[None])[0]
    agree(normed, (ours - ours.mean(0)).numpy() / np.sqrt(ours.numpy().var(0) + 0.5))


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_frames_are_as_many_as_said(center: bool, tail: str) -> None:
    frames = speech.Frames(10, 4, center=center, tail=tail)
    for samples in range(10, 40):
        x = torch.arange(1.0, samples + 1)[None]
        found = frames(x)
        assert found.shape == (1, frames.cutting.count(samples), 10)
        if tail == "pad":
            assert float(found.max()) == samples
            assert float(found[0, -1].max()) > 0
    assert speech.Frames(10, 4, tail="pad")(torch.ones(1, 3)).tolist() == [[[1.0] * 3 + [0.0] * 7]]


class Heard(nn.Module):
    """A front end and a small recurrent network behind it."""

    def __init__(self, front: nn.Module, features: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.gru, self.head = front, nn.GRU(features, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(0.2 * self.front(x))[0][:, -1])


FRONTS = {
    "log mel": lambda: (speech.log_mel(RATE, 64, 32, 6, emphasis=0.97, center=True), 6),
    "log mel, tail": lambda: (speech.log_mel(RATE, 64, 32, 6, tail="pad", window="hamming"), 6),
    "mfcc": lambda: (speech.mfcc(RATE, 5, 64, 32, 8), 5),
    "mfcc, top db": lambda: (speech.mfcc(RATE, 5, 64, 48, 8, top_db=20.0), 5),
    "deltas": lambda: (nn.Sequential(speech.Emphasis(), speech.log_mel(RATE, 64, 32, 4), speech.Deltas(3)), 8),
    "clamped, mean": lambda: (
        nn.Sequential(
            speech.Spectrogram(32, 40, center=False, normalized="window"),
            speech.MelBank(RATE, 32, 5, scale="slaney", norm="slaney"),
            speech.Logarithm(1e-4, mode="clamp"),
            speech.Normalised(),
        ),
        5,
    ),
    "variance": lambda: (nn.Sequential(speech.log_mel(RATE, 32, 40, 3), speech.Normalised(variance=True, eps=0.1)), 3),
    "magnitudes": lambda: (speech.Spectrogram(16, 50, center=False, power=1), 9),
    "frames": lambda: (nn.Sequential(speech.Frames(40, 30, center=True), speech.Emphasis(0.9, start="line")), 40),
}
"""Small ones, by what they show; each with its number of features."""


def waveforms(count: int, samples: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    times = torch.arange(samples, dtype=DOUBLE) / RATE
    tones = sum(torch.sin(2 * torch.pi * f * times) for f in (440.0, 1300.0, 2900.0))
    return 0.2 * tones + 0.02 * torch.randn((count, samples), generator=generator, dtype=DOUBLE)


@pytest.mark.parametrize("name", FRONTS)
def test_bounds_hold_down_to_the_waveform(name: str) -> None:
    front, features = FRONTS[name]()
    model = tv.load(Heard(front, features).double().eval(), shape=(200,))
    for perturbation in (tv.LinfBall(1e-3), tv.L2Ball(5e-3), tv.LinfBall(0.02, features=range(60, 90))):
        region = perturbation.around(waveforms(1))
        points = probes(model.graph, region, 30)
        assert not violations(model.graph, region, points), name


@pytest.mark.parametrize("name", ["log mel", "mfcc", "deltas", "clamped, mean", "variance"])
def test_bands_are_bounded_as_energies(name: str) -> None:
    front, features = FRONTS[name]()
    graph = tv.load(Heard(front, features).double().eval(), shape=(200,)).graph
    kinds = {node.op.name for node in graph.nodes if isinstance(node, Apply)}
    assert any(isinstance(node, Quadratic) for node in graph.nodes)
    assert not kinds & {"square", "sum_of_squares"}
    intervals = tv.bounds(front_only(name), waveforms(1), tv.LinfBall(1e-3))
    assert bool((intervals.width < 60).all())


def front_only(name: str) -> nn.Module:
    return nn.Sequential(FRONTS[name]()[0], nn.Flatten()).double().eval()


OFTEN = ("log mel", "mfcc, top db", "deltas")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in FRONTS])
def test_front_ends_go_through_onnx(name: str, tmp_path: Path) -> None:
    front, features = FRONTS[name]()
    module = Heard(front, features).eval()
    path = tmp_path / "model.onnx"
    x = waveforms(3).float()
    torch.onnx.export(module, (x[:1],), str(path), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
    loaded = tv.load(path)
    with torch.no_grad():
        wanted = module(x).double()
        scale = 1 + wanted.abs()
        assert bool(((loaded.graph.forward(x.double()) - wanted).abs() <= 1e-4 * scale).all())
    direct = tv.load(module, shape=(200,))
    region = tv.LinfBall(1e-4)
    ours, theirs = (tv.bounds(model, x[:1], region) for model in (direct, loaded))
    assert torch.allclose(ours.lower, theirs.lower, rtol=1e-3, atol=1e-4)
    assert torch.allclose(ours.upper, theirs.upper, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # the exporter's own, of lengths that it takes for constants
@pytest.mark.parametrize("name", sorted(FRONTS.keys() - {"frames"}))  # it cannot write unfold
def test_front_ends_go_through_onnx_at_any_length(name: str, tmp_path: Path) -> None:
    front, features = FRONTS[name]()
    module = Heard(front, features).eval()
    path = tmp_path / "model.onnx"
    axes = {"wave": {0: "batch", 1: "samples"}}
    example = waveforms(1).float()
    torch.onnx.export(module, (example,), str(path), input_names=["wave"], dynamic_axes=axes, dynamo=False, verbose=False)
    for samples in (150, 231):
        x = waveforms(1, samples).float()
        with torch.no_grad():
            wanted = module(x).double()
        found = tv.load(path, shape=(samples,)).graph.forward(x.double())
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FRONTS)
def test_front_ends_train(name: str) -> None:
    front, features = FRONTS[name]()
    module = Heard(front, features).double()
    x = waveforms(2).requires_grad_()
    module(x).square().sum().backward()
    assert bool(torch.isfinite(x.grad).all())
    assert float(x.grad.abs().max()) > 0
    assert all(parameter.grad is not None for parameter in module.parameters())


class Filtered(nn.Module):
    """A pre-emphasis written as a convolution, and bands of what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.emphasis = nn.Conv1d(1, 1, 2)
        self.front = speech.log_mel(RATE, 64, 32, 4)
        with torch.no_grad():
            self.emphasis.weight[:] = torch.tensor([-0.97, 1.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.front(self.emphasis(x[:, None])[:, 0]).flatten(1)


def test_a_convolution_along_the_waveform_is_one_node(tmp_path: Path) -> None:
    module, path = Filtered().eval(), tmp_path / "model.onnx"
    x = waveforms(1).float()
    torch.onnx.export(module, (x,), str(path), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
    for model in (tv.load(module, shape=(200,)), tv.load(path)):
        assert len(model.graph.nodes) < 25
        assert sum(isinstance(node, Quadratic) for node in model.graph.nodes) == 5
        region = tv.LinfBall(1e-3).around(waveforms(1))
        assert not violations(model.graph, region, probes(model.graph, region, 30))


WRONG = {
    "short": (lambda: speech.Frames(50, 10)(torch.ones(1, 20)), "20 samples is shorter than one frame, 50"),
    "channels": (lambda: speech.Frames(50, 10)(torch.ones(1, 2, 99)), r"shape \(1, 2, 99\)"),
    "reflected": (lambda: speech.Spectrogram(64)(torch.ones(1, 20)), "cannot be reflected"),
    "hop": (lambda: speech.Frames(50, 0), "hop is 0"),
    "window": (lambda: speech.Spectrogram(64, window="kaiser"), "'kaiser'"),
    "window's length": (lambda: speech.Spectrogram(64, win_length=80), "win_length is 80"),
    "own window": (lambda: speech.Spectrogram(64, window=torch.ones(9)), r"shape \(9,\)"),
    "power": (lambda: speech.Spectrogram(64, power=3), "power is 3"),
    "bands": (lambda: speech.MelBank(RATE, 64, 5, 100.0, 5000.0), "100 to 5000 Hz"),
    "floor": (lambda: speech.Logarithm(0.0), "floor is 0"),
    "mode": (lambda: speech.Logarithm(mode="max"), "'max'"),
    "top": (lambda: speech.Decibels(top_db=-1.0), "top_db is -1"),
    "coefficients": (lambda: speech.Cosines(9, 8), "n_mfcc is 9 of 8"),
    "even": (lambda: speech.Deltas(4), "win_length is 4"),
    "few frames": (lambda: speech.Deltas(5, ends="fit")(torch.ones(1, 3, 2)), "3 frames are fewer"),
    "eps": (lambda: speech.Normalised(variance=True, eps=0.0), "eps is 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(UsageError, match=words):
        make()
