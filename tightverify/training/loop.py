"""A loop that trains a module by what is certified of it, whose state is kept after every epoch.

An epoch's draws follow from the seed and its number, so that a run that was killed and goes on ends as one that was not. The
state is written to a file beside, which then takes the place of the last one: whenever a process ends, one of them is whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tightverify.disk import make_folder
from tightverify.errors import UsageError
from tightverify.region import Perturbation
from tightverify.training.losses import certified_loss, known, margins
from tightverify.training.passes import checked
from tightverify.training.schedule import Schedule, set_slopes
from tightverify.writing import write_rows

STATE, LOG, BEST = "state.pt", "log.csv", "best.pt"
Sized = Callable[[float], Perturbation]
"""The region of a share of the size that is asked for, above 0."""


@dataclass(frozen=True)
class Plan:
    """How to train; `patience` epochs without a better certified accuracy at full size end it, None: none do."""

    epochs: int
    schedule: Schedule = field(default_factory=Schedule)
    method: str = "ibp"
    rate: float = 1e-3
    batch: int = 128
    seed: int = 0
    patience: int | None = None
    longest: float = 10.0
    """Gradients that are longer are made so long."""
    lines: str = "default"
    recurrent_start: float = 1.0
    """Recurrent weights begin as so many times what they are: where they are large, intervals are wide after a few frames."""

    def __post_init__(self) -> None:
        checked(self.method)
        if not 0 <= self.recurrent_start <= 1:
            raise UsageError(f"recurrent_start is {self.recurrent_start:g}; wanted a share from 0 to 1")
        known(self.lines)
        for name in ("epochs", "batch", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; wanted a number above 0")


@dataclass(frozen=True)
class Data:
    """What is learned from (x, y), and what the certified accuracy is measured on."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor


@dataclass(frozen=True)
class Epoch:
    """What was found after an epoch; the certified accuracy is by intervals, over the region that was trained for by then."""

    epoch: int
    loss: float
    size: float
    accuracy: float
    certified: float
    seconds: float


@dataclass
class Training:
    """A run: the module is trained where it is. What `repr` says of the region tells runs apart (`sizes`)."""

    module: nn.Module
    data: Data
    region: Sized
    plan: Plan
    folder: Path | None = None
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.module.parameters(), self.plan.rate)
        if self.folder is not None:
            make_folder(self.folder, "what is learned")
            if (self.folder / STATE).exists():
                self.go_on(self.folder / STATE)
                return
        with torch.no_grad():
            for weight in recurrent_weights(self.module):
                weight.mul_(self.plan.recurrent_start)

    def run(self) -> Iterator[Epoch]:
        """Epoch after epoch, from the last one that was kept; at the end the module has the best weights."""
        while len(self.history) < self.plan.epochs and not self.ended:
            began = time.perf_counter()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.plan.seed * 1_000_003 + len(self.history))
                loss = self.learn(len(self.history))
            self.judge(loss, began)
            self.keep()
            yield self.history[-1]
        if self.best is not None:
            self.module.load_state_dict(self.best)
        self.module.eval()

    def learn(self, number: int) -> float:
        """One epoch; the mean loss."""
        self.module.train()
        order = torch.randperm(len(self.data.x)).split(self.plan.batch)
        total = 0.0
        for k, chosen in enumerate(order):
            moment = self.plan.schedule.at(number + k / len(order))
            set_slopes(self.module, moment.eta)
            x, y = self.data.x[chosen], self.data.y[chosen]
            kappa = moment.kappa if moment.share > 0 else 1.0
            region = self.region(moment.share or 1.0)
            self.optimizer.zero_grad()
            loss = certified_loss(
                self.module, x, y, region, self.plan.method, kappa=kappa, beta=moment.beta, lines=self.plan.lines
            )
            if not bool(torch.isfinite(loss)):
                raise UsageError(
                    f"the loss is {float(loss.detach())} in epoch {number + 1}; learn at a lower rate, or more slowly"
                )
            loss.backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), self.plan.longest)
            self.optimizer.step()
            total += float(loss.detach()) * len(chosen)
        return total / len(self.data.x)

    def judge(self, loss: float, began: float) -> None:
        """Accuracies on what was not learned, and whether these weights are the best by now."""
        self.module.eval()
        size = self.plan.schedule.at(len(self.history) + 1).share
        accuracy, certified = accuracies(
            self.module, self.data.held_x, self.data.held_y, self.region(size) if size > 0 else None
        )
        before = [epoch.certified for epoch in self.history if epoch.size == 1]
        if size < 1 or not before or certified > max(before):
            self.best = {name: value.clone() for name, value in self.module.state_dict().items()}
        self.history.append(Epoch(len(self.history) + 1, loss, size, accuracy, certified, time.perf_counter() - began))

    @property
    def ended(self) -> bool:
        """Whether the certified accuracy has not been better for long."""
        found = [epoch.certified for epoch in self.history if epoch.size == 1]
        if self.plan.patience is None or len(found) <= self.plan.patience:
            return False
        return max(found[-self.plan.patience :]) <= max(found[: -self.plan.patience])

    # What is kept

    def keep(self) -> None:
        """Write down where the run stands, all of it or nothing."""
        if self.folder is None:
            return
        epochs = [asdict(epoch) for epoch in self.history]
        state = {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict(), "epochs": epochs}
        replaced(self.folder / STATE, {**state, "best": self.best, "plan": self.stated})
        replaced(self.folder / BEST, self.best)
        write_rows(self.folder, f"{LOG}.new", epochs)
        os.replace(self.folder / f"{LOG}.new", self.folder / LOG)

    @property
    def stated(self) -> dict[str, Any]:
        """What a run that goes on must have in common with this one: all but how long it takes."""
        found = asdict(self.plan)
        del found["epochs"], found["patience"]
        data = [tuple(part.shape) for part in (self.data.x, self.data.held_x)]
        return {**found, "data": data, "region": repr(self.region)}

    def go_on(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            plan, found = state["plan"], state["epochs"]
        except Exception as error:
            raise UsageError(f"{path} is no state of a training ({error}); give another folder") from error
        plan = {"lines": "default", "recurrent_start": 1.0, **plan}  # of states that have none
        unlike = [name for name, value in self.stated.items() if plan.get(name) != value]
        if unlike:
            raise UsageError(
                f"{path} is of a training with another value of {unlike[0]}; give the same settings, or another folder"
            )
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best = [Epoch(**epoch) for epoch in found], state["best"]


def recurrent_weights(module: nn.Module) -> Iterator[nn.Parameter]:
    """Those by which torch's recurrent layers and cells read their own states."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase | nn.RNNCellBase):
            yield from (weight for name, weight in part.named_parameters() if name.startswith("weight_hh"))


def replaced(path: Path, state: Any) -> None:
    """Write a file beside, to its end, and let it take the place."""
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); make room, or give another folder") from error


def accuracies(
    module: nn.Module, x: Tensor, y: Tensor, region: Perturbation | None, method: str = "ibp", batch: int = 500
) -> tuple[float, float]:
    """The shares that are right, and that bounds in the module's precision say stay so; without a region, the first twice."""
    right = certain = 0
    with torch.no_grad():
        for some_x, some_y in zip(x.split(batch), y.split(batch), strict=True):
            correct = module(some_x).argmax(1) == some_y
            right += int(correct.sum())
            if region is not None:
                worst = margins(module, some_x, some_y, region, method)
                others = torch.ones_like(worst, dtype=torch.bool).scatter(1, some_y[:, None], False)
                correct = correct & ((worst > 0) | ~others).all(1)
            certain += int(correct.sum())
    return right / len(x), certain / len(x)
