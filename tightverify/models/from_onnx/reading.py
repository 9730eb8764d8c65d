"""An ONNX file as a checked model: nothing in it is executed, and a pickle is recognised and left alone."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from onnx import ModelProto
from onnx.external_data_helper import load_external_data_for_model
from onnx.inliner import inline_local_functions

from tightverify.errors import ModelError, UnsupportedError

OLDEST = 7
"""The first opset whose operators broadcast as all later ones do."""

PLACE = re.compile(r"/onnxruntime_src/\S+ .*?\) ")
"""Where in onnxruntime's source an error arose."""

FOREIGN = (
    (b"PK\x03\x04", "a pickled PyTorch model; export it with torch.onnx.export"),
    (b"\x80", "a pickled PyTorch model; export it with torch.onnx.export"),
    (b"\x89HDF", "a Keras model; convert it with tf2onnx"),
)
"""What files that are not ONNX begin with, and what to do about them."""


def read(path: Path) -> ModelProto:
    """The model in a file, with its external data, functions inlined, found well-formed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror}); give the path of an ONNX file") from error
    if not content:
        raise ModelError(f"{path} is empty; give an ONNX file")
    for start, what in FOREIGN:
        if content.startswith(start):
            raise ModelError(f"{path} is not an ONNX file: this looks like {what}")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise ModelError(f"{path} is cut off or is not an ONNX file ({brief(error)}); export the model again") from error
    if not model.HasField("graph"):
        raise ModelError(f"{path} is cut off or is not an ONNX file: it holds no graph; export the model again")
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(
            f"{path} keeps its weights in another file that cannot be read ({brief(error)}); put that file beside it"
        ) from error
    try:
        if model.functions:
            model = inline_local_functions(model)
        check(model)
    except Exception as error:
        raise ModelError(f"{path} is not a valid ONNX model ({brief(error)}); export the model again") from error
    return model


def check(model: ModelProto) -> None:
    """onnx's own check, but that an input or output may leave its shape unsaid, as some converters do."""
    shaped = ModelProto()
    shaped.CopyFrom(model)
    for value in (*shaped.graph.input, *shaped.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(shaped)


def brief(error: Exception) -> str:
    """The first line of somebody else's message, without the place in its source."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return PLACE.sub("", first)


def standard_opset(model: ModelProto, path: Path) -> int:
    """The version of the standard operators."""
    version = max((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if version < OLDEST:
        raise UnsupportedError(
            f"{path} uses opset {version}; wanted {OLDEST} or later: convert it with onnx.version_converter.convert_version"
        )
    if model.graph.sparse_initializer:
        raise UnsupportedError(f"{path} holds sparse weights; export them as dense tensors")
    return version
