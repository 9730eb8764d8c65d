"""What is asked of outputs by a number: the rows say it, exactly, and runs decide it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.refusals import assert_one_sentence
from tightverify.cli.main import main
from tightverify.errors import InputError
from tightverify.report.records import read_records
from tightverify.statements import STATEMENTS, Statement

OUTPUTS = torch.tensor([[0.25, -1.5], [0.75, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("statement", "holds"),
    [
        (tv.Above(0.5), lambda y, _y0: y > 0.5),
        (tv.Below(0.5), lambda y, _y0: y < 0.5),
        (tv.Within(0.3), lambda y, y0: (y - y0).abs() < 0.3),
        (tv.SameSide(0.5), lambda y, y0: torch.where(y0 >= 0.5, y > 0.5, y < 0.5)),
    ],
    ids=["above", "below", "within", "side"],
)
def test_rows_say_what_is_stated(statement: Statement, holds: object) -> None:
    wanted = statement.at(OUTPUTS)
    y = OUTPUTS[:, None] + torch.linspace(-2, 2, 101, dtype=torch.float64)[None, :, None]
    assert callable(holds)
    expected = holds(y, OUTPUTS[:, None]).all(2)
    assert torch.equal((wanted.margins(y) > 0).all(2), expected)
    assert wanted.needed == wanted.rows.shape[1]
    assert statement[torch.tensor([0])] is statement


def test_rounding_asks_for_more_not_for_less() -> None:
    y = torch.tensor([[0.1]], dtype=torch.float64)
    offsets = tv.Within(0.3).at(y).offsets[0].tolist()
    assert Fraction(offsets[0]) <= Fraction(0.3) - Fraction(0.1)
    assert Fraction(offsets[1]) <= Fraction(0.3) + Fraction(0.1)


@pytest.mark.parametrize(("kind", "value"), [(tv.Above, float("nan")), (tv.Within, 0.0), (tv.SameSide, float("inf"))])
def test_numbers_that_ask_nothing(kind: type[Statement], value: float) -> None:
    with pytest.raises(InputError, match="wanted a"):
        kind(value)


class Detector(nn.Module):
    """One output between 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.cell, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(4 * self.head(self.cell(x)[0][:, -1]))


X = torch.rand((4, 3, 2), generator=torch.Generator().manual_seed(0))


def test_detectors_are_certified_and_refuted() -> None:
    network, T = Detector().eval(), 0.4
    with torch.no_grad():
        first = network(X)
    limit = float(first.mean())
    for eps, verdict in ((1e-4, "ROBUST"), (5.0, "COUNTEREXAMPLE")):
        found = tv.certify(network, X, None, tv.LinfBall(eps), rows=tv.SameSide(limit), method="linear")
        assert [result.verdict.name for result in found] == [verdict] * len(X)
        for result, before in zip(found, first, strict=True):
            if result.counterexample is not None:
                with torch.no_grad():
                    after = network(result.counterexample[None].to(X.dtype))[0]
                assert bool((after > limit) != (before > limit))
    radii = tv.radius(network, X[:1], None, rows=tv.Within(T), norm=torch.inf, method="linear", tolerance=0.1)
    assert 0 < radii[0].proved < radii[0].refuted


@pytest.mark.filterwarnings("ignore")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, inputs, out = tmp_path / "model.onnx", tmp_path / "x.npz", tmp_path / "out.jsonl"
    torch.onnx.export(
        Detector().eval(), (X[:1],), str(path), dynamo=False, verbose=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    np.savez(inputs, x=X.numpy())

    def run(*options: object) -> int:
        return main(["certify", str(path), str(inputs), "--eps", "0.0001", "--method", "linear", "--quiet", *map(str, options)])

    given: dict[str, float] = {"side": 0.5, "above": -0.1, "below": 1.1, "within": 0.2}
    assert given.keys() == STATEMENTS.keys()
    for name, value in given.items():
        assert run(f"--{name}", value, "--out", out, "--force") == 0
        assert all(record.verdict == "ROBUST" for record in read_records(out))
    capsys.readouterr()
    for options, words in (
        (["--side", 0.5, "--above", 1], "--side and --above were given"),
        (["--side", 0.5, "--top", 2], "--top 2 was given beside --side"),
        (["--within", -1], "wanted a number above 0"),
        (["--rows", inputs, "--side", 0.5], "--rows and --side were both given"),
    ):
        assert run(*options) == 2
        assert_one_sentence(capsys, words, tmp_path / "never")
    assert run("--side", 0.5, "--out", out, "--resume") == 2
    assert_one_sentence(capsys, "statement", tmp_path / "never")
