"""Small ONNX models for the tests here, and ONNX Runtime as the second opinion on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Value = NDArray[Any]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    constants: Mapping[str, Value] | None = None,
    outputs: Sequence[str] = ("out",),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        stored,
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
        output.type.tensor_type.shape.SetInParent()  # required, and inferred anew on import
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv_net() -> onnx.ModelProto:
    """Everything that cleaning is for: Sum, Dropout, Identity, automatic padding, constants that fold, a reshape."""
    rng = np.random.default_rng(0)
    return model(
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Conv", ["same", "w1"], ["c1"], auto_pad="SAME_UPPER", strides=[2, 2]),
            helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["b1"]),
            helper.make_node("Unsqueeze", ["gain", "axes"], ["gains"]),
            helper.make_node("Mul", ["b1", "gains"], ["m1"]),
            helper.make_node("Relu", ["m1"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=2),
            helper.make_node("Sum", ["r1", "c2", "m1"], ["s1"]),
            helper.make_node("MaxPool", ["s1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
            helper.make_node("AveragePool", ["p1"], ["p2"], kernel_shape=[3, 3], pads=[0, 0, 1, 1]),
            helper.make_node("Shape", ["p2"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["batch"]),
            helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
            helper.make_node("Reshape", ["p2", "target"], ["flat"]),
            helper.make_node("Dropout", ["flat"], ["features", "mask"]),
            helper.make_node("Gemm", ["features", "w3", "b3"], ["out"], transB=1),
        ],
        {"x": ["n", 3, 17, 17]},
        {
            "w1": rng.standard_normal((8, 3, 3, 3), dtype=np.float32),
            "w2": rng.standard_normal((8, 4, 3, 3), dtype=np.float32),
            "w3": rng.standard_normal((5, 8 * 9), dtype=np.float32),
            "b3": rng.standard_normal(5, dtype=np.float32),
            "scale": np.ones(8, np.float32),
            "shift": np.zeros(8, np.float32),
            "mean": np.zeros(8, np.float32),
            "variance": np.ones(8, np.float32),
            "gain": np.ones(8, np.float32),
            "axes": np.array([1, 2]),
            "first": np.array([0]),
            "rest": np.array([-1]),
        },
    )


def save(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> str:
    """Write a model and return its source."""
    (folder / name).write_bytes(proto.SerializeToString())
    return f"onnx:{folder / name}"


def by_onnxruntime(proto: onnx.ModelProto, inputs: Sequence[Value]) -> list[Value]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    outputs: list[Value] = session.run(None, dict(zip(names, inputs, strict=True)))
    return outputs


def close(actual: Sequence[Value], expected: Sequence[Value], tolerance: float) -> None:
    """Same number of outputs, same shapes, and errors below `tolerance` of the largest value."""
    assert len(actual) == len(expected)
    for output, wanted in zip(actual, expected, strict=True):
        assert output.shape == wanted.shape
        assert np.isfinite(wanted).all()
        assert np.abs(output - wanted).max() <= tolerance * np.abs(wanted).max()
