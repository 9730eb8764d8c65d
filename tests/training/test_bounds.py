"""Bounds of modules as they are: they hold samples, are the verifier's up to float32, and are differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import tightverify as tv
from tightverify import speech, training
from tightverify.errors import UsageError

METHODS = ("ibp", "crown-ibp", "lbp", "crown-lbp")
X = torch.randn((2, 4, 3), generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 2])
HIDDEN, CLASSES = 4, 3


class Last(nn.Module):
    """A recurrent layer, of whose last frame a linear layer makes the outputs."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(layer.hidden_size * (1 + layer.bidirectional), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.layer(x)[0][:, -1]))


class Loop(nn.Module):
    """A cell in a loop."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell, self.last = cell, nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return torch.as_tensor(self.last(state[0] if isinstance(state, tuple) else state))


class Own(nn.Module):
    """A forward of one's own: views, sums, products, a residual sum, constants joined to what depends on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(30, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.first(x)).chunk(2, -1)
        c = torch.sigmoid(a) * b + 0.5 * x - 1
        c += torch.maximum(c.flip(1), a) / 2
        d = torch.cat([c.flatten(1), torch.ones(len(x), 6).to(x), c.abs().mean(1), x.transpose(1, 2).amax(1)], 1)
        d = torch.cat([d, torch.stack([c[:, 0, 0], (2 - c[:, 1, 1]).clamp(0, 1), F.hardtanh(c[:, 2, 0])], 1)], 1)
        return torch.as_tensor(self.last(F.pad(d[:, :28], (1, 1))))


def picture() -> nn.Module:
    normed = nn.Sequential(nn.Conv2d(1, 2, 2, padding=1), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    with torch.no_grad():
        for values in (normed[1].running_mean, normed[1].running_var):
            assert isinstance(values, Tensor)
            values.uniform_(0.5, 1.5)
    return nn.Sequential(nn.Unflatten(1, (1, 4)), *normed, nn.Flatten(), nn.Linear(8, CLASSES))


def ramps() -> nn.Module:
    middle = (training.ParamRamp(8, 0.1, 0.3), nn.Linear(8, 6), nn.Sigmoid(), nn.Dropout(0.5))
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), *middle, nn.Linear(6, CLASSES))


def spectrum() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 3, 2), nn.LeakyReLU(0.1), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(3, CLASSES))


class Attending(nn.Module):
    """Frames that attend to one another, two ways, and are pooled by shares of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.share, self.last = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 1), nn.Linear(3, CLASSES)
        self.other = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        shares = (self.query(x) @ self.key(x).transpose(1, 2) / 2).softmax(-1)
        x = shares @ x + F.scaled_dot_product_attention(x, self.other(x), x / (1 + (x[:, :1] + 5).abs()))
        pooled = (self.share(x).softmax(1) * x).sum(1) + x.amax(dim=(1,)) + torch.einsum("btf,tf->bf", x, X[0].to(x))
        return torch.as_tensor(self.last(pooled))


class Curved(nn.Module):
    """Activations, and roots, powers and logarithms."""

    def forward(self, x: Tensor) -> Tensor:
        bent = [
            F.gelu(x),
            F.gelu(x, approximate="tanh"),
            F.silu(x),
            F.mish(x),
            F.hardswish(x),
            F.softsign(x),
            F.selu(x),
            F.celu(x, 0.5),
        ]
        more = [F.logsigmoid(x), F.softshrink(x), F.tanhshrink(x), F.elu(x), F.softplus(x), torch.erf(x), torch.expm1(x)]
        positive, sided = x.square() + 0.5, x + 10 * torch.tensor([1.0, -1.0, 1.0]).to(x)
        roots = [
            positive / sided,
            positive.log(),
            positive.sqrt(),
            positive.rsqrt(),
            1 / positive,
            x / positive,
            (1 + positive).pow(0.5),
            x**3,
        ]
        parts = torch.stack([*bent, *more, *roots, F.prelu(x, torch.tensor([0.3])), torch.log1p(positive)])
        return parts.mean(0).flatten(1)[:, :CLASSES]


class Normed(nn.Module):
    """Normalised along the features, in groups, by channels, to length 1; a logarithm of sums of exponentials."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.square, self.groups = nn.LayerNorm([4, 3]), nn.RMSNorm(3), nn.GroupNorm(2, 4)
        self.each, self.last = nn.InstanceNorm1d(4, affine=True), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x) + self.square(x) + self.groups(x) + self.each(x) + F.normalize(x, dim=-1)
        found = found + x.logsumexp(2, keepdim=True) + x.norm(1, dim=1, keepdim=True) - x.norm(torch.inf, dim=1, keepdim=True)
        found = found + x.std(1, keepdim=True) + x.var(2, False).unsqueeze(2)
        return torch.as_tensor(self.last(found.flatten(1)).log_softmax(1))


