"""Training runs: schedules, states that go on as if nothing had been, the command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightverify as tv
from tightverify.cli.main import main
from tightverify.errors import UsageError
from tightverify.methods import LINES
from tightverify.training import Balls, Data, Decibels, ParamRamp, Plan, Schedule, Training, accuracies
from tightverify.training.loop import BEST, LOG, STATE
from tightverify.training.schedule import set_slopes


def data(count: int = 60) -> tuple[Tensor, Tensor]:
    """Four numbers a frame, three frames; the class is the quarter in which their sums lie."""
    x = torch.rand((count, 3, 4), generator=torch.Generator().manual_seed(2)) - 0.5
    return x, (2 * (x[..., 0].sum(1) > 0) + (x[..., 1].sum(1) > 0)).long()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.ramp, self.last = nn.RNN(4, 8, batch_first=True), ParamRamp(8, 0.5), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(nn.functional.dropout(self.ramp(self.layer(x)[0][:, -1]), 0.1, self.training)))


def training(folder: Path | None, epochs: int, **changed: Any) -> Training:
    torch.manual_seed(0)
    x, y = data()
    schedule = Schedule(1, 2, (1.0, 0.2), eta=(0.5, 0.1))
    plan = replace(Plan(epochs, schedule, "crown-ibp", rate=0.02, batch=20), **changed)
    return Training(Net(), Data(x[:40], y[:40], x[40:], y[40:]), Balls(0.05), plan, folder)


def test_a_schedule_goes_from_first_values_to_last() -> None:
    schedule = Schedule(2, 4, (1.0, 0.5), (1.0, 0.0), (0.5, 0.1))
    assert schedule.at(1.9).share == 0
    assert schedule.at(1.9).kappa == 1
    assert schedule.at(4) == replace(schedule.at(4), share=0.5, kappa=0.75, beta=0.5)
    assert schedule.at(4).eta == pytest.approx(0.3)
    assert schedule.at(6) == schedule.at(60)
    assert schedule.full == 6
    assert Schedule(1, 0).at(1).share == 1
    ramp = ParamRamp(2)
    set_slopes(nn.Sequential(ramp), 0.25)
    assert ramp.eta == 0.25
    for wrong in (lambda: Schedule(-1), lambda: Schedule(kappa=(1.5, 0.0)), lambda: Plan(0), lambda: Plan(3, method="crown")):
        with pytest.raises(UsageError, match=r"wanted|choose"):
            wrong()


def test_sizes_are_shares() -> None:
    assert Balls(0.4, 2, (0, 1))(0.5) == tv.L2Ball(0.2, (0, 1)) or Balls(0.4, 2)(0.5).words == "0.2"
    x = torch.ones(1, 4)
    region = Decibels(-20)(0.5).around(x)
    assert float(region.box.upper.max()) == pytest.approx(1.05)


def test_a_run_that_goes_on_ends_as_one_that_was_not_ended(tmp_path: Path) -> None:
    whole = training(None, 4)
    epochs = list(whole.run())
    first = training(tmp_path, 4).run()
    next(first)
    next(first)
    first.close()  # type: ignore[attr-defined]
    (tmp_path / f"{STATE}.new").write_bytes(b"a file that was never finished")
    again = training(tmp_path, 4)
    assert len(again.history) == 2
    rest = list(again.run())
    assert [epoch.loss for epoch in rest] == [epoch.loss for epoch in epochs[2:]]
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name
    assert len((tmp_path / LOG).read_text().splitlines()) == 5
    assert torch.load(tmp_path / BEST, weights_only=True).keys() == whole.module.state_dict().keys()
    assert list(training(tmp_path, 4).run()) == []
    with pytest.raises(UsageError, match="another value of lines"):
        training(tmp_path, 4, lines="tight")
    with pytest.raises(UsageError, match="another value of rate"):
        training(tmp_path, 4, rate=0.5)
    (tmp_path / STATE).write_bytes(b"no state")
    with pytest.raises(UsageError, match="is no state of a training"):
        training(tmp_path, 4)


def test_lines_make_the_loss() -> None:
    losses = {
        lines: next(training(None, 1, lines=lines, schedule=Schedule(0, 0, (0.0, 0.0), (1.0, 1.0))).run()).loss
        for lines in LINES
    }
    assert len(set(losses.values())) == len(LINES)
    with pytest.raises(UsageError, match="the lines 'loose' do not exist"):
        Plan(1, lines="loose")


def test_training_ends_where_nothing_gets_better() -> None:
    run = training(None, 40, patience=1, schedule=Schedule(0, 0), rate=1e-9)
    assert len(list(run.run())) == 2


def test_certified_accuracy_grows() -> None:
    torch.manual_seed(0)
    x, y = data(300)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4))
    plan = Plan(10, Schedule(1, 2, (1.0, 0.0)), rate=0.02, batch=20)
    run = Training(module, Data(x[:200], y[:200], x[200:], y[200:]), Balls(0.02), plan)
    epochs = list(run.run())
    assert epochs[-1].certified > epochs[0].certified / 2 + 0.3
    right, certain = accuracies(run.module, run.data.held_x, run.data.held_y, tv.LinfBall(0.02))
    proved = tv.certify(run.module, run.data.held_x, run.data.held_y, tv.LinfBall(0.02), method="ibp")
    assert proved.certified <= certain <= right, "the rows are taken together with the last layer"


def test_a_loss_that_is_no_number_ends_it() -> None:
    run = training(None, 2)
    with torch.no_grad():
        run.module.last.weight.fill_(torch.inf)  # type: ignore[union-attr, operator]
    with pytest.raises(UsageError, match="learn at a lower rate"):
        list(run.run())


MODULE = """
from torch import nn

