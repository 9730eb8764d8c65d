"""Certified training: differentiable bounds of torch modules as they are, and losses made of them (`losses`).

It is in the modules' own precision and on their device, and no bound of it decides anything: what is claimed of a trained
network comes from `tightverify.certify`.
"""

from tightverify.training.ramp import ParamRamp

__all__ = ["ParamRamp"]
