"""ONNX's Resize and Upsample: agrees with onnxruntime, or is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.onnx_models import SINGLE, agree, build, node, save
from tightverify.errors import UnsupportedError
from tightverify.models.from_onnx.file import from_onnx

SCALES = {"s": np.array([1, 1, 1.7, 0.6], dtype=np.float32)}
EVEN = {"s": np.array([1, 1, 1.75, 0.6], dtype=np.float32)}
SIZES = {"none": np.empty(0, dtype=np.float32), "n": np.array([1, 2, 7, 3])}
TRANSFORMS = ("align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
PART = {"roi": np.array([0, 0, 0.2, -0.1, 1, 1, 0.7, 0.9], dtype=np.float32)}
LAST = {"p": np.array([7, 3]), "none": SIZES["none"]}


def resized(
    folder: Path, inputs: str, constants: dict[str, Any], opset: int = 19, kind: str = "Resize", **attributes: Any
) -> Path:
    """Of (1, 2, 4, 5), float32."""
    nodes = [node(kind, inputs, "r", **attributes), node("Flatten", "r", "y")]
    return save(folder, build(nodes, [1, 2, 4, 5], constants, SINGLE, opset=opset))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("by", ["scales", "sizes"])
def test_every_transform(transform: str, by: str, tmp_path: Path) -> None:
    inputs, constants = ("x - s", SCALES) if by == "scales" else ("x - none n", SIZES)
    constants = EVEN if (transform, by) == ("align_corners", "scales") else constants
    modes: list[dict[str, Any]] = [
        {"mode": "linear"},
        {"mode": "cubic"},
        {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
    ]
    if transform != "half_pixel_symmetric":
        modes += [{"mode": "nearest", "nearest_mode": rounding} for rounding in ROUNDINGS]
    for mode in modes:
        agree(resized(tmp_path, inputs, constants, coordinate_transformation_mode=transform, **mode))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_part_that_reaches_beyond(mode: str, tmp_path: Path) -> None:
    """Numbers outside are the extrapolation value."""
    told: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.5}
    agree(resized(tmp_path, "x roi none n", PART | SIZES, **told))


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_some_axes_and_their_ratio(policy: str, tmp_path: Path) -> None:
    agree(resized(tmp_path, "x - none p", LAST, axes=[2, 3], mode="linear", keep_aspect_ratio_policy=policy))


@pytest.mark.parametrize(("kind", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_older_opsets(kind: str, opset: int, mode: str, tmp_path: Path) -> None:
    scales = [1.0, 1.0, 1.7, 1.0 if kind == "Upsample" else 0.6]
    if opset == 7:
        agree(resized(tmp_path, "x", {}, opset, kind, mode=mode, scales=scales))
    else:
        agree(resized(tmp_path, "x s", {"s": np.array(scales, dtype=np.float32)}, opset, kind, mode=mode))


def test_frames_between_frames(tmp_path: Path) -> None:
    """Of three axes, as torch's `interpolate` of a sequence is exported."""
    nodes = [node("Resize", "x - s", "r", mode="linear"), node("Flatten", "r", "y")]
    agree(save(tmp_path, build(nodes, [1, 3, 5], {"s": np.array([1, 1, 2], dtype=np.float32)}, SINGLE)))


def scaled(*factors: float) -> NDArray[np.float32]:
    """Scales of the last two axes."""
    return np.array([1, 1, *factors], dtype=np.float32)


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "antialias": ("x - s", SCALES, {"mode": "linear", "antialias": 1}),
    "coordinate_transformation_mode = tf_half": ("x - s", SCALES, {"coordinate_transformation_mode": "tf_half"}),
    "the mode area": ("x - s", SCALES, {"mode": "area"}),
    "nearest_mode = middle": ("x - s", SCALES, {"nearest_mode": "middle"}),
    "equally near": (
        "x - s",
        {"s": scaled(1, 1.5)},
        {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": "ceil"},
    ),
    "leaves lengths as they are": ("x - s", {"s": scaled(1.2, 1)}, {}),
    "whole lengths": ("x - s", {"s": scaled(1.7, 1)}, {"coordinate_transformation_mode": "align_corners"}),
    "at least one number": ("x - s", {"s": scaled(0.1, 1)}, {}),
    "takes 1 x 2 x 400000 x 500000 numbers": ("x - s", {"s": scaled(1e5, 1e5)}, {}),
    "depends on the network's input": ("x - x", {}, {}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_others_are_refused(words: str, tmp_path: Path) -> None:
    inputs, constants, attributes = REFUSED[words]
    with pytest.raises(UnsupportedError, match=words):
        from_onnx(resized(tmp_path, inputs, constants, **attributes))
