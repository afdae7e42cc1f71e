"""A model in a newer set of ONNX's operators, for readers that do not heed what the older sets meant."""

from __future__ import annotations

from tuner.errors import MissingPackage

try:
    import onnx
except ModuleNotFoundError as error:
    raise MissingPackage("onnx", "an ONNX model", "onnx") from error

from onnx import version_converter

OPSET = 17
"""Before 13 softmax ran over several axes at once, and axes were attributes; 17 is what converters are tested with."""


def modern(data: bytes) -> bytes:
    """The bytes of a model in operator set `OPSET` at least; unchanged where `onnx` cannot convert it."""
    model = onnx.load_model_from_string(data)
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if version >= OPSET:
        return data
    try:
        newer: bytes = version_converter.convert_version(model, OPSET).SerializeToString()
    except (version_converter.ConvertError, RuntimeError, ValueError):
        return data
    return newer
