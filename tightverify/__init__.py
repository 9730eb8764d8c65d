"""Decides, with proof, whether a recurrent network keeps its answer on a whole region of inputs."""

from tightverify.shadowed import refuse_shadowed

refuse_shadowed()  # before the first import that needs `solvers`

from tightverify.api import bounds, certify, load, stream
from tightverify.clips import AnyLength, certify_clips
from tightverify.errors import TightVerifyError
from tightverify.evidence import read_evidence
from tightverify.fits import PlaneFit, planes
from tightverify.fragility import Stretches, stretches
from tightverify.models.model import Model
from tightverify.region import AddedNoise, Box, DecibelBall, Gain, L1Ball, L2Ball, LinfBall, LpBall, Shift, SnrBall
from tightverify.relax.polygons import Polygons
from tightverify.settings import Settings
from tightverify.values import Interval
from tightverify.verify import Result, Verdict

__all__ = [
    "AddedNoise",
    "AnyLength",
    "Box",
    "DecibelBall",
    "Gain",
    "Interval",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "LpBall",
    "Model",
    "PlaneFit",
    "Polygons",
    "Result",
    "Settings",
    "Shift",
    "SnrBall",
    "Stretches",
    "TightVerifyError",
    "Verdict",
    "bounds",
    "certify",
    "certify_clips",
    "load",
    "planes",
    "read_evidence",
    "stream",
    "stretches",
]
