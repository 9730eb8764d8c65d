"""Studying tightness: figures that must agree with one another, files that say what Python says, and what is refused."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import tightverify as tv
from tests.helpers.refusals import assert_one_sentence
from tests.helpers.without_values import Logs
from tightverify.api.planes import functions
from tightverify.cli.main import commands, main
from tightverify.demo import NETWORKS, held_out
from tightverify.errors import UsageError
from tightverify.relax.curves import Identity, Sigmoid, Tanh
from tightverify.relax.fitted.family import KINDS
from tightverify.stages import METHODS
from tightverify.tightness import (
    RELAXATIONS,
    FunctionTightness,
    ModelTightness,
    chosen_relaxations,
    of_function,
    of_model,
    places,
)
from tightverify.tightness.envelope import axis, curve_mean, envelope

GRU = str(NETWORKS["GRU"])
BOXES = [[-1.0, 2.0, -0.5, 3.0], [-3.0, 3.0, -2.0, 2.0], [8.1988, 31.2190, 3.7455, 5.5686], [-200.0, 200.0, -200.0, 200.0]]
PNG = b"\x89PNG"
COMPARED = ("closed", "constant", "tangent", "mccormick", "corners", "edges", "triangles", "r2")


@pytest.fixture(scope="module")
def several() -> dict[str, FunctionTightness]:
    """Every function over boxes, with every kind of planes."""
    return {
        name: of_function(name, [box[: 2 * op.arity] for box in BOXES], tuple(KINDS), solver="batched")
        for name, op in functions().items()
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = held_out()
    path = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    np.savez(path, x=x[:6], y=y[:6])
    return path


@pytest.fixture(scope="module")
def network(inputs: Path) -> ModelTightness:
    arrays = np.load(inputs)
    return of_model(GRU, arrays["x"][:3], tv.LinfBall(0.03, clip=(0, 1)), arrays["y"][:3], batch=2)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same_rows(path: Path, rows: list[dict[str, object]]) -> None:
    found = read(path)
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        assert list(line) == list(row)
        for name, value in row.items():
            assert line[name] == ("" if value is None else str(value))


@pytest.mark.parametrize("function", list(functions()))
def test_volumes_keep_their_order(several: dict[str, FunctionTightness], function: str) -> None:
    found = several[function]
    assert found.relaxations == (*KINDS, "envelope")
    for box in range(len(BOXES)):
        gaps = {gap.relaxation: gap for gap in found.gaps if gap.box == box}
        tightest, hull = gaps["tightest"], gaps["envelope"]
        for name, gap in gaps.items():
            small = 1e-9 + 1e-9 * abs(gap.volume)
            sides = (gap.mean_below, gap.mean_above, gap.centre_below, gap.centre_above, *gap.corners_below, *gap.corners_above)
            assert min(sides) >= -1e-12
            assert hull.volume_together <= gap.volume_together + small
            assert gap.volume_together <= gap.volume + small
            if name in COMPARED:
                assert tightest.volume <= gap.volume * (1 + 1e-5) + 1e-8
                assert gap.centre_below >= hull.centre_below - 1e-9
                assert gap.centre_above >= hull.centre_above - 1e-9
        # The tightest planes touch the envelopes over the centre: samples come near to that, from inside.
        spread = 1e-3 * (1 + hull.mean_below + hull.mean_above)
        assert hull.centre_below - 1e-8 <= tightest.centre_below <= hull.centre_below + spread
        assert hull.centre_above - 1e-8 <= tightest.centre_above <= hull.centre_above + spread


def test_the_envelope_of_a_product_is_mccormicks() -> None:
    found = of_function("multiply", [[-1.0, 2.0, -0.5, 3.0]], ["mccormick"])
    mccormick, hull = found.gaps
    width, height = 3.0, 3.5
    # A tetrahedron on alternate corners of a block of the height width * height / 2: a third of it.
    assert hull.volume == pytest.approx((width * height) ** 2 / 6, rel=1e-9)
    assert mccormick.volume_together == pytest.approx(hull.volume, rel=1e-3)
    assert mccormick.volume_together >= hull.volume
    assert max(mccormick.corners_below + mccormick.corners_above) < 1e-8
    assert hull.centre_above == pytest.approx(width * height / 4)
    assert mccormick.centre_above == pytest.approx(width * height / 4)
    assert mccormick.volume == pytest.approx((width * height) ** 2 / 2)


def test_the_envelope_of_tanh_is_its_tangent_construction() -> None:
    box = torch.tensor([0.0, 3.0, 0.0, 0.0], dtype=torch.float64)
    mean = float(torch.log(torch.cosh(box[1])) / 3)
    hull = envelope(Tanh(), functions()["tanh"].traits.factors[1], box, mean)
    assert hull.mean_above == pytest.approx(0, abs=1e-4)
    assert hull.mean_below == pytest.approx(mean - float(torch.tanh(box[1])) / 2, abs=1e-12)
    assert hull.centre_below == pytest.approx(float(torch.tanh(box[1] / 2) - torch.tanh(box[1]) / 2), abs=1e-12)


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (-1e6, 3e6), (5.0, 5.0), (1.0, 1.0 + 1e-12), (-300.0, -20.0)])
def test_means_of_curves(ends: tuple[float, float]) -> None:
    low, high = (torch.tensor([end], dtype=torch.float64) for end in ends)
    width = ends[1] - ends[0]
    assert float(curve_mean(Identity(), low, high)) == pytest.approx((ends[0] + ends[1]) / 2, rel=1e-12)
    found = float(curve_mean(Sigmoid(), low, high))
    if width > 1e-6:
        integral = np.logaddexp(0, ends[1]) - np.logaddexp(0, ends[0])
        assert found == pytest.approx(integral / width, rel=1e-12, abs=1e-16)
    else:
        assert found == pytest.approx(float(torch.sigmoid(low)), rel=1e-11)


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (-200.0, 200.0), (1.0, 1.0 + 1e-15), (2.0, 2.0)])
def test_axes_have_their_ends_and_no_doubles(ends: tuple[float, float]) -> None:
    points = axis(*ends)
    assert (float(points[0]), float(points[-1])) == ends
    assert bool((points.diff() > 0).all())


@pytest.mark.parametrize(
    "box", [[0.0, 0.0, 1.0, 1.0], [-1.0, 2.0, 1.0, 1.0], [1.0, 1.0 + 1e-12, -1.0, 2.0], [0.0, 1e-12, 0.0, 1e-12]]
)
def test_degenerate_boxes(tmp_path: Path, box: list[float]) -> None:
    found = of_function("sigmoid_tanh", [box], ["tightest", "closed", "mccormick", "corners"])
    for gaps in found.gaps:
        assert 0 <= gaps.volume < 1e-9
        assert gaps.mean_below >= -1e-12
        assert gaps.mean_above >= -1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {path.name for path in found.save(tmp_path)} == {"relaxations.csv", "gaps.png"}


def test_a_function_from_the_command_line(tmp_path: Path) -> None:
    given = ["tightness", "--function", "sigmoid_tanh", "--box", "-1", "2", "-0.5", "3", "--box", "-3,3,-2,2"]
    out = tmp_path / "new" / "out"
    run = CliRunner().invoke(commands, [*given, "--kinds", "closed, tightest", "--solver", "batched", "--out", str(out)])
    assert run.exit_code == 0, run.stderr
    for word in ("[-1, 2] x [-0.5, 3]", "[-3, 3] x [-2, 2]", "closed", "tightest", "envelope", "volume"):
        assert word in run.stdout
    assert "relaxations.csv" in run.stderr
    found = of_function("sigmoid_tanh", BOXES[:2], ["closed", "tightest"], solver="batched")
    same_rows(out / "relaxations.csv", found.rows())
    names = {path.name for path in out.iterdir()}
    assert names == {"relaxations.csv", "gaps.png", "planes-0.png", "planes-1.png", "gaps-0.png", "gaps-1.png"}
    assert all(path.read_bytes().startswith(PNG) for path in out.glob("*.png"))


def test_a_function_of_one_operand_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["tightness", "--function", "tanh", "--box", "-1", "2", "--out", str(tmp_path), "--quiet"]
    assert main(given) == 0
    printed, told = capsys.readouterr()
    assert "tanh on [-1, 2]" in printed
    assert told == ""
    rows = read(tmp_path / "relaxations.csv")
    assert [row["relaxation"] for row in rows] == ["closed", "r2", "tightest", "envelope"]
    assert {path.name for path in tmp_path.iterdir()} == {"relaxations.csv", "gaps.png", "planes-0.png"}
    assert main(given) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*given, "--force"]) == 0


def test_a_model_from_the_command_line(
    inputs: Path, network: ModelTightness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["tightness", GRU, str(inputs), "--eps", "0.03", "--clip", "0", "1", "--limit", "3", "--batch", "2"]
    assert main([*given, "--out", str(tmp_path)]) == 0
    printed, told = capsys.readouterr()
    for word in ("pre-activation (sigmoid)", "state", "worst margins", "/ linear", "seconds per input"):
        assert word in printed
    assert "sweeping digits_gru.onnx: 3 of 3" in told
    same_rows(tmp_path / "widths.csv", network.rows())
    same_rows(tmp_path / "margins.csv", network.margin_rows())
    for name in ("widths.png", "ratios.png", "margins.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    assert main([*given, "--out", str(tmp_path)]) == 2
    assert "widths.csv exists already" in capsys.readouterr().err


def test_a_network_in_figures(inputs: Path, network: ModelTightness) -> None:
    assert network.relaxations == tuple(RELAXATIONS)
    for before, after in zip(network.widths["interval"], network.widths["linear"], strict=True):
        assert bool((after <= before).all())
    for wide, narrow in (("linear", "planes_boxes"), ("linear", "planes")):
        for before, after in zip(network.widths[wide], network.widths[narrow], strict=True):
            assert bool((after <= before + 1e-9).all())
        assert bool((network.margins[narrow] >= network.margins[wide] - 1e-9).all())
    assert bool((network.margins["linear"] >= network.margins["interval"]).all())
    arrays = np.load(inputs)
    region = tv.LinfBall(0.03, clip=(0, 1))
    results = tv.certify(GRU, arrays["x"][:3], arrays["y"][:3], region, restarts=0)
    for number, result in enumerate(results):
        if result.verdict is not tv.Verdict.MISCLASSIFIED and result.stage == "linear":
            # A verdict's rows are tried with alternatives as well, which a bounding pass has none of.
            assert 0 <= result.margin - float(network.margins["linear"][number]) + 1e-9 < 0.02
    for method in ("interval", "linear"):
        every = tv.bounds(GRU, arrays["x"][:3], region, method, every_node=True)
        for place, width in zip(network.places, network.widths[method], strict=True):
            assert torch.allclose(width, every[place.node].width, rtol=0, atol=1e-12)
    assert bool((network.ratios("interval") >= 1).all())
    group = network.by_place()[0]
    assert group.mean["linear"] == pytest.approx(float(network.widths["linear"][0].mean()))


class Stack(nn.Module):
    """Two recurrent layers of their own kinds, an activation, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lower = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.upper = nn.GRU(8, 5, batch_first=True)
        self.middle, self.head = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.middle(self.upper(self.lower(x)[0])[0][:, -1])))


