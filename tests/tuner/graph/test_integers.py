"""Quantized products in integers: equal to exact arithmetic, and to ONNX Runtime on what its quantizer makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tvm import relax

from tests.tuner.graph.graphs import Array, graph, operators, run
from tuner.graph import clean
from tuner.graph.names import shortened
from tuner.importers.onnx import relax_of

RNG = np.random.default_rng(2)


def _dequantize(emit: Any, x: Any, scale: Any, zero: Any, axis: int = -1) -> Any:
    factor, offset = np.asarray(scale, np.float32), np.asarray(zero, np.int32)
    return emit(relax.op.dequantize(x, relax.const(factor), relax.const(offset), axis, "float32"))


def _quantize(emit: Any, x: Any, scale: float, zero: int, dtype: str = "uint8") -> Any:
    return emit(relax.op.quantize(x, relax.const(np.float32(scale)), relax.const(np.int32(zero)), -1, dtype))


def _steps(real: Array, scale: float, zero: int, dtype: str) -> Array:
    limits = np.iinfo(dtype)
    steps: Array = np.clip(np.rint(real / scale) + zero, limits.min, limits.max).astype(dtype)
    return steps


@pytest.mark.parametrize("held", ["uint8", "int8"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("weight_zero", [0, 3])
def test_a_convolution_pads_with_its_zero_point(dtype: str, weight_zero: int, held: str) -> None:
    """Exact by float64, which holds these sums; the padding is real zeros."""
    weight = RNG.integers(-100, 100, (5, 3, 3, 3)).astype(np.int8)
    scales = RNG.uniform(0.01, 0.02, 5).astype(np.float32)
    zero = 11 if dtype == "uint8" else -7

    def build(emit: Any, x: Any) -> Any:
        real = _dequantize(emit, x, 0.1, zero)
        filters = _dequantize(emit, relax.const(weight), scales, np.full(5, weight_zero), 0)
        return _quantize(emit, emit(relax.op.nn.conv2d(real, filters, padding=1, strides=2)), 0.7, 5)

    cleaned = clean(graph(build, (2, 3, 8, 8), dtype=dtype), held)
    assert "nn.conv2d" in operators(cleaned) and not {"quantize", "dequantize"} & set(operators(cleaned))
    limits = np.iinfo(dtype)
    x = RNG.integers(limits.min, limits.max, (2, 3, 8, 8)).astype(dtype)
    padded = np.pad(x.astype(np.float64) - zero, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    sums = np.einsum("nchwyx,ocyx->nohw", windows, weight.astype(np.float64) - weight_zero)
    right = _steps(sums * 0.1 * scales.reshape(-1, 1, 1).astype(np.float64), 0.7, 5, "uint8")
    assert np.abs(run(cleaned, x).astype(int) - right.astype(int)).max() <= 1
    assert (run(cleaned, x) != right).mean() < 0.01  # one step, and only where a rounding is free


def test_sums_themselves_are_exact() -> None:
    weight = RNG.integers(-127, 128, (300, 7)).astype(np.int8)

    def build(emit: Any, x: Any) -> Any:
        real, columns = _dequantize(emit, x, 1.0, 128), _dequantize(emit, relax.const(weight), 1.0, 0)
        return emit(relax.op.matmul(real, columns))

    x = RNG.integers(0, 256, (9, 300)).astype(np.uint8)
    right = (x.astype(np.int64) - 128) @ weight.astype(np.int64)
    np.testing.assert_array_equal(run(clean(graph(build, (9, 300), dtype="uint8")), x), right)


def test_the_standards_float32_stays_where_int32_might_overflow() -> None:
    weight = np.full((70_000, 1), 127, np.int8)

    def build(emit: Any, x: Any) -> Any:
        real, column = _dequantize(emit, x, 1.0, 0), _dequantize(emit, relax.const(weight), 1.0, 0)
        return emit(relax.op.matmul(real, column))

    x = np.full((1, 70_000), 255, np.uint8)
    assert run(clean(graph(build, (1, 70_000), dtype="uint8")), x).item() == pytest.approx(255 * 127 * 70_000, rel=1e-3)


def test_requantizing_with_the_same_scale_moves_steps() -> None:
    def build(emit: Any, x: Any) -> Any:
        real = emit(relax.op.nn.max_pool2d(_dequantize(emit, x, 0.3, 9), (2, 2), (2, 2)))
        return _quantize(emit, emit(relax.op.reshape(real, (1, 12))), 0.3, 9)

    assert operators(clean(graph(build, (1, 3, 4, 4), dtype="uint8"))) == ["nn.max_pool2d", "reshape"]


def test_products_of_two_variables_are_exact() -> None:
    def build(emit: Any, a: Any, b: Any) -> Any:
        return emit(relax.op.matmul(_dequantize(emit, a, 0.5, 3), _dequantize(emit, b, 0.25, 0)))

    a, b = (RNG.integers(0, 256, shape).astype(np.uint8) for shape in ((4, 40), (40, 5)))
    right = ((a.astype(np.int64) - 3) @ b.astype(np.int64)) * 0.125
    np.testing.assert_array_equal(run(clean(graph(build, (4, 40), (40, 5), dtype="uint8")), a, b), right)


def test_weights_of_quantization_aware_training_become_bytes() -> None:
    """They are stored as floats, and quantized by the model."""
    weight = RNG.standard_normal((5, 3, 3, 3)).astype(np.float32)
    scales = (np.abs(weight).max((1, 2, 3)) / 127).astype(np.float32)

    def build(emit: Any, x: Any) -> Any:
        steps = relax.op.quantize(
            relax.const(weight), relax.const(scales), relax.const(np.zeros(5, np.int32)), 0, "int8"
        )
        filters = _dequantize(emit, emit(steps), scales, np.zeros(5), 0)
        return emit(relax.op.nn.conv2d(_dequantize(emit, x, 0.1, 0), filters))

    cleaned = clean(graph(build, (1, 3, 8, 8), dtype="uint8"))
    assert operators(cleaned) == ["nn.conv2d", "astype", "multiply"]


class _Drawn(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._left = iter([{"x": RNG.standard_normal((1, 3, 17, 17)).astype(np.float32)} for _ in range(3)])

    def get_next(self) -> Any:
        return next(self._left, None)


def _float_model() -> onnx.ModelProto:
    """Convolutions with bias, a residual, pooling, a product."""
    stored: dict[str, Array] = {}

    def weight(name: str, *shape: int) -> str:
        stored[name] = (RNG.standard_normal(shape) * 0.3).astype(np.float32)
        return name

    nodes = [
        helper.make_node(
            "Conv", ["x", weight("w0", 8, 3, 3, 3), weight("b0", 8)], ["c0"], pads=[1] * 4, strides=[2, 2]
        ),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["m0"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m0", weight("w1", 8, 8, 3, 3), weight("b1", 8)], ["c1"], pads=[1] * 4),
        helper.make_node("Add", ["c1", "m0"], ["a1"]),
        helper.make_node("Conv", ["a1", weight("w2", 12, 8, 1, 1)], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", weight("w3", 10, 12), weight("b3", 10)], ["y"], transB=1),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    given, made = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 17, 17]), ("y", [1, 10]))
    )
    graph_proto = helper.make_graph(nodes, "net", [given], [made], tensors)
    return helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FORMS: Sequence[tuple[Any, Any]] = (
    (QuantFormat.QDQ, QuantType.QUInt8),
    (QuantFormat.QDQ, QuantType.QInt8),
    (QuantFormat.QOperator, QuantType.QUInt8),
)


@pytest.mark.parametrize("held", ["uint8", "int8"])
@pytest.mark.parametrize(("form", "activations"), FORMS)
def test_what_onnxruntime_quantizes_answers_as_it_does(form: Any, activations: Any, held: str, tmp_path: Path) -> None:
    """Bit by bit: both round a scaled sum once. Whichever bytes data are held in."""
    plain, quantized = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save_model(_float_model(), plain)
    quantize_static(
        plain, quantized, _Drawn(), quant_format=form, per_channel=True, activation_type=activations,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    module, _ = relax_of(onnx.load_model(quantized), "test")
    cleaned = clean(module, held)
    assert {"nn.conv2d", "matmul"} <= set(operators(cleaned))
    calls = [b.value for block in cleaned["main"].body.blocks for b in block.bindings]
    products = [c for c in calls if getattr(c.op, "name", "") in ("relax.nn.conv2d", "relax.matmul")]
    assert {str(c.args[0].ty.dtype) for c in products} == {held}
    x = RNG.standard_normal((1, 3, 17, 17)).astype(np.float32)
    [right] = onnxruntime.InferenceSession(quantized, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_array_equal(run(cleaned, x), right)


def test_names_of_kernels_are_short() -> None:
    long = "conv2d_1x1_64x56x56_to_256_add_cast_multiply_round_add_clip_cast_cast_subtract_cast_multiply_add_relu"
    assert shortened(f"{long}_divide_round_clip_cast") == (
        "conv2d_1x1_64x56x56_to_256_requantize_dequantize_add_relu_quantize"
    )
    assert shortened("matmul_8x8_by_8x8_add_relu") == "matmul_8x8_by_8x8_add_relu"


@pytest.mark.parametrize("columns", [0, 6])
def test_scales_that_the_model_computes(columns: int) -> None:
    """The largest of the data sets the scale: of all of it, or of each column."""

    def build(emit: Any, x: Any) -> Any:
        largest = emit(relax.op.max(relax.op.abs(x), [0] if columns else None))
        scale = emit(relax.op.divide(largest, relax.const(np.float32(100))))
        zero = emit(relax.op.astype(relax.op.multiply(scale, relax.const(np.float32(0))), "int8"))
        steps = emit(relax.op.quantize(x, scale, zero, 1, "int8"))
        return emit(relax.op.dequantize(steps, scale, zero, 1, "float32"))

    x = RNG.standard_normal((5, 6)).astype(np.float32)
    cleaned = clean(graph(build, x.shape))
    assert not {"quantize", "dequantize"} & set(operators(cleaned))
    scale = np.abs(x).max(0 if columns else None) / np.float32(100)
    np.testing.assert_allclose(run(cleaned, x), np.rint(x / scale) * scale, rtol=1e-5, atol=1e-6)
