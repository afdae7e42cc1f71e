"""Whole models in narrower precisions on the simulated GPU, with TVM's default schedules: right to the last bit, or to
the rounding of their operands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from tests import simulated_cuda
from tests.tuner.graph.graphs import Array, drawn, graph
from tests.tuner.graph.test_integers import RNG, _Drawn, _float_model
from tests.tuner.graph.test_narrow import WEIGHT, _rounded, _two_products
from tuner.devices.cuda.simulated.assembly import SimulatedAssembly
from tuner.devices.cuda.simulated.target import completed, from_attributes
from tuner.graph import GraphConfig, clean, lower
from tuner.graph.narrow import narrowed
from tuner.importers.onnx import relax_of
from tuner.measure.entries import EntrySpec, answer


def _answer(module: Any, x: Array, folder: Path) -> Array:
    """What the simulated GPU answers for a cleaned module."""
    simulated_cuda.require()
    target = from_attributes(completed({"kind": "simulated_cuda"}), 1, to_run=False)
    lowered = lower(module, GraphConfig("NCHW"), target.tvm())
    SimulatedAssembly(target).assemble(lowered, {}).export_library(str(folder / "model.so"))
    settings = {"library": str(folder / "model.so"), "threads": 1}
    service = "tuner.devices.cuda.simulated.model_service:SimulatedModelWorker"
    [output] = answer(EntrySpec("tuned", service, settings), [x], folder, 1)
    return output


def test_bytes_answer_as_onnxruntime_does(tmp_path: Path) -> None:
    """Bit by bit, with data that are quantized to uint8 held as int8."""
    plain, quantized = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save_model(_float_model(), plain)
    quantize_static(
        plain, quantized, _Drawn(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    module, _ = relax_of(onnx.load_model(quantized), "test")
    x = RNG.standard_normal((1, 3, 17, 17)).astype(np.float32)
    [right] = onnxruntime.InferenceSession(quantized, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_array_equal(_answer(clean(module, "int8"), x, tmp_path), right)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_stored_between_products(dtype: str, tmp_path: Path) -> None:
    type_ = np.dtype(getattr(ml_dtypes, dtype, dtype))
    module = narrowed(clean(graph(_two_products, (7, 64))), {0: dtype, 1: dtype})
    [x] = drawn((7, 64))
    weight = _rounded(WEIGHT, type_)
    hidden = _rounded(np.maximum(_rounded(x, type_) @ weight, 0), type_)
    np.testing.assert_allclose(_answer(module, x, tmp_path), hidden @ weight + hidden, rtol=1e-3, atol=1e-2)
