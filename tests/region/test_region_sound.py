"""What may happen to a sound: radii against exact arithmetic, lines and zonotopes, the points that they hold and those not."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.errors import RegionError
from tightverify.region import AddedNoise, Ball, DecibelBall, Gain, LinfBall, Perturbation, Shift, SnrBall, Zonotope
from tightverify.region.zonotope import zonotope

DOUBLE = torch.float64
NOISE = torch.sin(torch.arange(40, dtype=DOUBLE) ** 2)


def clips(batch: int = 3, samples: int = 16, dtype: torch.dtype = DOUBLE) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand((batch, samples), generator=generator, dtype=DOUBLE) - 0.5).to(dtype)


LINES: dict[str, Perturbation] = {
    "gain": Gain(3.0),
    "noise": AddedNoise(NOISE, 0.25),
    "noise both ways": AddedNoise(NOISE, (-0.5, 0.1)),
    "shift": Shift(1.0),
    "shift back": Shift(-0.4),
    "still": Gain(0.0),
}
every_line = pytest.mark.parametrize("perturbation", LINES.values(), ids=list(LINES))
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])


def moved(perturbation: Perturbation, x: Tensor, share: float) -> Tensor:
    """What a program in x's own precision makes of the change, at a share from 0 to 1 of what is unknown."""
    if isinstance(perturbation, Gain):
        least, most = 10 ** (-perturbation.db / 20), 10 ** (perturbation.db / 20)
        return x * (least + share * (most - least))
    if isinstance(perturbation, AddedNoise):
        low, high = perturbation.between
        return x + (low + share * (high - low)) * NOISE[: x.shape[-1]].to(x.dtype)
    assert isinstance(perturbation, Shift)
    ahead = 1 if perturbation.samples > 0 else -1
    beside = x[:, [min(max(k + ahead, 0), x.shape[1] - 1) for k in range(x.shape[1])]]
    t = share * abs(perturbation.samples)
    return x * (1 - t) + beside * t


@pytest.mark.parametrize("db", [0.0, -20.0, -80.0, -97.3])
def test_a_decibel_ball_is_relative_to_each_clips_own_peak(db: float) -> None:
    x = clips() * torch.tensor([[1.0], [30000.0], [1e-3]], dtype=DOUBLE)
    region = DecibelBall(db).around(x)
    for clip, radius, low, high in zip(x, region.radius, region.box.lower, region.box.upper, strict=True):
        delta = 10 ** ((db + 20 * math.log10(float(clip.abs().max()))) / 20)
        assert float(radius) == pytest.approx(delta, rel=1e-13)
        if db == -20.0:  # exactly a tenth
            assert Fraction(float(radius)) >= Fraction(float(clip.abs().max())) / 10
        for value, least, most in zip(clip.tolist(), low.tolist(), high.tolist(), strict=True):
            assert Fraction(least) <= Fraction(value) - Fraction(float(radius))
            assert Fraction(most) >= Fraction(value) + Fraction(float(radius))
    assert region.norm == math.inf


def test_a_signal_to_noise_ball_is_relative_to_each_clips_own_power() -> None:
    x = clips() * torch.tensor([[1.0], [30000.0], [1e-3]], dtype=DOUBLE)
    region = SnrBall(40.0).around(x)
    for clip, radius in zip(x, region.radius, strict=True):
        power = sum(Fraction(value) ** 2 for value in clip.tolist())
        assert power / 10**4 <= Fraction(float(radius)) ** 2 <= power / 10**4 * (1 + Fraction(1, 10**12))
    assert region.norm == 2


