"""Look-up tables in place of sigmoid and tanh: what they hold, and that pairs with them are of one structure and bounded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tightverify as tv
from tests.models.test_pair import EPS, OUTPUTS, bounded, drawn, holds, modelled, network
from tests.models.test_pair_twins import operations
from tightverify.api.load import load
from tightverify.errors import UsageError
from tightverify.models.pair import pair, subtracted
from tightverify.models.tables import TableKind, with_tables
from tightverify.ops import Sigmoid, Table, Tanh

KINDS = {"table:256": (8 / 256 / 4, 4 / 256), "table:64:linear": (1e-3, 2e-3)}
"""How far a table of each kind may be from sigmoid and from tanh inside of its range."""


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize(("op", "reach"), [(Sigmoid(), 8.0), (Tanh(), 4.0)])
def test_tables_are_near_their_functions(how: str, op: Sigmoid | Tanh, reach: float) -> None:
    table = Table(TableKind.of(how).straight(op))
    x = torch.linspace(-2 * reach, 2 * reach, 10001, dtype=torch.float64)
    most = KINDS[how][isinstance(op, Tanh)] + 1e-6
    assert float((table.forward(x) - op.forward(x)).abs().max()) <= max(most, 7e-4)
    assert table.straight.continuous == how.endswith("linear")
    assert (table.traits.breakpoints is not None) == table.straight.continuous


@pytest.mark.covering
@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
@pytest.mark.parametrize("how", KINDS)
def test_a_network_and_its_tables(kind: str, how: str) -> None:
    first = modelled(network(kind))
    second = with_tables(first, TableKind.of(how))
    assert not {Sigmoid, Tanh} & {type(op) for op in operations(second)}
    both = pair(first, second)
    assert not both.notes
    x = drawn(1000)
    one, other = first.original(x), second.original(x)
    values = torch.cat([one, one - other], dim=1)
    assert (both.original(x) - values).abs().max() <= 1e-13
    apart = dict(bounded(subtracted(first, second)))["linear"]
    for method, interval in bounded(both):
        assert holds(interval, values), method
    share = 0.9 if how.endswith("linear") else 1.2
    assert interval.magnitude[:, OUTPUTS:].mean() < share * apart.magnitude[:, OUTPUTS:].mean()


def test_differ_takes_models_with_tables() -> None:
    first = load(network("gru"), (4, 3))
    second = with_tables(first, TableKind(64, linear=True))
    (found,) = tv.differ(first, second, torch.zeros(1, 4, 3), tv.LinfBall(EPS), within=0.05, method="linear")
    assert found.verdict.name == "EQUIVALENT"
    assert bool((found.found <= found.bound).all())


def test_tables_that_cannot_be_made() -> None:
    for how in ("table:1", "table:many", "table:5000", "table:64:cubic", "table:"):
        with pytest.raises(UsageError, match="is no table"):
            TableKind.of(how)
    with pytest.raises(UsageError, match="neither a sigmoid nor a tanh"):
        with_tables(load(nn.Linear(3, 2), (3,)), TableKind(16))
