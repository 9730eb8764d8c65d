"""Import of torch modules: it computes what the module computes, or refuses and says why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from inspect import signature

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tightverify.errors import ModelError, UnsupportedError
from tightverify.models.from_torch.module import from_torch
from tightverify.models.model import Model

TIME, FEATURES, HIDDEN, CLASSES = 4, 3, 4, 3
SHAPE = (TIME, FEATURES)


class Function(nn.Module):
    """A function of the input and of a few weights, its result flattened to one row per input."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.empty(CLASSES, FEATURES))
        self.bias = nn.Parameter(torch.empty(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        given = {"x": x, "w": self.weight, "b": self.bias}
        return self.function(**{name: given[name] for name in signature(self.function).parameters}).flatten(1)


class Recurrent(nn.Module):
    """A recurrent layer, read out at both ends of time; `first` says where the batch is."""

    def __init__(self, layer: nn.RNNBase, first: bool, states: str = "none") -> None:
        super().__init__()
        self.layer, self.first, self.states = layer, first, states
        self.start = nn.Linear(FEATURES, layer.hidden_size)
        self.register_buffer(
            "constant", torch.empty(layer.num_layers * (2 if layer.bidirectional else 1), 1, layer.hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0] if self.first else x.shape[1]
        frame = x[:, 0] if self.first else x[0]
        lstm = isinstance(self.layer, nn.LSTM)
        if self.states == "none":
            output, last = self.layer(x)
        else:
            state = self.constant.expand(-1, batch, -1).contiguous()
            if self.states == "symbolic":
                state = state + self.start(frame)[None]
            output, last = self.layer(x, (state, 0.5 * state) if lstm else state)
        output = output if self.first else output.transpose(0, 1)
        return torch.cat([output[:, -1], output[:, 0], *(s[-1] for s in (last if lstm else (last,)))], dim=-1)


class Loop(nn.Module):
    """A cell of torch's in a hand-written loop."""

    def __init__(self, cell: nn.RNNCellBase, stack: bool = False) -> None:
        super().__init__()
        self.cell, self.stack, self.head = cell, stack, nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        seen = torch.stack(outputs, dim=1)
        return self.head(seen.mean(1) if self.stack else seen[:, -1])


class HandLstm(nn.Module):
    """An LSTM from linear layers, in several spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.ih, self.hh = nn.Linear(FEATURES, 4 * HIDDEN), nn.Linear(HIDDEN, 4 * HIDDEN)
        self.joint = nn.Linear(FEATURES + HIDDEN, 4 * HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], HIDDEN)
        for frame in x.unbind(1):
            joint = self.spelling == "joint"
            gates = self.joint(torch.cat([frame, h], dim=-1)) if joint else self.ih(frame) + self.hh(h)
            if self.spelling == "slices":
                i, f, g, o = (gates[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
            elif self.spelling == "view":
                i, f, g, o = gates.view(-1, 4, HIDDEN).unbind(1)
            else:
                i, f, g, o = gates.chunk(4, dim=-1)
            c = f.sigmoid() * c + torch.sigmoid(i) * g.tanh()
            h = c.tanh() * o.sigmoid() if self.spelling == "slices" else torch.mul(o.sigmoid(), torch.tanh(c))
        return torch.cat([h, c], dim=1)


class HandGru(nn.Module):
    """A GRU from linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(FEATURES, 3 * HIDDEN), nn.Linear(HIDDEN, 3 * HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], HIDDEN, dtype=x.dtype)
        for t in range(x.shape[1]):
            (r, z, n), (hr, hz, hn) = self.ih(x[:, t]).split(HIDDEN, 1), self.hh(h).split(HIDDEN, 1)
            r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
            n = torch.tanh(n + r * hn)
            h = (1 - z) * n + z * h
        return h


class Convolutional(nn.Module):
    """Convolution, batch norm, dropout and a recurrent layer: a small speech network."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 2 * FEATURES, 2, **options)
        self.norm, self.drop = nn.BatchNorm1d(2 * FEATURES), nn.Dropout(0.5)
        self.gru = nn.GRU(2 * FEATURES, HIDDEN, batch_first=True, num_layers=2, dropout=0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(F.relu(self.norm(self.conv(x.transpose(1, 2)))))
        return self.gru(y.transpose(1, 2))[1][-1]


class Assigns(nn.Module):
    """A function that writes into slices of a new tensor."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], TIME + 1, FEATURES, dtype=x.dtype)
        y[:, 1:3] = x[:, 0:2]
        y[:, 4, 1] = x[:, 3, 2]
        y[:, 0] += 2 * x[:, 1]
        return y.flatten(1)


def recurrent(kind: type[nn.RNNBase], states: str = "none", **options: object) -> tuple[nn.Module, int]:
    first = bool(options.get("batch_first", False))
    return Recurrent(kind(FEATURES, HIDDEN, **options), first, states), 0 if first else 1


RECURRENT = {
    "lstm": lambda: recurrent(nn.LSTM),
    "lstm-first": lambda: recurrent(nn.LSTM, batch_first=True),
    "lstm-bidirectional-2": lambda: recurrent(nn.LSTM, bidirectional=True, num_layers=2, batch_first=True),
    "lstm-3-no-bias": lambda: recurrent(nn.LSTM, num_layers=3, bias=False),
    "lstm-states": lambda: recurrent(nn.LSTM, "constant", num_layers=2, bidirectional=True),
    "lstm-symbolic-states": lambda: recurrent(nn.LSTM, "symbolic", batch_first=True),
    "lstm-dropout": lambda: recurrent(nn.LSTM, num_layers=2, dropout=0.5),
    "gru": lambda: recurrent(nn.GRU),
    "gru-first-2": lambda: recurrent(nn.GRU, batch_first=True, num_layers=2),
    "gru-bidirectional-no-bias": lambda: recurrent(nn.GRU, bidirectional=True, bias=False),
    "gru-states": lambda: recurrent(nn.GRU, "constant", bidirectional=True),
    "gru-symbolic-states": lambda: recurrent(nn.GRU, "symbolic", num_layers=2, batch_first=True),
    "rnn-tanh": lambda: recurrent(nn.RNN),
    "rnn-relu-3": lambda: recurrent(nn.RNN, nonlinearity="relu", num_layers=3, batch_first=True),
    "rnn-relu-bidirectional": lambda: recurrent(nn.RNN, nonlinearity="relu", bidirectional=True, bias=False),
    "rnn-states": lambda: recurrent(nn.RNN, "symbolic", bidirectional=True),
    "lstm-cell": lambda: (Loop(nn.LSTMCell(FEATURES, HIDDEN)), 0),
    "lstm-cell-mean": lambda: (Loop(nn.LSTMCell(FEATURES, HIDDEN, bias=False), stack=True), 0),
    "gru-cell": lambda: (Loop(nn.GRUCell(FEATURES, HIDDEN), stack=True), 0),
    "rnn-cell": lambda: (Loop(nn.RNNCell(FEATURES, HIDDEN, bias=False)), 0),
    "rnn-relu-cell": lambda: (Loop(nn.RNNCell(FEATURES, HIDDEN, nonlinearity="relu")), 0),
    "hand-lstm": lambda: (HandLstm("chunk"), 0),
    "hand-lstm-joint": lambda: (HandLstm("joint"), 0),
    "hand-lstm-slices": lambda: (HandLstm("slices"), 0),
    "hand-lstm-view": lambda: (HandLstm("view"), 0),
    "hand-gru": lambda: (HandGru(), 0),
    "conv": lambda: (Convolutional(), 0),
    "conv-groups": lambda: (Convolutional(stride=2, padding=2, dilation=2, groups=3), 0),
    "conv-bare": lambda: (nn.Sequential(nn.Conv1d(TIME, 2, 2, bias=False), nn.BatchNorm1d(2, affine=False), nn.Flatten()), 0),
    "conv-2d": lambda: (
        nn.Sequential(nn.Unflatten(1, (1, TIME)), nn.Conv2d(1, 2, (2, 2), padding=(1, 0)), nn.BatchNorm2d(2), nn.Flatten()),
        0,
    ),
    "dense": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), 0),
    "assigns": lambda: (Assigns(), 0),
}

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "linear": lambda x, w: F.linear(x, w),
    "matmul-right": lambda x, w: x @ w.T,
    "matmul-left": lambda x, w: w.repeat(1, 2)[:, :TIME] @ x,
    "matmul-both": lambda x: x @ x.transpose(1, 2),
    "matmul-vector": lambda x, b: x @ b,
    "bmm": lambda x, w: torch.bmm(x, w.T.expand(x.shape[0], -1, -1)),
    "einsum": lambda x, w: torch.einsum("bti,oi->bto", x, w),
    "baddbmm": lambda x, w: torch.baddbmm(w[None, :1], x, w.T[None].expand(x.shape[0], -1, -1), beta=2, alpha=-3),
    "addmm": lambda x, w, b: torch.addmm(b, x[:, 0], w.T, beta=2, alpha=3),
    "addmm-plain": lambda x, w, b: torch.addmm(b[:1], x[:, 0], w.T) + torch.addmm(x[:, 1], x[:, 0], w.T),
    "outer": lambda x: x[:, 0, :, None] * x[:, 1, None, :],
    "add": lambda x, b: torch.add(x, b, alpha=2) + torch.add(b, x, alpha=3) + 1.5 + x[:, :1],
    "sub": lambda x, b: torch.sub(x, b, alpha=2) - torch.sub(b, x, alpha=-3) - 1 + (2 - x) + torch.rsub(x, 3, alpha=2),
    "scale": lambda x, b: x * b - b * x / 3 + x / (b * b + 1) - (-x) + 2 * x,
    "mask": lambda x: x * torch.tensor([1.0, 0.0, 1.0]).to(x) + x.masked_fill(torch.tensor([True, False, False]), 0.25),
    "product": lambda x: x[:, :2] * x[:, 2:] * x[:, 1:3],
    "squares": lambda x: x**2 + x.square() + x * x + x**1,
    "sums": lambda x: torch.cat([x.sum(1), x.mean((1, 2))[:, None], x.sum(-1), x.sum((1, 2), keepdim=True)[:, 0]], 1),
    "sum-of-all": lambda x: torch.stack([row.sum() for row in x])[:, None] * torch.ones(2),
    "mean": lambda x: x.mean(1) + x.mean(2, keepdim=True).sum(1),
    "cumsum": lambda x: x.cumsum(1) - x.cumsum(-1),
    "max": lambda x: torch.cat([x.max(1)[0], x.max(dim=2, keepdim=True).values[:, :, 0], x.amax((1, 2))[:, None]], 1),
    "min": lambda x: torch.cat([x.min(1)[0], x.amin(-1), x.amin((1, 2), keepdim=True)[:, 0]], 1),
    "last": lambda x: torch.cat([x[:, -1], x[:, ::2].flatten(1), x[:, 1:-1, 0]], 1),
    "activations": lambda x: (
        x.sigmoid() + x.tanh() + x.relu() + F.leaky_relu(x, 0.2) + F.silu(x) + F.glu(torch.cat([x, -x], -1))
    ),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)),
    "clamps": lambda x: x.clamp(-0.5, 0.25) + x.clamp(min=0.1) - x.clamp(max=0.3) + F.hardtanh(x, -0.2, 0.7) + F.relu6(9 * x),
    "clamp-tensor": lambda x: x.clamp(torch.zeros(3).to(x), torch.ones(3).to(x)),
    "hard": lambda x: F.hardsigmoid(4 * x) + F.hardswish(4 * x),
    "maximum": lambda x: torch.maximum(x[:, 0], x[:, 1]) - torch.minimum(x[:, 2], x[:, 3]) + torch.max(x[:, 1], -x[:, 2]),
    "maximum-constant": lambda x, b: torch.maximum(x, b) + torch.minimum(b, x),
    "abs": lambda x: x.abs(),
    "logs": lambda x: torch.log(x * x + 1) + torch.log2(x**2 + 0.5) + torch.log10(x.sigmoid()),
    "roots": lambda x: torch.sqrt(x * x + 1) + (x**2 + 0.5) ** 0.5 - torch.rsqrt(x * x + 2) * (x.sigmoid() + 1) ** -0.5,
    "quotients": lambda x: x / x.sigmoid() + 1 / (x * x + 1) + (x.tanh() + 2) ** -1,
    "lerp": lambda x: torch.lerp(x, x.tanh(), 0.3) + torch.lerp(x[:, :2], x[:, 2:], x[:, 1:3].sigmoid()).sum(1, keepdim=True),
    "views": lambda x: x.reshape(-1, 2, 6).permute(0, 2, 1).unsqueeze(1).squeeze(1).transpose(1, 2).view(-1, 12)[:, 1:],
    "expand": lambda x: x[:, :1].expand(-1, 2, -1) + x.select(1, 2).unsqueeze(1),
    "stack": lambda x: torch.stack([x[:, t] * (t + 1) for t in range(TIME)], 1),
    "split": lambda x: torch.cat([*x.split(3, 1)[::-1], *x.chunk(2, 1), *x.split([1, 3], 1), *x.unbind(1)[0:0]], 1),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "flip-roll": lambda x: x.flip(1) + x.roll(1, 1) - x.roll((1, -1), (1, 2)),
    "repeat": lambda x: x.repeat(1, 2, 1) + x.repeat_interleave(2, 1),
    "copies": lambda x: x.clone().detach().contiguous() + x.to(torch.float64).to(x.dtype),
    "index": lambda x: x[:, [0, 2, 1, 1]] + x[:, :, torch.tensor([0, 0, 2])],
    "index-boolean": lambda x: x[:, torch.tensor([True, False, True, False])] * x[:, 1:3, torch.tensor([True, True, True])],
    "index-select": lambda x: x.index_select(1, torch.tensor([3, 0])),
    "gather": lambda x: x.gather(1, torch.tensor([[[0, 1, 2]]]).expand(x.shape[0], -1, -1)),
    "where": lambda x, b: torch.where(torch.tensor([True, False, True]), x, b),
    "triangle": lambda x: x.tril() + x.triu(1) * 2,
    "pad": lambda x: F.pad(x, (1, 0, 2, 1)) + F.pad(x, (0, 1, 2, 1), value=0.5) + F.pad(x, (0, 1, -1, 4)),
    "pad-reflect": lambda x: (
        F.pad(x.transpose(1, 2), (1, 2), mode="reflect") + F.pad(x.transpose(1, 2), (1, 2), mode="replicate")
    ),
    "constants": lambda x: (
        x + torch.arange(3) + torch.ones_like(x) * 2 + torch.full_like(x, 3) + x.new_zeros(3) + torch.eye(4, 3)
    ),
    "constant-cat": lambda x: torch.cat(
        [torch.ones(x.shape[0], 2, 3, dtype=torch.int64), x, x.new_full((x.shape[0], 1, 3), 7)], 1
    ),
    "pools": lambda x: F.avg_pool1d(x.transpose(1, 2), 2) + F.max_pool1d(x.transpose(1, 2), 2, stride=2),
    "pools-more": lambda x: (
        F.avg_pool1d(x, 2, 1, padding=1)[..., 1:] + F.max_pool1d(x, 2, stride=1, dilation=1).repeat(1, 1, 2)[..., :3]
    ),
    "pool-2d": lambda x: F.avg_pool2d(x[:, None], 2) + F.max_pool2d(x[:, None], (2, 1), stride=(2, 2))[..., :1],
    "adaptive": lambda x: F.adaptive_avg_pool1d(x.transpose(1, 2), 3) + F.adaptive_max_pool1d(x.transpose(1, 2), 1),
    "in-place": lambda x: x.clone().add_(1).mul_(2).clamp_(min=0.5).relu_(),
    "no-grad": lambda x: x + _without_gradient(x),
    "input-free": lambda x, b: (b * b).expand(x.shape[0], -1) + 0 * x[:, 0],
    "rank-0": lambda x: x * torch.tensor(3.0) + torch.tensor(2, dtype=torch.int64),
    "scatter": lambda x: x.slice_scatter(2 * x[:, 1:3], 1, 1, 3).select_scatter(x[:, 0], 1, 2),
    "index-put": lambda x: x.index_put((torch.arange(x.shape[0])[:, None], torch.tensor([[1, 3]])), -x[:, [0, 2]]),
}