@pytest.mark.parametrize("shape", [(2, 12), (2, 1, 12), (2, 12, 1)])
@pytest.mark.parametrize(
    "make", [lambda s: DecibelBall(-30, samples=s), lambda s: SnrBall(20, samples=s), lambda s: LinfBall(0.1, samples=s)]
)
def test_a_segment_of_samples(shape: tuple[int, ...], make: Callable[..., Perturbation]) -> None:
    x = clips(2, 12).view(shape)
    region, whole = make((3, 7)).around(x), make(None).around(x)
    assert isinstance(region, Ball)
    assert isinstance(whole, Ball)
    free = (torch.arange(12) >= 3) & (torch.arange(12) < 7)
    assert torch.equal(region.box.width > 0, free.expand(2, -1))
    assert torch.equal(region.radius, whole.radius)
    assert torch.equal(region.box.upper[:, free], whole.box.upper[:, free])
    for wrong in ((3, 3), (-1, 4), (0, 13), (7, 3)):
        with pytest.raises(RegionError, match="samples 0 to 11"):
            make(wrong).around(x)


@every_line
def test_the_least_value_of_a_row_is_reached_and_never_passed(perturbation: Perturbation) -> None:
    """The minimum is that of the two ends, less what the slack takes; exact fractions are the judge."""
    x = clips()
    region = perturbation.around(x)
    assert isinstance(region, Zonotope)
    rows = torch.randn((3, 9, 16), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    rows[:, 0], rows[:, 1, 3:] = 0.0, 0.0
    least = region.minimise(rows)
    for b, r in product(range(3), range(9)):
        row = [Fraction(value) for value in rows[b, r].tolist()]
        ends = [[Fraction(v) for v in moved(perturbation, x, share)[b].tolist()] for share in (0.0, 1.0)]
        true = min(sum(c * v for c, v in zip(row, end, strict=True)) for end in ends)
        size = float(sum(abs(c) for c in row))
        assert float(least[b, r]) <= float(true) + 1e-15 * size
        assert float(least[b, r]) >= float(true) - 3e-14 * size
    points = region.minimiser(rows)
    assert torch.allclose((points * rows).sum(-1), least, rtol=1e-12, atol=1e-13)
    assert torch.allclose(region.minimise(rows[:1]), region.minimise(rows[:1].expand(3, -1, -1)), rtol=1e-13, atol=1e-14)


def test_several_generators_against_all_their_corners() -> None:
    generator = torch.Generator().manual_seed(5)
    centre, lines = (
        torch.randn((2, 7), generator=generator, dtype=DOUBLE),
        torch.randn((2, 3, 7), generator=generator, dtype=DOUBLE),
    )
    region = zonotope(centre, lines, centre.abs(), torch.float32)
    rows = torch.randn((2, 5, 7), generator=generator, dtype=DOUBLE)
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=3)), dtype=DOUBLE)
    corners = region.at(signs.expand(2, -1, -1))
    values = (rows @ corners.mT).amin(-1) - (rows.abs() @ region.slack[..., None])[..., 0]
    assert torch.allclose(region.minimise(rows), values, rtol=1e-12, atol=1e-12)
    assert bool((corners >= region.box.lower[:, None]).all() and (corners <= region.box.upper[:, None]).all())
    for corner in corners.unbind(1):
        assert bool(region.contains(corner.float().double()).all())
        assert not bool(region.contains(corner + 4 * region.slack).any())
    assert torch.allclose(region.project(corners), corners, atol=1e-12)


@every_line
@precisions
def test_what_a_program_makes_of_the_change_is_inside(perturbation: Perturbation, dtype: torch.dtype) -> None:
    x = clips(dtype=dtype)
    region = perturbation.around(x)
    for share in (0.0, 0.3, 0.77, 1.0):
        point = moved(perturbation, x, share).to(DOUBLE)
        assert bool(region.contains(point).all())
        assert bool((region.box.lower <= point).all() and (point <= region.box.upper).all())


@every_line
@precisions
def test_points_off_the_line_are_refused(perturbation: Perturbation, dtype: torch.dtype) -> None:
    """The hull holds them, the region does not: one sample by itself, both ends mixed, too far along."""
    region = perturbation.around(clips(dtype=dtype))
    assert isinstance(region, Zonotope)
    one = region.centre.clone()
    one[:, 5] += 3 * region.slack[:, 5]
    assert not bool(region.contains(one).any())
    assert not bool(region.contains(torch.full_like(one, math.nan)).any())
    if float(region.generators.abs().max()) == 0:
        return
    half = torch.where(torch.arange(16) % 2 == 0, 1.0, -1.0).to(DOUBLE)
    mixed = region.centre + half * region.generators[:, 0]
    assert bool((mixed >= region.box.lower).all() and (mixed <= region.box.upper).all())
    assert not bool(region.contains(mixed).any())
    beyond = region.centre + 1.01 * region.generators[:, 0]
    assert not bool(region.contains(beyond).any())