def test_layers_roles_and_frames() -> None:
    torch.manual_seed(0)
    frames = 3
    model = tv.load(Stack(), (frames, 3))
    found = places(model.graph)
    assert [place.node for place in found] == list(model.graph.bounded)
    seen = {(place.layer, place.role, place.frame) for place in found}
    assert len(seen) == len(found)
    layers = {layer: {role for number, role, _ in seen if number == layer} for layer in {layer for layer, _, _ in seen}}
    kinds = sorted(map(sorted, layers.values()))
    cell = ["pre-activation (sigmoid + tanh)", "state (tanh)"]
    update = ["factor", "pre-activation (factor)", "pre-activation (sigmoid)", "pre-activation (tanh)", "state"]
    assert kinds == sorted([cell, cell, update, ["pre-activation (leaky_relu)"]])
    for layer, roles in layers.items():
        if roles == set(cell):
            for role in cell:
                assert {frame for number, one, frame in seen if (number, one) == (layer, role)} == set(range(frames))
        if roles == set(update):
            for role, first in (("pre-activation (sigmoid)", 0), ("pre-activation (tanh)", 0), ("pre-activation (factor)", 1)):
                assert {frame for number, one, frame in seen if (number, one) == (layer, role)} == set(range(first, frames))


def test_a_network_without_bounded_neurons(tmp_path: Path) -> None:
    found = of_model(nn.Linear(3, 2), torch.rand(2, 3), tv.LinfBall(0.1))
    assert found.places == ()
    assert found.rows() == []
    assert {path.name for path in found.save(tmp_path)} == {"margins.csv", "margins.png"}


