"""Queries of VNN-LIB 1.0: read exactly, answered with proof, and files that are none refused in a sentence."""

from __future__ import annotations

import gzip
import subprocess
from fractions import Fraction
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import tightverify as tv
from tests.conftest import ROOT
from tests.helpers.refusals import assert_one_sentence
from tightverify.cli.main import main
from tightverify.errors import InputError, UnsupportedError
from tightverify.inputs.vnnlib.query import below, query_of
from tightverify.inputs.vnnlib.syntax import formula_of

FRAMES, FEATURES, CLASSES = 3, 2, 3
DECLARED = "".join(f"(declare-const X_{k} Real)\n" for k in range(FRAMES * FEATURES)) + "".join(
    f"(declare-const Y_{k} Real)\n" for k in range(CLASSES)
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.GRU(FEATURES, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


@pytest.fixture(scope="module")
def model() -> tv.Model:
    return tv.load(Network().double().eval(), (FRAMES, FEATURES))


def box(low: float, high: float, inputs: int = FRAMES * FEATURES) -> str:
    return "".join(f"(assert (>= X_{k} {low}))\n(assert (<= X_{k} {high}))\n" for k in range(inputs))


def query(text: str) -> str:
    return f"; a comment with (parentheses\n{DECLARED}{text}"


def outputs(model: tv.Model, low: float, high: float) -> Tensor:
    x = low + (high - low) * torch.rand(
        (4000, FRAMES, FEATURES), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return model.original(x)


def answered(model: tv.Model, text: str, path: Path, **options: object) -> tv.Answer:
    path.write_text(text)
    return tv.vnnlib(model, path, **options)  # type: ignore[arg-type]


def test_what_samples_show_is_sat_and_what_is_far_from_them_unsat(model: tv.Model, tmp_path: Path) -> None:
    values = outputs(model, 0, 0.2)
    least, most = float(values[:, 0].min()), float(values[:, 0].max())
    path = tmp_path / "q.vnnlib"
    for limit, outcome in ((least + 0.1 * (most - least), "sat"), (least - 0.2 * (most - least), "unsat")):
        found = answered(model, query(box(0, 0.2) + f"(assert (<= Y_0 {limit:.6f}))"), path, splits=50)
        assert found.outcome == outcome
        if found.x is not None and found.y is not None:
            assert bool(((found.x >= 0) & (found.x <= 0.2)).all())
            assert torch.equal(model.original(found.x.view(1, FRAMES, FEATURES))[0], found.y)
            assert float(found.y[0]) <= limit
    assert found.text == "unsat\n"


def test_a_conjunction_is_refuted_by_any_of_its_constraints(model: tv.Model, tmp_path: Path) -> None:
    """Each constraint can be met alone, the two together cannot: they ask for the same output below and above a value."""
    value = float(outputs(model, 0, 0.2)[:, 1].median())
    wide, path = box(0, 0.2), tmp_path / "q.vnnlib"
    for text in (f"(assert (<= Y_1 {value}))", f"(assert (>= Y_1 {value}))"):
        assert answered(model, query(wide + text), path, method="linear").outcome == "sat"
    apart = f"(assert (and (<= Y_1 {value - 2}) (>= Y_1 {value})))"
    assert answered(model, query(wide + apart), path, method="linear").outcome == "unsat"


def test_boxes_and_cases_are_tried_each(model: tv.Model, tmp_path: Path) -> None:
    """Of two boxes one has the value: its input is found, wherever it stands among the cases."""
    here, there = outputs(model, 0, 0.1)[:, 0], outputs(model, 0.9, 1)[:, 0]
    limit = float((here.mean() + there.mean()) / 2)
    sign = "<=" if here.mean() < there.mean() else ">="
    parts = [" ".join(f"(>= X_{k} {low}) (<= X_{k} {high})" for k in range(6)) for low, high in ((0.9, 1), (0, 0.1))]
    boxes = f"(assert (or (and {parts[0]}) (and {parts[1]})))"
    others = f"(assert (or (and ({sign} Y_0 {limit})) (and (>= Y_2 100) (<= Y_1 -100))))"
    found = answered(model, query(boxes + others), tmp_path / "q.vnnlib", splits=10)
    assert (found.outcome, found.cases) == ("sat", 4)
    assert found.x is not None
    assert bool((found.x <= 0.1).all())
    far = others.replace(f"{limit}", f"{limit + (100 if sign == '>=' else -100)}")
    assert answered(model, query(boxes + far), tmp_path / "q.vnnlib").outcome == "unsat"


def test_ties_count_as_sat(model: tv.Model, tmp_path: Path) -> None:
    point = torch.full((1, FRAMES, FEATURES), 0.5, dtype=torch.float64)
    value = Fraction(float(model.original(point)[0, 0]))
    text = query(box(0.5, 0.5) + f"(assert (<= Y_0 {float(value)!r}))")
    found = answered(model, text, tmp_path / "q.vnnlib", method="linear")
    assert found.outcome in ("sat", "unknown")  # whether it is a tie in real numbers floats cannot tell
    assert found.outcome != "unsat"


def test_numbers_are_exact_and_boxes_never_smaller() -> None:
    text = query(box(0, 0).replace("X_0 0)", "X_0 0.1)") + "(assert (<= (+ (* 0.5 Y_0) (- Y_1) 1) (- 0.3 Y_2)))")
    found = query_of(formula_of(text))
    assert Fraction(float(found.lower[0, 0])) <= Fraction("0.1") <= Fraction(float(found.upper[0, 0]))
    row, offset = found.refuted.rows[0, 0].tolist(), float(found.refuted.offsets[0, 0])
    assert row == [1.0, -2.0, 2.0]  # twice .5 y0 - y1 + y2
    assert Fraction(offset) <= 2 * Fraction("0.7") < Fraction(offset) + Fraction(1, 10**12)
    assert below(Fraction(1, 3)) < Fraction(1, 3)


def test_a_box_that_is_empty_satisfies_nothing(model: tv.Model, tmp_path: Path) -> None:
    found = answered(model, query(box(1, 0) + "(assert (<= Y_0 1e9))"), tmp_path / "q.vnnlib")
    assert (found.outcome, found.cases) == ("unsat", 0)
    alone = answered(model, query(box(0, 1)), tmp_path / "q.vnnlib", method="linear")
    assert alone.outcome == "sat", "any input satisfies a query about inputs alone"


def test_constraints_may_join_inputs_and_outputs_and_multiply_them(model: tv.Model, tmp_path: Path) -> None:
    """Their rows are over outputs that the model gets beside its own; what is found satisfies them exactly."""
    path, wide = tmp_path / "q.vnnlib", query(box(0, 0.2))
    found = answered(model, wide + "(assert (>= (+ X_0 X_1) 0.39)) (assert (<= (* X_2 X_3 2) 0.01))", path, method="linear")
    assert found.outcome == "sat"
    assert found.x is not None
    x = [Fraction(value) for value in found.x.flatten().tolist()]
    assert x[0] + x[1] >= Fraction("0.39")
    assert 2 * x[2] * x[3] <= Fraction("0.01")
    for impossible in ("(>= (+ X_0 X_1) 0.41)", "(>= (* X_0 X_1) 0.05)", "(>= (- Y_0 (* X_0 X_0)) 100)", "(!= (- X_0 X_0) 0)"):
        assert answered(model, f"{wide}(assert {impossible})", path, method="linear").outcome == "unsat", impossible


def test_what_inputs_are_joined_to_bounds_them() -> None:
    text = query(box(0, 0.2).replace("(assert (<= X_5 0.2))", "(assert (<= (- X_5 X_4) 0.1))"))
    found = query_of(formula_of(text + "(assert (<= Y_0 0))"))
    assert not any(found.cut)
    assert float(found.upper[0, 5]) == pytest.approx(0.3)


def test_nothing_is_proved_where_an_input_has_no_bound(model: tv.Model, tmp_path: Path) -> None:
    text, path = query(box(0, 0.2).replace("(assert (<= X_5 0.2))", "")), tmp_path / "q.vnnlib"
    far = answered(model, text + "(assert (>= Y_0 1000))", path, method="linear")
    assert (far.outcome, far.open) == ("unknown", 1)
    assert far.note.startswith("X_5 has no upper bound")
    assert answered(model, text + "(assert (<= Y_0 1000))", path, method="linear").outcome == "sat"


def test_constraints_that_cannot_hold_together_are_refuted_by_their_sum(tmp_path: Path) -> None:
    """On y = (2 x, x + 10), 2 x >= 1.5 and x + 10 <= 10.5 can each be met."""
    layer = nn.Linear(1, 2).double()
    layer.load_state_dict({"weight": torch.tensor([[2.0], [1.0]]), "bias": torch.tensor([0.0, 10.0])})
    text = "(declare-const X_0 Real) (declare-const Y_0 Real) (declare-const Y_1 Real) (assert (>= X_0 0)) (assert (<= X_0 1))"
    one = tv.load(layer, (1,))
    for limit, outcome in (("10.5", "unsat"), ("10.8", "sat")):
        asked = f"{text} (assert (>= Y_0 1.5)) (assert (<= Y_1 {limit}))"
        assert answered(one, asked, tmp_path / "q.vnnlib", method="linear").outcome == outcome


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("(vnnlib-version <2.0>)", UnsupportedError, "VNN-LIB 2.0"),
        (query(box(0, 1) + "(assert (<= Y_7 1))"), InputError, "Y_7 is neither a number nor declared"),
        (query(box(0, 1) + "(assert (not (<= Y_0 1)))"), UnsupportedError, "(not (<= Y_0 1)) is not supported"),
        (query(box(0, 1) + "(assert (<= (/ Y_0 Y_1) 1))"), UnsupportedError, "sums, differences and products are"),
        (query(box(0, 1) + f"(assert (<= (* {'Y_0 ' * 9}) 1))"), UnsupportedError, "more than 8 variables"),
        (query(box(0, 1) + "(assert (<= Y_0 1)"), InputError, "cut short"),
        (query(box(0, 1)) + ")", InputError, "was not opened"),
        ("(declare-const X_1 Real) (declare-const Y_0 Real)", InputError, "X_0 is not declared"),
        ("", InputError, "X_0 is not declared"),
        ("(declare-const Z Real)", InputError, "Z is declared"),
        ("word", InputError, "outside all parentheses"),
        ("(solve)", InputError, "(solve) is no command"),
    ],
)
def test_what_is_not_read_is_said(text: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        query_of(formula_of(text))
    assert words in str(caught.value)


def test_another_model_is_refused(tmp_path: Path) -> None:
    other = tv.load(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), (2,))
    (tmp_path / "q.vnnlib").write_text(query(box(0, 1) + "(assert (<= Y_0 1))"))
    with pytest.raises(InputError, match=r"about 6 inputs and 3 outputs; .* has 2 and 2"):
        tv.vnnlib(other, tmp_path / "q.vnnlib")


def run(*arguments: object) -> int:
    return main(["vnnlib", *map(str, arguments)])


def exported(folder: Path) -> Path:
    path = folder / "model.onnx"
    torch.onnx.export(
        Network().eval(), (torch.zeros(1, FRAMES, FEATURES),), str(path), dynamo=False, verbose=False,
        input_names=["x"], dynamic_axes={"x": {0: "n"}},
    )  # fmt: skip
    return path


@pytest.mark.filterwarnings("ignore")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, out = exported(tmp_path), tmp_path / "out.txt"
    packed = tmp_path / "q.vnnlib.gz"
    with gzip.open(packed, "wt") as file:
        file.write(query(box(0, 0.1) + "(assert (>= Y_0 -50))"))
    assert run(network, packed, "--timeout", 20, "--out", out, "--quiet") == 0
    assert capsys.readouterr() == ("sat\n", "")
    lines = out.read_text().splitlines()
    assert lines[0] == "sat"
    named = dict(line.strip(" ()").split() for line in lines[1:])
    assert list(named) == [*(f"X_{k}" for k in range(6)), *(f"Y_{k}" for k in range(3))]
    assert all(0 <= float(named[f"X_{k}"]) <= 0.1 for k in range(6))
    assert run(network, packed, "--out", out) == 2
    assert_one_sentence(capsys, "exists already", tmp_path / "never")
    (tmp_path / "bad.vnnlib").write_text("(assert")
    assert run(network, tmp_path / "bad.vnnlib") == 2
    assert_one_sentence(capsys, "bad.vnnlib: 1 parentheses are open", tmp_path / "never")
    assert run(network, tmp_path / "none.vnnlib") == 2
    assert_one_sentence(capsys, "does not exist", tmp_path / "never")


def test_a_query_about_one_of_several_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """y = x + s, s fixed."""
    of = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])  # noqa: E731
    graph = helper.make_graph([helper.make_node("Add", ["x", "s"], ["y"])], "g", [of("x"), of("s")], [of("y")])
    network, path = tmp_path / "two.onnx", tmp_path / "q.vnnlib"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(network))
    names = ("X_0", "X_1", "Y_0", "Y_1")
    path.write_text("".join(f"(declare-const {name} Real)" for name in names) + box(0, 1, 2) + "(assert (<= Y_0 1.5))")
    assert run(network, path) == 2
    assert_one_sentence(capsys, "--fix s=0", tmp_path / "never")
    for value, outcome in ((1, "sat"), (2, "unsat")):
        assert run(network, path, "--fix", f"s={value}", "--quiet") == 0
        assert capsys.readouterr().out.splitlines()[0] == outcome


@pytest.mark.filterwarnings("ignore")
def test_the_scripts_of_the_competition(tmp_path: Path) -> None:
    """They run what is installed beside them; a version that they do not know is refused."""
    network, asked, results = exported(tmp_path), tmp_path / "q.vnnlib", tmp_path / "results.txt"
    asked.write_text(query(box(0, 0.1) + "(assert (>= Y_0 50))"))
    script = ROOT / "experiments" / "vnncomp" / "run_instance.sh"
    given = ["recurrent", str(network), str(asked), str(results), "20"]
    assert subprocess.run([script, "v2", *given], capture_output=True, check=False).returncode == 1
    if not (ROOT / ".venv" / "bin" / "tightverify").exists():
        pytest.skip("tightverify is not installed in .venv")
    subprocess.run([script, "v1", *given], check=True)
    assert results.read_text() == "unsat\n"