@every_line
def test_searching_stays_inside(perturbation: Perturbation) -> None:
    region = perturbation.around(clips(dtype=torch.float32))
    generator = torch.Generator().manual_seed(1)
    wild = torch.randn((3, 20, 16), generator=generator, dtype=DOUBLE)
    points = torch.cat(
        [region.sample(20, generator), region.project(wild), region.project(region.centre[:, None] - region.steepest(wild))], 1
    )
    for point in points.unbind(1):
        assert bool(region.contains(point.float().double()).all())
    assert torch.allclose(region.project(points), points, atol=1e-7)
    assert region.project(wild[:, 0]).shape == (3, 16)
    assert torch.equal(region[1:].project(points[1:]), region.project(points)[1:])
    assert torch.equal(region.to("cpu").minimise(wild), region.minimise(wild))
    assert torch.equal(region[torch.tensor([2, 0])].centre, region.centre[[2, 0]])


@every_line
def test_halves_are_the_whole(perturbation: Perturbation) -> None:
    region = perturbation.around(clips())
    assert isinstance(region, Zonotope)
    halves = region.halves(region.longest)
    assert len(halves) == 6
    assert torch.allclose(halves.generators, region.generators.repeat_interleave(2, 0) / 2, atol=0)
    for share in (-1.0, -0.4, 0.0, 0.4, 1.0):
        point = region.at(torch.full((3, 1, 1), share, dtype=DOUBLE))[:, 0]
        inside = halves.contains(point.repeat_interleave(2, 0)).view(3, 2)
        assert bool(inside[:, 0].all()) or share > 0
        assert bool(inside[:, 1].all()) or share < 0
    rows = torch.randn((3, 4, 16), generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    both = halves.minimise(rows.repeat_interleave(2, 0)).view(3, 2, 4).amin(1)
    assert bool((both <= region.minimise(rows) + 1e-15).all())
    assert torch.allclose(both, region.minimise(rows), rtol=1e-12, atol=1e-12)
    assert bool((halves.slack > region.slack.repeat_interleave(2, 0)).all())


class Loudness(nn.Module):
    """Class 0 if the sound is louder than a threshold, by the absolute value of a few correlations with it."""

    def __init__(self, samples: int, threshold: float) -> None:
        super().__init__()
        self.mix = nn.Linear(samples, 4, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.sin(torch.arange(4 * samples).float()).view(4, samples))
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        loud = torch.relu(self.mix(x)).sum(1, keepdim=True) + torch.relu(-self.mix(x)).sum(1, keepdim=True)
        return torch.cat([loud, torch.full_like(loud, self.threshold)], 1)


def test_a_gain_is_certified_as_a_line_and_refuted_beyond() -> None:
    x = clips(1, 16, torch.float32)
    loud = float(Loudness(16, 0.0)(x)[0, 0].detach())
    network = Loudness(16, loud * 10 ** (-2 / 20))  # 2 dB less are too soft
    (robust,) = tv.certify(network, x, [0], Gain(1.9))
    (broken,) = tv.certify(network, x, [0], Gain(2.1))
    assert robust.verdict is tv.Verdict.ROBUST
    assert robust.margin == pytest.approx(loud * (10 ** (-1.9 / 20) - 10 ** (-2 / 20)), rel=1e-3)
    assert broken.verdict is tv.Verdict.COUNTEREXAMPLE
    assert broken.counterexample is not None
    factor = broken.counterexample / x[0]
    assert float(factor.std()) < 1e-6
    assert 10 ** (-2.1 / 20) * (1 - 1e-6) <= float(factor.mean()) < 10 ** (-2 / 20)
    assert torch.equal(broken.counterexample, broken.counterexample.float().double())
    # The box around the line would not do: every sample by itself may fall silent enough.
    size = float(x.abs().max()) * (1 - 10 ** (-1.9 / 20))
    (boxed,) = tv.certify(network, x, [0], LinfBall(size))
    assert boxed.verdict is not tv.Verdict.ROBUST


@pytest.mark.covering
@every_line
@pytest.mark.parametrize("method", ["interval", "linear", "planes", "combine"])
def test_bounds_over_lines_hold_what_the_network_gives(perturbation: Perturbation, method: str) -> None:
    torch.manual_seed(2)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x.unflatten(1, (4, 4)))[0][:, -1])

    network, x = Small().double(), 4 * clips(2)
    found = tv.bounds(network, x, perturbation, method)
    for share in torch.linspace(0, 1, 21).tolist():
        outputs = network(moved(perturbation, x, share))
        assert bool((found.lower <= outputs + 1e-12).all() and (outputs <= found.upper + 1e-12).all())


