"""Quantized models that are malformed or contradict themselves: each gets one error that names the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tuner import importers
from tuner.errors import ModelError

RNG = np.random.default_rng(0)
F32, U8, I8, I32 = np.float32, np.uint8, np.int8, np.int32
WEIGHT = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(I8)
MATRIX = RNG.integers(-127, 128, (8, 5)).astype(I8)
IMAGE, ROWS = ("x", (1, 3, 8, 8), F32), ("x", (2, 8), F32)

Constants = Mapping[str, Any]
THREE = U8(3)

_MADE = {
    "ConvInteger": onnx.TensorProto.INT32, "DequantizeLinear": onnx.TensorProto.FLOAT, "MatMul": onnx.TensorProto.FLOAT,
    "QLinearConv": onnx.TensorProto.UINT8, "QLinearMatMul": onnx.TensorProto.UINT8,
    "QuantizeLinear": onnx.TensorProto.UINT8,
}  # fmt: skip
"""What the last node gives."""


def _model(
    nodes: Sequence[onnx.NodeProto], constants: Constants, given: tuple[str, tuple[int, ...], Any] = IMAGE,
    opset: int = 21,
) -> onnx.ModelProto:  # fmt: skip
    name, shape, dtype = given
    graph = helper.make_graph(
        list(nodes),
        "quantized",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)],
        [helper.make_tensor_value_info("y", _MADE[nodes[-1].op_type], [None] * len(shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _quantize(scale: Any, zero: Any = THREE, given: tuple[str, tuple[int, ...], Any] = IMAGE, **attributes: Any) -> Any:
    constants = {"s": scale} | ({} if zero is None else {"z": zero})
    node = helper.make_node("QuantizeLinear", ["x", *constants], ["y"], name="the_node", **attributes)
    return _model([node], constants, given)


def _dequantize(scale: Any, zero: Any, dtype: Any = U8, **attributes: Any) -> onnx.ModelProto:
    constants = {"s": scale} | ({} if zero is None else {"z": zero})
    node = helper.make_node("DequantizeLinear", ["x", *constants], ["y"], name="the_node", **attributes)
    return _model([node], constants, ("x", (1, 3, 8, 8), dtype))


def _qlinear_conv(given: Any = U8, **changed: Any) -> onnx.ModelProto:
    """A right QLinearConv, but for what is changed."""
    constants: dict[str, Any] = {
        "xs": F32(0.1), "xz": U8(3), "w": WEIGHT, "ws": np.full(4, 0.02, F32), "wz": np.zeros(4, I8), "ys": F32(0.3),
        "yz": U8(7), "b": np.arange(4, dtype=I32),
    }  # fmt: skip
    constants |= {key: value for key, value in changed.items() if key in constants}
    names = [key for key in constants if constants[key] is not None]
    attributes = {key: value for key, value in changed.items() if key not in constants}
    inputs = ["x", *(key if constants[key] is not None else "" for key in constants)]
    node = helper.make_node("QLinearConv", inputs, ["y"], name="the_node", **attributes)
    return _model([node], {name: constants[name] for name in names}, ("x", (1, 3, 8, 8), given))


def _qlinear_matmul(**changed: Any) -> onnx.ModelProto:
    constants: dict[str, Any] = {
        "as": F32(0.1), "az": U8(3), "b": MATRIX, "bs": F32(0.02), "bz": I8(0), "ys": F32(0.3), "yz": U8(7)
    } | changed  # fmt: skip
    node = helper.make_node("QLinearMatMul", ["x", *constants], ["y"], name="the_node")
    return _model([node], constants, ("x", (2, 8), U8))


def _conv_integer(**changed: Any) -> onnx.ModelProto:
    constants: dict[str, Any] = {"w": WEIGHT, "xz": U8(3), "wz": I8(0)} | changed
    node = helper.make_node("ConvInteger", ["x", *constants], ["y"], name="the_node")
    return _model([node], constants, ("x", (1, 3, 8, 8), U8))


def _qdq_matmul(scale: Any, zero: Any, axis: int = 1) -> onnx.ModelProto:
    """Rows times a dequantized weight."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], name="the_node", axis=axis),
        helper.make_node("MatMul", ["x", "wf"], ["y"], name="product"),
    ]
    return _model(nodes, {"w": MATRIX, "s": scale, "z": zero}, ROWS)


