"""Quantized and fused operators against ONNX Runtime; integers exactly."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from tests.tuner.importers.onnx_relax.running import Value, by_converter, by_runtime, check, one_node
from tuner.importers.onnx_clean import with_constants

RNG = np.random.default_rng(4)
MS = "com.microsoft"


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


def steps(dtype: Any, *shape: int) -> Value:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def scalar(value: float, dtype: Any = np.float32) -> Value:
    return np.array(value, dtype)


def test_quantizing() -> None:
    data = values(3, 5) * 40
    check("QuantizeLinear", [data, scalar(0.3), scalar(7, np.uint8)], (1, 2))
    check("QuantizeLinear", [data, np.abs(values(5)) + 0.1, steps(np.int8, 5)], (1, 2), axis=1)
    check("QuantizeLinear", [data, np.abs(values(3, 3)) + 0.1], (1,), opset=21, axis=1, block_size=2)


def test_dequantizing() -> None:
    check("DequantizeLinear", [steps(np.uint8, 3, 5), values(3), steps(np.uint8, 3)], (1, 2), axis=0)
    check("DequantizeLinear", [steps(np.int32, 3, 5), scalar(0.3)], (1,))
    check("DequantizeLinear", [steps(np.int8, 4, 6), values(2, 6), steps(np.int8, 2, 6)], (1, 2), opset=21, axis=0,
          block_size=2)  # fmt: skip


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_constants_of_four_bits(dtype: Any) -> None:
    packed = RNG.integers(0, 7, (6, 4)).astype(dtype)
    model, feeds = one_node("DequantizeLinear", [packed, np.abs(values(3, 4))], (0, 1), opset=21, axis=0, block_size=2)
    scales = np.repeat(np.abs(model_scales(model)), 2, axis=0)
    np.testing.assert_array_equal(by_converter(model, feeds)[0], packed.astype(np.float32) * scales)


def test_constants_of_four_bits_stay_what_they_are_in_cleaning() -> None:
    packed = RNG.integers(-8, 7, (6, 4)).astype(ml_dtypes.int4)
    model, _ = one_node("DequantizeLinear", [packed, np.abs(values(3, 4))], (0, 1), opset=21, axis=0, block_size=2)
    stored = with_constants(model, {}).graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(stored).astype(int), packed.astype(int))


def model_scales(model: Any) -> Value:
    return numpy_helper.to_array(model.graph.initializer[1])


def test_quantized_convolutions() -> None:
    image, kernel = steps(np.uint8, 1, 4, 7, 6), steps(np.int8, 6, 2, 3, 3)
    scales = np.abs(values(6)) * 0.01 + 0.001
    inputs = [image, scalar(0.02), scalar(120, np.uint8), kernel, scales, np.zeros(6, np.int8), scalar(0.5),
              scalar(100, np.uint8), steps(np.int16, 6).astype(np.int32)]  # fmt: skip
    check("QLinearConv", inputs, range(1, 9), group=2, strides=[2, 1], pads=[1, 0, 1, 2])


def test_integer_convolutions() -> None:
    check("ConvInteger", [steps(np.uint8, 1, 3, 7, 6), steps(np.uint8, 4, 3, 3, 2), scalar(11, np.uint8),
                          scalar(99, np.uint8)], (1, 2, 3), pads=[1, 1, 0, 1])  # fmt: skip


def test_quantized_products() -> None:
    inputs = [steps(np.uint8, 2, 3, 8), scalar(0.02), scalar(99, np.uint8), steps(np.int8, 8, 5), scalar(0.03),
              scalar(3, np.int8), scalar(0.4), scalar(128, np.uint8)]  # fmt: skip
    check("QLinearMatMul", inputs, (1, 2, 3, 4, 5, 6, 7))


def test_products_that_quantize_on_the_way() -> None:
    check("DynamicQuantizeMatMul", [values(4, 8), steps(np.int8, 8, 5), scalar(0.03), scalar(2, np.int8), values(5)],
          (1, 2, 3, 4), domain=MS, atol=1e-4)  # fmt: skip
    check("MatMulIntegerToFloat", [steps(np.uint8, 4, 8), steps(np.int8, 8, 5), scalar(0.02), np.abs(values(5)),
                                   scalar(9, np.uint8)], (1, 2, 3, 4), domain=MS, atol=1e-3)  # fmt: skip


def test_products_with_weights_of_four_bits() -> None:
    packed, scales, zeros = steps(np.uint8, 6, 3, 8), np.abs(values(18)), steps(np.uint8, 12)
    for inputs in ([values(4, 40), packed, scales], [values(4, 40), packed, scales, zeros]):
        check("MatMulNBits", inputs, range(1, len(inputs)), domain=MS, K=40, N=6, bits=4, block_size=16,
              atol=1e-2, rtol=1e-3)  # fmt: skip


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"])
def test_quantized_elements(operator: str) -> None:
    operand = [steps(np.uint8, 3, 5), scalar(0.05), scalar(120, np.uint8)]
    operands = operand * (2 if operator in ("QLinearAdd", "QLinearMul") else 1)
    inputs = [*operands, scalar(0.07), scalar(100, np.uint8)]
    model, feeds = one_node(operator, inputs, [i for i in range(len(inputs)) if i % 3 or i == len(operands)], domain=MS)
    made, right = by_converter(model, feeds)[0], by_runtime(model, feeds)[0]
    assert np.abs(made.astype(int) - right.astype(int)).max() <= 1  # ONNX Runtime looks some of them up


def test_fused_products() -> None:
    check("FusedMatMul", [values(2, 8, 4), values(2, 5, 8)], domain=MS, transA=1, transB=1, alpha=0.3, atol=1e-4)
    check("FusedGemm", [values(4, 8), values(8, 5), values(5)], (1, 2), domain=MS, beta=0.5, activation="Relu",
          atol=1e-4)  # fmt: skip


def test_fused_convolutions() -> None:
    inputs: list[Any] = [values(1, 3, 7, 6), values(4, 3, 3, 3), values(4)]
    check("FusedConv", inputs, (1, 2), domain=MS, pads=[1, 1, 1, 1], activation="Relu", atol=1e-4)
    check("FusedConv", inputs, (1, 2), domain=MS, activation="Clip", activation_params=[-0.5, 0.7], atol=1e-4)