def test_what_makes_no_sense_is_refused() -> None:
    silent = clips()
    silent[1] = 0
    for ball in (DecibelBall(-80), SnrBall(60)):
        with pytest.raises(RegionError, match="input 1 is silent"):
            ball.around(silent)
    for make in (
        lambda: DecibelBall(80),
        lambda: DecibelBall(math.nan),
        lambda: DecibelBall(-math.inf),
        lambda: DecibelBall(-80, clip=(1, -1)),
        lambda: SnrBall(math.inf),
        lambda: Gain(-1),
        lambda: Gain(math.nan),
        lambda: AddedNoise(NOISE, -0.1),
        lambda: AddedNoise(NOISE, math.inf),
        lambda: AddedNoise(NOISE * math.nan, 0.1),
        lambda: AddedNoise(NOISE[:5], 0.1).around(silent),
        lambda: Shift(1.5),
        lambda: DecibelBall(-80, clip=(-0.1, 0.1)).around(silent),
    ):
        with pytest.raises(RegionError):
            make()


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6)])
def test_a_noise_goes_along_the_samples(shape: tuple[int, ...]) -> None:
    noise = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 7.0], dtype=DOUBLE)
    region = AddedNoise(noise, 1.0).around(torch.zeros((2, *shape), dtype=DOUBLE))
    wanted = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], dtype=DOUBLE)
    assert torch.allclose(region.box.width, wanted.expand(2, 6), atol=1e-9)


def test_a_noise_that_may_go_along_either_axis_is_refused() -> None:
    inputs = torch.zeros((1, 4, 3), dtype=DOUBLE)
    for length in (1, 4, 5):
        with pytest.raises(RegionError, match="noise has shape"):
            AddedNoise(torch.ones(length), 1.0).around(inputs)
    assert AddedNoise(torch.ones(3), 1.0).around(inputs).box.width.min() > 0.99
    assert AddedNoise(torch.ones(5, 3), 1.0).around(torch.zeros((1, 5, 3), dtype=DOUBLE)).box.width.min() > 0.99
    with pytest.raises(RegionError, match="noise has shape"):
        AddedNoise(torch.ones(1), 1.0).around(torch.zeros((1, 6), dtype=DOUBLE))


def test_regions_say_what_keeps_changes_to_less() -> None:
    mask = torch.tensor([False, True, True])
    assert LinfBall(0.1).limits == DecibelBall(-80).limits == Gain(3.0).limits == {}
    assert LinfBall(0.1, (0, 1), frames=[0, 2], features=mask).limits == {"clip": [0, 1], "frames": [0, 2], "features": [1, 2]}
    assert (
        DecibelBall(-80, (-1, 1), (10, 20)).limits
        == SnrBall(60, (-1, 1), (10, 20)).limits
        == {
            "clip": [-1, 1],
            "samples": [10, 19],
        }
    )
    assert [Gain(3.1234567).words, Shift(0.5).words, SnrBall(60).words] == ["gain 3.1234567 dB", "shift 0.5", "SNR 60 dB"]