def _without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return 2 * x


def drawn(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The module in evaluation mode with weights that leave nothing trivial."""
    generator = torch.Generator().manual_seed(1)
    module = module.to(dtype).eval()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.7 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
                if name.endswith("running_var"):
                    tensor.copy_(tensor.square() + 0.3)
    return module


def agree(model: Model, module: nn.Module, batch_axis: int, tolerance: float) -> None:
    x = torch.randn(20, *model.graph.input_shape, generator=torch.Generator().manual_seed(5), dtype=model.dtype)
    with torch.no_grad():
        wanted = module(x.movedim(0, batch_axis)).double()
        ours = model.graph.forward(x.double().flatten(1))
    assert float(wanted.std()) > 1e-3
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RECURRENT)
def test_modules_agree(name: str) -> None:
    module, axis = RECURRENT[name]()
    module = drawn(module)
    agree(from_torch(module, SHAPE, axis), module, axis, 1e-9)


@pytest.mark.parametrize("name", ["lstm", "gru-bidirectional-no-bias", "rnn-relu-3", "hand-lstm-joint", "conv", "gru-cell"])
def test_modules_agree_in_single_precision(name: str) -> None:
    module, axis = RECURRENT[name]()
    module = drawn(module, torch.float32)
    model = from_torch(module, SHAPE, axis)
    assert model.dtype == torch.float32
    agree(model, module, axis, 1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree(name: str) -> None:
    module = drawn(Function(FUNCTIONS[name]))
    agree(from_torch(module, SHAPE), module, 0, 1e-9)


@pytest.mark.parametrize("name", ["scale", "constants", "lerp", "clamps"])
def test_functions_agree_in_single_precision(name: str) -> None:
    module = drawn(Function(FUNCTIONS[name]), torch.float32)
    agree(from_torch(module, SHAPE), module, 0, 1e-5)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 2, 3)])
def test_any_input_shape(shape: tuple[int, ...]) -> None:
    module = drawn(nn.Sequential(nn.Flatten(), nn.Linear(6 if len(shape) < 3 else 12, 3)))
    agree(from_torch(module, shape), module, 0, 1e-9)


def test_time_steps_share_their_weights() -> None:
    for module in (drawn(HandLstm("joint"), torch.float32), drawn(HandGru()), drawn(RECURRENT["gru"]()[0])):
        axis = 1 if isinstance(module, Recurrent) else 0
        graph = from_torch(module, (12, FEATURES), axis).graph
        matrices = {id(matrix): matrix for matrix in graph.matrices() if matrix.dim() == 2}
        assert len(matrices) <= 8


def test_the_original_takes_its_batch_first() -> None:
    module, axis = RECURRENT["lstm"]()
    module = drawn(module)
    model = from_torch(module, SHAPE, axis)
    x = torch.randn(5, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(model.original(x), module(x.transpose(0, 1)).detach())
    assert "Recurrent" in model.source


def test_a_module_without_weights_computes_in_the_default_precision() -> None:
    assert from_torch(nn.Flatten(), SHAPE).dtype == torch.float32


def test_the_users_module_stays_as_it_was() -> None:
    module = Convolutional().double().train()
    x = torch.randn(2, TIME, FEATURES, dtype=torch.float64)
    module(x).sum().backward()
    before = copy.deepcopy(module.state_dict())
    gradients = [p.grad.clone() for p in module.parameters()]
    model = from_torch(module, SHAPE)
    assert module.training
    assert all(part.training for part in module.modules())
    assert all(
        torch.equal(before[name], value) and value.dtype == before[name].dtype for name, value in module.state_dict().items()
    )
    assert all(p.requires_grad and torch.equal(p.grad, g) for p, g in zip(module.parameters(), gradients, strict=True))
    assert len(model.notes) == 1
    assert "BatchNorm1d, Dropout, GRU" in model.notes[0]
    with torch.no_grad():
        module.conv.weight.zero_()
    agree(model, model.original, 0, 1e-9)


def test_evaluation_mode_needs_no_note() -> None:
    assert from_torch(drawn(Convolutional()), SHAPE).notes == ()
    assert from_torch(nn.Flatten().train(), SHAPE).notes == ()


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.state + x.sum(1)
        return self.state


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x.sum(1) * self.count


class Nested(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(FEATURES, FEATURES), inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x).flatten(1)


class Last(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((x.shape[0],), TIME), batch_first=True)
        return self.lstm(packed)[1][0][-1]


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1) + torch.rand(3)


UNSUPPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "sin": (
        lambda: Function(lambda x: x.sin()),
        ("aten.sin ", "outermost module", "test_from_torch.py line", "self.function("),
    ),
    "gelu": (lambda: Nested(nn.GELU()), ("aten.gelu ", "'part.1'", "GELU", "test_from_torch.py line", "self.part(x)")),
    "softplus": (lambda: Nested(nn.Softplus()), ("aten.softplus ", "'part.1'")),
    "exp": (lambda: Function(lambda x: x.exp()), ("aten.exp ",)),
    "softmax": (lambda: Nested(nn.Softmax(dim=-1)), ("aten.softmax ", "'part.1'", "leave it out")),
    "log-softmax": (lambda: Nested(nn.LogSoftmax(dim=-1)), ("aten.log_softmax ", "leave it out")),
    "argmax": (lambda: Function(lambda x: x.argmax(1, keepdim=True) + x), ("aten.argmax ", "leave it out")),
    "layer-norm": (lambda: Nested(nn.LayerNorm(FEATURES)), ("aten.layer_norm ", "'part.1'", "batch norm")),
    "group-norm": (lambda: Nested(nn.GroupNorm(2, TIME)), ("aten.group_norm ",)),
    "instance-norm": (lambda: Nested(nn.InstanceNorm1d(TIME)), ("aten._native_batch_norm_legit ", "running statistics")),
    "dropout": (lambda: Function(lambda x: F.dropout(x)), ("aten.native_dropout ", "only in training")),
    "random": (Random, ("aten.rand ",)),
    "empty": (lambda: Function(lambda x: x + torch.empty(3).fill_(1.0) * torch.empty(3)), ("aten.empty ",)),
    "compare": (lambda: Function(lambda x: torch.where(x > 0, x, 2 * x)), ("aten.gt ", "maximum")),
    "zero": (lambda: Function(lambda x: x / torch.tensor([1.0, 0.0, 1.0])), ("aten.div ", "zero")),
    "rounding": (lambda: Function(lambda x: torch.div(x, 2, rounding_mode="floor")), ("aten.div",)),
    "cube": (lambda: Function(lambda x: x**3), ("aten.pow ", "exponent 3", "squares")),
    "slope": (lambda: Nested(nn.LeakyReLU(-0.5)), ("aten.leaky_relu ", "-0.5", "'part.1'")),
    "prelu": (lambda: Nested(nn.PReLU(TIME)), ("aten.prelu ", "several values")),
    "clamp": (
        lambda: Function(lambda x: x.clamp(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]))),
        ("aten.clamp ", "several", "max"),
    ),
    "clamp-self": (lambda: Function(lambda x: x.clamp(max=x.tanh())), ("aten.clamp ", "max", "depends on the input")),
    "crossed": (lambda: Function(lambda x: x.clamp(1.0, 0.0)), ("aten.clamp ", "crossed")),
    "positions": (lambda: Function(lambda x: x.max(1)[0] + x.max(1)[1]), ("positions of a maximum", "values only")),
    "index": (lambda: Function(lambda x: x.gather(1, x.argmax(1, keepdim=True))), ("aten.argmax ",)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose1d(TIME, 2, 2), nn.Flatten()),
        ("aten.convolution ", "transposed", "'0'"),
    ),
    "kernel": (lambda: Function(lambda x: F.conv1d(x[:1], x[:1])), ("aten.convolution ", "weight", "depends on the input")),
    "pool-padding": (lambda: Nested(nn.MaxPool1d(2, padding=1)), ("aten.max_pool1d ", "padding")),
    "pool-ceil": (lambda: Nested(nn.AvgPool1d(2, ceil_mode=True)), ("aten.avg_pool1d ", "ceil_mode")),
    "pool-count": (lambda: Nested(nn.AvgPool1d(2, padding=1, count_include_pad=False)), ("aten.avg_pool1d ", "padding")),
    "projection": (lambda: Last(nn.LSTM(FEATURES, HIDDEN, proj_size=2)), ("aten.lstm ", "proj_size", "'layer'")),
    "half": (lambda: Function(lambda x: x.half().to(x.dtype)), ("aten._to_copy ", "torch.float16")),
    "integer": (lambda: Function(lambda x: x.long() + x), ("aten._to_copy ", "torch.int64")),
    "accumulate": (
        lambda: Function(lambda x: x.index_put((torch.tensor([0]),), x[:1], accumulate=True)),
        ("aten.index_put ", "accumulate"),
    ),
    "buffer": (Counting, ("changes count", "BUFFER_MUTATION")),
    "input": (lambda: Function(lambda x: x.add_(1)), ("changes", "USER_INPUT_MUTATION")),
    "attention": (lambda: Function(lambda x: F.scaled_dot_product_attention(x, x, x)), ("softmax",)),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_parts_are_named(name: str) -> None:
    make, words = UNSUPPORTED[name]
    module = make()
    with pytest.raises(UnsupportedError) as caught:
        from_torch(module, SHAPE)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def _branching(x: Tensor) -> Tensor:
    return x.sum(1) if x.sum() > 0 else x.mean(1)


def _spoilt(value: float) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 3))
    with torch.no_grad():
        module[1].weight[0, 0] = value
    return module


def _mixed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 3).double(), nn.Linear(3, 3))


class Several(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Outputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.sum(1), x


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "branch": (lambda: Function(_branching), ("cannot be exported", "shapes only")),
    "packed": (Packed, ("cannot be exported", "packed")),
    "outputs": (Outputs, ("tuple", "return only the class scores")),
    "lstm": (lambda: nn.LSTM(FEATURES, HIDDEN), ("tuple", "return only the class scores")),
    "inputs": (Several, ("fails on one input", "takes one tensor")),
    "shape": (lambda: nn.Linear(7, 2), ("fails on one input of shape (1, 4, 3)", "check the shape")),
    "rank": (lambda: nn.Linear(FEATURES, 2), ("shape (1, 4, 2)", "one row of class scores")),
    "squeezed": (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(TIME * FEATURES, 3)), ("one row of class scores",)),
    "nan": (lambda: _spoilt(float("nan")), ("1.weight", "NaN")),
    "infinite": (lambda: _spoilt(float("inf")), ("1.weight", "infinite")),
    "mixed": (_mixed, ("torch.float64 (1.weight)", "torch.float32 (2.weight)")),
    "half": (lambda: nn.Linear(3, 3).half(), ("torch.float16", "`.float()`")),
    "complex": (lambda: nn.Linear(3, 3, dtype=torch.complex64), ("torch.complex64",)),
    "state": (Stateful, ("keep no state",)),
    "batch": (lambda: Function(lambda x: x.view(1, TIME, -1)[..., :FEATURES]), ("outputs of shapes", "in the batch")),
    "batch-one": (lambda: Function(lambda x: x.view(1, TIME, FEATURES)), ("fails on a batch",)),
    "batch-mean": (lambda: Function(lambda x: (x - x.mean(0)).sum(1)), ("depend on what else is in the batch",)),
    "mask": (lambda: Function(lambda x: x.masked_fill(torch.tensor([True, False, False]), -torch.inf).amax(2)), ("infinite",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_modules_are_refused(name: str) -> None:
    make, words = REFUSED[name]
    module = make()
    with pytest.raises(ModelError) as caught:
        from_torch(module, SHAPE)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(("shape", "axis"), [((), 0), ((0, 3), 0), ((4, 3), 3), ((4, 3), -1)])
def test_shapes_that_make_no_sense_are_refused(shape: tuple[int, ...], axis: int) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        from_torch(nn.Flatten(), shape, axis)


def test_import_says_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    module, axis = RECURRENT["lstm"]()
    from_torch(drawn(module), SHAPE, axis)
    with pytest.raises(ModelError):
        from_torch(Function(_branching), SHAPE)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


class Held(nn.Module):
    """Values written into a tensor of another type, and read from it."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        held = torch.zeros(x.shape, dtype=self.kind)
        held[:] = x * 1e3
        return torch.as_tensor(self.layer(held.double() * 1e-3))


@pytest.mark.parametrize("kind", [torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32])
def test_values_held_in_another_type_are_refused(kind: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match="is not supported"):
        from_torch(Held(kind), (4,))
    agreed = from_torch(Held(torch.float64), (4,))
    assert agreed.dtype is torch.float64
