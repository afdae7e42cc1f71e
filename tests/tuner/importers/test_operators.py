"""Each ONNX operator in its torch form, against ONNX Runtime, attribute by attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.tuner.importers import graphs
from tuner.errors import ModelError
from tuner.importers import make_model_spec
from tuner.importers.onnx import clean_proto, model_proto
from tuner.importers.onnx_in_torch import to_module

RNG = np.random.default_rng(0)
IMAGE = (2, 6, 9, 8)


def weight(*shape: int) -> graphs.Value:
    return RNG.standard_normal(shape, dtype=np.float32)


def scalar(value: float) -> graphs.Value:
    return np.array(value, np.float32)


def ints(*values: int) -> graphs.Value:
    return np.array(values, np.int64)


CASES: list[tuple[str, tuple[int, ...], list[graphs.Value], dict[str, Any], int]] = [
    ("Conv", IMAGE, [weight(4, 6, 3, 3), weight(4)], {"pads": [1, 0, 2, 1], "strides": [2, 1]}, 17),
    ("Conv", IMAGE, [weight(6, 1, 3, 3)], {"group": 6, "auto_pad": "SAME_UPPER"}, 17),
    ("Conv", IMAGE, [weight(4, 3, 2, 2)], {"group": 2, "strides": [2, 2], "auto_pad": "SAME_LOWER"}, 17),
    ("Conv", IMAGE, [weight(4, 6, 3, 3)], {"auto_pad": "VALID"}, 17),
    ("Conv", IMAGE, [weight(4, 6, 3, 3)], {"dilations": [2, 1]}, 17),
    ("Conv", (2, 6, 9), [weight(4, 6, 3)], {"pads": [0, 1]}, 17),
    ("Conv", (1, 2, 5, 5, 5), [weight(4, 2, 3, 3, 3)], {"pads": [1, 1, 1, 1, 1, 1]}, 17),
    ("ConvTranspose", IMAGE, [weight(6, 4, 3, 3), weight(4)],
     {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, 17),
    ("ConvTranspose", IMAGE, [weight(6, 4, 3, 3)], {"strides": [2, 2], "pads": [0, 1, 2, 1]}, 17),
    ("ConvTranspose", IMAGE, [weight(6, 4, 3, 3)], {"strides": [2, 3], "auto_pad": "SAME_UPPER"}, 17),
    ("ConvTranspose", IMAGE, [weight(6, 4, 4, 3)], {"strides": [1, 2], "auto_pad": "SAME_LOWER"}, 17),
    ("ConvTranspose", IMAGE, [weight(6, 4, 3, 3), weight(4)], {"strides": [2, 2], "output_shape": [18, 16]}, 17),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 17),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 2], "pads": [0, 0, 2, 1], "dilations": [2, 1]}, 17),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, 17),
    ("MaxPool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, 17),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2]}, 17),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, 17),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, 17),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}, 17),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "count_include_pad": 1}, 17),
    ("AveragePool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, 17),
    ("GlobalAveragePool", IMAGE, [], {}, 17),
    ("GlobalMaxPool", IMAGE, [], {}, 17),
    ("BatchNormalization", IMAGE, [weight(6), weight(6), weight(6), weight(6) ** 2 + 0.5], {"epsilon": 1e-3}, 9),
    ("InstanceNormalization", IMAGE, [weight(6), weight(6)], {}, 17),
    ("LayerNormalization", (2, 5, 8), [weight(8), weight(8)], {"axis": -1}, 17),
    ("LayerNormalization", (2, 5, 8), [weight(5, 8), weight(5, 8)], {"axis": 1}, 17),
    ("LRN", IMAGE, [], {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, 17),
    ("Softmax", IMAGE, [], {}, 9),
    ("Softmax", IMAGE, [], {"axis": 2}, 11),
    ("Softmax", IMAGE, [], {}, 17),
    ("LogSoftmax", IMAGE, [], {"axis": 1}, 11),
    ("Gemm", (4, 5), [weight(6, 5), weight(6)], {"transB": 1}, 17),
    ("Gemm", (5, 4), [weight(5, 6), weight(1, 6)], {"transA": 1, "alpha": 0.5, "beta": 2.0}, 17),
    ("Gemm", (4, 5), [weight(5, 6)], {"alpha": 3.0}, 17),
    ("MatMul", (2, 3, 4, 5), [weight(5, 6)], {}, 17),
    ("Clip", IMAGE, [scalar(-0.5), scalar(0.7)], {}, 17),
    ("Clip", IMAGE, [scalar(0)], {}, 17),
    ("Clip", IMAGE, [], {"min": -0.1, "max": 0.2}, 9),
    ("LeakyRelu", IMAGE, [], {"alpha": 0.2}, 17),
    ("PRelu", IMAGE, [weight(6, 1, 1)], {}, 17),
    ("Elu", IMAGE, [], {"alpha": 0.7}, 17),
    ("HardSigmoid", IMAGE, [], {"alpha": 0.3, "beta": 0.4}, 17),
    ("Gelu", IMAGE, [], {"approximate": "tanh"}, 20),
    ("ReduceMean", IMAGE, [], {"axes": [2, 3], "keepdims": 0}, 13),
    ("ReduceMean", IMAGE, [ints(1)], {}, 18),
    ("ReduceSum", IMAGE, [ints(0, -1)], {"keepdims": 0}, 17),
    ("ReduceMax", IMAGE, [], {"axes": [1]}, 13),
    ("ReduceL2", IMAGE, [], {"axes": [1]}, 13),
    ("CumSum", IMAGE, [np.array(1)], {}, 17),
    ("Reshape", IMAGE, [ints(0, -1, 4)], {}, 17),
    ("Flatten", IMAGE, [], {"axis": 2}, 17),
    ("Flatten", IMAGE, [], {"axis": 0}, 17),
    ("Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}, 17),
    ("Transpose", IMAGE, [], {}, 17),
    ("Squeeze", (1, 3, 1, 4), [ints(0, 2)], {}, 17),
    ("Squeeze", (1, 3, 1, 4), [], {"axes": [2]}, 11),
    ("Unsqueeze", (3, 4), [ints(-1, 0)], {}, 17),
    ("Unsqueeze", (3, 4), [], {"axes": [1, 2]}, 11),
    ("Expand", (3, 1), [ints(2, 1, 4)], {}, 17),
    ("Tile", (3, 2), [ints(2, 3)], {}, 17),
    ("Concat", IMAGE, [weight(*IMAGE)], {"axis": -1}, 17),
    ("Slice", IMAGE, [ints(1, -3), ints(100, -1), ints(1, 2), ints(2, 1)], {}, 17),
    ("Slice", IMAGE, [], {"starts": [1], "ends": [5], "axes": [1]}, 9),
    ("Gather", IMAGE, [np.array([[0, -1], [2, 1]])], {"axis": 1}, 17),
    ("Gather", (5, 4), [np.array([[0, -1], [2, 1]])], {}, 17),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 3, 0), scalar(1.5)], {}, 17),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}, 17),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}, 17),
    ("Pad", (1, 9, 1), [ints(0, 3, 0, 0, 4, 0)], {"mode": "reflect"}, 17),
    ("Pad", IMAGE, [ints(1, 2, -1, 0, 0, 1, 2, 0)], {"mode": "edge"}, 17),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "wrap"}, 19),
    ("Pad", IMAGE, [], {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 2.0}, 9),
    ("DepthToSpace", (2, 8, 3, 3), [], {"blocksize": 2}, 17),
    ("DepthToSpace", (2, 8, 3, 3), [], {"blocksize": 2, "mode": "CRD"}, 17),
    ("Cast", IMAGE, [], {"to": onnx.TensorProto.FLOAT}, 17),
    ("Div", IMAGE, [weight(6, 1, 1) + 3], {}, 17),
    ("Pow", IMAGE, [scalar(2)], {}, 17),
    ("Mod", IMAGE, [weight(6, 1, 1) + 3], {"fmod": 1}, 17),
    ("Max", IMAGE, [weight(6, 1, 1), weight(8)], {}, 17),
    ("Min", IMAGE, [weight(6, 1, 1)], {}, 17),
    ("Mean", IMAGE, [weight(6, 1, 1)], {}, 17),
    *[(name, IMAGE, [], {}, 17) for name in ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Neg",
      "Relu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh")],
    ("Mish", IMAGE, [], {}, 18),
    *[(name, IMAGE, [weight(8)], {}, 17) for name in ("Add", "Mul", "Sub")],
    *[(name, IMAGE, [], {}, 17) for name in ("Asinh", "Atan", "Cosh", "Round", "Selu", "Sinh", "Tan")],
    ("Einsum", (2, 3, 4), [weight(2, 4, 5)], {"equation": "bij,bjk->bki"}, 17),
    ("ReduceProd", IMAGE, [], {"axes": [1, -1], "keepdims": 0}, 17),
    ("ReduceProd", IMAGE, [], {}, 17),
    ("ReduceL1", IMAGE, [], {"axes": [1]}, 17),
    ("ReduceLogSumExp", IMAGE, [ints(2)], {}, 18),
    ("ReduceSumSquare", IMAGE, [ints(2, -1)], {"keepdims": 0}, 18),
    ("GatherElements", IMAGE, [np.array([[[[0, -1], [2, 1]]]])], {"axis": 3}, 17),
    ("GatherND", IMAGE, [np.array([[0, 1], [1, -2]])], {}, 17),
    ("GatherND", IMAGE, [np.array([[[0]], [[5]]])], {"batch_dims": 1}, 17),
    ("ScatterElements", (3, 4), [np.array([[0, -1], [2, 1]]), weight(2, 2)], {"axis": 1}, 17),
    ("ScatterElements", (3, 4), [np.array([[1, 1]]), weight(1, 2)], {"axis": 1, "reduction": "add"}, 17),
    ("ScatterND", IMAGE, [np.array([[0, 1], [1, -2]]), weight(2, 9, 8)], {}, 17),
    ("ScatterND", IMAGE, [np.array([[0, 1], [0, 1]]), weight(2, 9, 8)], {"reduction": "add"}, 17),
    ("ReverseSequence", (5, 3, 2), [ints(5, 1, 3)], {}, 17),
    ("ReverseSequence", (3, 5, 2), [ints(5, 1, 3)], {"batch_axis": 0, "time_axis": 1}, 17),
    ("Trilu", IMAGE, [np.array(1)], {}, 17),
    ("Trilu", IMAGE, [], {"upper": 0}, 17),
    ("Resize", IMAGE, [np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}, 10),
    ("Resize", IMAGE, [np.array([1, 1, 0.5, 2], np.float32)], {}, 10),
    ("GridSample", IMAGE, [np.linspace(-1.2, 1.2, 2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)], {}, 17),
    ("GridSample", IMAGE, [np.linspace(-1.2, 1.2, 2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)],
     {"align_corners": 1, "padding_mode": "border", "mode": "nearest"}, 17),
    ("Upsample", IMAGE, [], {"scales": [1.0, 1.0, 2.0, 3.0]}, 7),
    ("Upsample", IMAGE, [np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}, 9),
        ("MeanVarianceNormalization", IMAGE, [], {"axes": [0, 2]}, 17),
    ("SpaceToDepth", (2, 3, 4, 6), [], {"blocksize": 2}, 17),
    ("GroupNormalization", IMAGE, [weight(6), weight(6)], {"num_groups": 3}, 21),
    ("RMSNormalization", IMAGE, [weight(8)], {}, 23),
    ("Swish", IMAGE, [], {}, 24),
    ("Swish", IMAGE, [], {"alpha": 0.5}, 24),
    ("Celu", IMAGE, [], {"alpha": 0.5}, 17),
    ("ThresholdedRelu", IMAGE, [], {"alpha": 0.5}, 17),
    ("Shrink", IMAGE, [], {"lambd": 0.3, "bias": 0.1}, 18),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "shape", "constants", "attributes", "opset"),
    CASES,
    ids=[f"{case[0]}-{index}" for index, case in enumerate(CASES)],
)
def test_torch_form(
    operator: str,
    shape: tuple[int, ...],
    constants: list[graphs.Value],
    attributes: dict[str, Any],
    opset: int,
    tmp_path: Path,
) -> None:
    names = [f"c{index}" for index in range(len(constants))]
    node = helper.make_node(operator, ["x", *names], ["out"], **attributes)
    proto = graphs.model([node], {"x": shape}, dict(zip(names, constants, strict=True)), opset=opset)
    _agree(proto, shape, tmp_path)


@pytest.mark.parametrize("block", [0, 4])
def test_stored_integers_of_four_bits(block: int, tmp_path: Path) -> None:
    """One scale and zero point for each of 8 columns, or for each 4 of its rows."""
    shape = (2, 8) if block else (8,)
    stored = {
        "w": RNG.integers(-8, 8, (8, 8)).astype(ml_dtypes.int4),
        "scale": np.abs(weight(*shape)) + 0.1,
        "zero": RNG.integers(-8, 8, shape).astype(ml_dtypes.int4),
    }
    nodes = [
        helper.make_node(
            "DequantizeLinear", ["w", "scale", "zero"], ["wide"], axis=0 if block else 1, block_size=block
        ),
        helper.make_node("Add", ["x", "wide"], ["out"]),
    ]
    _agree(graphs.model(nodes, {"x": (8, 8)}, stored, opset=21), (8, 8), tmp_path)


def test_even_window_of_lrn(tmp_path: Path) -> None:
    """ONNX Runtime refuses even windows, so the reference implementation of `onnx` is the second opinion."""
    shape = (6, 6, 4, 3)  # that reference leaves out channels from the batch size on
    proto = graphs.model([helper.make_node("LRN", ["x"], ["out"], size=4, alpha=0.5)], {"x": shape})
    model_spec = make_model_spec(graphs.save(proto, tmp_path), 6, {}, "original", 0)
    values = [weight(*shape)]
    module, tensors = to_module(clean_proto(model_spec), model_spec["source"], values)
    expected = list(ReferenceEvaluator(proto).run(None, {"x": values[0]}))
    graphs.close([module(*tensors).numpy()], expected, 1e-5)


@pytest.mark.parametrize("sizes", [(9, 8), (18, 24), (14, 5), (4, 4)])
@pytest.mark.parametrize(
    ("mode", "positions", "rounding"),
    [
        ("nearest", "asymmetric", "floor"),
        ("nearest", "asymmetric", "ceil"),
        ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "half_pixel", "round_prefer_ceil"),
        ("nearest", "align_corners", "round_prefer_floor"),
        ("linear", "half_pixel", "floor"),
        ("linear", "align_corners", "floor"),
        ("cubic", "half_pixel", "floor"),
    ],
)
def test_resize(mode: str, positions: str, rounding: str, sizes: tuple[int, int], tmp_path: Path) -> None:
    how = {"mode": mode, "coordinate_transformation_mode": positions, "nearest_mode": rounding}
    for given in ("sizes", "scales"):
        node = helper.make_node("Resize", ["x", "", *([""] if given == "sizes" else []), given], ["out"], **how)
        values = {
            "sizes": ints(*IMAGE[:2], *sizes),
            "scales": np.array([1, 1, sizes[0] / IMAGE[2], sizes[1] / IMAGE[3]], np.float32),
        }
        _agree(graphs.model([node], {"x": IMAGE}, {given: values[given]}), IMAGE, tmp_path)


def test_quantized_and_back(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("QuantizeLinear", ["d", "scales", "zeros"], ["qs"], axis=1),
        helper.make_node("DequantizeLinear", ["qs", "scales", "zeros"], ["out"], axis=1),
    ]
    constants = {
        "scale": scalar(0.02), "zero": np.array(100, np.uint8),
        "scales": np.linspace(0.01, 0.1, 6, dtype=np.float32), "zeros": np.array([0, 5, -5, 9, 0, 1], np.int8),
    }  # fmt: skip
    _agree(graphs.model(nodes, {"x": IMAGE}, constants), IMAGE, tmp_path)


def test_masks_and_indices(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("IsNaN", ["x"], ["nan"]),
        helper.make_node("IsInf", ["x"], ["infinite"], detect_negative=0),
        helper.make_node("Xor", ["nan", "infinite"], ["either"]),
        helper.make_node("Where", ["either", "one", "x"], ["safe"]),
        helper.make_node("TopK", ["safe", "k"], ["largest", "where"], axis=3),
        helper.make_node("ArgMax", ["safe"], ["first"], axis=3),
        helper.make_node("ArgMin", ["safe"], ["last"], axis=3),
        helper.make_node("Sub", ["first", "last"], ["between"]),
        helper.make_node("Add", ["where", "between"], ["places"]),
        helper.make_node("OneHot", ["first", "depth", "values"], ["hot"], axis=-1),
        helper.make_node("ReduceSum", ["hot", "axis"], ["heat"], keepdims=0),
        helper.make_node("CastLike", ["places", "largest"], ["numbers"]),
        helper.make_node("Sum", ["largest", "numbers", "heat"], ["out"]),
    ]
    constants = {
        "one": scalar(1), "k": ints(1), "depth": np.array(8), "axis": ints(4),
        "values": np.array([0, 3], np.float32),
    }  # fmt: skip
    _agree(graphs.model(nodes, {"x": IMAGE}, constants), IMAGE, tmp_path)


def test_an_attention_of_the_standard_is_written_out(tmp_path: Path) -> None:
    shape = (1, 2, 5, 8)
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["key"]),
        helper.make_node("Attention", ["x", "key", "x"], ["out"], is_causal=1),
    ]
    _agree(graphs.model(nodes, {"x": shape}, {"half": scalar(0.5)}, opset=23), shape, tmp_path)


def test_constants_without_a_tensor(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[2, -1]),
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Constant", [], ["row"], value_floats=[1.0, 2.0]),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "half"], ["less"]),
        helper.make_node("ReduceSum", ["row"], ["three"], keepdims=0),
        helper.make_node("Add", ["less", "three"], ["out"]),
    ]
    _agree(graphs.model(nodes, {"x": IMAGE}), IMAGE, tmp_path)


def test_split_and_comparison(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Split", ["a"], ["c", "d"], axis=3),
        helper.make_node("Greater", ["c", "d"], ["above"]),
        helper.make_node("Not", ["above"], ["below"]),
        helper.make_node("Where", ["below", "c", "d"], ["least"]),
        helper.make_node("Sqrt", ["squares"], ["roots"]),
        helper.make_node("Mul", ["least", "least"], ["squares"]),
        helper.make_node("ReduceSum", ["b"], ["total"], keepdims=0),
        helper.make_node("Sum", ["roots", "total", "one"], ["out"]),
    ]
    nodes[5], nodes[6] = nodes[6], nodes[5]
    constants = {"sizes": ints(2, 4), "one": np.ones(1, np.float32)}
    _agree(graphs.model(nodes, {"x": IMAGE}, constants), IMAGE, tmp_path)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Det", ["x"], ["out"]), "operator Det of node 'n' has no torch form"),
        (helper.make_node("MaxPool", ["x"], ["out", "where"], kernel_shape=[2, 2]), "MaxPool"),
        (helper.make_node("Slice", ["x", "i", "i"], ["out"]), "only constants"),
        (helper.make_node("CumSum", ["x", "one"], ["out"], reverse=1), "reversed"),
    ],
)
def test_what_has_no_torch_form_is_named(node: onnx.NodeProto, words: str, tmp_path: Path) -> None:
    node.name = "n"
    nodes = [node]
    if "where" in node.output:
        nodes = [node, helper.make_node("Shape", ["x"], ["unread"])]
        nodes.append(helper.make_node("Cast", ["where"], ["more"], to=onnx.TensorProto.FLOAT))
    if "i" in node.input:
        nodes = [helper.make_node("Reshape", ["x", "flat"], ["row"]), node]
        nodes.insert(1, helper.make_node("Cast", ["row"], ["i"], to=onnx.TensorProto.INT64))
    outputs = ("out", "more") if "where" in node.output else ("out",)
    proto = graphs.model(nodes, {"x": (4, 4, 4, 4)}, {"one": np.array(1), "flat": ints(-1)}, outputs)
    model_spec = make_model_spec(graphs.save(proto, tmp_path), 4, {}, "original", 0)
    with pytest.raises(ModelError, match=words):
        to_module(clean_proto(model_spec), model_spec["source"], [np.zeros((4, 4, 4, 4), np.float32)])


def _agree(proto: onnx.ModelProto, shape: tuple[int, ...], folder: Path) -> None:
    model_spec = make_model_spec(graphs.save(proto, folder), shape[0], {}, "original", 0)
    values = [np.random.default_rng(1).standard_normal(shape, dtype=np.float32)]
    module, tensors = to_module(clean_proto(model_spec), model_spec["source"], values)
    with torch.inference_mode():
        output = module(*tensors)
    graphs.close([output.numpy()], graphs.by_onnxruntime(model_proto(model_spec), values), 1e-5)
