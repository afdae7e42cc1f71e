"""Models in float16 by ONNX Runtime's own converter: for a baseline beside layers in float16."""

from __future__ import annotations

import onnx

from tuner.errors import MissingPackage, ModelError

try:
    from onnxruntime.transformers import float16
except ModuleNotFoundError as error:
    raise MissingPackage("onnxruntime", "precision: float16", "onnx") from error


def in_float16(model: bytes, source: str) -> bytes:
    """The model in float16, with the inputs and outputs that it had. Raises ModelError where it cannot be converted."""
    try:
        made = float16.convert_float_to_float16(onnx.load_model_from_string(model), keep_io_types=True)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ModelError(source, f"ONNX Runtime's converter to float16 cannot take it: {reason[:300]}") from error
    converted: bytes = made.SerializeToString()
    return converted
