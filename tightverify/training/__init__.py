"""Certified training: differentiable bounds of torch modules as they are, and losses made of them (`losses`).

It is in the modules' own precision and on their device, and no bound of it decides anything: what is claimed of a trained
network comes from `tightverify.certify`.
"""

from tightverify.training import recurrent as _recurrent  # its operators join the table
from tightverify.training.losses import bounds, certified_loss, margins
from tightverify.training.ramp import ParamRamp

__all__ = ["ParamRamp", "bounds", "certified_loss", "margins"]
del _recurrent