CASES: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "a scale of zero": lambda: _quantize(F32(0.0)),
    "a negative scale": lambda: _quantize(F32(-0.1)),
    "a scale that is no number": lambda: _quantize(F32(np.nan)),
    "an infinite scale": lambda: _dequantize(F32(np.inf), U8(0)),
    "one scale of several is zero": lambda: _dequantize(np.array([0.1, 0.0, 0.1], F32), np.zeros(3, U8), axis=1),
    "no scale at all": lambda: _quantize(np.zeros(0, F32), None),
    "scales for another number of channels": lambda: _quantize(np.full(5, 0.1, F32), np.zeros(5, U8), axis=1),
    "zero points for another number of channels": lambda: _dequantize(np.full(3, 0.1, F32), np.zeros(2, U8), axis=1),
    "an axis that is not there": lambda: _quantize(np.full(3, 0.1, F32), np.zeros(3, U8), axis=4),
    "an axis before the first": lambda: _dequantize(np.full(3, 0.1, F32), np.zeros(3, U8), axis=-5),
    "a matrix of scales without blocks": lambda: _dequantize(np.full((3, 8), 0.1, F32), np.zeros((3, 8), U8)),
    "a zero point of another type": lambda: _dequantize(F32(0.1), I8(0)),
    "a zero point in floats": lambda: _quantize(F32(0.1), F32(3.0)),
    "a bias with a zero point": lambda: _dequantize(F32(0.1), I32(5), I32),
    "a type that its zero point contradicts": lambda: _quantize(F32(0.1), U8(3), output_dtype=onnx.TensorProto.INT8),
    "quantizing what is quantized": lambda: _quantize(F32(0.1), given=("x", (1, 3, 8, 8), U8)),
    "dequantizing floats": lambda: _dequantize(F32(0.1), None, F32),
    "blocks that do not divide": lambda: _quantize(np.full((1, 3, 8, 3), 0.1, F32), None, axis=3, block_size=5,
                                                   output_dtype=onnx.TensorProto.UINT8),
    "negative blocks": lambda: _quantize(np.full((1, 3, 8, 2), 0.1, F32), None, axis=3, block_size=-4,
                                         output_dtype=onnx.TensorProto.UINT8),
    "convolution: data without channels for the weight": lambda: _qlinear_conv(w=WEIGHT[:, :2]),
    "convolution: a scale for each row": lambda: _qlinear_conv(ws=np.full(3, 0.02, F32)),
    "convolution: scales of data by channel": lambda: _qlinear_conv(xs=np.full(3, 0.1, F32)),
    "convolution: a scale of zero": lambda: _qlinear_conv(ws=np.array([0.1, 0.0, 0.1, 0.1], F32)),
    "convolution: a negative output scale": lambda: _qlinear_conv(ys=F32(-1.0)),
    "convolution: a bias in floats": lambda: _qlinear_conv(b=np.zeros(4, F32)),
    "convolution: a bias of another length": lambda: _qlinear_conv(b=np.zeros(3, I32)),
    "convolution: a zero point of another type": lambda: _qlinear_conv(xz=I8(3)),
    "convolution: groups that do not divide": lambda: _qlinear_conv(group=2),
    "product: a scale for each row of the weight": lambda: _qlinear_matmul(bs=np.full(8, 0.02, F32)),
    "product: zero points of another number": lambda: _qlinear_matmul(bz=np.zeros(3, I8)),
    "product: matrices that do not fit": lambda: _qlinear_matmul(b=MATRIX[:7]),
    "product: a scale of zero": lambda: _qlinear_matmul(ys=F32(0.0)),
    "integers: a zero point of another type": lambda: _conv_integer(xz=I8(3)),
    "integers: zero points of another number": lambda: _conv_integer(wz=np.zeros(3, I8)),
    "weights: scales of another number": lambda: _qdq_matmul(np.full(4, 0.1, F32), np.zeros(4, I8)),
    "weights: a scale that is no number": lambda: _qdq_matmul(np.full(5, np.nan, F32), np.zeros(5, I8)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_gets_one_error_that_names_the_node(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(CASES[case]().SerializeToString())
    with pytest.raises(ModelError) as caught:
        importers.load(f"onnx:{path}", None, {}, "original", 0)
    message = caught.value.message
    assert "\n" not in message and len(message) < 400, message
    assert "the_node" in message or "product" in message, message
    assert "internal" not in message.lower() and "Check failed" not in message, message
