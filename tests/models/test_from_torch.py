"""Import of torch modules: it computes what the module computes, or refuses and says why."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.helpers.torch_modules import (
    FEATURES,
    RECURRENT,
    SHAPE,
    TIME,
    Convolutional,
    Function,
    HandGru,
    HandLstm,
    Recurrent,
    agree,
    drawn,
)
from tightverify.models.from_torch.module import from_torch

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
    "powers": lambda x: x**3 - x**4 + (x.sigmoid() + 1) ** -1.5 + x.sigmoid() ** 0.3 + 2**x + x**0,
    "whole numbers": lambda x: torch.floor(4 * x) * torch.ceil(3 * x),
    "norms": lambda x: torch.cat(
        [
            x.norm(dim=1),
            torch.linalg.vector_norm(x, ord=1, dim=2),
            F.normalize(x + 2, dim=1).sum(1),
            x.abs().sum(1).norm(dim=1, keepdim=True),
        ],
        1,
    ),
    "largest sizes": lambda x: torch.linalg.vector_norm(x, ord=math.inf, dim=(1, 2), keepdim=True)[:, 0],
    "spreads": lambda x: torch.cat([x.std(1), x.var(1, unbiased=False), *torch.var_mean(x, 1), torch.std_mean(x, 1)[0]], 1),
    "spread of all": lambda x: torch.std(x, dim=(1, 2), correction=2, keepdim=True)[:, 0],
    "log-sum-exp": lambda x: torch.logsumexp(x, 1) + torch.logsumexp(x, (1, 2), keepdim=True)[:, 0],
    "group-norm": lambda x, w: F.group_norm(x, 2, w[0, :1].repeat(4), w[1, :1].repeat(4)),
    "instance-norm": lambda x: (
        F.instance_norm(x) + F.instance_norm(x, torch.zeros(4).to(x), torch.ones(4).to(x), use_input_stats=False)
    ),
    "rms-norm": lambda x, b: F.rms_norm(x, (3,), b) + F.rms_norm(x, (4, 3), eps=0.1),
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
    "pools-padded": lambda x: (
        F.max_pool1d(x, 2, padding=1)
        + F.avg_pool1d(x, 2, ceil_mode=True)
        - F.avg_pool1d(x, 2, padding=1, count_include_pad=False)
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
    agree(model, model.original, 0, 1e-9)  # type: ignore[arg-type]


def test_evaluation_mode_needs_no_note() -> None:
    assert from_torch(drawn(Convolutional()), SHAPE).notes == ()
    assert from_torch(nn.Flatten().train(), SHAPE).notes == ()
