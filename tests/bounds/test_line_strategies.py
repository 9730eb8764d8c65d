"""Strategies of lines: what they bound holds, and under tight lines methods stand in the order of Lyu et al. 2021."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.bounds.test_bounds import NETWORKS, REGIONS, SCALES, SOME_OFTEN, centres, probes, sign_rows, violations
from tightverify.api.passes import PASSES
from tightverify.bounds.bounding_pass import closed_form_by
from tightverify.bounds.linear import linear_bounds
from tightverify.bounds.result import LinearBounds
from tightverify.errors import UsageError
from tightverify.graph import Graph
from tightverify.models.builder import Builder
from tightverify.ops import Clamp, LeakyRelu, Operation, Sigmoid, Tanh
from tightverify.region import LinfBall, Region
from tightverify.settings import Settings
from tightverify.values import Interval

DOUBLE = torch.float64
CURVES = (LeakyRelu(), LeakyRelu(0.1), Tanh(), Sigmoid(), Clamp(-1.0, 1.0))
ROUNDING = 1e-9


def feed_forward(op: Operation, seed: int, depth: int = 4, width: int = 6) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    builder = Builder()
    values = builder.input((6,))
    for _ in range(depth):
        weight, bias = (torch.randn(*shape, generator=generator, dtype=DOUBLE) for shape in ((width, len(values)), (width,)))
        values = builder.apply(op, builder.matmul(values, weight / 2, bias / 2))
    return builder.graph(builder.matmul(values, torch.randn(3, width, generator=generator, dtype=DOUBLE), torch.zeros(3)))


def margins(graph: Graph, region: Region) -> dict[str, Tensor]:
    """Lower bounds of the same rows by each method with tight lines."""
    settings = Settings(lines="tight")
    rows = sign_rows(graph, "cpu")
    methods = ("interval", "crown-ibp", "lbp", "crown-lbp", "linear")
    return {method: PASSES[method](graph, region, settings).lower({graph.output: rows}) for method in methods}


def ordered(found: dict[str, Tensor], *methods: str) -> bool:
    """Whether each method's bounds are no looser than the one's before."""
    return all(bool((found[a] <= found[b] + ROUNDING * (1 + found[a].abs())).all()) for a, b in pairwise(methods))


@pytest.mark.covering
@pytest.mark.parametrize("eps", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("op", CURVES, ids=str)
def test_tight_lines_order_the_methods_feed_forward(op: Operation, eps: float) -> None:
    for seed in range(3):
        x = torch.rand(2, 6, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        found = margins(feed_forward(op, seed), LinfBall(eps).around(x))
        assert ordered(found, "interval", "lbp", "crown-lbp", "linear")
        assert ordered(found, "interval", "crown-ibp", "crown-lbp")


@pytest.mark.parametrize("region", ["linf", "l2", "noise"])
@pytest.mark.parametrize("network", ["rnn tanh", "rnn relu"])
def test_tight_lines_order_the_methods_on_recurrent_networks(network: str, region: str) -> None:
    for scale in (0.3, 1.0, 5.0):
        found = margins(NETWORKS[network](scale, 0), REGIONS[region].around(centres(2)))
        assert ordered(found, "interval", "lbp", "crown-lbp", "linear")
        assert ordered(found, "interval", "crown-ibp", "crown-lbp")


@pytest.mark.parametrize("network", ["lstm", "gru reset before", "rnn relu, max", "mixed"])
def test_tight_planes_of_several_operands_are_no_looser_than_intervals(network: str) -> None:
    """Their planes may get worse as boxes shrink: what is not promised is the order of methods of different boxes."""
    for scale, region in ((1.0, "linf"), (5.0, "l2")):
        found = margins(NETWORKS[network](scale, 0), REGIONS[region].around(centres(2)))
        assert ordered(found, "interval", "lbp", "crown-lbp")
        assert ordered(found, "interval", "crown-ibp")
        assert ordered(found, "interval", "linear")


def test_adaptive_lines_may_be_looser_than_intervals() -> None:
    """Lines below 0, where a ReLU is not, pass on what is below: where intervals cut it off."""
    x = torch.rand(2, 6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    graph, region, settings = feed_forward(LeakyRelu(), 0), LinfBall(1.0).around(x), Settings(lines="adaptive")
    rows = sign_rows(graph, "cpu")
    lbp, boxes = (PASSES[method](graph, region, settings).lower({graph.output: rows}) for method in ("lbp", "interval"))
    assert bool((lbp < boxes - 0.1).any())


@pytest.mark.parametrize("lines", ["tight", pytest.param("adaptive", marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", SOME_OFTEN)
def test_linear_bounds_hold_by_every_strategy(network: str, lines: str) -> None:
    for scale in ("usual", "steep"):
        graph = NETWORKS[network](SCALES[scale], len(network))
        region = REGIONS["linf"].around(centres(2))

        def compute(graph: Graph, region: Region) -> LinearBounds:
            return linear_bounds(graph, region, relaxation=closed_form_by(lines))

        assert not violations(graph, region, probes(graph, region, 100), compute)


def ends(low: float, high: float) -> Interval:
    return Interval(torch.tensor([[low]], dtype=DOUBLE), torch.tensor([[high]], dtype=DOUBLE))


def test_lines_of_a_relu() -> None:
    """Tight: 0 below, the chord above; adaptive: x below, where more of the interval is above 0."""
    for low, high, tight, adaptive in (
        (-1.0, 3.0, 0.0, 1.0),
        (-3.0, 1.0, 0.0, 0.0),
        (1.0, 2.0, 1.0, 1.0),
        (-2.0, -1.0, 0.0, 0.0),
    ):
        box = ends(low, high)
        for lines, slope in (("tight", tight), ("adaptive", adaptive)):
            planes = LeakyRelu().by_lines(lines, box)
            assert float(planes.lower.slopes[0]) == pytest.approx(slope, abs=1e-12)
            chord = (max(high, 0) - max(low, 0)) / (high - low)
            assert float(planes.upper.slopes[0]) == pytest.approx(chord, abs=1e-12)


def test_tight_lines_of_tanh_go_through_the_end() -> None:
    planes = Tanh().tight(ends(-0.5, 2.0))
    assert float(planes.upper.slopes[0]) == pytest.approx(1 - torch.tanh(torch.tensor(2.0, dtype=DOUBLE)).item() ** 2)
    assert float(planes.lower.slopes[0]) == pytest.approx((torch.tensor(2.0).tanh() + torch.tensor(0.5).tanh()).item() / 2.5)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.layer(x)[0][:, -1]))


@pytest.mark.parametrize("method", ["interval", "crown-ibp", "lbp", "crown-lbp", "window", "linear"])
def test_methods_take_strategies(method: str) -> None:
    torch.manual_seed(0)
    model, x, ball = tv.load(Reader().double(), (3, 3)), torch.rand(1, 3, 3, dtype=DOUBLE), tv.LinfBall(0.1)
    values = model.original(ball.around(x).sample(100, torch.Generator()).view(-1, 3, 3)).view(1, 100, 3)
    found = {}
    for lines in ("default", "tight", "adaptive"):
        outputs = tv.bounds(model, x, ball, method, lines=lines)
        assert bool((outputs.lower[:, None] <= values).all() & (values <= outputs.upper[:, None]).all())
        results = tv.certify(model, x, None, ball, method=method, lines=lines, thorough=True, restarts=0)
        found[lines] = [result.margin for result in results]
    if method == "interval":
        assert found["default"] == found["tight"]
    else:
        assert found["default"] != found["tight"] != found["adaptive"]


def test_unknown_strategies_are_refused() -> None:
    with pytest.raises(UsageError, match="the lines 'loose' do not exist; choose default, tight or adaptive"):
        tv.Settings(lines="loose")
