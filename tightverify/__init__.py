"""Decides, with proof, whether a recurrent network keeps its answer on a whole region of inputs.

What is here is imported when it is first used: `import tightverify` alone costs next to nothing.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tightverify.shadowed import refuse_shadowed

if TYPE_CHECKING:
    from tightverify import plots, training
    from tightverify.api.bounds import bounds
    from tightverify.api.certify import certify, stream
    from tightverify.api.differ import differ
    from tightverify.api.differences import Comparison, Difference, Differences
    from tightverify.api.gathering import Interrupted
    from tightverify.api.load import load
    from tightverify.api.planes import PlaneFit, planes
    from tightverify.api.results import Results, read_results
    from tightverify.errors import TightVerifyError
    from tightverify.evidence import read_evidence
    from tightverify.inputs.clips import AnyLength, certify_clips
    from tightverify.inputs.vnnlib.answer import Answer, Outcome, vnnlib
    from tightverify.models.model import Model
    from tightverify.radius.inputs import radius
    from tightverify.radius.records import Radii, Radius
    from tightverify.radius.segments import Segments, segments
    from tightverify.radius.steps import RadiusStep
    from tightverify.region import (
        AddedNoise,
        Box,
        DecibelBall,
        Gain,
        L1Ball,
        L2Ball,
        LinfBall,
        LpBall,
        Shift,
        SnrBall,
        Substitution,
    )
    from tightverify.relax.polygons import Polygons
    from tightverify.settings import Settings
    from tightverify.statements import Above, Below, SameSide, Within
    from tightverify.values import Interval
    from tightverify.verify import Result, Verdict

refuse_shadowed()  # before the first import that needs `solvers`

__all__ = [
    "Above",
    "AddedNoise",
    "Answer",
    "AnyLength",
    "Below",
    "Box",
    "Comparison",
    "DecibelBall",
    "Difference",
    "Differences",
    "Gain",
    "Interrupted",
    "Interval",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "LpBall",
    "Model",
    "Outcome",
    "PlaneFit",
    "Polygons",
    "Radii",
    "Radius",
    "RadiusStep",
    "Result",
    "Results",
    "SameSide",
    "Segments",
    "Settings",
    "Shift",
    "SnrBall",
    "Substitution",
    "TightVerifyError",
    "Verdict",
    "Within",
    "bounds",
    "certify",
    "certify_clips",
    "differ",
    "load",
    "planes",
    "plots",
    "radius",
    "read_evidence",
    "read_results",
    "segments",
    "stream",
    "training",
    "vnnlib",
]

HOMES = {
    "Above": "statements",
    "AddedNoise": "region",
    "Answer": "inputs.vnnlib.answer",
    "AnyLength": "inputs.clips",
    "Below": "statements",
    "Box": "region",
    "Comparison": "api.differences",
    "DecibelBall": "region",
    "Difference": "api.differences",
    "Differences": "api.differences",
    "Gain": "region",
    "Interrupted": "api.gathering",
    "Interval": "values",
    "L1Ball": "region",
    "L2Ball": "region",
    "LinfBall": "region",
    "LpBall": "region",
    "Model": "models.model",
    "Outcome": "inputs.vnnlib.answer",
    "PlaneFit": "api.planes",
    "Polygons": "relax.polygons",
    "Radii": "radius.records",
    "Radius": "radius.records",
    "RadiusStep": "radius.steps",
    "Result": "verify",
    "Results": "api.results",
    "SameSide": "statements",
    "Segments": "radius.segments",
    "Settings": "settings",
    "Shift": "region",
    "SnrBall": "region",
    "Substitution": "region",
    "TightVerifyError": "errors",
    "Verdict": "verify",
    "Within": "statements",
    "bounds": "api.bounds",
    "certify": "api.certify",
    "certify_clips": "inputs.clips",
    "differ": "api.differ",
    "load": "api.load",
    "planes": "api.planes",
    "radius": "radius.inputs",
    "read_evidence": "evidence",
    "read_results": "api.results",
    "segments": "radius.segments",
    "stream": "api.certify",
    "vnnlib": "inputs.vnnlib.answer",
}
"""Where each name of this package is defined."""
PARTS = ("plots", "training")
"""Packages in it that users name."""
FORMER = {"stretches": "segments", "Stretches": "Segments"}
"""Names that were changed, for one release."""


def __getattr__(name: str) -> Any:
    if name in FORMER:
        warnings.warn(f"tightverify.{name} is called tightverify.{FORMER[name]} now", DeprecationWarning, stacklevel=2)
        return __getattr__(FORMER[name])
    if name in PARTS:
        return import_module(f"tightverify.{name}")
    if name not in HOMES:
        raise AttributeError(f"module 'tightverify' has no attribute {name!r}")
    found = getattr(import_module(f"tightverify.{HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package of whose names some are functions and folders alike (`bounds`): the function is what users mean."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