def pooled() -> nn.Module:
    """Windows that reach over the ends, with gaps, one of them cut short."""
    first = (nn.Unflatten(1, (1, 4)), nn.ConvTranspose2d(1, 2, 2), nn.MaxPool2d((3, 2), (2, 1), (1, 1), ceil_mode=True))
    return nn.Sequential(*first, nn.Flatten(2), nn.MaxPool1d(3, 2, padding=1, dilation=2), nn.Flatten(), nn.Linear(14, CLASSES))


def waveform() -> nn.Module:
    front = speech.log_mel(8000, n_fft=8, hop_length=4, n_mels=3, floor=0.1)
    return nn.Sequential(nn.Flatten(), front, Last(nn.GRU(3, HIDDEN, batch_first=True)))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "attending": Attending,
    "curved": Curved,
    "normed": Normed,
    "pooled": pooled,
    "waveform": waveform,
    "lstm of two layers": lambda: Last(nn.LSTM(3, HIDDEN, 2, batch_first=True)),
    "lstm both ways": lambda: Last(nn.LSTM(3, HIDDEN, batch_first=True, bidirectional=True)),
    "gru": lambda: Last(nn.GRU(3, HIDDEN, batch_first=True)),
    "gru of two layers": lambda: Last(nn.GRU(3, 2, 2, batch_first=True, bias=False)),
    "rnn": lambda: Last(nn.RNN(3, HIDDEN, batch_first=True)),
    "rnn of relu": lambda: Last(nn.RNN(3, HIDDEN, batch_first=True, nonlinearity="relu")),
    "lstm cell": lambda: Loop(nn.LSTMCell(3, HIDDEN)),
    "gru cell": lambda: Loop(nn.GRUCell(3, HIDDEN)),
    "rnn cell": lambda: Loop(nn.RNNCell(3, HIDDEN)),
    "ramps": ramps,
    "picture": picture,
    "spectrum": spectrum,
    "own": Own,
}


NEAR = {"own": 0.5, "curved": 0.1, "normed": 0.3, "waveform": 0.2}
"""By how much of the widest of the verifier's bounds those of training may be apart, where these take less together."""


def made(name: str) -> nn.Module:
    torch.manual_seed(1)
    return MODULES[name]().eval()


@pytest.mark.covering
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("method", METHODS)
def test_bounds_are_the_verifier_s(name: str, method: str) -> None:
    """What it takes together, such as sums of sums and bounds of parts, is less tight here by a little at most."""
    module, region = made(name), tv.LinfBall(0.1)
    found, wanted = training.bounds(module, X, region, method), tv.bounds(module, X, region, method)
    most = float(wanted.width.max())
    near = NEAR[name] * most if name in NEAR else 0.02 * most if "gru" in name and "lbp" in method else 1e-4
    assert found.lower.dtype == torch.float32
    assert (found.lower - wanted.lower).abs().max() <= near
    assert (found.upper - wanted.upper).abs().max() <= near


@pytest.mark.parametrize("region", [tv.L2Ball(0.2), tv.L1Ball(0.4, frames=[1, 2])], ids=["l2", "l1"])
@pytest.mark.parametrize(
    "name",
    [
        "lstm of two layers",
        "lstm both ways",
        "gru",
        "rnn of relu",
        "gru cell",
        "ramps",
        "picture",
        "own",
        "attending",
        "curved",
        "normed",
        "pooled",
        "waveform",
    ],
)
def test_bounds_hold_samples(name: str, region: tv.LpBall) -> None:
    module = made(name)
    drawn = region.around(X).sample(100, torch.Generator().manual_seed(3)).float().view(2, 100, *X.shape[1:])
    y = torch.stack([module(drawn[k]) for k in range(2)]).detach()
    for method in ("ibp", "lbp") if "gru" in name else ("ibp", "crown-ibp"):
        found = training.bounds(module, X, region, method)
        assert (y >= found.lower[:, None] - 1e-5).all()
        assert (y <= found.upper[:, None] + 1e-5).all()
        rows = training.margins(module, X, Y, region, method)
        assert (y.gather(2, Y.view(2, 1, 1).expand(-1, 100, 1)) - y >= rows[:, None] - 1e-5).all()
        assert (rows.gather(1, Y[:, None]).abs() <= 1e-6).all()


