"""Finite sets of sentences: against all of their points, which are listed by other means."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from tightverify.region import Choices
from tightverify.values import Interval

WORDS, OTHERS, WIDTH = 4, 3, 2
DOUBLE = torch.float64


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def region(most: int, batch: int = 3, seed: int = 0) -> Choices:
    """Sentences whose words have from no other vector to two."""
    vectors = torch.randn((batch, WORDS, OTHERS, WIDTH), generator=drawn(seed), dtype=DOUBLE)
    vectors[:, 1, 2] = vectors[:, 1, 0]
    vectors[:, 3, 1:] = vectors[:, 3, :1]
    return Choices.of(vectors, torch.full((batch,), most))


def listed(some: Choices, k: int) -> Tensor:
    """(P, n): all different points of one region, by the definition."""
    found: dict[tuple[float, ...], None] = {}
    for numbers in product(range(OTHERS), repeat=WORDS):
        words = [some.vectors[k, t, c] for t, c in enumerate(numbers)]
        changes = sum(not torch.equal(word, some.vectors[k, t, 0]) for t, word in enumerate(words))
        point = torch.cat(words)
        if changes <= int(some.most[k]) and bool(((point >= some.box.lower[k]) & (point <= some.box.upper[k])).all()):
            found[tuple(point.tolist())] = None
    return torch.tensor(list(found), dtype=DOUBLE).view(-1, WORDS * WIDTH)


def halved(some: Choices, coordinate: int, above: bool) -> Choices:
    """What is on one side of the middle of a coordinate."""
    lower, upper = some.box.lower.clone(), some.box.upper.clone()
    (lower if above else upper)[:, coordinate] = some.box.centre[:, coordinate]
    return some.within(Interval(lower, upper))


EVERY = [
    region(most) if above is None else halved(halved(region(most), 0, above), 2, not above)
    for most in (0, 1, 2, WORDS)
    for above in (None, False, True)
]


@pytest.mark.parametrize("some", EVERY)
def test_everything_it_says_is_of_its_points(some: Choices) -> None:
    rows = torch.randn((1, 7, WORDS * WIDTH), generator=drawn(1), dtype=DOUBLE)
    rows[:, 0] = 0
    least, worst, reach, counts = some.minimise(rows), some.minimiser(rows), some.reach, some.counts
    anywhere = some.project(torch.randn((len(some), 5, WORDS * WIDTH), generator=drawn(2), dtype=DOUBLE))
    drawn_points = some.sample(20, drawn(3))
    for k in range(len(some)):
        points = listed(some, k)
        assert counts[k] == len(points)
        there = {tuple(point) for point in points.tolist()}
        assert {tuple(point) for point in some.sentences(k, some.all_of(k)).tolist()} == there
        assert len(some.all_of(k)) == len(points)
        if not len(points):
            assert not (torch.maximum(reach.lower, some.box.lower)[k] <= torch.minimum(reach.upper, some.box.upper)[k]).all()
            continue
        assert torch.allclose(least[k], (rows[0] @ points.T).amin(1), atol=1e-12)
        assert torch.allclose((rows[0] * worst[k]).sum(1), least[k], atol=1e-12)
        assert torch.equal(torch.maximum(reach.lower, some.box.lower)[k], points.amin(0))
        assert torch.equal(torch.minimum(reach.upper, some.box.upper)[k], points.amax(0))
        for point in (*worst[k], *anywhere[k], *drawn_points[k]):
            assert tuple(point.tolist()) in there


def test_the_nearest_point_is_taken() -> None:
    some = region(2, batch=1)
    points = listed(some, 0)
    for x in torch.randn((20, WORDS * WIDTH), generator=drawn(4), dtype=DOUBLE):
        found = some.project(x[None, None])[0, 0]
        assert float((found - x).norm()) <= float((points - x).norm(dim=1).min()) + 1e-12


def test_points_inside_are_told_to_the_last_bit() -> None:
    some = region(1)
    for point in some.sample(8, drawn(5)).unbind(1):
        assert some.contains(point).all()
        assert not some.contains(torch.nextafter(point, torch.tensor(torch.inf, dtype=DOUBLE))).any()
    two = some.vectors[:, torch.arange(WORDS), torch.tensor([1, 1, 0, 0])].flatten(1)
    assert not some.contains(two).any()
    assert region(2).contains(two).all()


def test_points_next_to_one() -> None:
    some = region(2)
    x = some.sample(3, drawn(6))[:, 2]
    near = some.nearby(x)
    assert near.shape == (3, WORDS * OTHERS, WORDS * WIDTH)
    for point in near.unbind(1):
        assert some.contains(point).all()
        assert ((point != x).view(3, WORDS, WIDTH).any(2).sum(1) <= 1).all()
    assert (near != x[:, None]).any(2).sum(1).ge(3).all()


def test_a_step_of_half_the_way_reaches_the_best_words() -> None:
    some = region(WORDS)
    gradient = torch.randn((3, 1, WORDS * WIDTH), generator=drawn(7), dtype=DOUBLE)
    moved = some.project(some.centre[:, None] - some.steepest(gradient))
    fall = ((some.centre[:, None] - moved) * gradient).sum(-1)
    best = (some.centre[:, None] * gradient).sum(-1) - some.minimise(gradient)
    assert (fall >= 0.5 * best - 1e-9).all()


def test_regions_of_other_widths_are_joined() -> None:
    narrow = Choices.of(region(1).vectors[:, :, :2], torch.ones(3, dtype=torch.long))
    joined = narrow.joined([region(1)])
    assert joined.counts == [*narrow.counts, *region(1).counts]
    assert region(1).joined([narrow]).counts == [*region(1).counts, *narrow.counts]
