"""A budget is looked at between steps: its time, its memory, and whether somebody says stop."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import tightverify as tv
from tests.api.test_api import classifier
from tightverify.bounds.memory import most_together
from tightverify.budget import UNLIMITED, Budget, Clock
from tightverify.errors import CancelledError, OutOfTimeError
from tightverify.region import LinfBall
from tightverify.spec import classify_as
from tightverify.stages.problem import Problem
from tightverify.verify import decide


def test_time_memory_and_a_word_to_stop() -> None:
    UNLIMITED.check()
    soon = Budget(deadline=time.monotonic() + 100, memory=1000)
    soon.check()
    assert 99 < soon.left <= 100
    assert 24 < soon.within(0.25).left <= 25
    assert soon.within(0.5).memory == 1000
    assert soon.portion(8) == Budget(soon.deadline, 125)
    assert UNLIMITED.within(0.5).left == float("inf")
    with pytest.raises(OutOfTimeError):
        Budget(deadline=0.0).check()
    with pytest.raises(CancelledError):
        Budget(deadline=0.0, cancelled=lambda: True).check()


def test_the_time_of_inputs_that_are_computed_together_is_shared() -> None:
    clock = Clock(began=time.monotonic() - 6, used=1.0, inputs=3)
    assert 6 <= clock.took < 7
    assert 3 <= clock.seconds < 3.5
    assert clock.deadline(5.0) == clock.began + 12
    assert clock.deadline(5.0, 0.5) == clock.began + 6


@pytest.mark.parametrize("looks", [0, 5, 40])
def test_a_run_is_stopped_in_the_midst(looks: int) -> None:
    model = tv.load(classifier(nn.LSTM), (4, 3))
    x = torch.rand((2, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = [0]

    def cancelled() -> bool:
        seen[0] += 1
        return seen[0] > looks

    wanted = classify_as(model.original(x).argmax(1), model.graph.output_size)
    numbers = torch.arange(len(x))
    problem = Problem(
        model, model.graph, LinfBall(0.3).around(x), wanted, tv.Settings("combine"), numbers, numbers,
        budget=Budget(cancelled=cancelled),
    )  # fmt: skip
    with pytest.raises(CancelledError):
        decide(problem, lambda _number, _ending: None)
    assert seen[0] == looks + 1
    one = LinfBall(0.3).around(x)
    assert most_together(model.graph, one, Budget(memory=1), 4) == 1
    assert most_together(model.graph, one, Budget(memory=2**20).portion(4), 4) == most_together(
        model.graph, one, Budget(memory=2**18), 4
    )
