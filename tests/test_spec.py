"""Properties: what proves them, what breaks them, and that nobody's NaN ever does the former."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightverify.errors import InputError
from tightverify.spec import Property, classify_as, linear_property

NAN, INF = float("nan"), float("inf")


def top(outputs: torch.Tensor, label: int, k: int) -> tuple[bool, bool]:
    """Whether the label is surely among the k greatest, and whether it surely is not (ties are neither)."""
    others = torch.cat([outputs[:label], outputs[label + 1 :]])
    return bool((others >= outputs[label]).sum() < k), bool((others > outputs[label]).sum() >= k)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_classify_as_counts_overtakers(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 6))
    k = data.draw(st.integers(1, classes - 1))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=4)))
    values = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]), min_size=classes, max_size=classes)
    outputs = torch.tensor([data.draw(values) for _ in labels], dtype=torch.float64)
    goal = classify_as(labels, classes, k)
    margins = goal.margins(outputs)
    assert margins.shape == (len(labels), classes - 1)
    for row, label in enumerate(labels.tolist()):
        inside, out = top(outputs[row], label, k)
        assert bool(goal.proved(margins)[row]) == inside
        assert bool(goal.broken(margins)[row]) == out
        assert (float(goal.worst(margins)[row]) > 0) == inside
        assert (float(goal.worst(margins)[row]) < 0) == out


def test_margins_over_many_points_are_those_of_each() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    goal = classify_as(torch.tensor([0, 3, 1]), 4)
    together = goal.margins(outputs)
    assert together.shape == (3, 5, 3)
    for k in range(5):
        assert torch.equal(together[:, k], goal.margins(outputs[:, k]))
    assert torch.equal(goal[1:].margins(outputs[1:, 0]), goal.margins(outputs[:, 0])[1:])


def of(needed: int, rows: int = 3) -> Property:
    return Property(torch.zeros(1, rows, 2, dtype=torch.float64), torch.zeros(1, rows, dtype=torch.float64), needed)


@pytest.mark.parametrize("needed", [1, 2, 3])
@pytest.mark.parametrize("fill", [NAN, INF, -INF, 0.0, -0.0, -1e-300])
def test_only_finite_positive_rows_prove(fill: float, needed: int) -> None:
    lower = torch.tensor([[fill, 1.0, 1.0]], dtype=torch.float64)
    assert bool(of(needed).proved(lower)) == (needed <= 2)
    assert not bool(of(needed).proved(torch.full((1, 3), fill, dtype=torch.float64)))


def test_a_tie_neither_proves_nor_breaks() -> None:
    margins = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    assert not bool(of(3).proved(margins))
    assert not bool(of(3).broken(margins))
    assert float(of(3).worst(margins)) == 0.0


@pytest.mark.parametrize("needed", [1, 2, 3])
def test_worst_is_positive_exactly_where_proved_for_finite_rows(needed: int) -> None:
    generator = torch.Generator().manual_seed(needed)
    margins = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    goal = of(needed)
    assert torch.equal(goal.worst(margins) > 0, goal.proved(margins))
    assert torch.equal(goal.worst(margins) < 0, goal.broken(margins))


def test_worst_never_counts_a_nan_as_positive() -> None:
    """Two rows are wanted, one is surely positive: whatever the NaN stands for, `worst` must not say that two are."""
    margins = torch.tensor([[NAN, 1.0, -1.0]], dtype=torch.float64)
    assert not bool(of(2).proved(margins))
    assert not float(of(2).worst(margins)) > 0


def test_one_overflow_does_not_prove_two_rows() -> None:
    lower = torch.tensor([[INF, 1.0, -1.0]], dtype=torch.float64)
    assert not bool(of(2).proved(lower))


def test_broken_is_never_proved() -> None:
    values = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0], dtype=torch.float64)
    margins = torch.cartesian_prod(values, values, values)
    for needed in (1, 2, 3):
        assert not bool((of(needed).broken(margins) & of(needed).proved(margins)).any())


@pytest.mark.parametrize(
    ("labels", "classes", "k"), [([3], 3, 1), ([-1], 3, 1), ([0], 1, 1), ([0], 3, 0), ([0], 3, 3), ([0], 3, -1)]
)
def test_labels_and_ranks_out_of_range_are_refused(labels: list[int], classes: int, k: int) -> None:
    with pytest.raises(InputError):
        classify_as(torch.tensor(labels), classes, k)


def test_linear_properties_broadcast_and_refuse_what_does_not_fit() -> None:
    rows = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    outputs = torch.tensor([[1.0, 0.25], [0.5, 2.0], [0.0, 0.0]], dtype=torch.float64)
    goal = linear_property(rows, torch.tensor([0.5, -1.0]), 3, 2)
    assert torch.equal(goal.margins(outputs), outputs @ rows.double().T + torch.tensor([0.5, -1.0]))
    assert goal.margins(outputs[:, None].expand(-1, 4, -1)).shape == (3, 4, 2)
    assert goal.needed == 2
    for bad_rows, bad_offsets in (
        (rows, torch.zeros(3)),
        (torch.zeros(0, 2), None),
        (torch.zeros(2, 3), None),
        (torch.zeros(2, 2, 2), None),
        (rows * NAN, None),
        (rows, torch.tensor([0.0, INF])),
    ):
        with pytest.raises(InputError):
            linear_property(bad_rows, bad_offsets, 3, 2)


def test_what_breaks_breaks_in_exact_arithmetic() -> None:
    outputs = torch.tensor([1e16, 1.0, -1e16], dtype=torch.float64)
    lost = linear_property(torch.ones(1, 3, dtype=torch.float64), torch.tensor([-0.5]), 1, 3)
    assert bool(lost.broken(lost.margins(outputs[None]))[0])
    assert not lost.surely_broken(outputs)
    assert linear_property(torch.ones(1, 3, dtype=torch.float64), torch.tensor([-1.5]), 1, 3).surely_broken(outputs)
    huge = linear_property(torch.tensor([[1.7e308, -1.7e308, 0.0]], dtype=torch.float64), torch.ones(1), 1, 3)
    ten = torch.tensor([10.0, 10.0, 0.0], dtype=torch.float64)
    assert bool(huge.broken(huge.margins(ten[None]))[0])
    assert not huge.surely_broken(ten)
    assert not huge.surely_broken(torch.tensor([float("nan"), 0.0, 0.0]))
    two = classify_as(torch.tensor([0]), 3, top=2)
    assert not two.surely_broken(torch.tensor([1.0, 2.0, 1.0]))
    assert two.surely_broken(torch.tensor([1.0, 2.0, 2.0]))