@pytest.mark.covering
@pytest.mark.parametrize("name", ["lstm both ways", "gru", "ramps", "picture", "attending", "normed"])
@pytest.mark.parametrize("method", ["ibp", "crown-ibp", "crown-lbp"])
def test_derivatives(name: str, method: str) -> None:
    """Along random directions in the parameters; the state stays what it is, also in training."""
    module = made(name).double()
    x = X.double()
    if name == "picture":
        module.train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    loss = lambda: training.certified_loss(module, x, Y, tv.LinfBall(0.1), method, beta=0.7)  # noqa: E731
    gradients = torch.autograd.grad(loss(), list(module.parameters()))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    generator = torch.Generator().manual_seed(5)
    ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in module.parameters()]
    with torch.no_grad():
        ends = []
        for step in (1e-6, -2e-6):
            for parameter, way in zip(module.parameters(), ways, strict=True):
                parameter.add_(step * way)
            ends.append(loss())
    slope = sum(float((g * way).sum()) for g, way in zip(gradients, ways, strict=True))
    assert float(ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_few_steps_make_the_loss_smaller(method: str) -> None:
    module = made("rnn").train()
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = training.certified_loss(module, X, Y, tv.LinfBall(0.1), method, kappa=0.2, beta=0.5)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_statistics_are_the_batch_s_in_training() -> None:
    """At the inputs themselves: a region of no size has the module's own outputs."""
    module = made("picture").train()
    found = training.bounds(module, X, tv.LinfBall(0.0))
    assert torch.allclose(found.lower, module(X), atol=1e-5)


def test_losses_mix() -> None:
    module, region = made("ramps"), tv.LinfBall(0.1)
    clean, worst = F.cross_entropy(module(X), Y), F.cross_entropy(-training.margins(module, X, Y, region), Y)
    assert training.certified_loss(module, X, Y, region, kappa=1.0) == clean
    assert torch.allclose(training.certified_loss(module, X, Y, region, kappa=0.25), 0.25 * clean + 0.75 * worst)
    both = [training.margins(module, X, Y, region, "crown-ibp", beta) for beta in (0.0, 0.5, 1.0)]
    assert torch.allclose(both[1], (both[0] + both[2]) / 2, atol=1e-6)
    assert torch.allclose(both[0], training.margins(module, X, Y, region), atol=1e-6)


@pytest.mark.parametrize("region", [tv.DecibelBall(-20.0), tv.Gain(1.0)], ids=repr)
def test_regions_of_sounds(region: Any) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    x = X.flatten(1)
    found, wanted = training.bounds(module, x, region, "crown-ibp"), tv.bounds(module, x, region, "crown-ibp")
    assert torch.allclose(found.lower.double(), wanted.lower, atol=1e-4)


def test_the_logarithm_of_a_softmax_at_the_end_changes_nothing() -> None:
    """Nor where it is written out; of a softmax itself there are bounds, within [0, 1]."""
    module, region = made("lstm cell"), tv.LinfBall(0.1)
    for method in METHODS:
        plain = training.margins(module, X, Y, region, method)
        assert torch.equal(training.margins(nn.Sequential(module, nn.LogSoftmax(1)), X, Y, region, method), plain)
    found = training.bounds(nn.Sequential(module, nn.Softmax(1)), X, region)
    assert bool(((found.lower > 0) & (found.upper < 1)).all())


@pytest.mark.parametrize("name", ["log", "sqrt", "log10", "log2"])
def test_where_a_function_has_no_value_losses_stay_numbers(name: str) -> None:
    class Undefined(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(getattr(torch, name)(self.own * x[:, 0].square()))

        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.ones(3))

    module, x = Undefined(), torch.full((2, 4, 3), 0.05)
    loss = training.certified_loss(module, x, Y, tv.LinfBall(0.1))
    loss.backward()
    assert not bool(loss.isnan())
    assert module.own.grad is not None


def test_wrong_arguments_are_refused() -> None:
    module, region = made("ramps"), tv.LinfBall(0.1)
    for wrong, words in (
        (lambda: training.bounds(module, X, region, "crown"), "does not exist for training"),
        (lambda: training.bounds(module, X.long(), region), "a batch of floats"),
        (lambda: training.margins(module, X, Y[:1], region), "labels have shape"),
        (lambda: training.certified_loss(module, X, Y, region, kappa=1.5), "kappa is 1.5"),
    ):
        with pytest.raises(UsageError, match=words):
            wrong()


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_strategies_of_lines(layer: Any) -> None:
    """Tight ones are no looser than intervals; all hold samples and have gradients."""
    torch.manual_seed(0)
    module, ball = Last(layer(3, HIDDEN, batch_first=True)), tv.LinfBall(0.5)
    boxes = training.bounds(module, X, ball, "ibp")
    values = module((X[:, None] + torch.rand(2, 50, 4, 3) - 0.5).flatten(0, 1)).view(2, 50, CLASSES)
    for method, lines in ((method, lines) for method in METHODS[1:] for lines in ("tight", "adaptive")):
        found = training.bounds(module, X, ball, method, lines=lines)
        assert bool(((found.lower[:, None] <= values + 1e-5) & (values <= found.upper[:, None] + 1e-5)).all())
        loss = training.certified_loss(module, X, Y, ball, method, lines=lines)
        assert all(bool(slope.isfinite().all()) for slope in torch.autograd.grad(loss, list(module.parameters())))
        rows = training.margins(module, X, Y, ball, method, lines=lines)
        if lines == "tight":
            assert bool((rows >= training.margins(module, X, Y, ball) - 1e-3).all())
            assert bool((found.width <= boxes.width + 1e-3).all())
    with pytest.raises(UsageError, match="the lines 'loose' do not exist"):
        training.bounds(module, X, ball, lines="loose")
