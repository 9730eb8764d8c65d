"""Mistakes that are easily made get a sentence: what was given, what is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.errors import InputError, ModelError, RegionError, UsageError
from tightverify.settings import Settings

FRAMES, FEATURES, CLASSES = 4, 3, 5


class Network(nn.Module):
    """A recurrent layer, and a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(FEATURES, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(2)
    return Network().double().eval()


@pytest.fixture(scope="module")
def model(network: Network) -> tv.Model:
    return tv.load(network, shape=(FRAMES, FEATURES))


X = torch.rand((3, FRAMES, FEATURES), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BALL = tv.LinfBall(1e-3)
SINGLE = r"shape \(4, 3\), which is 4 of shape \(3,\), as the first axis is the batch's.*give x\[None\]"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"region": 0.01}, RegionError, r"the region is the number 0.01; wanted .* LinfBall\(0.01\)"),
        ({"region": tv.LinfBall}, RegionError, r"the region is a function; wanted .* LinfBall\(0.01\)"),
        ({"region": tv.Box}, RegionError, "the region is a class"),
        ({"region": "0.01"}, RegionError, "the region is a str"),
        ({"region": None}, RegionError, "the region is a NoneType"),
        ({"x": X[0]}, InputError, SINGLE),
        ({"x": X[0, 0]}, InputError, r"the first axis the batch's: give x\[None\]"),
        ({"x": X[..., :2]}, InputError, r"3 of shape \(4, 2\), as the first axis is the batch's; .* takes \(N, 4, 3\)"),
        ({"labels": ["one", "two", "three"]}, InputError, "the labels are words, such as 'one'; give class numbers"),
        ({"labels": np.array(["one", "two", "three"])}, InputError, "the labels are words, such as 'one'"),
        ({"rows": torch.ones(2, CLASSES)}, InputError, r"rows is a Tensor; wanted a pair \(C, d\)"),
        ({"rows": (None, torch.ones(1))}, InputError, "rows has no C"),
        ({"rows": ("a", None)}, InputError, "rows cannot be made tensors"),
        ({"settings": {"method": "linear"}}, UsageError, r"settings is a dict; wanted Settings"),
        ({"top": 1.5}, InputError, "top is 1.5; with 5 classes it must be 1 to 4"),
        ({"time_limit": "3"}, UsageError, "time_limit is '3'; it must be a number, above 0"),
        ({"batch": 2.5}, UsageError, "batch is 2.5; it must be a whole number, 1 or more"),
        ({"rounds": None}, UsageError, "rounds is None; it must be a whole number, from 1 to 3"),
    ],
)
def test_certify_and_stream_say_what_is_wanted(
    model: tv.Model, change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    given: dict[str, Any] = {"x": X, "labels": None, "region": BALL}
    for verb in (tv.certify, tv.stream):
        with pytest.raises(kind, match=words):
            verb(model, **{**given, **change})


def test_so_do_the_other_verbs(network: Network, model: tv.Model) -> None:
    with pytest.raises(RegionError, match="the region is the number"):
        tv.bounds(model, X, 0.01)  # type: ignore[call-overload]
    with pytest.raises(RegionError, match="the region is the number"):
        tv.certify_clips(network, list(X), None, 0.01)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the labels are words"):
        tv.certify_clips(network, list(X), ["a", "b", "c"], BALL)


def test_a_module_that_x_does_not_fit(network: Network) -> None:
    with pytest.raises(ModelError, match=SINGLE):
        tv.certify(network, X[0], None, BALL)
    with pytest.raises(ModelError, match=r"3 of shape \(4, 2\), as the first axis is the batch's"):
        tv.certify(network, X[..., :2], None, BALL)


def test_what_is_no_model(network: Network) -> None:
    for script in (torch.jit.script(network), torch.jit.trace(network, X)):
        with pytest.raises(UsageError, match=r"a TorchScript module was given, .*; give the module that it was"):
            tv.certify(script, X, None, BALL)
    with pytest.raises(UsageError, match="the class Network, not a module made of it"):
        tv.load(Network, shape=(FRAMES, FEATURES))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"type OrderedDict .*; wanted a torch module"):
        tv.load(network.state_dict(), shape=(FRAMES, FEATURES))  # type: ignore[arg-type]


def test_a_stream_of_a_module(network: Network, model: tv.Model) -> None:
    plain, loaded = (list(tv.stream(each, X, None, BALL)) for each in (network, model))
    assert [each.verdict for each in plain] == [each.verdict for each in loaded]


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist], ids=["numpy", "lists"])
def test_arrays_do_where_tensors_do(model: tv.Model, kind: Any) -> None:
    def of(tensor: Tensor) -> Any:
        return kind(tensor.numpy())

    C, d = torch.eye(CLASSES, dtype=torch.float64)[:1], torch.full((1,), 9.0, dtype=torch.float64)
    for region, same in (
        (tv.Box(X - 1e-3, X + 1e-3), tv.Box(of(X - 1e-3), of(X + 1e-3))),
        (tv.AddedNoise(X[0], 1e-3), tv.AddedNoise(of(X[0]), 1e-3)),
        (
            tv.LinfBall(1e-3, (0, 1), [0], [1]),
            tv.LinfBall(1e-3, np.array([0, 1]), np.array([0]), np.array([1])),  # type: ignore[arg-type]
        ),
    ):
        first = tv.certify(model, X, None, region, rows=(C, d))
        second = tv.certify(model, of(X), None, same, rows=(of(C), of(d)))
        assert all(torch.equal(a.margins, b.margins) for a, b in zip(first, second, strict=True))
    assert torch.equal(model.original(X.numpy()), model.original(X))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tv.LinfBall("0.1"), "eps cannot be made numbers; give a number, an array or a tensor, not '0.1'"),  # type: ignore[arg-type]
        (lambda: tv.LinfBall(None), "not None"),
        (lambda: tv.LinfBall([]), r"eps has shape \(0,\); give one number, or one for each input"),
        (lambda: tv.LinfBall([[0.1]]), r"eps has shape \(1, 1\)"),  # type: ignore[list-item]
        (lambda: tv.LinfBall([0.1, -0.2]), "eps is -0.2; a radius must be a finite number"),
        (lambda: tv.L2Ball([0.1, np.nan]), "eps is nan"),
        (lambda: tv.L1Ball(1 + 1j), "complex"),  # type: ignore[arg-type]
        (lambda: tv.LinfBall(0.1, clip=1.0), r"clip is 1.0; give the least value and the greatest, such as \(0, 1\)"),  # type: ignore[arg-type]
        (lambda: tv.LinfBall(0.1, clip=(0, 1, 2)), r"clip is \(0, 1, 2\); give the least value first"),  # type: ignore[arg-type]
        (lambda: tv.Box("a", 1.0), "the lower bounds of the box cannot be made numbers"),  # type: ignore[arg-type]
    ],
)
def test_regions_of_nothing(make: Any, words: str) -> None:
    with pytest.raises(RegionError, match=words):
        make()


def test_an_array_says_what_it_is_in_one_line(model: tv.Model) -> None:
    (result, *_) = tv.certify(model, X, None, BALL)
    for shown, words in (
        (result, "Result(0: ROBUST, label "),
        (model, "Model(the module Network: inputs 4 x 3, 5 outputs, "),
        (tv.bounds(model, X, BALL), "Interval(3 x 5: within ["),
        (tv.Box(X, X), "Box((3, 4, 3))"),
        (Settings(method="lp"), "Settings(method='lp')"),
    ):
        assert repr(shown).startswith(words)
        assert len(repr(shown)) < 120
        assert "\n" not in repr(shown)