def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
"""


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    x, y = data()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    (tmp_path / "net.py").write_text(MODULE)
    words = ["train", str(tmp_path / "net.py"), "--data", str(tmp_path / "data.npz"), "--folder", str(tmp_path / "run")]
    return [*words, "--epochs", "3", "--batch", "16", "--count", "5"]


def test_the_command_trains_and_verifies(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--eps", "0.02"]) == 0
    first = capsys.readouterr()
    assert first.out.startswith("5 inputs: ")
    assert "epochs: 3 of 3" in first.err
    log = (tmp_path / "run" / LOG).read_text().splitlines()
    assert log[0] == "epoch,loss,size,accuracy,certified,seconds"
    assert len(log) == 4
    assert main([*given, "--eps", "0.02", "--lines", "tight"]) == 2
    assert "another value of lines" in capsys.readouterr().err
    assert main([*given, "--eps", "0.02", "--verify", "crown-ibp"]) == 0
    assert "goes on after epoch 3" in capsys.readouterr().err
    weights = torch.load(tmp_path / "run" / "network.pt", weights_only=True)
    assert weights["1.weight"].shape == (8, 12)


def killed(given: list[str], folder: Path) -> int:
    """A run that ends at once after its second epoch, as by kill -9."""
    code = (
        "import os, sys; from tightverify.training import loop; from tightverify.cli.main import main\n"
        "keep = loop.Training.keep\n"
        "def once(run):\n    keep(run)\n    len(run.history) == 2 and os.kill(os.getpid(), 9)\n"
        "loop.Training.keep = once\nmain(sys.argv[1:])"
    )
    return subprocess.run([sys.executable, "-c", code, *given], capture_output=True, check=False, cwd=folder).returncode


@pytest.mark.slow
def test_the_command_goes_on_after_it_was_killed(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*given, "--eps", "0.02"]
    assert killed(words, tmp_path) == -9
    assert main(words) == 0
    assert "goes on after epoch 2" in capsys.readouterr().err


WRONG: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no size": (lambda _: [], "wanted one of --eps, --db"),
    "two sizes": (lambda _: ["--eps", "0.1", "--db", "-20"], "wanted one of --eps, --db"),
    "norm of decibels": (lambda _: ["--db", "-20", "--norm", "2"], "--norm was given beside --db"),
    "no held data": (lambda folder: ["--eps", "0.1", "--held", str(folder / "none.npz")], "does not exist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused(name: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more, words = WRONG[name]
    assert main([*given, *more(tmp_path)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = 1", "makes no network (AttributeError"), ("def model():\n    return 3", "gives a int"), ("def", "SyntaxError")],
)
def test_wrong_modules_are_refused(
    text: str, words: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(text)
    assert main([*given, "--eps", "0.1"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("layer", [nn.LSTM(2, 3, bidirectional=True), nn.GRUCell(2, 3)])
def test_recurrent_weights_begin_small(layer: nn.Module, tmp_path: Path) -> None:
    """Those alone, and once: not where a run goes on."""
    x = torch.rand(20, 3, 4)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    given = Data(x, torch.zeros(20).long(), x, torch.zeros(20).long()), Balls(0.05)
    Training(layer, *given, Plan(1, recurrent_start=0.25))
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name] * (0.25 if "weight_hh" in name else 1.0))
    run = training(tmp_path, 1, recurrent_start=0.5)
    list(run.run())
    weights = dict(run.module.named_parameters())["layer.weight_hh_l0"].detach().clone()
    again = training(tmp_path, 1, recurrent_start=0.5)
    list(again.run())
    assert torch.equal(dict(again.module.named_parameters())["layer.weight_hh_l0"].detach(), weights)
    with pytest.raises(UsageError, match="recurrent_start is 2"):
        Plan(1, recurrent_start=2.0)
