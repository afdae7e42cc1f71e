"""Quantized layers of com.microsoft against ONNX Runtime, within a step where its tables round otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, by_runtime, check, one_node

RNG = np.random.default_rng(10)
MS = "com.microsoft"


def steps(*shape: int, dtype: Any = np.uint8) -> Value:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def scalar(value: float, dtype: Any = np.float32) -> Value:
    return np.array(value, dtype)


def within_a_step(operator: str, inputs: list[Value | None], constants: tuple[int, ...], **attributes: Any) -> None:
    model, feeds = one_node(operator, inputs, constants, domain=MS, **attributes)
    [made], [expected] = by_converter(model, feeds), by_runtime(model, feeds)
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    apart = np.abs(made.astype(int) - expected.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.1


OUT = [scalar(0.05), scalar(120, np.uint8)]
ONE = [scalar(0.02), scalar(128, np.uint8)]
OTHER = [scalar(0.03), scalar(100, np.uint8)]

LAYERS: list[tuple[str, list[Value | None], tuple[int, ...], dict[str, Any]]] = [
    ("QLinearConcat", [*OUT, steps(2, 3), *ONE, steps(2, 5), *OTHER], (0, 1, 3, 4, 6, 7), {"axis": 1}),
    ("QLinearWhere", [steps(2, 3) > 128, steps(2, 3), *ONE, steps(2, 3), *OTHER, *OUT], (2, 3, 5, 6, 7, 8), {}),
    ("QLinearAveragePool", [steps(1, 2, 6, 7), *ONE, *OUT], (1, 2, 3, 4), {"kernel_shape": [3, 2], "strides": [2, 2]}),
    ("QLinearSoftmax", [steps(3, 7), *OTHER, scalar(1 / 256), scalar(0, np.uint8)], (1, 2, 3, 4),
     {"axis": -1, "opset": 13}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "inputs", "constants", "attributes"), LAYERS)
def test_layers(
    operator: str, inputs: list[Value | None], constants: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    if operator == "QLinearSoftmax":  # its attribute has the name of the model's operator set
        model, feeds = one_node(operator, inputs, constants, domain=MS, axis=-1)
        model.graph.node[0].attribute.add(name="opset", i=13, type=2)
        [made], [expected] = by_converter(model, feeds), by_runtime(model, feeds)
        assert np.abs(made.astype(int) - expected.astype(int)).max() <= 1
        return
    within_a_step(operator, inputs, constants, **attributes)


@pytest.mark.parametrize("quantized", [False, True])
def test_gemm(quantized: bool) -> None:
    scales, zeros = np.array([0.01, 0.02, 0.03], np.float32), np.zeros(3, np.int8)
    given = [steps(4, 5), *ONE, steps(3, 5, dtype=np.int8), scales, zeros, steps(3, dtype=np.int32) // 2**20]
    if quantized:
        within_a_step("QGemm", [*given, scalar(0.2), scalar(110, np.uint8)], tuple(range(1, 9)), transB=1)
    else:
        check("QGemm", given, tuple(range(1, 7)), domain=MS, transB=1, atol=1e-4)


def test_a_new_axis() -> None:
    check("ExpandDims", [steps(2, 3).astype(np.float32), np.array(-1, np.int32)], (1,), domain=MS)