class Tiny(nn.Module):
    """Two units over two features of each frame."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.GRU(2, 2, batch_first=True), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


TINY = Tiny()


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_no_width_and_no_end_of_it(tmp_path: Path, eps: float) -> None:
    x = torch.tensor([[0.05, 0.5], [0.5, 0.7]], dtype=torch.float64)
    found = of_model(Logs(), x, tv.LinfBall(eps), relaxations=["interval", "linear"])
    endless = [bool(torch.isinf(width[0]).any()) for width in found.widths["linear"]]
    assert any(endless) == (eps > 0)
    assert (float(found.margins["linear"][0]) == -float("inf")) == (eps > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.save(tmp_path)
    assert read(tmp_path / "margins.csv")[0]["margin_linear"] == str(float(found.margins["linear"][0]))


@pytest.mark.usefixtures("rounds_alone")
def test_every_method_is_compared(inputs: Path, tmp_path: Path) -> None:
    assert chosen_relaxations(["all"]) == (*RELAXATIONS, *(name for name in METHODS if name not in RELAXATIONS))
    arrays, names = np.load(inputs), ["linear", "planes", "combine", "complete", "lp", "milp"]
    found = of_model(TINY, arrays["x"][:2, 3:5, 3:5], tv.LinfBall(0.2), relaxations=names, splits=4)
    assert found.relaxations == tuple(names)
    for better, worse in (("combine", "linear"), ("complete", "combine"), ("lp", "combine"), ("milp", "combine")):
        if better != "complete":
            assert bool((found.margins[better] >= found.margins[worse] - 1e-9).all())
        for narrow, wide in zip(found.widths[better], found.widths["linear"], strict=True):
            assert bool((narrow <= wide + 1e-9).all())
    results = tv.certify(TINY, arrays["x"][:2, 3:5, 3:5], None, tv.LinfBall(0.2), method="lp", thorough=True, restarts=0)
    assert found.margins["lp"].tolist() == pytest.approx([result.margin for result in results], abs=1e-6)
    found.save(tmp_path)
    with pytest.raises(UsageError, match="'never' does not exist; choose of interval, linear, planes_boxes, planes, crown-ibp"):
        chosen_relaxations(["never"])


def test_relaxations_are_chosen_by_name(inputs: Path, tmp_path: Path) -> None:
    x = np.load(inputs)["x"]
    calls: list[tuple[int, int]] = []
    found = of_model(
        GRU, x[:2], tv.L2Ball(0.1), relaxations=["interval", "interval"], progress=lambda *done: calls.append(done)
    )
    assert found.relaxations == ("interval",)
    assert found.baseline == "interval"
    assert calls == [(1, 2), (2, 2)]
    assert len(found.save(tmp_path)) == 5


BAD = [
    ([], "neither a model nor a function"),
    (["--eps", "0.1"], "neither a model nor a function"),
    ([GRU], "without INPUTS.npz"),
    ([GRU, "INPUTS"], "without --eps"),
    ([GRU, "INPUTS", "--eps", "-1"], "eps is -1"),
    ([GRU, "INPUTS", "--eps", "0.1", "--relaxations", "magic"], "choose of interval, linear"),
    ([GRU, "INPUTS", "--eps", "0.1", "--clip", "0.4", "0.6"], "outside the range"),
    ([GRU, "gone.npz", "--eps", "0.1"], "does not exist"),
    ([GRU, "INPUTS", "--eps", "0.1", "--box", "1", "2"], "not both"),
    ([GRU, "INPUTS", "--eps", "0.1", "--function", "tanh", "--box", "1", "2"], "not both"),
    (["--function", "tanh", "--box", "1", "2", "--eps", "0.1"], "not both"),
    (["--function", "tanh"], "without a box"),
    (["--function", "tea", "--box", "1", "2"], "choose one of sigmoid, tanh"),
    (["--function", "tanh", "--box", "1", "2", "3", "4"], "(x_lower, x_upper)"),
    (["--function", "sigmoid_tanh", "--box", "1", "2"], "y_lower"),
    (["--function", "sigmoid_tanh", "--box", "1", "2", "3"], "cannot be read as a box"),
    (["--function", "sigmoid_tanh", "--box", "1", "2", "3", "4", "--box", "1", "2"], "two and of four"),
    (["--function", "tanh", "--box", "one", "two"], "--box"),
    (["--function", "tanh", "--box", "2", "1"], "crossed"),
    (["--function", "tanh", "--box", "nan", "1"], "infinite"),
    (["--function", "tanh", "--box", "1", "2", "--kinds", "magic"], "choose of tightest"),
    (["--function", "tanh", "--box", "1", "2", "--kinds", ","], "no kinds"),
    (["--function", "tanh", "--box", "1", "2", "--solver", "magic"], "there is no solver 'magic'"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=lambda value: str(value)[-50:])
def test_bad_input_gets_one_sentence(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    out = tmp_path / "out"
    assert main(["tightness", *(str(inputs) if word == "INPUTS" else word for word in given), "--out", str(out)]) == 2
    assert_one_sentence(capsys, words, out)


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("precious\n")
    given = ["tightness", "--function", "tanh", "--box", "-1", "2", "--kinds", "closed", "--force", "--out"]
    for out in (file, file / "deeper"):
        assert main([*given, str(out)]) == 2
        assert capsys.readouterr().err.count("error: ") == 1
    assert file.read_text() == "precious\n"
    with pytest.raises(UsageError, match="no boxes"):
        of_function("tanh", torch.zeros((0, 2)))
