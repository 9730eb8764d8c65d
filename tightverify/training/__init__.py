"""Certified training: differentiable bounds of torch modules as they are, and losses made of them (`losses`).

It is in the modules' own precision and on their device, and no bound of it decides anything: what is claimed of a trained
network comes from `tightverify.certify`.
"""

from tightverify.training import curved, normalising, recurrent, windows  # their operators join the table
from tightverify.training.loop import Data, Epoch, Plan, Training, accuracies
from tightverify.training.losses import bounds, certified_loss, margins
from tightverify.training.ramp import ParamRamp
from tightverify.training.schedule import Moment, Schedule
from tightverify.training.sizes import Balls, Decibels

__all__ = [
    "Balls",
    "Data",
    "Decibels",
    "Epoch",
    "Moment",
    "ParamRamp",
    "Plan",
    "Schedule",
    "Training",
    "accuracies",
    "bounds",
    "certified_loss",
    "margins",
]
del curved, normalising, recurrent, windows
